//! Creations that run hooks, through Shoreguard's API and through the proxy.

use shoreguard::pb::v0_1::openshell::v1 as new;

use super::*;
use crate::boot_hook_runs::write_script;
use crate::boot_hooks::with_folder;

/// Checks that the second hook has stopped the creation and that the result contains the outcome of each hook.
fn stopped(operation: &pb::Operation) {
    assert_eq!(operation.error_code(), pb::OperationErrorCode::Refused, "{operation:?}");
    assert!(operation.error_message.contains("`gate`"), "{operation:?}");
    let ran = operation_result(operation)["hooks"]["pre_create"].clone();
    assert_eq!((&ran[0]["name"], &ran[0]["status"]), (&"first".into(), &"success".into()));
    assert_eq!((&ran[1]["name"], &ran[1]["status"]), (&"gate".into(), &"failure".into()));
    assert!(ran[1]["output"].as_str().unwrap().contains("not today"), "{ran}");
}

server_tests! { tuned with_folder; a_failed_pre_create_hook_blocks_the_creation_unless_it_is_skipped_or_may_fail }

async fn a_failed_pre_create_hook_blocks_the_creation_unless_it_is_skipped_or_may_fail(
    sg: TestServer,
) {
    write_script(&sg, "first", "echo it opens");
    write_script(&sg, "gate", "echo not today; exit 1");
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PreCreate, "first").await;
        let gate = create_hook(&sg, name, "box", pb::BootHookPhase::PreCreate, "gate").await;
        let admin = sg.admin();
        let operation = begin_creation(&admin, create_request(&sg, name, "box")).await;
        stopped(&wait_operation(&admin, &operation).await);
        let refused = proxied::create_proxied(&admin, generation, name, "box").await;
        assert_refused!(refused, FailedPrecondition, "OPERATION_FAILED");
        stopped(&wait_operation(&admin, &proxied::operations(&sg, name).await[0].id).await);
        assert!(!simulator.calls().keys().any(|path| path.ends_with("/CreateSandbox")));

        let request = pb::UpdateBootHookRequest {
            gateway: name.into(),
            sandbox: "box".into(),
            boot_hook_id: gate.id,
            continue_on_failure: true,
            update_mask: Some(prost_types::FieldMask { paths: vec!["continue_on_failure".into()] }),
            request_id: request_id(&sg),
            ..Default::default()
        };
        admin.boot_hooks().update_boot_hook(request).await.unwrap();
        let made = create_sandbox(&sg, create_request(&sg, name, "box")).await;
        assert_eq!(operation_result(&made)["hooks"]["pre_create"][1]["status"], "failure");

        create_hook(&sg, name, "free", pb::BootHookPhase::PreCreate, "gate").await;
        let skip =
            pb::CreateSandboxRequest { skip_hooks: true, ..create_request(&sg, name, "free") };
        assert_eq!(
            operation_result(&create_sandbox(&sg, skip).await)["hooks"]["pre_create"],
            "skipped"
        );
        create_hook(&sg, name, "theirs", pb::BootHookPhase::PreCreate, "first").await;
        proxied::create_proxied(&admin, generation, name, "theirs").await.unwrap();
        let made = wait_operation(&admin, &proxied::operations(&sg, name).await[0].id).await;
        assert_eq!(operation_result(&made)["hooks"]["pre_create"][0]["status"], "success");
    }
}

server_tests! { tuned with_folder; pre_create_hooks_do_not_run_for_a_name_that_is_taken }

async fn pre_create_hooks_do_not_run_for_a_name_that_is_taken(sg: TestServer) {
    write_script(&sg, "gate", "echo it ran");
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let admin = sg.admin();
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PreCreate, "gate").await;
        let again = begin_creation(&admin, create_request(&sg, name, "box")).await;
        let again = wait_operation(&admin, &again).await;
        assert!(again.error_message.contains("`box` exists already"), "{again:?}");
        assert!(operation_result(&again)["hooks"].is_null(), "{again:?}");
        let refused = proxied::create_proxied(&admin, generation, name, "box").await;
        assert_refused!(refused, AlreadyExists, "ALREADY_EXISTS");
        let again = wait_operation(&admin, &proxied::operations(&sg, name).await[0].id).await;
        assert!(operation_result(&again)["hooks"].is_null(), "{again:?}");
        assert_eq!(call_count(&simulator, "/CreateSandbox"), 1);
    }
}

