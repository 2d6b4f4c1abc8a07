//! Sandboxes that a gateway creates and that never become ready.

use shoreguard_simulator::{Script, StartOutcome, Times};
use tonic::Code;

use super::*;

/// Starts a gateway whose sandboxes reach the given state after a moment.
async fn settling(
    sg: &TestServer,
    name: &str,
    generation: Generation,
    outcome: StartOutcome,
) -> Simulator {
    let ready_after = Duration::from_millis(200);
    let options = SimulatorOptions { ready_after, ..SimulatorOptions::new(generation) };
    let simulator = Simulator::start(options).await.unwrap();
    simulator.set_start_outcome(outcome);
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

/// Checks that the creation failed, and that its result says how far it got.
fn told(failed: &pb::Operation) {
    assert_eq!(failed.error_code(), pb::OperationErrorCode::Refused, "{failed:?}");
    assert!(failed.error_message.contains("the image can't be pulled"), "{failed:?}");
    assert!(!failed.error_message.contains('\u{1b}'), "t20: {failed:?}");
    let result = operation_result(failed);
    assert_eq!((&result["ready"], &result["sandbox"]["phase"]), (&false.into(), &"error".into()));
    let after = result["hooks"]["post_create"].as_str().unwrap();
    assert!(after.starts_with("not run") && after.contains("can't be pulled"), "{result}");
    assert_eq!(result["hooks"]["pre_create"], serde_json::json!([]));
}

sqlite_tests! {
    a_sandbox_that_fails_makes_its_creation_fail_with_details,
    a_sandbox_whose_command_has_exited_is_created_and_not_ready,
    a_creation_that_the_gateway_answers_with_internal_fails_within_seconds,
}

async fn a_sandbox_that_fails_makes_its_creation_fail_with_details(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let why = StartOutcome::Failed("the image can't be pulled \u{1b}[31m".to_owned());
        let _simulator = settling(&sg, name, generation, why).await;
        create_hook(&sg, name, "doomed", pb::BootHookPhase::PostCreate, "echo never").await;
        let operation = begin_creation(&sg.admin(), create_request(&sg, name, "doomed")).await;
        told(&wait_operation(&sg.admin(), &operation).await);
        let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
        assert_eq!(
            (entry.outcome(), entry.resource_id.as_str()),
            (pb::AuditOutcome::Failed, "doomed")
        );
        assert!(entry.detail_json.contains(&operation), "{entry:?}");
        let left = get_sandbox(&sg.admin(), name, "doomed").await.unwrap();
        assert_eq!(left.phase(), pb::SandboxPhase::Error, "it stays, to be looked at");

        // The stock client got the response that the sandbox was created. The operation reports the failure.
        proxied::create_proxied(&sg.admin(), generation, name, "by-client").await.unwrap();
        let operation = proxied::operations(&sg, name).await.remove(0);
        assert_eq!(operation.sandbox, "by-client");
        told(&wait_operation(&sg.admin(), &operation.id).await);
        let entry = audit_entries(&sg, "sandbox.create").await.remove(0);
        assert_eq!(
            (entry.outcome(), entry.resource_id.as_str()),
            (pb::AuditOutcome::Failed, "by-client")
        );
    }
}

async fn a_sandbox_whose_command_has_exited_is_created_and_not_ready(sg: TestServer) {
    let _simulator = settling(&sg, "new", Generation::V0_1, StartOutcome::Completed).await;
    create_hook(&sg, "new", "brief", pb::BootHookPhase::PostCreate, "echo never").await;
    let made = operation_result(&create_sandbox(&sg, create_request(&sg, "new", "brief")).await);
    assert_eq!((&made["ready"], &made["sandbox"]["phase"]), (&false.into(), &"completed".into()));
    assert!(made["warning"].as_str().unwrap().contains("has ended already"), "{made}");
    assert!(made["hooks"]["post_create"].as_str().unwrap().starts_with("not run"), "{made}");
    let left = get_sandbox(&sg.admin(), "new", "brief").await.unwrap();
    assert_eq!(left.phase(), pb::SandboxPhase::Completed);
}

async fn a_creation_that_the_gateway_answers_with_internal_fails_within_seconds(sg: TestServer) {
    let (begun, admin) = (sg.app.clock.since_boot(), sg.admin());
    let (mut simulators, mut operations) = (Vec::new(), Vec::new());
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let details = bytes::Bytes::new();
        let broken = Script::Fail { code: Code::Internal, message: "disk full".into(), details };
        simulator.script("CreateSandbox", broken, Times::All);
        operations.push(begin_creation(&admin, create_request(&sg, name, "ours")).await);
        let failed = proxied::create_proxied(&admin, generation, name, "theirs").await.unwrap_err();
        assert_eq!(failed.code(), Code::Internal, "{failed:?}");
        let listed = proxied::operations(&sg, name).await;
        let theirs = listed.iter().find(|operation| operation.sandbox == "theirs").unwrap();
        operations.push(theirs.id.clone());
        simulators.push(simulator);
    }
    for operation in operations {
        let has_ended =
            || async { admin.operation(&operation).await.unwrap().complete_time.is_some() };
        pass_until(&sg, has_ended).await;
        let failed = wait_operation(&admin, &operation).await;
        assert_eq!(failed.error_code(), pb::OperationErrorCode::Refused, "{failed:?}");
        assert!(failed.error_message.contains("disk full"), "{failed:?}");
    }
    let took = sg.app.clock.since_boot().saturating_sub(begun);
    assert!(took < Duration::from_mins(3), "{took:?}");
    for simulator in &simulators {
        assert!(call_count(simulator, "/GetSandbox") > 0, "the sandboxes are looked up");
        assert_eq!(call_count(simulator, "/CreateSandbox"), 2);
    }
}
