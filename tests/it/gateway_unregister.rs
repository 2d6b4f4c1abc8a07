//! Unregistering a gateway, with everything that belongs to it.

use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::bypass_events::domain::DELETED_AT_ONCE;
use shoreguard_simulator::Generation;

use crate::sboms::file;
use crate::support::server::{Caller, TestServer};
use crate::support::{dump, soon};

async fn made(sg: &TestServer) -> String {
    let request = pb::CreateSandboxRequest {
        gateway: "edge".into(),
        name: "box".into(),
        description: "kept here".into(),
        request_id: sg.app.new_id().to_string(),
        ..Default::default()
    };
    let begun = sg.admin().sandboxes().create_sandbox(request).await.unwrap().into_inner();
    begun.operation.unwrap().id
}

async fn ended(caller: &Caller, operation: &str) -> pb::Operation {
    loop {
        let request = pb::WaitOperationRequest {
            operation: operation.to_owned(),
            timeout: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        };
        let waited = caller.operations().wait_operation(request).await.unwrap().into_inner();
        let operation = waited.operation.unwrap();
        if operation.complete_time.is_some() {
            return operation;
        }
    }
}

async fn unregister(
    sg: &TestServer,
    force: bool,
) -> Result<pb::UnregisterGatewayResponse, tonic::Status> {
    let request =
        pb::UnregisterGatewayRequest { gateway: "edge".into(), force, ..Default::default() };
    Ok(sg.admin().gateways().unregister_gateway(request).await?.into_inner())
}

/// Returns the SQL that stores rows of each gateway with such a name, in a table of what logs show. Each row is about a
/// sandbox of its own.
pub(crate) fn insert_rows(table: &str, gateways: &str, count: usize) -> String {
    let line = format!("g.registered_at, '{}' || (1000000 + n.i), g.registered_at", "0".repeat(57));
    let (columns, values) = match table {
        "bypass_events" => (
            "gateway_name, workspace, sandbox_name, severity, technique, mitre_id, summary, fields_json, raw_class, \
             at, line_hash, created_at",
            format!(
                "g.name, 'default', 'box', 'LOW', 'unshare', 'T1611', '', '{{}}', 'PROC', {line}"
            ),
        ),
        "bypass_notices" => (
            "workspace, sandbox_name, technique, waiting, announced_at",
            "'default', 'box', 'unshare', 0, g.registered_at".to_owned(),
        ),
        "refused_connections" => (
            "\"binary\", host, line, at, line_hash, created_at",
            format!("'/bin/x', 'h', '', {line}"),
        ),
        other => panic!("`{other}` is another table"),
    };
    format!(
        "INSERT INTO {table} (gateway_id, sandbox_uid, {columns}) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
         SELECT g.id, 'box-' || n.i, {values} FROM gateways g, n WHERE g.name LIKE '{gateways}'"
    )
}

server_tests! { a_gateway_with_running_work_is_unregistered_only_with_force }

sqlite_tests! { many_log_lines_are_deleted_before_their_gateway }

