//! Tests of what is refused of a boot hook.

use crate::boot_hooks::{
    POST, PRE, create_hook, hook_request, list_hooks, start_gateway, update_hook, update_request,
    variables, with_folder,
};
use crate::support::server::TestServer;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::boot_hooks::domain::HOOKS_MAX;
use shoreguard::resources::boot_hooks::input as limits;
use std::collections::HashMap;

server_tests! {
    tuned with_folder;
    an_invalid_hook_is_refused_with_its_field_and_not_stored,
    a_duplicate_hook_name_is_reported_as_already_exists,
}

async fn an_invalid_hook_is_refused_with_its_field_and_not_stored(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    let good = || hook_request("a", POST, "a");
    let with = |name: &str, value: &str| variables(&[(name, value)]);
    let many =
        |n: usize| (0..n).map(|i| (format!("V{i}"), String::new())).collect::<HashMap<_, _>>();
    for (bad, field) in [
        (pb::CreateBootHookRequest { sandbox: String::new(), ..good() }, "sandbox"),
        (pb::CreateBootHookRequest { sandbox: "a/b".into(), ..good() }, "sandbox"),
        (pb::CreateBootHookRequest { sandbox: "b".repeat(254), ..good() }, "sandbox"),
        (pb::CreateBootHookRequest { workspace: "-w".into(), ..good() }, "workspace"),
        (pb::CreateBootHookRequest { workspace: "w".repeat(254), ..good() }, "workspace"),
        (pb::CreateBootHookRequest { name: String::new(), ..good() }, "name"),
        (pb::CreateBootHookRequest { name: "a\0".into(), ..good() }, "name"),
        (
            pb::CreateBootHookRequest {
                name: "n".repeat(limits::NAME_CHARACTERS_MAX + 1),
                ..good()
            },
            "name",
        ),
        (pb::CreateBootHookRequest { phase: 0, ..good() }, "phase"),
        (pb::CreateBootHookRequest { phase: 9, ..good() }, "phase"),
        (pb::CreateBootHookRequest { command: " ".into(), ..good() }, "command"),
        (pb::CreateBootHookRequest { command: "a 'b".into(), ..good() }, "command"),
        (pb::CreateBootHookRequest { command: "a\0b".into(), ..good() }, "command"),
        (
            pb::CreateBootHookRequest {
                command: "c".repeat(limits::COMMAND_CHARACTERS_MAX + 1),
                ..good()
            },
            "command",
        ),
        (
            pb::CreateBootHookRequest {
                workdir: "w".repeat(limits::WORKDIR_CHARACTERS_MAX + 1),
                ..good()
            },
            "workdir",
        ),
        (
            pb::CreateBootHookRequest { workdir: "/w".into(), ..hook_request("a", PRE, "a") },
            "workdir",
        ),
        (pb::CreateBootHookRequest { environment: with("A-B", ""), ..good() }, "environment"),
        (pb::CreateBootHookRequest { environment: with("A", "\0"), ..good() }, "environment"),
        (
            pb::CreateBootHookRequest { environment: many(limits::VARIABLES_MAX + 1), ..good() },
            "environment",
        ),
        (
            pb::CreateBootHookRequest {
                environment: with("PATH", "/tmp"),
                ..hook_request("a", PRE, "a")
            },
            "environment",
        ),
        (
            pb::CreateBootHookRequest {
                environment: with("LD_PRELOAD", "x"),
                ..hook_request("a", PRE, "a")
            },
            "environment",
        ),
        (
            pb::CreateBootHookRequest {
                environment: with("SG_HOOK_NAME", "x"),
                ..hook_request("a", PRE, "a")
            },
            "environment",
        ),
        (
            pb::CreateBootHookRequest {
                environment: with("TOKEN", "x"),
                ..hook_request("a", PRE, "a")
            },
            "environment",
        ),
        (pb::CreateBootHookRequest { timeout_seconds: -1, ..good() }, "timeout_seconds"),
        (
            pb::CreateBootHookRequest {
                timeout_seconds: limits::TIMEOUT_SECONDS_MAX + 1,
                ..good()
            },
            "timeout_seconds",
        ),
        (pb::CreateBootHookRequest { request_id: "1".into(), ..good() }, "request_id"),
    ] {
        let refused =
            assert_refused!(create_hook(&admin, bad).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().starts_with(&format!("`{field}`")), "{refused:?}");
    }
    let full = pb::CreateBootHookRequest {
        name: "n".repeat(limits::NAME_CHARACTERS_MAX),
        command: "c".repeat(limits::COMMAND_CHARACTERS_MAX),
        workdir: "w".repeat(limits::WORKDIR_CHARACTERS_MAX),
        environment: many(limits::VARIABLES_MAX),
        timeout_seconds: limits::TIMEOUT_SECONDS_MAX,
        ..good()
    };
    let made = create_hook(&admin, full).await.unwrap();
    assert_eq!(made.environment_names.len(), limits::VARIABLES_MAX);
    for (bad, field) in [
        (update_request(&made, &[]), "update_mask"),
        (update_request(&made, &["name"]), "update_mask"),
        (update_request(&made, &["phase"]), "update_mask"),
        (update_request(&made, &["command"]), "command"),
        (update_request(&made, &["timeout_seconds"]), "timeout_seconds"),
    ] {
        let refused =
            assert_refused!(update_hook(&admin, bad).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().starts_with(&format!("`{field}`")), "{refused:?}");
    }
    assert_eq!(list_hooks(&admin).await, [made]);

    for n in 1..HOOKS_MAX {
        create_hook(
            &admin,
            hook_request(&format!("h{n}"), if n % 2 == 0 { PRE } else { POST }, "a"),
        )
        .await
        .unwrap();
    }
    assert_refused!(create_hook(&admin, good()).await, FailedPrecondition, "LIMIT_REACHED");
    create_hook(&admin, pb::CreateBootHookRequest { workspace: "other".into(), ..good() })
        .await
        .unwrap();
    assert_eq!(list_hooks(&admin).await.len(), usize::try_from(HOOKS_MAX).unwrap());
    edge.stop().await;
    sg.finish().await;
}

async fn a_duplicate_hook_name_is_reported_as_already_exists(sg: TestServer) {
    let edge = start_gateway(&sg, "edge").await;
    let admin = sg.admin();
    create_hook(&admin, hook_request("unique", POST, "a")).await.unwrap();
    let refused = assert_refused!(
        create_hook(&admin, hook_request("unique", POST, "b")).await,
        AlreadyExists,
        "ALREADY_EXISTS"
    );
    assert_eq!(refused.message(), "boot hook `unique` exists already");
    for free in [
        hook_request("unique", PRE, "a"),
        pb::CreateBootHookRequest {
            workspace: "unique".into(),
            ..hook_request("unique", POST, "a")
        },
        pb::CreateBootHookRequest { sandbox: "unique".into(), ..hook_request("unique", POST, "a") },
    ] {
        create_hook(&admin, free).await.unwrap();
    }
    // An error about a command that contains the words of a constraint is not reported as a duplicate.
    let refused = create_hook(&admin, hook_request("other", POST, "'unique constraint")).await;
    assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    edge.stop().await;
    sg.finish().await;
}
