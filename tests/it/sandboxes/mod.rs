//! Sandboxes through the API, on gateways of both generations.

mod cancelled;
mod commands;
mod creation;
mod failing;
mod fleet;
mod followed;
mod followed_crowds;
mod followed_events;
mod followed_limits;
mod followed_logs;
mod followed_restarts;
mod listing;
mod owners;
mod proxied;
mod proxied_ends;
mod request_ids;
mod revoked;
mod ssh;
mod sweep;
mod takeover;
mod terminals;
mod unanswered;
mod with_hooks;

use std::collections::HashMap;
use std::time::Duration;

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

use crate::support::server::{Caller, TestServer};
use crate::support::{eventually as wait_until, pause};

/// Time that [`pass_until`] advances the clock at most. It is shorter than the lease of an operation.
const PASS_MAX: Duration = Duration::from_secs(15);

/// A gateway of each generation.
const GATEWAYS: [(&str, Generation); 2] = [("old", Generation::V0_0), ("new", Generation::V0_1)];

/// Starts a gateway of a generation and registers it under a name.
async fn start_gateway(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

fn request_id(sg: &TestServer) -> String {
    sg.app.new_id().to_string()
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn create_request(sg: &TestServer, gateway: &str, name: &str) -> pb::CreateSandboxRequest {
    pb::CreateSandboxRequest {
        gateway: gateway.to_owned(),
        name: name.to_owned(),
        request_id: request_id(sg),
        ..Default::default()
    }
}

/// Starts a creation. Returns the ID of its operation.
async fn begin_creation(caller: &Caller, request: pb::CreateSandboxRequest) -> String {
    let begun = caller.sandboxes().create_sandbox(request).await.unwrap().into_inner();
    begun.operation.unwrap().id
}

/// Waits until an operation has ended.
async fn wait_operation(caller: &Caller, operation: &str) -> pb::Operation {
    for _ in 0..20 {
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
    panic!("operation {operation} does not end");
}

/// Creates a sandbox and waits until it is ready.
async fn create_sandbox(sg: &TestServer, request: pb::CreateSandboxRequest) -> pb::Operation {
    let admin = sg.admin();
    let operation = begin_creation(&admin, request).await;
    let ended = wait_operation(&admin, &operation).await;
    assert_eq!(ended.status(), pb::OperationStatus::Succeeded, "{ended:?}");
    ended
}

async fn get_sandbox(
    caller: &Caller,
    gateway: &str,
    name: &str,
) -> Result<pb::Sandbox, tonic::Status> {
    let request = pb::GetSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: name.to_owned(),
        ..Default::default()
    };
    Ok(caller.sandboxes().get_sandbox(request).await?.into_inner().sandbox.unwrap())
}

async fn delete_sandbox(sg: &TestServer, gateway: &str, name: &str) -> pb::DeleteSandboxResponse {
    let request = pb::DeleteSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: name.to_owned(),
        request_id: request_id(sg),
        ..Default::default()
    };
    sg.admin().sandboxes().delete_sandbox(request).await.unwrap().into_inner()
}

/// Returns the result of an operation as JSON.
fn operation_result(operation: &pb::Operation) -> serde_json::Value {
    fn json(value: &prost_types::Value) -> serde_json::Value {
        use prost_types::value::Kind;
        match value.kind.as_ref() {
            None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
            Some(Kind::NumberValue(number)) => (*number).into(),
            Some(Kind::StringValue(text)) => text.as_str().into(),
            Some(Kind::BoolValue(flag)) => (*flag).into(),
            Some(Kind::StructValue(fields)) => object(fields),
            Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        }
    }
    fn object(fields: &prost_types::Struct) -> serde_json::Value {
        fields.fields.iter().map(|(key, value)| (key.clone(), json(value))).collect()
    }
    operation.result.as_ref().map_or(serde_json::Value::Null, object)
}

/// Returns the audit entries of an action, newest first, after all of them were closed: the entry of a forwarded call
/// or of an operation is closed after the caller knows the outcome.
async fn audit_entries(sg: &TestServer, action: &str) -> Vec<pb::AuditEntry> {
    let list = async || {
        let action = action.to_owned();
        let request = pb::ListAuditEntriesRequest { action, ..Default::default() };
        let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
        listed.audit_entries
    };
    wait_until("each entry is closed", || async {
        list().await.iter().all(|entry| entry.outcome() != pb::AuditOutcome::Open)
    })
    .await;
    list().await
}

/// Returns how often a method was called on a gateway.
fn call_count(simulator: &Simulator, method: &str) -> u64 {
    let calls = simulator.calls();
    calls.iter().filter(|(path, _)| path.ends_with(method)).map(|(_, count)| count).sum()
}

/// Returns whether a sandbox does not exist or is being deleted.
async fn is_gone(sg: &TestServer, gateway: &str, name: &str) -> bool {
    match get_sandbox(&sg.admin(), gateway, name).await {
        Ok(found) => found.phase() == pb::SandboxPhase::Deleting,
        Err(error) => error.code() == tonic::Code::NotFound,
    }
}

/// Waits until a condition is true, and advances the clock meanwhile, so that operations do not rest between two
/// attempts.
async fn pass_until<F: Future<Output = bool>>(sg: &TestServer, mut so: impl FnMut() -> F) {
    let mut left = PASS_MAX;
    while !so().await {
        let step = left.min(Duration::from_millis(100));
        sg.app.clock.advance(step);
        left -= step;
        pause().await;
    }
}

/// Waits until an operation has ended, and advances the clock meanwhile, so that it does not rest between two attempts.
async fn wait_passing(sg: &TestServer, operation: &str) -> pb::Operation {
    let admin = sg.admin();
    tokio::select! {
        biased;
        ended = wait_operation(&admin, operation) => ended,
        () = pass_until(sg, || std::future::ready(false)) => unreachable!("it never stops"),
    }
}

async fn create_hook(
    sg: &TestServer,
    gateway: &str,
    sandbox: &str,
    phase: pb::BootHookPhase,
    command: &str,
) -> pb::BootHook {
    let request = pb::CreateBootHookRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        name: command.split(' ').next().unwrap_or("hook").to_owned(),
        phase: phase.into(),
        command: command.to_owned(),
        request_id: request_id(sg),
        ..Default::default()
    };
    let created = sg.admin().boot_hooks().create_boot_hook(request).await.unwrap();
    created.into_inner().boot_hook.unwrap()
}
