//! Measures the time from the last vote to the moment at which its write arrives at the gateway.

use std::time::{Duration, Instant};

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Hold, Script, Simulator, SimulatorOptions, Times};
use tokio::time::timeout;

use super::people::{addition, approve, govern, hire, policy, propose, state};
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

const GATEWAY: &str = "edge";
const SENT_P99_MS_MAX: f64 = 100.0;
/// Votes per round, and the time after which a round has no further ones.
const VOTES: (usize, Duration) = (100, Duration::from_secs(4));
/// Time for a write to arrive, and for its review to end.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a review is read until it has ended.
const POLL: Duration = Duration::from_millis(2);

/// Measures both engines.
pub(in crate::cases) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        let key = setup.create_admin_key()?;
        let (server, _) = fleet::start_server(bench, &setup)?;
        let (p50, p99) = bench.runtime.block_on(measure(bench, server.address, &key))?;
        let name = place::engine_name(engine);
        p50.print(&format!("{name}, last vote to write sent, p50"), "ms", Target::None)?;
        let target = Target::AtMost(SENT_P99_MS_MAX);
        p99.print(&format!("{name}, last vote to write sent, p99"), "ms", target)?;
    }
    Ok(())
}

async fn measure(
    bench: &Bench,
    address: std::net::SocketAddr,
    key: &str,
) -> Result<(Figure, Figure), BoxError> {
    let simulator = Simulator::start(SimulatorOptions::new(Generation::V0_1)).await?;
    simulator.seed_demo()?;
    let admin = Admin::connect(address, key).await?;
    admin.register(GATEWAY.to_owned(), simulator.addr()).await?;
    let ana = hire(&admin, address, "ana").await?;
    let ben = hire(&admin, address, "ben").await?;
    govern(&admin, GATEWAY, 1).await?;
    // The rule that each further proposal replaces, so that the policy does not grow.
    let mut host = "host-0.example".to_owned();
    let merge = pb::PolicyApplyMode::Merge;
    let (id, digest) = propose(&ana, GATEWAY, addition(&host), merge).await?;
    time_write(&simulator, &ben, id, digest).await?;
    let (mut p50, mut p99) = (Figure::default(), Figure::default());
    let mut number = 0;
    for _ in 0..bench.options.rounds {
        let (begun, mut took_ms) = (Instant::now(), Vec::new());
        while took_ms.len() < VOTES.0 && begun.elapsed() < VOTES.1 {
            number += 1;
            let next = format!("host-{number}.example");
            let yaml = policy(&ana, GATEWAY).await?.replace(&host, &next);
            host = next;
            let replace = pb::PolicyApplyMode::Replace;
            let (id, digest) = propose(&ana, GATEWAY, yaml, replace).await?;
            took_ms.push(time_write(&simulator, &ben, id, digest).await?);
        }
        took_ms.sort_by(f64::total_cmp);
        let at =
            |hundredths: usize| took_ms[(took_ms.len() * hundredths / 100).min(took_ms.len() - 1)];
        p50.add(at(50));
        p99.add(at(99));
    }
    simulator.stop().await;
    Ok((p50, p99))
}

/// Votes, and returns the time in milliseconds until the write arrived. Then waits until it is in force.
async fn time_write(
    simulator: &Simulator,
    voter: &Admin,
    id: i64,
    digest: String,
) -> Result<f64, BoxError> {
    let hold = Hold::default();
    simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    let begun = Instant::now();
    approve(voter, id, digest).await?;
    timeout(WRITE_TIMEOUT, hold.wait_reached(1)).await.map_err(|_| "nothing was written")?;
    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
    hold.release();
    let ended = async {
        while state(voter, id).await? != pb::ApprovalState::Applied {
            tokio::time::sleep(POLL).await;
        }
        Ok::<_, BoxError>(())
    };
    timeout(WRITE_TIMEOUT, ended).await.map_err(|_| "the policy was not loaded")??;
    Ok(took_ms)
}
