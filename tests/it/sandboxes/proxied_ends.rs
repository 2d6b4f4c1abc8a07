//! Creations by stock clients whose caller disconnects, whose operation is canceled, whose hooks are late, or whose
//! database is unavailable.

use shoreguard::db::Engine;
use shoreguard_simulator::{Script, Times};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request};

use super::*;
use crate::boot_hook_runs::write_script;
use crate::boot_hooks::with_folder;

async fn last_operation(sg: &TestServer, gateway: &str) -> pb::Operation {
    proxied::operations(sg, gateway).await.remove(0)
}

async fn hooks_of(sg: &TestServer, gateway: &str, name: &str) -> usize {
    let request = pb::ListBootHooksRequest {
        gateway: gateway.into(),
        sandbox: name.into(),
        ..Default::default()
    };
    let listed = sg.admin().boot_hooks().list_boot_hooks(request).await.unwrap().into_inner();
    listed.boot_hooks.len()
}

/// Checks that the creation was canceled and that its sandbox was deleted.
async fn undone(sg: &TestServer, gateway: &str, operation: &str, simulator: &Simulator) {
    let cancelled = wait_operation(&sg.admin(), operation).await;
    assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
    assert_eq!(operation_result(&cancelled)["hooks"]["pre_create"], serde_json::json!([]));
    wait_until("the sandbox is deleted", || is_gone(sg, gateway, "slow")).await;
    assert_eq!(call_count(simulator, "/DeleteSandbox"), 1);
    assert_eq!(
        hooks_of(sg, gateway, "slow").await,
        1,
        "what was written for the name stays for the next one"
    );
    let dump = crate::support::dump::table(&sg.app.db, "sandbox_meta").await;
    assert!(!dump.contains("slow"), "{dump}");
}

/// Makes the database refuse a step with this name, as if it were unavailable for a moment.
async fn refuse_step(sg: &TestServer, step: &str) {
    match sg.engine {
        Engine::Sqlite => {
            let trigger = format!(
                "CREATE TRIGGER away BEFORE UPDATE ON operations WHEN NEW.step = '{step}' \
                 BEGIN SELECT RAISE(ABORT, 'away'); END"
            );
            sg.sql(&trigger).await
        }
        Engine::Postgres => {
            let refuse = "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql \
                          AS $$ BEGIN RAISE EXCEPTION 'away'; END $$";
            sg.sql(refuse).await;
            let trigger = format!(
                "CREATE TRIGGER away BEFORE UPDATE ON operations FOR EACH ROW \
                 WHEN (NEW.step = '{step}') EXECUTE FUNCTION away()"
            );
            sg.sql(&trigger).await
        }
    };
}

async fn take_every_step(sg: &TestServer) {
    match sg.engine {
        Engine::Sqlite => sg.sql("DROP TRIGGER away").await,
        Engine::Postgres => sg.sql("DROP FUNCTION away() CASCADE").await,
    };
}

server_tests! {
    a_proxied_creation_cancelled_after_its_response_is_undone,
    a_proxied_creation_cancelled_before_its_response_is_undone,
    a_client_that_disconnects_does_not_stop_its_creation,
    a_proxied_creation_with_a_lost_response_is_found_by_its_operation,
    a_proxied_creation_with_a_lost_response_is_found_by_its_request_id,
    a_proxied_creation_that_was_not_sent_is_not_sent_later,
    a_short_database_failure_loses_no_created_sandbox,
}

async fn a_proxied_creation_cancelled_after_its_response_is_undone(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let options = SimulatorOptions {
            ready_after: Duration::from_mins(10),
            ..SimulatorOptions::new(generation)
        };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        create_hook(&sg, name, "slow", pb::BootHookPhase::PostCreate, "echo warm").await;
        proxied::create_proxied(&sg.admin(), generation, name, "slow").await.unwrap();
        let operation = last_operation(&sg, name).await;
        sg.admin().cancel_operation(&operation.id).await.unwrap();
        undone(&sg, name, &operation.id, &simulator).await;
    }
}

async fn a_proxied_creation_cancelled_before_its_response_is_undone(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_hook(&sg, name, "slow", pb::BootHookPhase::PostCreate, "echo warm").await;
        let answered = CancellationToken::new();
        simulator.script("CreateSandbox", Script::Until(answered.clone()), Times::Next(1));
        let admin = sg.admin();
        let cancelling = async {
            wait_until("it is being made", || async {
                call_count(&simulator, "/CreateSandbox") == 1
            })
            .await;
            let operation = last_operation(&sg, name).await;
            sg.admin().cancel_operation(&operation.id).await.unwrap();
            answered.cancel();
            operation
        };
        let making = proxied::create_proxied(&admin, generation, name, "slow");
        let (made, operation) = tokio::join!(making, cancelling);
        assert_eq!(made.unwrap(), "slow", "the gateway's own answer reaches its client");
        undone(&sg, name, &operation.id, &simulator).await;
    }
}

