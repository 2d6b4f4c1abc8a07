//! Creations that run hooks, here and through the proxy.

use shoreguard::pb::v0_1::openshell::v1 as new;
use tonic::Code;

use super::*;
use crate::boot_hook_runs::script;
use crate::boot_hooks::with_folder;

served! {
    tuned with_folder;

    async fn wp32_a_hook_before_the_creation_stops_it_or_is_passed_over(sg: TestServer) {
        let simulator = gateway(&sg, "edge", Generation::V0_1).await;
        script(&sg, "gate", "echo not today; exit 1");
        let gate = hook(&sg, "edge", "box", pb::BootHookPhase::PreCreate, "gate").await;
        let admin = sg.admin();
        let operation = begin(&admin, to_create(&sg, "edge", "box")).await;
        let stopped = ended(&admin, &operation).await;
        assert_eq!(stopped.error_code(), pb::OperationErrorCode::Refused, "{stopped:?}");
        assert!(stopped.error_message.contains("`gate`"), "{stopped:?}");
        let spec = Some(new::SandboxSpec::default());
        let request = new::CreateSandboxRequest { name: "box".into(), spec, ..Default::default() };
        let mut proxied = tonic::Request::new(request);
        proxied.metadata_mut().insert("x-shoreguard-gateway", "edge".parse().unwrap());
        let refused = admin.openshell_v0_1().create_sandbox(proxied).await;
        assert_eq!(refused.as_ref().unwrap_err().code(), Code::FailedPrecondition, "{refused:?}");
        assert_refused!(refused, FailedPrecondition, "OPERATION_FAILED");
        assert!(!simulator.calls().keys().any(|path| path.ends_with("/CreateSandbox")));

        let skip = pb::CreateSandboxRequest { skip_hooks: true, ..to_create(&sg, "edge", "box") };
        assert_eq!(result(&create(&sg, skip).await)["hooks"]["pre_create"], "skipped");
        hook(&sg, "edge", "other", pb::BootHookPhase::PostCreate, "true").await;
        let request = pb::UpdateBootHookRequest {
            gateway: "edge".into(),
            sandbox: "box".into(),
            id: gate.id,
            continue_on_failure: true,
            update_mask: Some(prost_types::FieldMask { paths: vec!["continue_on_failure".into()] }),
            request_id: request_id(&sg),
            ..Default::default()
        };
        admin.boot_hooks().update_boot_hook(request).await.unwrap();
        let again = begin(&admin, to_create(&sg, "edge", "box")).await;
        let again = ended(&admin, &again).await;
        assert!(again.error_message.contains("already exists"), "it went on: {again:?}");
    }
}

served! {
    async fn wp24_hooks_after_the_creation_run_when_the_sandbox_is_ready(sg: TestServer) {
        for (name, generation) in GATEWAYS {
            let ready_after = Duration::from_millis(300);
            let options = SimulatorOptions { ready_after, ..SimulatorOptions::plain(generation) };
            let simulator = Simulator::start(options).await.unwrap();
            sg.gateway(name, simulator.addr()).await;
            hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "echo warm").await;
            hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "false").await;
            hook(&sg, name, "box", pb::BootHookPhase::PostCreate, "pwd").await;
            let made = create(&sg, to_create(&sg, name, "box")).await;
            let result = result(&made);
            let ran = result["hooks"]["post_create"].as_array().unwrap();
            let told: Vec<_> = ran.iter().map(|hook| (hook["name"].as_str(), hook["status"].as_str())).collect();
            assert_eq!(told, [(Some("echo"), Some("success")), (Some("false"), Some("failure"))], "{result}");
            assert!(ran[0]["output"].as_str().unwrap().contains("warm"), "{result}");
            assert!(result["warning"].as_str().unwrap().contains("`false`"), "it is said that the rest did not run");
            assert_eq!(result["ready"], true, "the sandbox stays");
        }
    }
}

served! {
    tuned |config| config.sandboxes.ready_timeout_seconds = 1;

    async fn wp24_hooks_that_could_not_run_are_told(sg: TestServer) {
        let options = SimulatorOptions { ready_after: Duration::from_mins(10), ..SimulatorOptions::plain(Generation::V0_1) };
        let simulator = Simulator::start(options).await.unwrap();
        sg.gateway("edge", simulator.addr()).await;
        hook(&sg, "edge", "box", pb::BootHookPhase::PostCreate, "true").await;
        let made = create(&sg, to_create(&sg, "edge", "box")).await;
        let result = result(&made);
        assert_eq!(result["ready"], false);
        assert!(result["hooks"]["post_create"].as_str().unwrap().starts_with("not run"), "{result}");
    }
}
