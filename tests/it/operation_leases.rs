//! Owners of operations: leases, heartbeats, takeovers, and effects on other replicas. Background jobs run only when a
//! test runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoreguard::app::App;
use shoreguard::boot::TAKEOVER;
use shoreguard::db::{Engine, on_conn};
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::{AuditOutcome, OperationErrorCode as Code, OperationStatus as Status};
use shoreguard::resources::audit;
use shoreguard::resources::operations::leases::StopCause;
use shoreguard::resources::operations::takeover::{Resume, take_over, worker};
use shoreguard::resources::operations::worker::RETENTION;
use shoreguard::resources::operations::{Failure, OperationKind, RunningOperation};
use shoreguard::workers::{self, Worker};
use tokio::runtime::Runtime;

use crate::support::eventually;
use crate::support::server::{ConfigChange, TestServer, build, run_without_jobs};
use crate::support::work::{ACTION, HeldOperation, OperationSpec, start_held};
use shoreguard::resources::operations::leases::LocalOperations;

/// Longer than a lease.
const PAST_THE_LEASE: Duration = Duration::from_secs(31);

/// The takeover job of the server, with work that can be resumed.
pub(crate) const RESUMING: Worker = worker(|ctx, _| Box::pin(take_over(ctx, resume_of)));

/// Resumes work at its step. At a step `wait`, the work runs until it is stopped.
fn resume_of(kind: OperationKind) -> Option<Resume> {
    match kind {
        OperationKind::Sandbox => {
            Some(|running, step, input| Box::pin(onwards(running, step, input)))
        }
        OperationKind::Exec | OperationKind::Policy => None,
    }
}

async fn onwards(
    running: RunningOperation,
    step: String,
    input: Vec<u8>,
) -> Result<Value, Failure> {
    running.step(&format!("{step} again")).await?;
    if step.starts_with("wait") {
        running.cancel().cancelled().await;
    }
    if running.cancel().is_cancelled() {
        return Err(Failure::cancelled());
    }
    Ok(json!({ "step": step, "input": String::from_utf8(input).unwrap() }))
}

/// Starts an operation on a replica of its own, lets it reach a step, and kills the replica. The operation is not
/// ended, its lease is not released, and nothing more is written.
pub(crate) async fn start_and_kill(
    sg: &TestServer,
    begin: OperationSpec,
    step: &'static str,
) -> String {
    let doomed = runtime();
    let config = sg.config(|_| {});
    let worked = doomed.spawn(async move {
        let app = build(config).await;
        let held = start_held(&app, &begin).await.unwrap();
        held.running.step(step).await.unwrap();
        let id = held.id.clone();
        // Dropping them would end the operation. They end with the runtime.
        std::mem::forget((held, app));
        id
    });
    let id = worked.await.unwrap();
    doomed.shutdown_background();
    id
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Builds a second replica on the same database. It runs only what the test starts on it.
async fn replica(sg: &TestServer, tune: ConfigChange) -> Arc<App> {
    build(sg.config(tune)).await
}

async fn stopped(app: Arc<App>) {
    app.stop.cancel();
    app.drain().await;
}

pub(crate) async fn run_once(app: &Arc<App>, worker: &Worker) -> usize {
    workers::run_once(app, worker).await.unwrap().expect("it has no lease").done
}

fn text(operation: &pb::Operation, key: &str) -> String {
    let value = operation.result.as_ref().unwrap().fields[key].kind.clone().unwrap();
    let prost_types::value::Kind::StringValue(text) = value else { panic!("{value:?}") };
    text
}

fn exec(sg: &TestServer) -> OperationSpec {
    OperationSpec { exec: true, ..sg.operation_spec("edge", "box") }
}

/// Runs a test on PostgreSQL, the only engine with replicas.
fn on_replicas<F: Future<Output = ()>>(test: impl FnOnce(TestServer) -> F) {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        sg.register_unreachable("edge").await;
        test(sg).await;
    });
}

server_tests_without_jobs! {
    an_old_operation_with_a_heartbeat_is_not_taken_over,
    old_finished_operations_are_deleted_and_running_ones_are_not,
    an_operation_stops_when_its_lease_expires_without_renewal,
    a_blocked_database_does_not_keep_a_lease_alive,
}

