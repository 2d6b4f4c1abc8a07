//! The end of pins: by their time on every path, and by the job that reports it.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::policy_pins::worker::CLOCK;
use shoreguard::resources::write_intents::worker::EXPIRY;
use shoreguard::workers;

use crate::boot_hooks::last_event;
use crate::policy_pins::{
    EARLIER, HOUR, LATER, add_write, all, caller, edge, get, in_hours, pin_request, set, unpin,
};
use crate::support::server::TestServer;
use crate::support::{dump, eventually};

server_tests! { an_expired_pin_is_reported_once_and_writes_past_their_deadline_are_deleted }

async fn an_expired_pin_is_reported_once_and_writes_past_their_deadline_are_deleted(
    sg: TestServer,
) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    set(&admin, pin_request(in_hours(&sg, 1))).await.unwrap();
    add_write(&sg, "default", "coder", EARLIER).await;
    add_write(&sg, "default", "other", LATER).await;
    sg.app.db.advance_clock(HOUR * 2);
    sg.run_job(&CLOCK).await;
    sg.run_job(&EXPIRY).await;
    let event = last_event(&admin, "policy_pin.expired").await;
    assert!(event.payload_json.contains("\"sandbox\":\"coder\""), "{event:?}");
    eventually("the end is in the audit log", || async {
        admin.audit_entries("coder", "policy_pin.expire").await.len() == 1
    })
    .await;
    let entry = admin.audit_entries("coder", "policy_pin.expire").await.remove(0);
    assert_eq!((entry.actor.as_str(), entry.gateway.as_str()), ("system:governance-clock", "edge"));
    eventually("its deadline has passed", || async {
        sg.sql("UPDATE write_intents SET owner = owner").await == 1
    })
    .await;
    sg.run_job(&CLOCK).await;
    assert_eq!(admin.audit_entries("coder", "policy_pin.expire").await.len(), 1);
}

server_tests_without_jobs! {
    an_expired_pin_is_over_before_the_job_ran,
    a_pin_does_not_end_without_an_audit_entry,
}

async fn a_pin_does_not_end_without_an_audit_entry(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    set(&admin, pin_request(in_hours(&sg, 1))).await.unwrap();
    sg.app.audit.wait_settled().await;
    sg.app.db.advance_clock(HOUR * 2);
    sg.sql("ALTER TABLE audit_log RENAME TO audit_away").await;
    workers::run_once(&sg.app, &CLOCK).await.expect_err("no entry can be opened");
    assert_eq!(sg.sql("UPDATE policy_pins SET version = version").await, 1, "it is stored");
    sg.sql("ALTER TABLE audit_away RENAME TO audit_log").await;
    sg.app.audit.wait_settled().await;
    sg.run_job(&CLOCK).await;
    assert_eq!(sg.sql("UPDATE policy_pins SET version = version").await, 0);
    assert_eq!(admin.audit_entries("coder", "policy_pin.expire").await.len(), 1);
}

async fn an_expired_pin_is_over_before_the_job_ran(sg: TestServer) {
    let _edge = edge(&sg).await;
    let admin = sg.admin();
    let operator = caller(&sg, "ops", pb::Role::Operator).await;
    set(&admin, pin_request(in_hours(&sg, 1))).await.unwrap();
    sg.app.db.advance_clock(HOUR * 2);
    assert_eq!(sg.sql("UPDATE policy_pins SET version = version").await, 1, "it is stored");
    assert_refused!(get(&admin, "edge", "coder").await, NotFound, "NOT_FOUND");
    assert_refused!(unpin(&operator, "").await, NotFound, "NOT_FOUND");
    assert!(all(&admin).await.is_empty());
    // Its role and its setter are over, too.
    let next = set(&operator, pin_request(in_hours(&sg, 4))).await.unwrap();
    assert_eq!((next.pinned_by.as_str(), next.setter_role()), ("sp:ops", pb::Role::Operator));
    unpin(&operator, "").await.unwrap();
    // The clock ends it, even if a caller pins the sandbox again first.
    sg.app.audit.wait_settled().await;
    let ends = admin.audit_entries("coder", "policy_pin.expire").await;
    let [end] = ends.as_slice() else { panic!("{ends:?}") };
    assert_eq!((end.actor.as_str(), end.gateway.as_str()), ("system:governance-clock", "edge"));
    let events = dump::table(&sg.app.db, "events").await;
    let event = events.lines().find(|event| event.contains("policy_pin.expired")).unwrap();
    assert!(event.contains("system:governance-clock"), "{event}");
}
