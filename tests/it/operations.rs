//! Operations through the API: start, get, list, wait and watch.

use std::time::{Duration, Instant};

use prost_types::value::Kind;
use serde_json::json;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::OperationStatus as Status;
use shoreguard::resources::operations::{INPUT_BYTES_MAX, STEP_CHARS_MAX};
use shoreguard::seal::hex;

use crate::support::server::Caller;
use crate::support::server::TestServer;
use crate::support::work::{OperationSpec, start_operation};
use crate::support::{dump, soon};
use shoreguard::resources::operations::leases::LocalOperations;

/// Returns a string or a number of the result.
fn text(operation: &pb::Operation, key: &str) -> Option<String> {
    match operation.result.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        Kind::NullValue(_) | Kind::BoolValue(_) | Kind::StructValue(_) | Kind::ListValue(_) => None,
    }
}

type Watching = tonic::Streaming<pb::WatchOperationResponse>;

async fn try_to_watch(caller: &Caller, id: &str) -> Result<Watching, tonic::Status> {
    let watch = pb::WatchOperationRequest { operation: id.to_owned() };
    Ok(caller.operations().watch_operation(watch).await?.into_inner())
}

async fn watch(caller: &Caller, id: &str) -> Watching {
    try_to_watch(caller, id).await.unwrap()
}

async fn list(caller: &Caller, request: pb::ListOperationsRequest) -> Vec<pb::Operation> {
    caller.operations().list_operations(request).await.unwrap().into_inner().operations
}

/// Creates a key with a role on one gateway and no other role.
async fn bound(admin: &Caller, name: &str, gateway: &str, role: pb::Role) -> String {
    let key = admin.create_key(name, pb::Role::None).await;
    admin.bind(name, gateway, role).await;
    key
}

server_tests! {
    an_operation_completes_and_its_result_can_be_read,
    progress_is_streamed_and_one_poll_serves_all_watchers,
    a_wait_that_times_out_returns_the_current_state,
    operations_without_a_name_or_at_another_place_never_conflict,
    two_equal_commands_run_concurrently,
    a_request_id_is_scoped_to_its_caller_and_method,
    the_output_of_an_operation_is_visible_to_its_actor_and_admins,
    t08_a_list_shows_own_operations_and_those_on_operated_gateways,
    an_operation_of_a_deleted_gateway_is_visible_to_its_owner_and_global_admins,
    a_watch_of_an_operation_of_another_caller_ends_with_the_role,
    the_largest_accepted_values_fit_their_columns,
    an_invalid_operation_request_is_refused,
    t18_results_and_inputs_are_sealed_and_inputs_are_deleted_at_the_end,
}