async fn a_client_that_disconnects_does_not_stop_its_creation(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_hook(&sg, name, "left", pb::BootHookPhase::PostCreate, "echo warm").await;
        let answered = CancellationToken::new();
        simulator.script("CreateSandbox", Script::Until(answered.clone()), Times::Next(1));
        let admin = sg.admin();
        tokio::select! {
            made = proxied::create_proxied(&admin, generation, name, "left") => panic!("it was made at once: {made:?}"),
            () = wait_until("it is being made", || async { call_count(&simulator, "/CreateSandbox") == 1 }) => {}
        }
        answered.cancel();
        let operation = last_operation(&sg, name).await;
        let made = wait_operation(&sg.admin(), &operation.id).await;
        assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{made:?}");
        assert_eq!(
            operation_result(&made)["hooks"]["post_create"][0]["status"],
            "success",
            "{made:?}"
        );
        // Without its client, nothing waits for the end of the call.
        wait_until("the entry is closed", || async {
            audit_entries(&sg, "sandbox.create").await[0].outcome() != pb::AuditOutcome::Open
        })
        .await;
        let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
        assert_eq!((entry.outcome(), entry.resource_id.as_str()), (pb::AuditOutcome::Ok, "left"));
        assert_eq!(
            get_sandbox(&sg.admin(), name, "left").await.unwrap().phase(),
            pb::SandboxPhase::Ready
        );
    }
}

async fn a_proxied_creation_with_a_lost_response_is_found_by_its_operation(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_hook(&sg, name, "lost", pb::BootHookPhase::PostCreate, "echo warm").await;
        for named in ["lost", ""] {
            simulator.script("CreateSandbox", Script::Disconnect, Times::Next(1));
            let lost =
                proxied::create_proxied(&sg.admin(), generation, name, named).await.unwrap_err();
            assert_eq!(
                lost.code(),
                Code::Unavailable,
                "its client gets the error at once: {lost:?}"
            );
            let operation = last_operation(&sg, name).await;
            let made = wait_operation(&sg.admin(), &operation.id).await;
            assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{made:?}");
            let found = get_sandbox(&sg.admin(), name, &made.sandbox).await.unwrap();
            assert_eq!(found.gateway_annotations["shoreguard/operation"], operation.id);
            let ran = operation_result(&made)["hooks"]["post_create"].as_array().unwrap().len();
            assert_eq!(ran, usize::from(named == "lost"), "{made:?}");
        }
        assert_eq!(call_count(&simulator, "/CreateSandbox"), 2, "nothing is made twice");
    }
}

async fn a_proxied_creation_with_a_lost_response_is_found_by_its_request_id(sg: TestServer) {
    use shoreguard::pb::v0_1::openshell::v1 as new;
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    let to_repeat = || {
        let spec = Some(new::SandboxSpec::default());
        let request_id = "0199c0de-0000-7000-8000-000000000001".to_owned();
        let request = new::CreateSandboxRequest {
            name: "again".into(),
            spec,
            request_id,
            ..Default::default()
        };
        let mut request = Request::new(request);
        request.metadata_mut().insert("x-shoreguard-gateway", "new".parse().unwrap());
        request
    };
    simulator.script("CreateSandbox", Script::Disconnect, Times::Next(1));
    let lost = sg.admin().openshell_v0_1().create_sandbox(to_repeat()).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    let made = wait_passing(&sg, &last_operation(&sg, "new").await.id).await;
    assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{made:?}");
    assert_eq!(call_count(&simulator, "/CreateSandbox"), 1, "nothing is sent again to find out");
    let found = get_sandbox(&sg.admin(), "new", "again").await.unwrap();
    assert_eq!(
        found.gateway_annotations["shoreguard/request"],
        "0199c0de-0000-7000-8000-000000000001"
    );
    // The gateway treats the client's own repetition as one, since it is the same message, byte for byte.
    let again = sg.admin().openshell_v0_1().create_sandbox(to_repeat()).await.unwrap();
    assert_eq!(call_count(&simulator, "/CreateSandbox"), 2);
    assert_eq!(
        again.metadata().get("openshell-replayed").unwrap(),
        "true",
        "the gateway's own word"
    );
    let again = again.into_inner();
    let id = again.sandbox.unwrap().metadata.unwrap().id;
    assert_eq!(operation_result(&made)["sandbox"]["id"], id.as_str());
    sg.operations_ended().await;
}

