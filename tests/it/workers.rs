//! Background jobs: under a lease, on one replica at a time, drained at shutdown.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::app::App;
use shoreguard::audit::Ending;
use shoreguard::audit::recorder::Recorder;
use shoreguard::db::schema::{self, audit_log};
use shoreguard::db::{Db, Engine, leases, on_conn, replicas};
use shoreguard::error::Error;
use shoreguard::resources::audit;
use shoreguard::workers::{self, TickResult, Worker};
use tokio::sync::Notify;

use crate::audit::{intent, settings};
use crate::support::server::{TestServer, build, config};
use crate::support::{DbLocation, limit, soon};

/// Ticks per replica, since the tests of one process share statics.
static TICKS: Mutex<Option<HashMap<Arc<str>, u32>>> = Mutex::new(None);
static TICKED: Notify = Notify::const_new();

const COUNTING: Worker = Worker {
    name: "counting",
    interval: |_| Duration::from_millis(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| {
        Box::pin(async move {
            let lease = lease.unwrap();
            ctx.db().transaction(async |conn| leases::check_held(conn, lease).await).await?;
            let tick = count(ctx.app());
            assert_ne!(tick, 2, "a panic of a job");
            if tick == 3 {
                return Err(Error::internal("an error of a job"));
            }
            Ok(TickResult::batch(1, 2))
        })
    },
};

/// A job that would try a lease of another replica again after an hour.
const HOURLY: Worker = Worker {
    name: "hourly",
    interval: |_| Duration::from_hours(1),
    lease: true,
    wake: None,
    tick: |ctx, _| {
        Box::pin(async move {
            count(ctx.app());
            Ok(TickResult::IDLE)
        })
    },
};

fn count(app: &App) -> u32 {
    let mut ticks = TICKS.lock().unwrap();
    let count = ticks.get_or_insert_default().entry(Arc::clone(&app.replica)).or_default();
    *count += 1;
    TICKED.notify_waiters();
    *count
}

async fn until(app: &App, ticks: u32) {
    loop {
        let ticked = TICKED.notified();
        let now = TICKS.lock().unwrap().as_ref().and_then(|all| all.get(&app.replica).copied());
        if now.is_some_and(|now| now >= ticks) {
            return;
        }
        ticked.await;
    }
}

async fn outcomes(app: &App) -> Vec<(String, Option<String>)> {
    let mut conn = app.db.read().await.unwrap();
    on_conn!(&mut conn, |c| audit_log::table
        .filter(audit_log::action.eq("gateway.update"))
        .select((audit_log::resource_id, audit_log::outcome))
        .order(audit_log::resource_id)
        .load(c)
        .await)
    .unwrap()
}

async fn alive(app: &App) -> i64 {
    let mut conn = app.db.read().await.unwrap();
    on_conn!(&mut conn, |c| schema::replicas::table.count().get_result(c).await).unwrap()
}

server_tests! {
    a_job_continues_after_a_panic_or_an_error_and_releases_its_lease,
    a_job_leased_by_another_replica_is_not_run,
    a_job_leased_by_another_replica_is_tried_again_when_that_lease_expires,
    each_replica_has_a_heartbeat,
}

// Without the server's own jobs, which would do the work, or hold the lease, at the same time.
server_tests_without_jobs! {
    open_audit_entries_of_a_crashed_replica_are_closed_as_unknown,
    old_audit_entries_are_deleted_and_open_ones_are_not,
}

async fn a_job_continues_after_a_panic_or_an_error_and_releases_its_lease(sg: TestServer) {
    workers::spawn(&sg.app, COUNTING);
    until(&sg.app, 5).await;
    let app = Arc::clone(&sg.app);
    app.stop.cancel();
    app.drain().await;
    let mut conn = app.db.read().await.unwrap();
    let now = app.db.now(&mut conn).await.unwrap();
    let held: i64 = on_conn!(&mut conn, |c| schema::leases::table
        .filter(schema::leases::expires_at.gt(now))
        .count()
        .get_result(c)
        .await)
    .unwrap();
    assert_eq!(held, 0, "leases that were not released");
    assert_eq!(alive(&app).await, 0);
    drop((conn, app));
    sg.finish().await;
}

async fn a_job_leased_by_another_replica_is_not_run(sg: TestServer) {
    let ttl = Duration::from_secs(30);
    let theirs = leases::acquire(&sg.app.db, COUNTING.name, "other", ttl).await.unwrap().unwrap();
    assert_eq!(workers::run_once(&sg.app, &COUNTING).await.unwrap(), None);
    sg.app.db.advance_clock(ttl);
    assert_eq!(
        workers::run_once(&sg.app, &COUNTING).await.unwrap(),
        Some(TickResult { done: 1, more: false })
    );
    assert!(leases::renew(&sg.app.db, &theirs, ttl).await.is_err());
    sg.finish().await;
}

async fn a_job_leased_by_another_replica_is_tried_again_when_that_lease_expires(sg: TestServer) {
    let ttl = Duration::from_secs(1);
    let theirs = leases::acquire(&sg.app.db, HOURLY.name, "dead", ttl).await.unwrap();
    assert!(theirs.is_some());
    workers::spawn(&sg.app, HOURLY);
    soon("the job runs", until(&sg.app, 1)).await;
    sg.finish().await;
}

#[test]
fn a_killed_process_holds_nothing_back_on_sqlite() {
    limit::block_on(async {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let data = tempfile::tempdir().unwrap();
        let killed = Db::open(&place.options()).await.unwrap();
        let ttl = Duration::from_hours(1);
        let lease = leases::acquire(&killed, COUNTING.name, "killed", ttl).await.unwrap();
        replicas::record_heartbeat(&killed, "killed").await.unwrap();
        drop((lease, killed));
        place.wait_closed().await;
        let app = build(config(&place, data.path(), |_| {})).await;
        assert_eq!(alive(&app).await, 1);
        let ran = workers::run_once(&app, &COUNTING).await.unwrap();
        assert_eq!(ran, Some(TickResult { done: 1, more: false }));
        app.stop.cancel();
        app.drain().await;
    });
}

async fn open_audit_entries_of_a_crashed_replica_are_closed_as_unknown(sg: TestServer) {
    let app = &sg.app;
    let dead = Recorder::start(&app.db, &app.clock, &Arc::from("dead"), &settings());
    // Before the entry, since the background job closes entries of replicas without a heartbeat.
    replicas::record_heartbeat(&app.db, "dead").await.unwrap();
    dead.open(intent("theirs")).await.unwrap();
    app.audit.open(intent("ours")).await.unwrap();

    // Both replicas are alive.
    app.db.advance_clock(Duration::from_secs(31));
    workers::run_once(app, &audit::worker::ORPHANS).await.unwrap().unwrap();
    assert_eq!(outcomes(app).await, [("ours".into(), None), ("theirs".into(), None)]);

    app.db.advance_clock(Duration::from_secs(31));
    replicas::record_heartbeat(&app.db, &app.replica).await.unwrap();
    let worked = workers::run_once(app, &audit::worker::ORPHANS).await.unwrap().unwrap();
    assert_eq!(worked.done, 1);
    let unknown = Some("unknown".to_owned());
    let expected = [("ours".to_owned(), None), ("theirs".to_owned(), unknown)];
    assert_eq!(outcomes(app).await, expected);
    workers::run_once(app, &audit::worker::ORPHANS).await.unwrap().unwrap();
    assert_eq!(alive(app).await, 1, "a dead replica is forgotten");
    sg.finish().await;
}

async fn old_audit_entries_are_deleted_and_open_ones_are_not(sg: TestServer) {
    let app = &sg.app;
    app.audit.open(intent("open")).await.unwrap();
    let closed = app.audit.open(intent("closed")).await.unwrap();
    app.audit.close(closed, crate::audit::outcome(Ending::Ok)).await.unwrap();
    app.audit.wait_settled().await;
    app.clock.advance(Duration::from_hours(24 * 89));
    app.db.advance_clock(Duration::from_secs(31));
    let worked = workers::run_once(app, &audit::worker::RETENTION).await.unwrap().unwrap();
    assert_eq!(worked, TickResult::IDLE);
    app.clock.advance(Duration::from_hours(24 * 2));
    app.db.advance_clock(Duration::from_secs(31));
    let worked = workers::run_once(app, &audit::worker::RETENTION).await.unwrap().unwrap();
    assert!(worked.done >= 1);
    assert_eq!(outcomes(app).await, [("open".to_owned(), None)]);
    sg.finish().await;
}

async fn each_replica_has_a_heartbeat(sg: TestServer) {
    assert_eq!(alive(&sg.app).await, 1);
    if sg.engine == Engine::Postgres {
        let (app, running) = sg.start_replica().await;
        assert_eq!(alive(&sg.app).await, 2);
        app.stop.cancel();
        running.stopped().await;
        app.drain().await;
        assert_eq!(alive(&sg.app).await, 1);
    }
    sg.finish().await;
}
