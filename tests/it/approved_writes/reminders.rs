//! A server that is killed while it reminds voters: the reminder is sent once.

use std::os::unix::process::ExitStatusExt;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::clock::Timestamp;
use shoreguard::db::schema::approval_rounds;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::db::{Engine, on_conn};
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::fail_points::FailPoint;
use shoreguard_simulator::Generation;

use super::crashes::{SIGKILL, Scene, each_point};
use super::find_event;
use crate::support::limit;

const NAME: &str = "approval.reminder";

mod a_reminder_is_sent_once_if_its_server_is_killed {
    use super::*;

    each_point! {
        kill_at_reminder,
        reminder_written: ReminderWritten,
        clock_committed: ClockCommitted,
    }
}

/// Kills a server at a point of a reminder, and lets the next one continue.
async fn kill_at_reminder(engine: Engine, point: FailPoint) {
    let Some(scene) = Scene::start(engine, Generation::V0_1).await else { return };
    let id = scene.open_round("one.example").await;
    make_due(&scene, id).await;
    scene.pass_time().await;
    let status = scene.serve_until(point, "kill").await.wait_exit();
    assert_eq!(status.signal(), Some(SIGKILL), "{point}: {status:?}");
    let stored = i64::from(point == FailPoint::ClockCommitted);
    assert_eq!(scene.count_events(NAME, id).await, stored, "{point}");
    scene.pass_time().await;
    let next = scene.serve().await;
    find_event(&next.caller, NAME, id).await;
    drop(next);
    assert_eq!(scene.count_events(NAME, id).await, 1, "{point}");
    scene.place.remove();
}

/// Makes a round wait for votes, with a reminder that is due.
async fn make_due(scene: &Scene, id: ApprovalRoundId) {
    let db = scene.open().await;
    let mut conn = db.write().await.unwrap();
    let set = (
        approval_rounds::state.eq(RoundState::Open),
        approval_rounds::remind_at.eq(Some(Timestamp::EPOCH)),
    );
    let row = approval_rounds::table.find(id.get());
    on_conn!(&mut conn, |c| diesel::update(row).set(set).execute(c).await).unwrap();
}