async fn an_operation_completes_and_its_result_can_be_read(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let found = admin.operation(&held.id).await.unwrap();
    assert_eq!((found.status(), found.r#type()), (Status::Running, pb::OperationType::Sandbox));
    assert_eq!((&*found.gateway, &*found.workspace, &*found.sandbox), ("edge", "default", "box"));
    assert_eq!((&*found.actor, found.complete_time), ("sp:root", None));
    let id = held.id.clone();
    held.finish(Ok(json!({ "phase": "ready", "n": 1 })));
    let ended = admin.wait_operation(&id).await;
    assert_eq!((ended.status(), ended.progress_percent), (Status::Succeeded, 100));
    assert_eq!(text(&ended, "phase").as_deref(), Some("ready"));
    assert_eq!(text(&ended, "n").as_deref(), Some("1"));
    assert!(ended.complete_time.is_some() && !ended.result_withheld);
    assert_eq!(admin.operation(&id).await.unwrap(), ended);
    sg.finish().await;
}

async fn progress_is_streamed_and_one_poll_serves_all_watchers(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let begun = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = watch(&admin, &held.id).await;
        let first = stream.message().await.unwrap().unwrap().operation.unwrap();
        assert_eq!((first.status(), first.progress_percent), (Status::Running, 0));
        streams.push(stream);
    }
    for (percent, message) in [(10, "creating"), (30, "waiting for ready"), (80, "presets")] {
        held.running.progress(percent, message).await.unwrap();
        for stream in &mut streams {
            let next = stream.message().await.unwrap().unwrap().operation.unwrap();
            let got = (next.progress_percent, next.progress_message.as_str());
            assert_eq!(got, (i32::from(percent), message));
        }
    }
    held.finish(Ok(json!({})));
    for stream in &mut streams {
        let last = stream.message().await.unwrap().unwrap().operation.unwrap();
        assert_eq!(last.status(), Status::Succeeded);
        assert!(stream.message().await.unwrap().is_none(), "a stream ends with its operation");
    }
    let polls = sg.app.part::<LocalOperations>().feed.polls();
    let most = match sg.engine {
        Engine::Sqlite => 0,
        Engine::Postgres => begun.elapsed().as_secs() + 1,
    };
    assert!(polls <= most, "{polls} polls");
    sg.finish().await;
}

async fn a_wait_that_times_out_returns_the_current_state(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let wait = |seconds| pb::WaitOperationRequest {
        operation: held.id.clone(),
        timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let begun = Instant::now();
    let waited = admin.operations().wait_operation(wait(1)).await.unwrap().into_inner();
    assert_eq!(waited.operation.unwrap().status(), Status::Running);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    for bad in [0, 61, -1] {
        assert_refused!(
            admin.operations().wait_operation(wait(bad)).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    held.finish(Ok(json!({})));
    sg.finish().await;
}

async fn operations_without_a_name_or_at_another_place_never_conflict(sg: TestServer) {
    for gateway in ["edge", "far"] {
        sg.register_unreachable(gateway).await;
    }
    let exclusive = |gateway: &str, workspace: &str, sandbox: &str| OperationSpec {
        exclusive: true,
        workspace: workspace.to_owned(),
        ..sg.operation_spec(gateway, sandbox)
    };
    let mut all = Vec::new();
    for (gateway, workspace, sandbox) in [
        ("edge", "", ""),
        ("edge", "", ""),
        ("far", "", ""),
        ("edge", "", "agent-1"),
        ("far", "", "agent-1"),
        ("edge", "team", "agent-1"),
    ] {
        all.push(sg.start_held(&exclusive(gateway, workspace, sandbox)).await);
    }
    let again = exclusive("edge", "default", "agent-1");
    let refused = start_operation(&sg.app, &again, async |_| Ok(json!({}))).await;
    let refused = assert_refused!(refused, FailedPrecondition, "OPERATION_RUNNING");
    assert!(refused.message().contains(&all[3].id), "{refused:?}");
    for held in all {
        let id = held.id.clone();
        held.finish(Ok(json!({})));
        sg.admin().wait_operation(&id).await;
    }
    // The sandbox is free for another operation again.
    let held = sg.start_held(&again).await;
    held.finish(Ok(json!({})));
    sg.finish().await;
}

async fn two_equal_commands_run_concurrently(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let exec = OperationSpec { exec: true, ..sg.operation_spec("edge", "box") };
    let (one, two) = (sg.start_held(&exec).await, sg.start_held(&exec).await);
    assert_ne!(one.id, two.id);
    for held in [one, two] {
        let id = held.id.clone();
        held.finish(Ok(json!({ "exit_code": 1 })));
        assert_eq!(sg.admin().wait_operation(&id).await.status(), Status::Succeeded);
    }
    sg.finish().await;
}

async fn a_request_id_is_scoped_to_its_caller_and_method(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let other = bound(&sg.admin(), "other", "edge", pb::Role::Admin).await;
    let request_id = "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01".to_owned();
    let mine = OperationSpec { request_id, ..sg.operation_spec("edge", "box") };
    let begin = async |begin: &OperationSpec| {
        start_operation(&sg.app, begin, async |_| Ok(json!({}))).await.unwrap().id
    };
    let first = begin(&mine).await;
    assert_eq!(begin(&mine).await, first, "a repeat gets the first answer");
    let theirs = begin(&OperationSpec { key: other, ..mine.clone() }).await;
    assert_ne!(theirs, first, "another caller gets their own");
    let cancel = pb::CancelOperationRequest {
        operation: first.clone(),
        request_id: mine.request_id.clone(),
    };
    sg.admin().wait_operation(&first).await;
    // The same ID in another method is another request.
    assert_refused!(
        sg.admin().operations().cancel_operation(cancel).await,
        FailedPrecondition,
        "OPERATION_ENDED"
    );
    assert_eq!(list(&sg.admin(), pb::ListOperationsRequest::default()).await.len(), 2);
    sg.finish().await;
}

async fn the_output_of_an_operation_is_visible_to_its_actor_and_admins(sg: TestServer) {
    for gateway in ["edge", "far"] {
        sg.register_unreachable(gateway).await;
    }
    let admin = sg.admin();
    let ana = bound(&admin, "ana", "edge", pb::Role::Admin).await;
    let exec = OperationSpec { exec: true, key: ana.clone(), ..sg.operation_spec("edge", "box") };
    let exec = start_operation(&sg.app, &exec, async |_| Ok(json!({ "stdout": "the secret" })))
        .await
        .unwrap()
        .id;
    let create = OperationSpec { key: ana.clone(), ..sg.operation_spec("edge", "box") };
    let create =
        start_operation(&sg.app, &create, async |_| Ok(json!({ "name": "box" }))).await.unwrap().id;
    admin.wait_operation(&exec).await;
    admin.wait_operation(&create).await;
    admin.bind("ana", "edge", pb::Role::Operator).await;
    let operator = bound(&admin, "operator", "edge", pb::Role::Operator).await;
    let viewer = bound(&admin, "viewer", "edge", pb::Role::Viewer).await;
    let elsewhere = bound(&admin, "elsewhere", "far", pb::Role::Admin).await;
    let nobody = admin.create_key("nobody", pb::Role::None).await;

    for key in [&ana, &sg.admin_key] {
        let seen = sg.with_token(key).operation(&exec).await.unwrap();
        assert_eq!(text(&seen, "stdout").as_deref(), Some("the secret"));
    }
    let seen = sg.with_token(&operator).operation(&exec).await.unwrap();
    assert_eq!((seen.status(), seen.result, seen.result_withheld), (Status::Succeeded, None, true));
    let waited = sg.with_token(&operator).wait_operation(&exec).await;
    assert_eq!((waited.result, waited.result_withheld), (None, true));
    let streamed = watch(&sg.with_token(&operator), &exec)
        .await
        .message()
        .await
        .unwrap()
        .unwrap()
        .operation
        .unwrap();
    assert_eq!((streamed.result, streamed.result_withheld), (None, true));
    // A result that is not the output of a command is visible to operators of the gateway.
    let seen = sg.with_token(&operator).operation(&create).await.unwrap();
    assert_eq!(text(&seen, "name").as_deref(), Some("box"));
    let read = async |id: &str| {
        assert_refused!(sg.with_token(&viewer).operation(id).await, NotFound, "NOT_FOUND")
    };
    let missing = "00000000-0000-4000-8000-000000000000";
    let (hidden, absent) = (read(exec.as_str()).await, read(missing).await);
    assert_eq!(hidden.message().replace(exec.as_str(), missing), absent.message());
    for key in [&elsewhere, &nobody] {
        assert_refused!(sg.with_token(key).operation(&exec).await, NotFound, "NOT_FOUND");
        assert_refused!(sg.with_token(key).cancel_operation(&exec).await, NotFound, "NOT_FOUND");
    }
    // Without a role on the gateway, callers still see their own operations, but not their output.
    admin.bind("ana", "edge", pb::Role::None).await;
    let own = sg.with_token(&ana).operation(&exec).await.unwrap();
    assert_eq!((own.result, own.result_withheld), (None, true));
    // A new principal with the same name did not run it, and does not see its output.
    admin
        .service_principals()
        .delete_service_principal(pb::DeleteServicePrincipalRequest {
            service_principal: "ana".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let namesake = bound(&admin, "ana", "edge", pb::Role::Operator).await;
    let seen = sg.with_token(&namesake).operation(&exec).await.unwrap();
    assert_eq!((seen.actor.as_str(), seen.result, seen.result_withheld), ("sp:ana", None, true));
    sg.finish().await;
}

async fn t08_a_list_shows_own_operations_and_those_on_operated_gateways(sg: TestServer) {
    for gateway in ["edge", "far"] {
        sg.register_unreachable(gateway).await;
    }
    let admin = sg.admin();
    let ana = bound(&admin, "ana", "edge", pb::Role::Admin).await;
    let mut ids = Vec::new();
    for (key, gateway, exec) in
        [(&ana, "edge", false), (&sg.admin_key, "edge", true), (&sg.admin_key, "far", false)]
    {
        let begin = OperationSpec { key: key.clone(), exec, ..sg.operation_spec(gateway, "box") };
        ids.push(
            start_operation(&sg.app, &begin, async |_| Ok(json!({ "stdout": "x" })))
                .await
                .unwrap()
                .id,
        );
    }
    for id in &ids {
        admin.wait_operation(id).await;
    }
    let operator = bound(&admin, "operator", "far", pb::Role::Operator).await;
    let viewer = admin.create_key("viewer", pb::Role::Viewer).await;
    let seen = async |key: &str, request: pb::ListOperationsRequest| -> Vec<usize> {
        let found = list(&sg.with_token(key), request).await;
        assert!(found.iter().all(|operation| operation.result.is_none()), "a list has no results");
        found
            .iter()
            .map(|operation| ids.iter().position(|id| *id == operation.id).unwrap())
            .collect()
    };
    let all = pb::ListOperationsRequest::default;
    assert_eq!(seen(&sg.admin_key, all()).await, [2, 1, 0]);
    assert_eq!(seen(&ana, all()).await, [1, 0]);
    assert_eq!(seen(&operator, all()).await, [2]);
    assert_eq!(seen(&viewer, all()).await, [0_usize; 0]);
    assert_eq!(seen(&ana, pb::ListOperationsRequest { mine_only: true, ..all() }).await, [0]);
    assert_eq!(
        seen(&sg.admin_key, pb::ListOperationsRequest { gateway: "edge".into(), ..all() }).await,
        [1, 0]
    );
    assert_eq!(
        seen(&operator, pb::ListOperationsRequest { gateway: "edge".into(), ..all() }).await,
        [0_usize; 0]
    );
    let exec = pb::OperationType::Exec.into();
    assert_eq!(seen(&sg.admin_key, pb::ListOperationsRequest { r#type: exec, ..all() }).await, [1]);
    let failed = Status::Failed.into();
    assert_eq!(
        seen(&sg.admin_key, pb::ListOperationsRequest { status: failed, ..all() }).await,
        [0_usize; 0]
    );
    // Losing a role hides the operations of others, and not the caller's own.
    admin.bind("ana", "edge", pb::Role::None).await;
    assert_eq!(seen(&ana, all()).await, [0]);
    // In pages. A page token is valid only for its own request and caller.
    let one = pb::ListOperationsRequest { page_size: 1, ..all() };
    let first = admin.operations().list_operations(one.clone()).await.unwrap().into_inner();
    let second = pb::ListOperationsRequest { page_token: first.next_page_token, ..one };
    assert_eq!(seen(&sg.admin_key, second.clone()).await, [1]);
    assert_refused!(
        sg.with_token(&ana).operations().list_operations(second.clone()).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let other = pb::ListOperationsRequest { mine_only: true, ..second };
    assert_refused!(
        admin.operations().list_operations(other).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    sg.finish().await;
}

async fn an_operation_of_a_deleted_gateway_is_visible_to_its_owner_and_global_admins(
    sg: TestServer,
) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let ana = bound(&admin, "ana", "edge", pb::Role::Admin).await;
    let exec = OperationSpec { exec: true, key: ana.clone(), ..sg.operation_spec("edge", "box") };
    let id =
        start_operation(&sg.app, &exec, async |_| Ok(json!({ "stdout": "x" }))).await.unwrap().id;
    admin.wait_operation(&id).await;
    let operator = admin.create_key("operator", pb::Role::Operator).await;
    assert!(sg.with_token(&operator).operation(&id).await.is_ok());
    let gone = pb::UnregisterGatewayRequest { gateway: "edge".into(), ..Default::default() };
    admin.gateways().unregister_gateway(gone).await.unwrap();
    let all = pb::ListOperationsRequest::default;
    let by_name = pb::ListOperationsRequest { gateway: "edge".into(), ..all() };
    for (key, output) in [(&ana, false), (&sg.admin_key, true)] {
        let seen = sg.with_token(key).operation(&id).await.unwrap();
        assert_eq!((seen.result.is_some(), seen.result_withheld), (output, !output));
        assert_eq!(list(&sg.with_token(key), by_name.clone()).await.len(), 1);
    }
    assert_refused!(sg.with_token(&operator).operation(&id).await, NotFound, "NOT_FOUND");
    assert!(list(&sg.with_token(&operator), all()).await.is_empty());
    // A new gateway with the same name is another gateway.
    sg.register_unreachable("edge").await;
    assert_refused!(sg.with_token(&operator).operation(&id).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn a_watch_of_an_operation_of_another_caller_ends_with_the_role(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let ana = bound(&admin, "ana", "edge", pb::Role::Operator).await;
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    let mut stream = watch(&sg.with_token(&ana), &held.id).await;
    stream.message().await.unwrap().unwrap();
    admin.bind("ana", "edge", pb::Role::Viewer).await;
    let ended = soon("the stream ends", stream.message()).await;
    assert_refused!(ended, PermissionDenied, "ROLE_TOO_LOW");
    held.finish(Ok(json!({})));
    sg.finish().await;
}

async fn the_largest_accepted_values_fit_their_columns(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let most =
        OperationSpec { input: Some(vec![7; INPUT_BYTES_MAX]), ..sg.operation_spec("edge", "box") };
    let held = sg.start_held(&most).await;
    let more = OperationSpec { input: Some(vec![7; INPUT_BYTES_MAX + 1]), ..most };
    assert_refused!(
        start_operation(&sg.app, &more, async |_| Ok(json!({}))).await,
        Internal,
        "INTERNAL"
    );
    held.running.progress(255, &"\u{1f980}".repeat(501)).await.unwrap();
    held.running.step(&"s".repeat(STEP_CHARS_MAX)).await.unwrap();
    assert!(held.running.step(&"s".repeat(STEP_CHARS_MAX + 1)).await.is_err());
    held.running.set_sandbox(&"n".repeat(300)).await.unwrap();
    let seen = sg.admin().operation(&held.id).await.unwrap();
    assert_eq!((seen.progress_percent, seen.progress_message.chars().count()), (100, 500));
    assert_eq!(seen.sandbox.len(), 253);
    let id = held.id.clone();
    let envelope = json!({ "stdout": "" }).to_string().len();
    held.finish(Ok(json!({ "stdout": "x".repeat(65_536 - envelope) })));
    let ended = sg.admin().wait_operation(&id).await;
    assert_eq!(text(&ended, "stdout").unwrap().len(), 65_536 - envelope);
    assert_eq!(text(&ended, "truncated"), None);
    sg.finish().await;
}

async fn an_invalid_operation_request_is_refused(sg: TestServer) {
    let admin = sg.admin();
    for bad in ["", "1", "not a uuid", "8c5b0f6e7d1d4f0c9c573d9a6f2f1a01", "\u{0}", "a' OR 1=1"] {
        assert_refused!(admin.operation(bad).await, InvalidArgument, "INVALID_FIELD");
        assert_refused!(admin.cancel_operation(bad).await, InvalidArgument, "INVALID_FIELD");
        assert_refused!(try_to_watch(&admin, bad).await, InvalidArgument, "INVALID_FIELD");
    }
    let unknown = "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01";
    assert_refused!(admin.operation(unknown).await, NotFound, "NOT_FOUND");
    assert_refused!(admin.cancel_operation(unknown).await, NotFound, "NOT_FOUND");
    assert_refused!(try_to_watch(&admin, unknown).await, NotFound, "NOT_FOUND");
    for request in [
        pb::ListOperationsRequest { gateway: "g".repeat(254), ..Default::default() },
        pb::ListOperationsRequest { gateway: "a\0".into(), ..Default::default() },
        pb::ListOperationsRequest { status: 77, ..Default::default() },
        pb::ListOperationsRequest { r#type: -1, ..Default::default() },
        pb::ListOperationsRequest { page_size: -1, ..Default::default() },
    ] {
        assert_refused!(
            admin.operations().list_operations(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    assert_refused!(sg.anonymous().operation(unknown).await, Unauthenticated, "CREDENTIAL_MISSING");
    sg.finish().await;
}

async fn t18_results_and_inputs_are_sealed_and_inputs_are_deleted_at_the_end(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let input = Some(b"a spec with API_KEY=hunter2".to_vec());
    let held = sg.start_held(&OperationSpec { input, ..sg.operation_spec("edge", "box") }).await;
    let row = dump::table(&sg.app.db, "operations").await.to_lowercase();
    let hex = |text: &str| hex(text.as_bytes());
    assert!(row.contains("default") && !row.contains(&hex("hunter2")), "{row}");
    let id = held.id.clone();
    held.finish(Ok(json!({ "stdout": "hunter2" })));
    sg.admin().wait_operation(&id).await;
    for table in ["operations", "events", "audit_log"] {
        let rows = dump::table(&sg.app.db, table).await.to_lowercase();
        assert!(!rows.contains("hunter2") && !rows.contains(&hex("hunter2")), "{table}: {rows}");
    }
    let left = sg.sql("UPDATE operations SET version = version WHERE input IS NOT NULL").await;
    assert_eq!(left, 0, "no input is stored");
    // A result that was copied to another operation cannot be unsealed.
    let other = start_operation(&sg.app, &sg.operation_spec("edge", "box"), async |_| {
        Ok(json!({ "a": 1 }))
    })
    .await
    .unwrap()
    .id;
    sg.admin().wait_operation(&other).await;
    sg.sql(&format!("UPDATE operations SET result_json = (SELECT result_json FROM operations WHERE id = '{id}') WHERE id = '{other}'")).await;
    assert_refused!(sg.admin().operation(&other).await, Internal, "INTERNAL");
    sg.finish().await;
}
