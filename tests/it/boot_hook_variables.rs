//! Tests of the variables of boot hooks, and of what deletes hooks.

use crate::boot_hook_runs::run_script;
use crate::boot_hooks::{
    POST, create_hook, hook_request, list_hooks, start_gateway, update_hook, update_request,
    variables, with_folder,
};
use crate::support::dump;
use crate::support::server::TestServer;
use rustix::io::{FdFlags, fcntl_setfd};
use shoreguard::db::types::SandboxName;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::boot_hooks::store::delete_of_sandbox;

server_tests! {
    tuned with_folder;
    t18_values_of_variables_are_sealed_and_never_returned,
    t04_changing_the_command_of_a_hook_requires_new_variable_values,
    hooks_are_deleted_with_their_sandbox_and_their_gateway,
    a_hook_inherits_no_file_descriptor,
}

async fn t18_values_of_variables_are_sealed_and_never_returned(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let environment = variables(&[("TOKEN", "hunter2-of-hooks"), ("MODE", "strict-of-hooks")]);
    let made = create_hook(
        &admin,
        pb::CreateBootHookRequest { environment, ..hook_request("a", POST, "a") },
    )
    .await
    .unwrap();
    assert_eq!(made.environment_names, ["MODE", "TOKEN"]);
    let request =
        pb::UpdateBootHookRequest { enabled: false, ..update_request(&made, &["enabled"]) };
    update_hook(&admin, request).await.unwrap();
    sg.app.audit.wait_settled().await;
    let in_hexadecimal = shoreguard::seal::hex(b"-of-hooks");
    for table in ["sandbox_boot_hooks", "audit_log", "events", "idempotency_keys"] {
        let rows = dump::table(&sg.app.db, table).await.to_lowercase();
        assert!(!rows.is_empty() || table == "idempotency_keys");
        assert!(!rows.contains("-of-hooks") && !rows.contains(&in_hexadecimal), "{table}");
    }
    assert!(!format!("{:?}", list_hooks(&admin).await).contains("-of-hooks"));
    edge.stop().await;
    sg.finish().await;
}

async fn t04_changing_the_command_of_a_hook_requires_new_variable_values(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let environment = variables(&[("TOKEN", "hunter2")]);
    let made = create_hook(
        &admin,
        pb::CreateBootHookRequest {
            environment: environment.clone(),
            ..hook_request("a", POST, "login")
        },
    )
    .await
    .unwrap();
    for (path, request) in [
        (
            "command",
            pb::UpdateBootHookRequest {
                command: "env".into(),
                ..update_request(&made, &["command"])
            },
        ),
        (
            "workdir",
            pb::UpdateBootHookRequest {
                workdir: "/tmp".into(),
                ..update_request(&made, &["workdir"])
            },
        ),
    ] {
        let refused =
            assert_refused!(update_hook(&admin, request).await, InvalidArgument, "INVALID_FIELD");
        assert!(
            refused.message().contains("`environment` must be set again"),
            "{path}: {refused:?}"
        );
    }
    let same = pb::UpdateBootHookRequest {
        command: "login".into(),
        ..update_request(&made, &["command"])
    };
    assert_eq!(update_hook(&admin, same).await.unwrap().environment_names, ["TOKEN"]);
    let anew = pb::UpdateBootHookRequest {
        command: "env".into(),
        environment,
        ..update_request(&made, &["command", "environment"])
    };
    assert_eq!(update_hook(&admin, anew).await.unwrap().command, "env");
    let without = pb::UpdateBootHookRequest {
        command: "b".into(),
        ..update_request(&made, &["command", "environment"])
    };
    assert!(update_hook(&admin, without).await.unwrap().environment_names.is_empty());
    edge.stop().await;
    sg.finish().await;
}

async fn hooks_are_deleted_with_their_sandbox_and_their_gateway(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    for workspace in ["", "team"] {
        for name in ["a", "b"] {
            create_hook(
                &admin,
                pb::CreateBootHookRequest {
                    workspace: workspace.into(),
                    ..hook_request(name, POST, "a")
                },
            )
            .await
            .unwrap();
        }
    }
    let here = SandboxName { workspace: "default".into(), name: "box".into() };
    let gone = sg
        .app
        .db
        .transaction(async |conn| delete_of_sandbox(conn, "edge", &here, None).await)
        .await
        .unwrap();
    assert_eq!((gone, list_hooks(&admin).await.len()), (2, 0));
    assert_eq!(
        sg.sql("UPDATE sandbox_boot_hooks SET version = version").await,
        2,
        "a namesake elsewhere keeps its own"
    );
    let request = pb::UnregisterGatewayRequest { gateway: "edge".into(), ..Default::default() };
    admin.gateways().unregister_gateway(request).await.unwrap();
    assert_eq!(sg.sql("UPDATE sandbox_boot_hooks SET version = version").await, 0);
    sg.app.audit.wait_settled().await;
    let request =
        pb::ListAuditEntriesRequest { action: "gateway.unregister".into(), ..Default::default() };
    let entries =
        admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    assert!(format!("{entries:?}").contains("boot_hooks_removed"), "{entries:?}");
    edge.stop().await;
    sg.finish().await;
}

async fn a_hook_inherits_no_file_descriptor(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    // A file that a child of this process inherits, as if the server had inherited it.
    let inherited = tempfile::NamedTempFile::new().unwrap();
    fcntl_setfd(inherited.as_file(), FdFlags::empty()).unwrap();
    let listed = run_script(&sg, "for fd in /proc/$$/fd/*; do readlink $fd; done; true", 30).await;
    assert_eq!(listed.summary, "exit 0", "{listed:?}");
    let path = inherited.path().to_str().unwrap();
    assert!(!listed.output.contains(path), "{listed:?}");
    edge.stop().await;
    sg.finish().await;
}
