//! Creations that are canceled while their gateway is slow or unavailable.

use shoreguard_simulator::{Script, Times};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;
use crate::support::dump;

/// Advances the clock for longer than the time limit of canceled work that has nothing to undo, in steps that are
/// shorter than the lease of an operation. After each step, the lease is renewed.
async fn pass_the_limit(sg: &TestServer) {
    for _ in 0..3 {
        let before = dump::table(&sg.app.db, "operations").await;
        sg.app.clock.advance(Duration::from_secs(17));
        wait_until("the lease is renewed", || async {
            dump::table(&sg.app.db, "operations").await != before
        })
        .await;
    }
}

server_tests! {
    a_cancelled_creation_on_a_slow_gateway_is_undone_after_its_response,
    the_deletion_that_undoes_a_creation_is_retried_until_it_succeeds,
    t01_a_cancelled_creation_does_not_delete_a_pinned_sandbox,
}

async fn a_cancelled_creation_on_a_slow_gateway_is_undone_after_its_response(sg: TestServer) {
    let simulator = start_gateway(&sg, "edge", Generation::V0_0).await;
    let answered = CancellationToken::new();
    simulator.script("CreateSandbox", Script::Until(answered.clone()), Times::Next(1));
    let operation = begin_creation(&sg.admin(), create_request(&sg, "edge", "slow")).await;
    wait_until("it is being made", || async { call_count(&simulator, "/CreateSandbox") == 1 })
        .await;
    sg.admin().cancel_operation(&operation).await.unwrap();
    pass_the_limit(&sg).await;
    let waiting = sg.admin().operation(&operation).await.unwrap();
    assert!(waiting.complete_time.is_none(), "{waiting:?}");
    answered.cancel();
    let cancelled = wait_operation(&sg.admin(), &operation).await;
    assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
    wait_until("the sandbox is deleted", || is_gone(&sg, "edge", "slow")).await;
    assert_eq!(call_count(&simulator, "/DeleteSandbox"), 1);
}

async fn the_deletion_that_undoes_a_creation_is_retried_until_it_succeeds(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let options = SimulatorOptions {
            ready_after: Duration::from_mins(10),
            ..SimulatorOptions::new(generation)
        };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        let away =
            Script::TrailersOnly { code: Code::Unavailable, message: "restarting".to_owned() };
        simulator.script("DeleteSandbox", away, Times::Next(2));
        let operation = begin_creation(&sg.admin(), create_request(&sg, name, "slow")).await;
        wait_until("it is being made", || async {
            get_sandbox(&sg.admin(), name, "slow").await.is_ok()
        })
        .await;
        sg.admin().cancel_operation(&operation).await.unwrap();
        pass_until(&sg, || async { call_count(&simulator, "/DeleteSandbox") == 3 }).await;
        let cancelled = wait_operation(&sg.admin(), &operation).await;
        assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
        assert_eq!(call_count(&simulator, "/DeleteSandbox"), 3);
        wait_until("the sandbox is deleted", || is_gone(&sg, name, "slow")).await;
    }
}

async fn t01_a_cancelled_creation_does_not_delete_a_pinned_sandbox(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let pin = pb::PinPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "held".to_owned(),
            reason: "an incident".to_owned(),
            ..Default::default()
        };
        sg.admin().policies().pin_policy(pin).await.unwrap();
        let answered = CancellationToken::new();
        simulator.script("CreateSandbox", Script::Until(answered.clone()), Times::Next(1));
        let operation = begin_creation(&sg.admin(), create_request(&sg, name, "held")).await;
        wait_until("it is being made", || async { call_count(&simulator, "/CreateSandbox") == 1 })
            .await;
        sg.admin().cancel_operation(&operation).await.unwrap();
        answered.cancel();
        let ended = wait_operation(&sg.admin(), &operation).await;
        assert_eq!(ended.error_code(), pb::OperationErrorCode::Refused, "{ended:?}");
        let why = &ended.error_message;
        assert!(why.contains("stays") && why.contains("an incident"), "{ended:?}");
        assert_eq!(call_count(&simulator, "/DeleteSandbox"), 0, "{name}");
        get_sandbox(&sg.admin(), name, "held").await.unwrap();
        assert!(owners::is_owner(&sg, name, "held", "root").await, "it is recorded");
    }
}