server_tests! { tuned with_folder; a_pre_create_hook_gets_the_image_of_a_gateway_template }

async fn a_pre_create_hook_gets_the_image_of_a_gateway_template(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    creation::create_template(&simulator, "base", "evil:1").await;
    write_script(
        &sg,
        "gate",
        "echo \"it is $SG_SANDBOX_IMAGE\"; test \"$SG_SANDBOX_IMAGE\" != evil:1",
    );
    create_hook(&sg, "new", "box", pb::BootHookPhase::PreCreate, "gate").await;
    let request = pb::CreateSandboxRequest {
        gateway_template: "base".into(),
        ..create_request(&sg, "new", "box")
    };
    let stopped = wait_operation(&sg.admin(), &begin_creation(&sg.admin(), request).await).await;
    assert_eq!(
        operation_result(&stopped)["hooks"]["pre_create"][0]["output"],
        "it is evil:1\n",
        "{stopped:?}"
    );

    let spec = Some(new::SandboxSpec::default());
    let workload_template = "base".to_owned();
    let request = new::CreateSandboxRequest {
        name: "box".into(),
        spec,
        workload_template,
        ..Default::default()
    };
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("x-shoreguard-gateway", "new".parse().unwrap());
    let stopped = sg.admin().openshell_v0_1().create_sandbox(request).await;
    assert_refused!(stopped, FailedPrecondition, "OPERATION_FAILED");
    assert!(!simulator.calls().keys().any(|path| path.ends_with("/CreateSandbox")));
}

server_tests! { post_create_hooks_run_when_the_sandbox_is_ready }

async fn post_create_hooks_run_when_the_sandbox_is_ready(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let ready_after = Duration::from_millis(300);
        let options = SimulatorOptions { ready_after, ..SimulatorOptions::new(generation) };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "echo warm").await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "false").await;
        create_hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "pwd").await;
        let made = create_sandbox(&sg, create_request(&sg, name, "box")).await;
        let result = operation_result(&made);
        let ran = result["hooks"]["post_create"].as_array().unwrap();
        let told: Vec<_> =
            ran.iter().map(|hook| (hook["name"].as_str(), hook["status"].as_str())).collect();
        assert_eq!(
            told,
            [(Some("echo"), Some("success")), (Some("false"), Some("failure"))],
            "{result}"
        );
        assert!(ran[0]["output"].as_str().unwrap().contains("warm"), "{result}");
        assert!(
            result["warning"].as_str().unwrap().contains("`false`"),
            "it is said that the rest did not run"
        );
        assert_eq!(result["ready"], true, "the sandbox stays");
    }
}

server_tests! {
    tuned |config| config.sandboxes.ready_timeout_seconds = 1;
    post_create_hooks_that_could_not_run_are_reported,
}

async fn post_create_hooks_that_could_not_run_are_reported(sg: TestServer) {
    let options = SimulatorOptions {
        ready_after: Duration::from_mins(10),
        ..SimulatorOptions::new(Generation::V0_1)
    };
    let simulator = Simulator::start(options).await.unwrap();
    sg.register_gateway("edge", simulator.addr()).await;
    create_hook(&sg, "edge", "box", pb::BootHookPhase::PostCreate, "true").await;
    let made = create_sandbox(&sg, create_request(&sg, "edge", "box")).await;
    let result = operation_result(&made);
    assert_eq!(result["ready"], false);
    assert!(result["hooks"]["post_create"].as_str().unwrap().starts_with("not run"), "{result}");
}