async fn a_gateway_with_running_work_is_unregistered_only_with_force(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    let admin = sg.admin();
    let creation = made(&sg).await;
    assert_eq!(ended(&admin, &creation).await.status(), pb::OperationStatus::Succeeded);
    admin.create_key("ops", pb::Role::None).await;
    admin.bind("ops", "edge", pb::Role::Operator).await;
    admin.upload("edge", "box", file("python-1.6")).await;
    let hook = pb::CreateBootHookRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        name: "warm".into(),
        phase: pb::BootHookPhase::PostCreate.into(),
        command: "true".into(),
        ..Default::default()
    };
    admin.boot_hooks().create_boot_hook(hook).await.unwrap();
    let open = pb::CreateSshSessionRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        ..Default::default()
    };
    admin.sandboxes().create_ssh_session(open).await.unwrap();

    // A command that keeps running, and a stock client that watches.
    let run = pb::StartExecSandboxRequest {
        gateway: "edge".into(),
        sandbox: "box".into(),
        command: vec!["sleep".into(), "600".into()],
        ..Default::default()
    };
    let run =
        admin.sandboxes().start_exec_sandbox(run).await.unwrap().into_inner().operation.unwrap().id;
    while edge.running_commands() == 0 {
        crate::support::pause().await;
    }
    let refused = unregister(&sg, false).await;
    assert!(refused.as_ref().unwrap_err().message().contains("1 operations"), "{refused:?}");
    assert_refused!(refused, FailedPrecondition, "GATEWAY_IN_USE");
    let follow = openshell::WatchSandboxRequest {
        sandbox: "box".into(),
        follow_status: true,
        ..Default::default()
    };
    let mut watched = admin.openshell_v0_1().watch_sandbox(follow).await.unwrap().into_inner();
    watched.message().await.unwrap();
    let refused = unregister(&sg, false).await;
    assert!(refused.as_ref().unwrap_err().message().contains("1 streams"), "{refused:?}");
    assert_refused!(refused, FailedPrecondition, "GATEWAY_IN_USE");
    assert!(
        dump::table(&sg.app.db, "sandbox_boot_hooks").await.contains("warm"),
        "nothing was deleted"
    );

    let gone = unregister(&sg, true).await.unwrap();
    let expected = pb::UnregisterGatewayResponse {
        gateway_roles_removed: 1,
        sandbox_metadata_removed: 1,
        ssh_sessions_removed: 1,
        boot_hooks_removed: 1,
        sboms_removed: 1,
        operations_canceled: 1,
        streams_ended: 1,
    };
    assert_eq!(gone, expected);
    let ran = ended(&admin, &run).await;
    assert_eq!(ran.error_code(), pb::OperationErrorCode::Cancelled, "{ran:?}");
    let end = soon("its stream ends", async {
        while watched.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    });
    let end = assert_refused!(end.await, Unavailable, "GATEWAY_UNREACHABLE");
    assert_eq!(end.message(), "the gateway was removed");
    for table in [
        "sandbox_meta",
        "ssh_sessions",
        "sandbox_boot_hooks",
        "sbom_snapshots",
        "sp_gateway_roles",
        "gateway_states",
        "gateway_probe_hours",
    ] {
        let left = dump::table(&sg.app.db, table).await;
        assert!(left.trim().is_empty(), "{table}: {left}");
    }
    sg.app.audit.wait_settled().await;
    let list =
        pb::ListAuditEntriesRequest { action: "gateway.unregister".into(), ..Default::default() };
    let entries = admin.audit().list_audit_entries(list).await.unwrap().into_inner().audit_entries;
    assert!(entries[0].detail_json.contains("\"streams_ended\":1"), "{:?}", entries[0]);
    assert!(entries.iter().all(|entry| entry.gateway == "edge"), "{entries:?}");
    let registered = admin.audit_entries("edge", "gateway.register").await;
    assert!(registered.iter().all(|entry| entry.gateway == "edge"), "{registered:?}");
    assert!(!registered.is_empty(), "the registration is recorded");
    assert_eq!(entries.iter().filter(|entry| entry.outcome() == pb::AuditOutcome::Ok).count(), 1);
    edge.stop().await;
    sg.finish().await;
}

async fn many_log_lines_are_deleted_before_their_gateway(sg: TestServer) {
    let edge = sg.start_gateway("edge", Generation::V0_1).await;
    let lines = DELETED_AT_ONCE + 1;
    let tables = ["bypass_events", "bypass_notices", "refused_connections"];
    for table in tables {
        assert_eq!(sg.sql(&insert_rows(table, "edge", lines)).await, lines);
        // The database deletes the gateway only after its rows.
        let trigger = format!(
            "CREATE TRIGGER few_{table} BEFORE DELETE ON gateways \
             WHEN EXISTS (SELECT 1 FROM {table} WHERE gateway_id = OLD.id) \
             BEGIN SELECT RAISE(ABORT, 'it has rows'); END"
        );
        sg.sql(&trigger).await;
    }
    // A gateway that is not removed keeps its rows.
    let stale = pb::UnregisterGatewayRequest {
        gateway: "edge".into(),
        etag: "stale".into(),
        ..Default::default()
    };
    let refused = sg.admin().gateways().unregister_gateway(stale).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::Aborted);
    for table in tables {
        let stored = format!("UPDATE {table} SET sandbox_uid = sandbox_uid");
        assert_eq!(sg.sql(&stored).await, lines, "{table}");
    }
    unregister(&sg, true).await.unwrap();
    for table in tables {
        assert_eq!(sg.sql(&format!("DELETE FROM {table}")).await, 0, "{table}");
    }
    edge.stop().await;
    sg.finish().await;
}