#[test]
fn a_starting_replica_does_not_fail_operations_of_a_live_replica() {
    on_replicas(async |sg| {
        let held = sg.start_held(&exec(&sg)).await;
        let (other, running) = sg.start_replica().await;
        assert_eq!(run_once(&other, &TAKEOVER).await, 0);
        assert_eq!(sg.admin().operation(&held.id).await.unwrap().status(), Status::Running);
        held.running.step("on").await.unwrap();
        let id = held.id.clone();
        held.finish(Ok(json!({})));
        assert_eq!(sg.admin().wait_operation(&id).await.status(), Status::Succeeded);
        other.stop.cancel();
        running.stopped().await;
        other.drain().await;
        drop(other);
        sg.finish().await;
    });
}

async fn an_old_operation_with_a_heartbeat_is_not_taken_over(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&exec(&sg)).await;
    let other = match sg.engine {
        Engine::Postgres => Some(replica(&sg, |_| {}).await),
        Engine::Sqlite => None,
    };
    for _ in 0..3 {
        sg.app.clock.advance(Duration::from_hours(10));
        feed::refresh(&sg.app).await.unwrap();
        renewed(&sg).await;
        assert_eq!(run_once(other.as_ref().unwrap_or(&sg.app), &TAKEOVER).await, 0);
    }
    if let Some(other) = other {
        stopped(other).await;
    }
    assert_eq!(held.running.stop_cause(), None);
    let id = held.id.clone();
    held.finish(Ok(json!({ "stdout": "after thirty hours" })));
    assert_eq!(text(&sg.admin().wait_operation(&id).await, "stdout"), "after thirty hours");
    sg.finish().await;
}

/// Waits until heartbeats have renewed the leases of all operations of a server.
async fn renewed(sg: &TestServer) {
    sg.sql("UPDATE operations SET lease_expires_at = created_at WHERE owner IS NOT NULL").await;
    let late = "UPDATE operations SET version = version WHERE lease_expires_at = created_at";
    sg.app.clock.advance(Duration::from_secs(10));
    feed::refresh(&sg.app).await.unwrap();
    eventually("the leases are renewed", || async { sg.sql(late).await == 0 }).await;
}

async fn old_finished_operations_are_deleted_and_running_ones_are_not(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let done = async |sandbox: &str| {
        let held = sg.start_held(&sg.operation_spec("edge", sandbox)).await;
        let id = held.id.clone();
        held.finish(Ok(json!({})));
        sg.admin().wait_operation(&id).await.id
    };
    let old = done("a").await;
    let held = sg.start_held(&sg.operation_spec("edge", "b")).await;
    sg.app.clock.advance(Duration::from_hours(24 * 30) + Duration::from_secs(1));
    feed::refresh(&sg.app).await.unwrap();
    let young = done("c").await;
    assert_eq!(run_once(&sg.app, &RETENTION).await, 1);
    assert_refused!(sg.admin().operation(&old).await, NotFound, "NOT_FOUND");
    sg.admin().operation(&young).await.unwrap();
    assert_eq!(sg.admin().operation(&held.id).await.unwrap().status(), Status::Running);
    held.finish(Ok(json!({})));
    sg.finish().await;
}

#[test]
fn a_non_resumable_operation_is_orphaned_only_after_its_lease_expires() {
    on_replicas(async |sg| {
        let id = start_and_kill(&sg, exec(&sg), "running").await;
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 0, "its lease has not expired");
        assert_eq!(sg.admin().operation(&id).await.unwrap().status(), Status::Running);
        sg.app.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 0);
        let ended = sg.admin().operation(&id).await.unwrap();
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Orphaned));
        // The takeover is recorded for the system. The caller's own entry stays open until it is closed as unknown.
        sg.app.audit.wait_settled().await;
        let by_system = sg.admin().audit_entries("box", "sandbox.exec").await;
        let told: Vec<_> = by_system.iter().map(|e| (&*e.actor, e.outcome())).collect();
        assert_eq!(told, [("system:operation-takeover", AuditOutcome::Failed)]);
        assert!(by_system[0].detail_json.contains(&id), "{by_system:?}");
        assert_eq!(sg.admin().audit_entries("", ACTION).await[0].outcome(), AuditOutcome::Open);
        sg.app.db.advance_clock(PAST_THE_LEASE);
        run_once(&sg.app, &audit::worker::ORPHANS).await;
        assert_eq!(sg.admin().audit_entries("", ACTION).await[0].outcome(), AuditOutcome::Unknown);
        sg.finish().await;
    });
}

#[test]
fn a_cancelled_operation_of_a_crashed_replica_ends_as_cancelled() {
    on_replicas(async |sg| {
        let id = start_and_kill(&sg, exec(&sg), "running").await;
        assert_eq!(sg.admin().cancel_operation(&id).await.unwrap().status(), Status::Cancelling);
        sg.app.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
        let ended = sg.admin().operation(&id).await.unwrap();
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Cancelled));
        sg.finish().await;
    });
}

