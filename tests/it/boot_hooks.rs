//! Boot hooks through the API: permissions, validation, and isolation between sandboxes.

use std::collections::HashMap;
use std::fs;

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator};
use tonic::Status;

use crate::support::server::{Caller, TestServer};

pub(crate) const PRE: pb::BootHookPhase = pb::BootHookPhase::PreCreate;
pub(crate) const POST: pb::BootHookPhase = pb::BootHookPhase::PostCreate;

/// Enables hooks before the creation, in a folder of this server.
pub(crate) fn with_folder(config: &mut Config) {
    let folder = config.server.data_dir.join("hooks");
    fs::create_dir(&folder).unwrap();
    config.boot_hooks.pre_create_folder = Some(folder);
    config.boot_hooks.launcher = Some(env!("CARGO_BIN_EXE_shoreguard").into());
}

/// Starts and registers a simulated gateway.
pub(crate) async fn start_gateway(sg: &TestServer, name: &str) -> Simulator {
    sg.start_gateway(name, Generation::V0_1).await
}

/// Returns a request for a hook of the sandbox `box` on `edge`.
pub(crate) fn hook_request(
    name: &str,
    phase: pb::BootHookPhase,
    command: &str,
) -> pb::CreateBootHookRequest {
    pb::CreateBootHookRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        name: name.into(),
        phase: phase.into(),
        command: command.into(),
        ..Default::default()
    }
}

pub(crate) async fn create_hook(
    caller: &Caller,
    request: pb::CreateBootHookRequest,
) -> Result<pb::BootHook, Status> {
    let answer = caller.boot_hooks().create_boot_hook(request).await?;
    Ok(answer.into_inner().boot_hook.unwrap())
}

pub(crate) async fn list_hooks(caller: &Caller) -> Vec<pb::BootHook> {
    let request = pb::ListBootHooksRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        ..Default::default()
    };
    caller.boot_hooks().list_boot_hooks(request).await.unwrap().into_inner().boot_hooks
}

fn names(hooks: &[pb::BootHook]) -> Vec<&str> {
    hooks.iter().map(|hook| hook.name.as_str()).collect()
}

pub(crate) fn update_request(hook: &pb::BootHook, paths: &[&str]) -> pb::UpdateBootHookRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateBootHookRequest {
        gateway: hook.gateway.clone(),
        workspace: hook.workspace.clone(),
        sandbox: hook.sandbox.clone(),
        boot_hook_id: hook.id,
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    }
}

pub(crate) async fn update_hook(
    caller: &Caller,
    request: pb::UpdateBootHookRequest,
) -> Result<pb::BootHook, Status> {
    Ok(caller.boot_hooks().update_boot_hook(request).await?.into_inner().boot_hook.unwrap())
}

fn delete(hook: &pb::BootHook) -> pb::DeleteBootHookRequest {
    pb::DeleteBootHookRequest {
        gateway: hook.gateway.clone(),
        workspace: hook.workspace.clone(),
        sandbox: hook.sandbox.clone(),
        boot_hook_id: hook.id,
        ..Default::default()
    }
}

fn reorder(phase: pb::BootHookPhase, hook_ids: Vec<i64>) -> pb::ReorderBootHooksRequest {
    pb::ReorderBootHooksRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        phase: phase.into(),
        boot_hook_ids: hook_ids,
        ..Default::default()
    }
}

pub(crate) fn variables(given: &[(&str, &str)]) -> HashMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Waits for the first event of a name. Events are delivered when they have their sequence number.
pub(crate) async fn last_event(admin: &Caller, name: &str) -> pb::Event {
    let request = pb::WatchEventsRequest { names: vec![name.into()], ..Default::default() };
    let mut events = admin.events().watch_events(request).await.unwrap().into_inner();
    loop {
        if let Some(event) = events.message().await.unwrap().unwrap().event {
            return event;
        }
    }
}

server_tests! {
    tuned with_folder;
    hooks_are_created_listed_changed_ordered_and_deleted,
    a_gateway_admin_cannot_manage_hooks_that_run_on_this_host,
    t08_a_hook_is_found_only_in_its_own_sandbox,
}

