//! How operations end: success, failure, cancellation, drop; and what remains in the audit log, the events and the
//! database.

use std::time::Duration;

use prost_types::value::Kind;
use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::{AuditOutcome, OperationErrorCode as Code, OperationStatus as Status};
use shoreguard::resources::operations::leases::StopCause;
use shoreguard::resources::operations::{self, Failure};

use crate::support::eventually;
use crate::support::server::TestServer;
use crate::support::work::{ACTION, OperationSpec, begin_operation, start_operation};

/// How long a watch must send nothing after a change that its caller cannot see.
const SILENT: Duration = Duration::from_millis(50);

/// Returns the names and payloads of the events of an operation, after it has ended.
async fn events(sg: &TestServer, id: &str) -> Vec<(String, serde_json::Value)> {
    let list = pb::ListEventsRequest { page_size: 1000, ..Default::default() };
    loop {
        let page = sg.admin().events().list_events(list.clone()).await.unwrap().into_inner();
        let of = |event: &pb::Event| {
            let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
            (payload["operation"] == id).then(|| (event.name.clone(), payload))
        };
        let found: Vec<_> = page.events.iter().filter_map(of).collect();
        // Events get their sequence numbers after the commit.
        if found.iter().any(|(name, _)| name == "operation.succeeded" || name == "operation.failed")
        {
            return found;
        }
        crate::support::pause().await;
    }
}

/// Returns the audit entry of the call that started the only operation of a test, after everything was stored.
async fn entry(sg: &TestServer) -> pb::AuditEntry {
    sg.app.audit.wait_settled().await;
    let mut entries = sg.admin().audit_entries("", ACTION).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

/// Returns the same entry after it was closed, which is after the end of the operation.
async fn closed_entry(sg: &TestServer) -> pb::AuditEntry {
    let is_closed = || async { entry(sg).await.outcome() != AuditOutcome::Open };
    eventually("the entry is closed", is_closed).await;
    entry(sg).await
}

fn detail(entry: &pb::AuditEntry) -> serde_json::Value {
    serde_json::from_str(&entry.detail_json).unwrap()
}

server_tests! {
    a_cancellation_stops_the_operation_and_is_audited,
    an_operation_that_completes_despite_cancellation_has_succeeded,
    a_failed_operation_is_audited_and_emits_an_event,
    an_operation_that_panics_or_is_dropped_has_failed,
    an_operation_can_be_finished_only_once,
    a_sandbox_name_assigned_by_the_gateway_is_found_in_the_audit_log,
    an_oversized_result_is_truncated_and_marked,
    a_watch_gets_only_the_changes_that_its_caller_can_see,
    an_ended_operation_has_no_progress_message,
}

async fn a_cancellation_stops_the_operation_and_is_audited(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let key = admin.create_key("viewer", pb::Role::Viewer).await;
    assert_refused!(sg.with_token(&key).cancel_operation(&held.id).await, NotFound, "NOT_FOUND");
    assert_eq!(held.running.stop_cause(), None);
    let operator = admin.create_key("operator", pb::Role::Operator).await;
    let answered = sg.with_token(&operator).cancel_operation(&held.id).await.unwrap();
    assert_eq!(answered.status(), Status::Cancelling);
    held.running.cancel().cancelled().await;
    assert_eq!(held.running.stop_cause(), Some(StopCause::Cancelled));
    let ended = admin.wait_operation(&held.id).await;
    assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Cancelled));
    assert_refused!(admin.cancel_operation(&held.id).await, FailedPrecondition, "OPERATION_ENDED");

    sg.app.audit.wait_settled().await;
    let cancels = admin.audit_entries(&held.id, "operation.cancel").await;
    let told: Vec<_> =
        cancels.iter().map(|e| (&*e.actor, e.outcome(), &*e.resource_type, &*e.gateway)).collect();
    assert_eq!(
        told,
        [
            ("sp:root", AuditOutcome::Failed, "operation", "edge"),
            ("sp:operator", AuditOutcome::Ok, "operation", "edge"),
            ("sp:viewer", AuditOutcome::Denied, "operation", ""),
        ]
    );
    assert_eq!(closed_entry(&sg).await.outcome(), AuditOutcome::Failed);
    let names: Vec<_> = events(&sg, &held.id).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["operation.created", "operation.cancelling", "operation.failed"]);
    drop(held);
    sg.finish().await;
}