#[test]
fn a_resumable_operation_is_taken_over_with_its_step_and_input() {
    on_replicas(async |sg| {
        let begin =
            OperationSpec { input: Some(b"the spec".to_vec()), ..sg.operation_spec("edge", "box") };
        let id = start_and_kill(&sg, begin, "created").await;
        assert_eq!(run_once(&sg.app, &RESUMING).await, 0);
        sg.app.db.advance_clock(PAST_THE_LEASE);
        // Two replicas try at the same time, and one succeeds.
        let other = replica(&sg, |_| {}).await;
        other.db.advance_clock(PAST_THE_LEASE);
        let (here, there) = tokio::join!(run_once(&sg.app, &RESUMING), run_once(&other, &RESUMING));
        assert_eq!(here + there, 1);
        let ended = sg.admin().wait_operation(&id).await;
        assert_eq!(ended.status(), Status::Succeeded, "{ended:?}");
        assert_eq!((&*text(&ended, "step"), &*text(&ended, "input")), ("created", "the spec"));
        assert_eq!(ended.actor, "sp:root");
        // The entry is closed after the end of the operation.
        eventually("the entry is closed", || async {
            let entries = sg.admin().audit_entries("box", "sandbox.create").await;
            entries.iter().any(|entry| entry.outcome() != AuditOutcome::Open)
        })
        .await;
        let entries = sg.admin().audit_entries("box", "sandbox.create").await;
        let told: Vec<_> = entries.iter().map(|e| (&*e.actor, e.outcome(), &*e.gateway)).collect();
        assert_eq!(told, [("sp:root", AuditOutcome::Ok, "edge")]);
        assert!(entries[0].detail_json.contains("taken_over"), "{entries:?}");
        stopped(other).await;
        sg.finish().await;
    });
}

#[test]
fn a_cancelled_resumable_operation_is_taken_over_and_undone() {
    on_replicas(async |sg| {
        let id = start_and_kill(&sg, sg.operation_spec("edge", "box"), "created").await;
        sg.admin().cancel_operation(&id).await.unwrap();
        sg.app.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&sg.app, &RESUMING).await, 1);
        let ended = sg.admin().wait_operation(&id).await;
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Cancelled));
        sg.finish().await;
    });
}

#[test]
fn a_suspended_replica_that_lost_its_lease_writes_nothing_and_stops_its_work() {
    on_replicas(async |sg| {
        let other = replica(&sg, |_| {}).await;
        let frozen =
            start_held(&other, &OperationSpec { exec: true, ..sg.operation_spec("edge", "box") })
                .await
                .unwrap();
        sg.app.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&sg.app, &TAKEOVER).await, 1);
        frozen.running.check_lease().unwrap();
        assert!(frozen.running.step("created").await.is_err());
        assert!(frozen.running.progress(50, "half").await.is_err());
        // Its next heartbeat detects the loss.
        other.clock.advance(Duration::from_secs(10));
        frozen.running.cancel().cancelled().await;
        assert_eq!(frozen.running.stop_cause(), Some(StopCause::LeaseLost));
        assert!(frozen.running.check_lease().is_err());
        let ended = sg.admin().wait_operation(&frozen.id).await;
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Orphaned));
        drop(frozen);
        stopped(other).await;
        let entry = sg.admin().audit_entries("", ACTION).await.remove(0);
        assert_eq!(entry.outcome(), AuditOutcome::Unknown, "the outcome of its work is unknown");
        sg.finish().await;
    });
}

async fn an_operation_stops_when_its_lease_expires_without_renewal(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&exec(&sg)).await;
    let id = held.id.clone();
    let (renamed, back) =
        ("ALTER TABLE operations RENAME TO away", "ALTER TABLE away RENAME TO operations");
    sg.sql(renamed).await;
    sg.app.clock.advance(PAST_THE_LEASE);
    held.running.cancel().cancelled().await;
    assert_eq!(held.running.stop_cause(), Some(StopCause::LeaseLost));
    drop(held);
    sg.sql(back).await;
    feed::refresh(&sg.app).await.unwrap();
    // No replica has taken over, so the owner stores the end as soon as the database is available.
    let ended = sg.admin().wait_operation(&id).await;
    assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Orphaned));
    sg.finish().await;
}

