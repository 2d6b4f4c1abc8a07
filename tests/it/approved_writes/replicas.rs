//! Several replicas: only one of them writes, even if one was frozen beyond its lease.

use shoreguard::db::Engine;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::fail_points::FailPoint;
use shoreguard_simulator::Generation;

use super::crashes::{Scene, wait_written};
use super::{revisions, updates, wait_for, writes};
use crate::commands::ChildProcess;
use crate::crash::{start_server, write_config};
use crate::policies::seeded;
use crate::support::server::{TestServer, run};
use crate::support::{eventually, limit};

/// Policies that two replicas write.
const POLICIES: u64 = 10;

#[test]
fn g02_two_replicas_write_each_policy_once() {
    run(
        Engine::Postgres,
        |_| {},
        async |sg: TestServer| {
            let simulator = seeded(&sg, "edge", Generation::V0_1).await;
            let (other, running) = sg.start_replica().await;
            let before = revisions(&simulator);
            for n in 0..POLICIES {
                let id = sg.open_round("edge", &format!("h{n}.example")).await;
                wait_for(&other, id, RoundState::Applied).await;
            }
            assert_eq!(revisions(&simulator) - before, POLICIES);
            assert_eq!((writes(&simulator), updates(&simulator)), (POLICIES, POLICIES));
            other.stop.cancel();
            running.stopped().await;
            other.drain().await;
            drop(other);
            sg.finish().await;
        },
    );
}

/// Returns whether a process is stopped by a signal.
fn is_stopped(process: &ChildProcess) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.0.id())).unwrap();
    // The state follows the name, which is in parentheses.
    stat.rsplit(") ").next().unwrap().starts_with('T')
}

/// Freezes a replica at a point of a write, and lets it continue after another one has finished the write.
async fn frozen_at(engine: Engine, point: FailPoint) {
    let Some(scene) = Scene::start(engine, Generation::V0_1).await else { return };
    let folder = scene.folder().join("next");
    std::fs::create_dir(&folder).unwrap();
    let config = write_config(&folder, &scene.place);
    let before = revisions(&scene.simulator);
    let id = scene.open_round("one.example").await;
    // The server before it was killed, and held leases.
    scene.pass_time().await;
    let mut frozen = scene.serve_until(point, "stop").await;
    eventually("it is stopped", || async { is_stopped(&frozen) }).await;
    scene.pass_time().await;
    let next = start_server(&config, scene.key());
    wait_written(&next.caller, 1).await;
    // It ends when its work has ended.
    frozen.signal("CONT");
    frozen.signal("TERM");
    frozen.wait_exit();
    drop(next);
    assert_eq!(scene.round(id).await.state, RoundState::Applied, "{point}");
    // A repeat on top of itself makes no revision.
    assert_eq!(revisions(&scene.simulator), before + 1, "{point}: it is written once");
    scene.place.remove();
}

mod g02_a_replica_that_was_frozen_writes_nothing_more {
    use super::*;

    /// Replicas need PostgreSQL.
    fn run(point: FailPoint) {
        limit::block_on(frozen_at(Engine::Postgres, point));
    }

    #[test]
    fn intent_stored() {
        run(FailPoint::IntentStored);
    }

    #[test]
    fn apply_answered() {
        run(FailPoint::ApplyAnswered);
    }

    #[test]
    fn written_stored() {
        run(FailPoint::WrittenStored);
    }
}