async fn an_operation_that_completes_despite_cancellation_has_succeeded(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let work = sg.operation_spec("edge", "box");
    let done = start_operation(&sg.app, &work, async |running| {
        running.cancel().cancelled().await;
        Ok(json!({}))
    });
    let id = done.await.unwrap().id;
    // An operation that is canceled before it runs does nothing.
    let request = pb::GetOperationRequest { operation: id.clone() };
    let status = async || {
        let found = sg.admin().operations().get_operation(request.clone()).await.unwrap();
        found.into_inner().operation.unwrap().status()
    };
    while status().await == Status::Pending {
        crate::support::pause().await;
    }
    sg.admin().cancel_operation(&id).await.unwrap();
    // A second cancellation changes nothing: the operation is canceled already, or has ended.
    let _ = sg.admin().cancel_operation(&id).await;
    assert_eq!(sg.admin().wait_operation(&id).await.status(), Status::Succeeded);
    sg.finish().await;
}

async fn a_failed_operation_is_audited_and_emits_an_event(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    // The call has its response, but its entry stays open until the operation ends.
    assert_eq!(entry(&sg).await.outcome(), AuditOutcome::Open);
    held.running.ctx().add_audit_detail("image", "base");
    let id = held.id.clone();
    held.finish(Err(Failure::new(operations::FailureCode::Refused, "quota\u{1b}[31m is full")));
    let ended = sg.admin().wait_operation(&id).await;
    assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Refused));
    assert_eq!(ended.error_message, "quota [31m is full");
    let entry = closed_entry(&sg).await;
    assert_eq!((entry.outcome(), entry.code, &*entry.actor), (AuditOutcome::Failed, 9, "sp:root"));
    let told = detail(&entry);
    for (key, value) in [
        ("operation", &*id),
        ("error_code", "refused"),
        ("error", "quota [31m is full"),
        ("image", "base"),
    ] {
        assert_eq!(told[key], value, "{told}");
    }
    let events = events(&sg, &id).await;
    assert_eq!(events.last().unwrap().0, "operation.failed");
    let payload = &events.last().unwrap().1;
    assert_eq!((&payload["sandbox"], &payload["error_code"]), (&json!("box"), &json!("refused")));
    assert!(payload.get("error").is_none(), "what a gateway has said is in no event");
    sg.finish().await;
}

async fn an_operation_that_panics_or_is_dropped_has_failed(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let work = sg.operation_spec("edge", "a");
    let panics = start_operation(&sg.app, &work, async |_| panic!("a panic of the work"));
    let panics = panics.await.unwrap().id;
    let running = begin_operation(&sg.app, &sg.operation_spec("edge", "b")).await;
    let dropped = running.id().to_owned();
    let other = running.clone();
    drop(running);
    assert_eq!(sg.admin().operation(&dropped).await.unwrap().status(), Status::Running);
    drop(other);
    for id in [panics, dropped] {
        let ended = sg.admin().wait_operation(&id).await;
        assert_eq!((ended.status(), ended.error_code()), (Status::Failed, Code::Internal));
    }
    eventually("both entries are closed as failed", || async {
        let entries = sg.admin().audit_entries("", ACTION).await;
        entries.iter().all(|entry| entry.outcome() == AuditOutcome::Failed)
    })
    .await;
    sg.finish().await;
}

async fn an_operation_can_be_finished_only_once(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let running = begin_operation(&sg.app, &sg.operation_spec("edge", "box")).await;
    running.step("created").await.unwrap();
    let (id, late) = (running.id().to_owned(), running.clone());
    running.finish(Ok(json!({ "name": "box" }))).await.unwrap();
    assert!(late.step("more").await.is_err() && late.progress(1, "").await.is_err());
    assert!(late.finish(Ok(json!({}))).await.is_err());
    assert_eq!(sg.admin().operation(&id).await.unwrap().status(), Status::Succeeded);
    assert_eq!(closed_entry(&sg).await.outcome(), AuditOutcome::Ok);
    sg.finish().await;
}

