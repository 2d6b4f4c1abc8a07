//! Sandboxes that are created and deleted without Shoreguard.

use shoreguard::feed;
use shoreguard::resources::sandboxes::worker::SWEEP;

use super::*;
use crate::sboms::file;

/// Runs one sweep, after the lease of the worker has expired. Returns how many sandboxes were cleaned up.
async fn sweep(sg: &TestServer) -> usize {
    sg.run_job(&SWEEP).await.done
}

/// Deletes the sandbox `box` directly on the gateway.
async fn delete_directly(
    sg: &TestServer,
    gateway: &str,
    generation: Generation,
    simulator: &Simulator,
) {
    let direct =
        tonic::transport::Channel::from_shared(format!("http://{}", simulator.addr())).unwrap();
    let direct = direct.connect().await.unwrap();
    match generation {
        Generation::V0_0 => {
            use shoreguard::pb::v0_0::openshell::v1 as old;
            let mut client = old::open_shell_client::OpenShellClient::new(direct);
            let gone = old::DeleteSandboxRequest { name: "box".into(), ..Default::default() };
            client.delete_sandbox(gone).await.unwrap();
        }
        Generation::V0_1 => {
            use shoreguard::pb::v0_1::openshell::v1 as new;
            let mut client = new::open_shell_client::OpenShellClient::new(direct);
            let gone = new::DeleteSandboxRequest { name: "box".into(), ..Default::default() };
            client.delete_sandbox(gone).await.unwrap();
        }
    }
    wait_until("the sandbox is deleted", || async {
        get_sandbox(&sg.admin(), gateway, "box").await.is_err()
    })
    .await;
}

async fn counted(sg: &TestServer, table: &str) -> usize {
    crate::support::dump::table(&sg.app.db, table)
        .await
        .lines()
        .filter(|line| !line.is_empty())
        .count()
}

server_tests! {
    data_of_a_sandbox_deleted_outside_shoreguard_is_removed_by_the_sweep,
    t01_a_sandbox_created_again_immediately_inherits_nothing,
    an_sbom_uploaded_for_a_future_sandbox_survives_the_deleted_one,
    t01_describing_a_recreated_sandbox_removes_and_audits_the_old_data,
    a_hook_written_for_a_future_sandbox_survives_the_deleted_one,
    a_sandbox_created_outside_shoreguard_is_detected_by_the_sweep,
    deleting_a_sandbox_deletes_its_metadata_hooks_and_sbom,
}

async fn data_of_a_sandbox_deleted_outside_shoreguard_is_removed_by_the_sweep(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let request = pb::CreateSandboxRequest {
            description: "kept here".into(),
            ..create_request(&sg, name, "box")
        };
        create_sandbox(&sg, request).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "true").await;
        sg.admin().upload(name, "box", file("python-1.6")).await;
        create_hook(&sg, name, "not-yet", pb::BootHookPhase::PostCreate, "true").await;
        assert_eq!(sweep(&sg).await, 0, "it is there");

        delete_directly(&sg, name, generation, &simulator).await;
        assert_eq!(
            sweep(&sg).await,
            0,
            "once is not enough: a gateway may come up with half its state"
        );
        sg.app.clock.advance(Duration::from_hours(1));
        feed::refresh(&sg.app).await.unwrap();
        assert_eq!(sweep(&sg).await, 1);
        assert_eq!(sweep(&sg).await, 0);
        let hooks = pb::ListBootHooksRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            ..Default::default()
        };
        let hooks = sg.admin().boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner();
        assert!(hooks.boot_hooks.is_empty());
        assert_refused!(sg.admin().sbom(name, "box").await, NotFound, "NOT_FOUND");
        let hooks = pb::ListBootHooksRequest {
            gateway: name.into(),
            sandbox: "not-yet".into(),
            ..Default::default()
        };
        let hooks = sg.admin().boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner();
        assert_eq!(hooks.boot_hooks.len(), 1, "a hook for what is yet to be made stays");
        let entry = audit_entries(&sg, "sandbox.clean_up").await.remove(0);
        assert_eq!((entry.resource_id.as_str(), entry.gateway.as_str()), ("box", name));
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        assert_eq!(
            get_sandbox(&sg.admin(), name, "box").await.unwrap().description,
            "",
            "it inherits nothing"
        );
        simulator.stop().await;
        assert_eq!(sweep(&sg).await, 0, "a gateway that is away says nothing");
        assert!(counted(&sg, "sandbox_meta").await > 0);
    }
}

