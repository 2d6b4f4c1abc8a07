//! Creations that are cancelled while their gateway is slow or away.

use shoreguard::simulator::{Script, Times};
use tonic::Code;

use super::*;

async fn cancel(sg: &TestServer, operation: &str) {
    let request =
        pb::CancelOperationRequest { operation: operation.to_owned(), request_id: request_id(sg) };
    sg.admin().operations().cancel_operation(request).await.unwrap();
}

fn called(simulator: &Simulator, method: &str) -> u64 {
    let calls = simulator.calls();
    calls.iter().filter(|(path, _)| path.ends_with(method)).map(|(_, count)| count).sum()
}

async fn is_gone(sg: &TestServer, gateway: &str, name: &str) -> bool {
    match get(&sg.admin(), gateway, name).await {
        Ok(found) => found.phase() == pb::SandboxPhase::Deleting,
        Err(error) => error.code() == Code::NotFound,
    }
}

served! {
    async fn wp65_a_cancel_waits_for_the_answer_of_a_slow_gateway_and_undoes_it(sg: TestServer) {
        let simulator = gateway(&sg, "edge", Generation::V0_0).await;
        // Longer than work has that needs no time to undo.
        simulator.script("CreateSandbox", Script::Delay(Duration::from_secs(33)), Times::Next(1));
        let operation = begin(&sg.admin(), to_create(&sg, "edge", "slow")).await;
        until("it is being made", || async { called(&simulator, "/CreateSandbox") == 1 }).await;
        cancel(&sg, &operation).await;
        let cancelled = ended(&sg.admin(), &operation).await;
        assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
        until("it is gone", || is_gone(&sg, "edge", "slow")).await;
        assert_eq!(called(&simulator, "/DeleteSandbox"), 1);
    }

    async fn wp65_a_deletion_that_undoes_a_creation_is_tried_until_the_gateway_takes_it(sg: TestServer) {
        for (name, generation) in GATEWAYS {
            let options = SimulatorOptions { ready_after: Duration::from_mins(10), ..SimulatorOptions::plain(generation) };
            let simulator = Simulator::start(options).await.unwrap();
            sg.gateway(name, simulator.addr()).await;
            let away = Script::TrailersOnly { code: Code::Unavailable, message: "restarting".to_owned() };
            simulator.script("DeleteSandbox", away, Times::Next(2));
            let operation = begin(&sg.admin(), to_create(&sg, name, "slow")).await;
            until("it is being made", || async { get(&sg.admin(), name, "slow").await.is_ok() }).await;
            cancel(&sg, &operation).await;
            let cancelled = ended(&sg.admin(), &operation).await;
            assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
            assert_eq!(called(&simulator, "/DeleteSandbox"), 3);
            until("it is gone", || is_gone(&sg, name, "slow")).await;
        }
    }
}