async fn hooks_are_created_listed_changed_ordered_and_deleted(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let first = create_hook(&admin, hook_request("warm up", POST, "make warm")).await.unwrap();
    assert_eq!(
        (first.workspace.as_str(), first.timeout_seconds, first.order, first.enabled),
        ("default", 30, 0, true)
    );
    assert_eq!(
        (first.created_by.as_str(), first.etag.as_str(), first.last_run_time),
        ("sp:root", "v1", None)
    );
    let second = create_hook(
        &admin,
        pb::CreateBootHookRequest {
            enabled: Some(false),
            ..hook_request("notify", POST, "notify 'a b'")
        },
    )
    .await
    .unwrap();
    assert_eq!((second.order, second.enabled), (1, false));
    let check = create_hook(&admin, hook_request("check", PRE, "check --strict")).await.unwrap();
    assert_eq!(
        names(&list_hooks(&admin).await),
        ["check", "warm up", "notify"],
        "in the order in which they run"
    );

    let mut seen = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListBootHooksRequest {
            gateway: "edge".into(),
            sandbox: "box".into(),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let page = admin.boot_hooks().list_boot_hooks(request.clone()).await.unwrap().into_inner();
        seen.extend(page.boot_hooks.into_iter().map(|hook| hook.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        let other = pb::ListBootHooksRequest {
            phase: POST.into(),
            page_token: page_token.clone(),
            ..request
        };
        assert_refused!(
            admin.boot_hooks().list_boot_hooks(other).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    assert_eq!(seen, ["check", "warm up", "notify"]);
    let request = pb::ListBootHooksRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        phase: PRE.into(),
        ..Default::default()
    };
    let page = admin.boot_hooks().list_boot_hooks(request).await.unwrap().into_inner();
    assert_eq!(names(&page.boot_hooks), ["check"]);

    let ordered = admin
        .boot_hooks()
        .reorder_boot_hooks(reorder(POST, vec![second.id, first.id]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(names(&ordered.boot_hooks), ["notify", "warm up"]);
    assert_eq!(names(&list_hooks(&admin).await), ["check", "notify", "warm up"]);
    for wrong in [
        vec![],
        vec![first.id],
        vec![first.id, first.id],
        vec![first.id, second.id, check.id],
        vec![first.id, check.id],
    ] {
        assert_refused!(
            admin.boot_hooks().reorder_boot_hooks(reorder(POST, wrong)).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }

    let request = pb::UpdateBootHookRequest {
        timeout_seconds: 600,
        enabled: true,
        continue_on_failure: true,
        etag: "v2".into(),
        ..update_request(&second, &["timeout_seconds", "enabled", "continue_on_failure"])
    };
    let updated = update_hook(&admin, request.clone()).await.unwrap();
    assert_eq!(
        (updated.timeout_seconds, updated.enabled, updated.continue_on_failure),
        (600, true, true)
    );
    assert_eq!((updated.command.as_str(), updated.etag.as_str()), ("notify 'a b'", "v3"));
    assert_refused!(update_hook(&admin, request).await, Aborted, "CONCURRENT_CHANGE");
    assert_refused!(
        admin
            .boot_hooks()
            .delete_boot_hook(pb::DeleteBootHookRequest { etag: "v1".into(), ..delete(&second) })
            .await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    admin.boot_hooks().delete_boot_hook(delete(&second)).await.unwrap();
    assert_refused!(
        admin.boot_hooks().delete_boot_hook(delete(&second)).await,
        NotFound,
        "NOT_FOUND"
    );
    assert_eq!(names(&list_hooks(&admin).await), ["check", "warm up"]);
    for name in
        ["boot_hook.created", "boot_hook.updated", "boot_hook.deleted", "boot_hook.reordered"]
    {
        let event = last_event(&admin, name).await;
        let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
        assert_eq!(
            (&payload["sandbox"], &payload["workspace"], event.gateway.as_str()),
            (&"box".into(), &"default".into(), "edge")
        );
    }

    sg.app.audit.wait_settled().await;
    let request =
        pb::ListAuditEntriesRequest { action: "boot_hook.delete".into(), ..Default::default() };
    let entries =
        admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    assert!(entries.iter().any(|entry| entry.resource_type == "boot_hook"
        && entry.resource_id == "box"
        && entry.outcome() == pb::AuditOutcome::Ok));
    edge.stop().await;
    sg.finish().await;
}

async fn a_gateway_admin_cannot_manage_hooks_that_run_on_this_host(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let check = create_hook(&admin, hook_request("check", PRE, "check")).await.unwrap();
    let key = admin.create_key("here", pb::Role::Viewer).await;
    admin.bind("here", "edge", pb::Role::Admin).await;
    let here = sg.with_token(&key);
    create_hook(&here, hook_request("inside", POST, "a")).await.unwrap();

    assert_refused!(
        create_hook(&here, hook_request("evil", PRE, "check")).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let request = pb::UpdateBootHookRequest {
        command: "evil".into(),
        ..update_request(&check, &["command"])
    };
    assert_refused!(update_hook(&here, request).await, PermissionDenied, "ROLE_TOO_LOW");
    assert_refused!(
        here.boot_hooks().reorder_boot_hooks(reorder(PRE, vec![check.id])).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        here.boot_hooks().delete_boot_hook(delete(&check)).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_eq!(list_hooks(&admin).await[0], check);
    edge.stop().await;
    sg.finish().await;
}

async fn t08_a_hook_is_found_only_in_its_own_sandbox(sg: TestServer) {
    let (edge, other) = (start_gateway(&sg, "edge").await, start_gateway(&sg, "other").await);
    let admin = sg.admin();
    let made = create_hook(&admin, hook_request("check", PRE, "check")).await.unwrap();
    for (gateway, workspace, sandbox) in
        [("other", "", "box"), ("edge", "team", "box"), ("edge", "", "cox")]
    {
        let elsewhere = pb::BootHook {
            gateway: gateway.into(),
            workspace: workspace.into(),
            sandbox: sandbox.into(),
            ..made.clone()
        };
        let (gateway, workspace, sandbox, id) = (
            elsewhere.gateway.clone(),
            elsewhere.workspace.clone(),
            elsewhere.sandbox.clone(),
            made.id,
        );
        let get = pb::GetBootHookRequest {
            gateway: gateway.clone(),
            workspace: workspace.clone(),
            sandbox: sandbox.clone(),
            boot_hook_id: id,
        };
        assert_refused!(admin.boot_hooks().get_boot_hook(get).await, NotFound, "NOT_FOUND");
        let run = pb::RunBootHookRequest {
            gateway: gateway.clone(),
            workspace: workspace.clone(),
            sandbox: sandbox.clone(),
            boot_hook_id: id,
            ..Default::default()
        };
        assert_refused!(admin.boot_hooks().run_boot_hook(run).await, NotFound, "NOT_FOUND");
        assert_refused!(
            update_hook(&admin, update_request(&elsewhere, &["enabled"])).await,
            NotFound,
            "NOT_FOUND"
        );
        assert_refused!(
            admin.boot_hooks().delete_boot_hook(delete(&elsewhere)).await,
            NotFound,
            "NOT_FOUND"
        );
        let order = pb::ReorderBootHooksRequest {
            gateway: gateway.clone(),
            workspace: workspace.clone(),
            sandbox: sandbox.clone(),
            ..reorder(PRE, vec![id])
        };
        assert_refused!(
            admin.boot_hooks().reorder_boot_hooks(order).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
        let list = pb::ListBootHooksRequest { gateway, workspace, sandbox, ..Default::default() };
        assert!(
            admin
                .boot_hooks()
                .list_boot_hooks(list)
                .await
                .unwrap()
                .into_inner()
                .boot_hooks
                .is_empty()
        );
    }
    assert_eq!(list_hooks(&admin).await, [made]);
    edge.stop().await;
    other.stop().await;
    sg.finish().await;
}

server_tests! { pre_create_hooks_are_disabled_without_a_configured_folder }

async fn pre_create_hooks_are_disabled_without_a_configured_folder(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    assert_refused!(
        create_hook(&admin, hook_request("check", PRE, "check")).await,
        FailedPrecondition,
        "FEATURE_DISABLED"
    );
    create_hook(&admin, hook_request("check", POST, "check")).await.unwrap();
    // A hook from before the feature was disabled can be read and deleted.
    sg.sql("UPDATE sandbox_boot_hooks SET phase = 'pre_create'").await;
    let left = list_hooks(&admin).await.remove(0);
    assert_refused!(
        update_hook(&admin, update_request(&left, &["enabled"])).await,
        FailedPrecondition,
        "FEATURE_DISABLED"
    );
    let run = pb::RunBootHookRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        boot_hook_id: left.id,
        ..Default::default()
    };
    assert_refused!(
        admin.boot_hooks().run_boot_hook(run).await,
        FailedPrecondition,
        "FEATURE_DISABLED"
    );
    admin.boot_hooks().delete_boot_hook(delete(&left)).await.unwrap();
    edge.stop().await;
    sg.finish().await;
}