async fn t01_a_sandbox_created_again_immediately_inherits_nothing(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        for proxied in [false, true] {
            let request = pb::CreateSandboxRequest {
                description: "the former".into(),
                labels: labels(&[("team", "red")]),
                ..create_request(&sg, name, "box")
            };
            create_sandbox(&sg, request).await;
            create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "echo former").await;
            sg.admin().upload(name, "box", file("python-1.6")).await;
            // The sandbox existed at the last sweep. It is deleted now, and no sweep runs afterwards.
            sg.app.clock.advance(Duration::from_mins(5));
            feed::refresh(&sg.app).await.unwrap();
            delete_directly(&sg, name, generation, &simulator).await;
            create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "pwd").await;
            let made = if proxied {
                proxied::create_proxied(&sg.admin(), generation, name, "box").await.unwrap();
                let made = proxied::operations(&sg, name).await.remove(0);
                wait_operation(&sg.admin(), &made.id).await
            } else {
                create_sandbox(&sg, create_request(&sg, name, "box")).await
            };
            let ran = operation_result(&made)["hooks"]["post_create"].clone();
            assert_eq!(ran.as_array().unwrap().len(), 1, "{ran}");
            assert_eq!(ran[0]["name"], "pwd", "only the hook of the new sandbox runs: {ran}");
            let found = get_sandbox(&sg.admin(), name, "box").await.unwrap();
            assert_eq!((found.description.as_str(), found.labels.len()), ("", 0));
            assert_refused!(sg.admin().sbom(name, "box").await, NotFound, "NOT_FOUND");
            let entry = audit_entries(&sg, "sandbox.clean_up").await.remove(0);
            assert!(entry.detail_json.contains("\"boot_hooks\":1"), "{entry:?}");
            delete_sandbox(&sg, name, "box").await;
            wait_until("the sandbox is deleted", || async {
                get_sandbox(&sg.admin(), name, "box").await.is_err()
            })
            .await;
        }
    }
}

async fn an_sbom_uploaded_for_a_future_sandbox_survives_the_deleted_one(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        sg.app.clock.advance(Duration::from_mins(5));
        feed::refresh(&sg.app).await.unwrap();
        delete_directly(&sg, name, generation, &simulator).await;
        sg.admin().upload(name, "box", file("python-1.6")).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        sg.admin().sbom(name, "box").await.expect("it is the new one's");
    }
}

async fn t01_describing_a_recreated_sandbox_removes_and_audits_the_old_data(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let request = pb::CreateSandboxRequest {
            labels: labels(&[("team", "red")]),
            ..create_request(&sg, name, "box")
        };
        create_sandbox(&sg, request).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "echo former").await;
        sg.app.clock.advance(Duration::from_mins(5));
        feed::refresh(&sg.app).await.unwrap();
        delete_directly(&sg, name, generation, &simulator).await;
        takeover::create_directly(generation, &simulator, "box").await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "pwd").await;
        let request = pb::UpdateSandboxMetadataRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            description: "the new one".into(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
            request_id: request_id(&sg),
            ..Default::default()
        };
        sg.admin().sandboxes().update_sandbox_metadata(request).await.unwrap();
        let found = get_sandbox(&sg.admin(), name, "box").await.unwrap();
        assert_eq!((found.description.as_str(), found.labels.len()), ("the new one", 0));
        let hooks = pb::ListBootHooksRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            ..Default::default()
        };
        let hooks =
            sg.admin().boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner().boot_hooks;
        assert_eq!(hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(), ["pwd"]);
        let entry = audit_entries(&sg, "sandbox.clean_up").await.remove(0);
        assert!(
            entry.detail_json.contains("\"boot_hooks\":1") && entry.gateway == name,
            "{entry:?}"
        );
    }
}

async fn a_hook_written_for_a_future_sandbox_survives_the_deleted_one(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "echo former").await;
        delete_directly(&sg, name, generation, &simulator).await;
        sg.app.clock.advance(Duration::from_secs(1));
        assert_eq!(sweep(&sg).await, 0, "it is missed");
        sg.app.clock.advance(Duration::from_secs(1));
        feed::refresh(&sg.app).await.unwrap();
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "pwd").await;
        sg.app.clock.advance(Duration::from_hours(1));
        feed::refresh(&sg.app).await.unwrap();
        assert_eq!(sweep(&sg).await, 1);
        let hooks = pb::ListBootHooksRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            ..Default::default()
        };
        let hooks =
            sg.admin().boot_hooks().list_boot_hooks(hooks).await.unwrap().into_inner().boot_hooks;
        assert_eq!(hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(), ["pwd"]);
    }
}

async fn a_sandbox_created_outside_shoreguard_is_detected_by_the_sweep(sg: TestServer) {
    let simulator = start_gateway(&sg, "edge", Generation::V0_1).await;
    simulator.seed_demo().unwrap();
    sweep(&sg).await;
    let dump = crate::support::dump::table(&sg.app.db, "sandbox_meta").await;
    assert!(dump.contains("team-a"), "{dump}");
    assert_eq!(counted(&sg, "sandbox_meta").await, 4, "{dump}");
}

async fn deleting_a_sandbox_deletes_its_metadata_hooks_and_sbom(sg: TestServer) {
    let _simulator = start_gateway(&sg, "edge", Generation::V0_0).await;
    let request = pb::CreateSandboxRequest {
        labels: labels(&[("a", "b")]),
        ..create_request(&sg, "edge", "box")
    };
    create_sandbox(&sg, request).await;
    create_hook(&sg, "edge", "box", pb::BootHookPhase::PostCreate, "true").await;
    sg.admin().upload("edge", "box", file("python-1.6")).await;
    let gone = delete_sandbox(&sg, "edge", "box").await;
    assert_eq!(
        (
            gone.metadata_removed,
            gone.boot_hooks_removed,
            gone.sbom_removed,
            gone.ssh_sessions_removed
        ),
        (true, 1, true, 0)
    );
    for table in
        ["sandbox_meta", "sandbox_labels", "sandbox_boot_hooks", "sbom_snapshots", "ssh_sessions"]
    {
        assert_eq!(counted(&sg, table).await, 0, "{table}");
    }
    let entry = audit_entries(&sg, "sandbox.delete").await.remove(0);
    assert!(entry.detail_json.contains("\"boot_hooks\":1"), "{entry:?}");
}