async fn a_sandbox_name_assigned_by_the_gateway_is_found_in_the_audit_log(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let workspace = "team".to_owned();
    let held = sg.start_held(&OperationSpec { workspace, ..sg.operation_spec("edge", "") }).await;
    held.running.set_sandbox("brave-otter").await.unwrap();
    assert_eq!(sg.admin().operation(&held.id).await.unwrap().sandbox, "brave-otter");
    let id = held.id.clone();
    held.finish(Ok(json!({})));
    sg.admin().wait_operation(&id).await;
    eventually("the entry has the name", || async {
        sg.admin().audit_entries("team/brave-otter", ACTION).await.len() == 1
    })
    .await;
    let until = pb::ListAuditEntriesRequest {
        resource_id: "team/brave-otter".into(),
        until_time: Some(shoreguard::rpc::wire::to_timestamp(
            sg.app.clock.now().plus(Duration::from_secs(1)),
        )),
        page_size: 1,
        ..Default::default()
    };
    let found = sg.admin().audit().list_audit_entries(until).await.unwrap().into_inner();
    assert_eq!((found.audit_entries.len(), &*found.next_page_token), (1, ""));
    assert_eq!(events(&sg, &id).await.last().unwrap().1["sandbox"], "brave-otter");
    sg.finish().await;
}

async fn an_oversized_result_is_truncated_and_marked(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let large = json!({ "stdout": "x".repeat(70_000), "exit_code": 0 });
    let id = start_operation(&sg.app, &sg.operation_spec("edge", "box"), async |_| Ok(large))
        .await
        .unwrap()
        .id;
    let ended = sg.admin().wait_operation(&id).await;
    let fields = ended.result.unwrap().fields;
    assert_eq!(fields["truncated"].kind, Some(Kind::BoolValue(true)));
    assert_eq!(fields["exit_code"].kind, Some(Kind::NumberValue(0.0)));
    assert_eq!(fields["stdout"].kind, Some(Kind::StringValue("x".repeat(8_000))));
    sg.finish().await;
}

async fn a_watch_gets_only_the_changes_that_its_caller_can_see(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let watch = pb::WatchOperationRequest { operation: held.id.clone() };
    let watched = sg.admin().operations().watch_operation(watch).await.unwrap();
    let mut stream = watched.into_inner();
    let mut next = async || stream.message().await.unwrap().unwrap().operation.unwrap();
    assert_eq!(next().await.status(), Status::Running);
    held.running.progress(30, "creating").await.unwrap();
    let seen = next().await;
    assert_eq!((seen.progress_percent, &*seen.progress_message), (30, "creating"));
    // Each call is committed and wakes the watch.
    for n in 0..3 {
        held.running.step(&format!("step {n}")).await.unwrap();
        held.running.step_with("input", b"{}").await.unwrap();
        held.running.progress(30, "creating").await.unwrap();
        tokio::time::timeout(SILENT, next()).await.unwrap_err();
    }
    held.running.progress(40, "creating").await.unwrap();
    assert_eq!(next().await.progress_percent, 40);
    held.running.set_sandbox("box-1").await.unwrap();
    assert_eq!(next().await.sandbox, "box-1");
    held.finish(Ok(json!({})));
    assert_eq!(next().await.status(), Status::Succeeded);
    sg.finish().await;
}

async fn an_ended_operation_has_no_progress_message(sg: TestServer) {
    sg.register_unreachable("edge").await;
    for result in [Ok(json!({})), Err(Failure::cancelled())] {
        let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
        let id = held.id.clone();
        held.running.progress(30, "creating").await.unwrap();
        assert_eq!(sg.admin().operation(&id).await.unwrap().progress_message, "creating");
        let percent = if result.is_ok() { 100 } else { 30 };
        held.finish(result);
        let ended = sg.admin().wait_operation(&id).await;
        assert_eq!((ended.progress_percent, &*ended.progress_message), (percent, ""));
    }
    sg.finish().await;
}