async fn a_blocked_database_does_not_keep_a_lease_alive(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&exec(&sg)).await;
    let id = held.id.clone();
    let app = Arc::clone(&sg.app);
    let hang = app.db.transaction(async |conn| {
        if conn.engine() == Engine::Postgres {
            let lock = diesel::sql_query("LOCK TABLE operations");
            on_conn!(conn, |c| diesel_async::RunQueryDsl::execute(lock, c).await)?;
        }
        // On SQLite, the transaction holds the only writer.
        app.clock.advance(PAST_THE_LEASE);
        held.running.cancel().cancelled().await;
        Ok(())
    });
    hang.await.unwrap();
    assert_eq!(held.running.stop_cause(), Some(StopCause::LeaseLost));
    drop(held);
    feed::refresh(&sg.app).await.unwrap();
    let ended = sg.admin().wait_operation(&id).await;
    assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Orphaned));
    sg.finish().await;
}

#[test]
fn a_cancellation_on_one_replica_stops_the_operation_on_another() {
    on_replicas(async |sg| {
        let other = replica(&sg, |_| {}).await;
        let held = start_held(&other, &sg.operation_spec("edge", "box")).await.unwrap();
        assert_eq!(
            sg.admin().cancel_operation(&held.id).await.unwrap().status(),
            Status::Cancelling
        );
        held.running.cancel().cancelled().await;
        assert_eq!(held.running.stop_cause(), Some(StopCause::Cancelled));
        let ended = sg.admin().wait_operation(&held.id).await;
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Cancelled));
        drop(held);
        stopped(other).await;
        sg.finish().await;
    });
}

#[test]
fn progress_on_another_replica_is_read_by_one_poll_for_all_watchers() {
    on_replicas(async |sg| {
        let other = replica(&sg, |_| {}).await;
        let all: Vec<HeldOperation> = vec![
            start_held(&other, &sg.operation_spec("edge", "a")).await.unwrap(),
            start_held(&other, &sg.operation_spec("edge", "b")).await.unwrap(),
        ];
        let begun = Instant::now();
        let mut streams = Vec::new();
        for held in all.iter().cycle().take(20) {
            let watch = pb::WatchOperationRequest { operation: held.id.clone() };
            let mut stream =
                sg.admin().operations().watch_operation(watch).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            streams.push(stream);
        }
        for held in &all {
            held.running.progress(40, "half the way").await.unwrap();
        }
        for stream in &mut streams {
            let next = stream.message().await.unwrap().unwrap().operation.unwrap();
            assert_eq!((next.progress_percent, &*next.progress_message), (40, "half the way"));
        }
        for held in all {
            held.finish(Ok(json!({})));
        }
        for mut stream in streams {
            let last = stream.message().await.unwrap().unwrap().operation.unwrap();
            assert_eq!(last.status(), Status::Succeeded);
            assert!(stream.message().await.unwrap().is_none());
        }
        let polls = sg.app.part::<LocalOperations>().feed.polls();
        assert!((1..=begun.elapsed().as_secs() + 1).contains(&polls), "{polls} polls");
        stopped(other).await;
        sg.finish().await;
    });
}

#[test]
fn a_stopping_replica_hands_over_its_resumable_operations() {
    on_replicas(async |sg| {
        let id = start_and_kill(&sg, sg.operation_spec("edge", "box"), "wait").await;
        let other = replica(&sg, |config| config.server.drain_seconds = 1).await;
        other.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&other, &RESUMING).await, 1);
        let end = sg.admin();
        stopped(other).await;
        let left = end.operation(&id).await.unwrap();
        assert_eq!(left.status(), Status::Running, "nothing was killed: {left:?}");
        // This is the offset that the other replica had, so the lease was released and has not expired.
        sg.app.db.advance_clock(PAST_THE_LEASE);
        assert_eq!(run_once(&sg.app, &RESUMING).await, 1);
        end.cancel_operation(&id).await.unwrap();
        assert_eq!(end.wait_operation(&id).await.error_code(), Code::Cancelled);
        sg.finish().await;
    });
}

#[test]
fn a_non_resumable_operation_ends_with_its_replica_and_reports_why() {
    on_replicas(async |sg| {
        let other = replica(&sg, |config| config.server.drain_seconds = 1).await;
        let held = start_held(&other, &exec(&sg)).await.unwrap();
        let id = held.id.clone();
        stopped(other).await;
        assert_eq!(held.running.stop_cause(), Some(StopCause::Draining));
        let ended = sg.admin().operation(&id).await.unwrap();
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Orphaned));
        assert_eq!(ended.error_message, "the server was stopped");
        sg.finish().await;
    });
}