async fn a_proxied_creation_that_was_not_sent_is_not_sent_later(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        simulator.stop().await;
        let away = proxied::create_proxied(&sg.admin(), generation, name, "never").await;
        assert_refused!(away, Unavailable, "GATEWAY_UNREACHABLE");
        for operation in proxied::operations(&sg, name).await {
            let ended = wait_operation(&sg.admin(), &operation.id).await;
            assert_eq!(ended.error_code(), pb::OperationErrorCode::GatewayUnreachable, "{ended:?}");
        }
    }
}

async fn a_short_database_failure_loses_no_created_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        refuse_step(&sg, "created").await;
        let request = pb::CreateSandboxRequest {
            description: "kept".into(),
            ..create_request(&sg, name, "ours")
        };
        let ours = begin_creation(&sg.admin(), request).await;
        // The client gets its response nevertheless, after a short time.
        let admin = sg.admin();
        let created = tokio::select! {
            created = proxied::create_proxied(&admin, generation, name, "theirs") => created,
            () = pass_until(&sg, || std::future::ready(false)) => unreachable!("it never stops"),
        };
        assert_eq!(created.unwrap(), "theirs");
        let theirs = last_operation(&sg, name).await.id;
        wait_until("both are made", || async { call_count(&simulator, "/CreateSandbox") == 2 })
            .await;
        for id in [&ours, &theirs] {
            let running = sg.admin().operation(id).await.unwrap();
            assert_eq!(running.status(), pb::OperationStatus::Running, "{running:?}");
        }
        take_every_step(&sg).await;
        for id in [&ours, &theirs] {
            let made = wait_passing(&sg, id).await;
            assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{made:?}");
        }
        assert_eq!(get_sandbox(&sg.admin(), name, "ours").await.unwrap().description, "kept");
        assert_eq!(call_count(&simulator, "/CreateSandbox"), 2, "nothing is made twice");
    }
}

server_tests! {
    tuned with_folder;
    a_proxied_creation_on_0_0_that_times_out_before_it_is_sent_is_not_sent,
    a_proxied_creation_on_0_1_that_times_out_before_it_is_sent_is_not_sent,
}

async fn a_proxied_creation_on_0_0_that_times_out_before_it_is_sent_is_not_sent(sg: TestServer) {
    times_out_before_it_is_sent(sg, GATEWAYS[0]).await;
}

async fn a_proxied_creation_on_0_1_that_times_out_before_it_is_sent_is_not_sent(sg: TestServer) {
    times_out_before_it_is_sent(sg, GATEWAYS[1]).await;
}

async fn times_out_before_it_is_sent(sg: TestServer, (name, generation): (&str, Generation)) {
    use shoreguard::pb::v0_0::openshell::v1 as old;
    use shoreguard::pb::v0_1::openshell::v1 as new;
    // A hook that succeeds, but after the deadline.
    let go = sg.app.config.server.data_dir.join("go");
    write_script(&sg, "slow", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let simulator = start_gateway(&sg, name, generation).await;
    create_hook(&sg, name, "late", pb::BootHookPhase::PreCreate, "slow").await;
    let mut metadata = MetadataMap::new();
    metadata.insert("x-shoreguard-gateway", name.parse().unwrap());
    metadata.insert("grpc-timeout", "2S".parse().unwrap());
    let refused = match generation {
        Generation::V0_0 => {
            let spec = Some(old::SandboxSpec::default());
            let request =
                old::CreateSandboxRequest { name: "late".into(), spec, ..Default::default() };
            let request = Request::from_parts(metadata, Extensions::default(), request);
            sg.admin().openshell_v0_0().create_sandbox(request).await.map(|_| ())
        }
        Generation::V0_1 => {
            let spec = Some(new::SandboxSpec::default());
            let request =
                new::CreateSandboxRequest { name: "late".into(), spec, ..Default::default() };
            let request = Request::from_parts(metadata, Extensions::default(), request);
            sg.admin().openshell_v0_1().create_sandbox(request).await.map(|_| ())
        }
    };
    let refused = refused.unwrap_err();
    assert!(matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled), "{refused:?}");
    std::fs::write(&go, "").unwrap();
    let late = wait_operation(&sg.admin(), &last_operation(&sg, name).await.id).await;
    assert_eq!(late.error_code(), pb::OperationErrorCode::Timeout, "{late:?}");
    assert_eq!(
        operation_result(&late)["hooks"]["pre_create"][0]["status"],
        "success",
        "the result lists the hooks that ran"
    );
    assert_eq!(call_count(&simulator, "/CreateSandbox"), 0);
    std::fs::remove_file(&go).unwrap();
}
