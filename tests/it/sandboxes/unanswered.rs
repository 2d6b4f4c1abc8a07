//! Audit entries of actions on a gateway that has not responded: their outcome is unknown.

use prost::bytes::Bytes;
use shoreguard::pb::v1::AuditOutcome::{Failed, Unknown};
use shoreguard_simulator::{Script, Times};
use tonic::{Code, Status};

use super::*;
use crate::proxy::raw::{RawClient, encode_framed};

const EXEC: &str = "/shoreguard.v1.SandboxService/ExecSandbox";

/// Methods of the gateway, and the actions in Shoreguard's audit log.
const ACTS: [(&str, &str); 6] = [
    ("CreateSshSession", "ssh_session.create"),
    ("ExecSandbox", "sandbox.exec"),
    ("UpdateConfig", "gateway_setting.update"),
    ("StopSandbox", "sandbox.stop"),
    ("StartSandbox", "sandbox.start"),
    ("DeleteSandbox", "sandbox.delete"),
];

/// Starts a command as an operation. Returns the ID of the operation.
async fn exec(sg: &TestServer, gateway: &str) -> Result<String, Status> {
    let request = pb::StartExecSandboxRequest {
        gateway: gateway.into(),
        sandbox: "one".into(),
        command: vec!["true".into()],
        request_id: request_id(sg),
        ..Default::default()
    };
    let begun = sg.admin().sandboxes().start_exec_sandbox(request).await?.into_inner();
    Ok(begun.operation.unwrap().id)
}

/// Makes Shoreguard call a method of the gateway. Returns the code of the error.
async fn act(sg: &TestServer, gateway: &str, method: &str) -> i32 {
    let (gateway, sandbox) = (gateway.to_owned(), "one".to_owned());
    let mut sandboxes = sg.admin().sandboxes();
    let done = match method {
        "CreateSshSession" => {
            let request = pb::CreateSshSessionRequest { gateway, sandbox, ..Default::default() };
            sandboxes.create_ssh_session(request).await.map(drop)
        }
        "StopSandbox" => {
            let request = pb::StopSandboxRequest { gateway, sandbox, ..Default::default() };
            sandboxes.stop_sandbox(request).await.map(drop)
        }
        "StartSandbox" => {
            let request = pb::StartSandboxRequest { gateway, sandbox, ..Default::default() };
            sandboxes.start_sandbox(request).await.map(drop)
        }
        "DeleteSandbox" => {
            let request = pb::DeleteSandboxRequest { gateway, sandbox, ..Default::default() };
            sandboxes.delete_sandbox(request).await.map(drop)
        }
        "UpdateConfig" => {
            let kind = pb::gateway_setting_value::Kind::Switch(true);
            let request = pb::UpdateGatewaySettingRequest {
                gateway,
                key: "ocsf_json_enabled".to_owned(),
                value: Some(pb::GatewaySettingValue { kind: Some(kind) }),
                ..Default::default()
            };
            sg.admin().gateways().update_gateway_setting(request).await.map(drop)
        }
        "ExecSandbox" => {
            let operation = wait_operation(&sg.admin(), &exec(sg, &gateway).await.unwrap()).await;
            let refused = operation.error_code() == pb::OperationErrorCode::Refused;
            let silent = operation.error_code() == pb::OperationErrorCode::GatewayUnreachable;
            assert!(refused || silent, "{operation:?}");
            return if refused { 9 } else { 14 };
        }
        other => panic!("no way to {other}"),
    };
    done.unwrap_err().code() as i32
}

fn refuses() -> Script {
    let message = "not now".to_owned();
    Script::Fail { code: Code::FailedPrecondition, message, details: Bytes::new() }
}

sqlite_tests! {
    a_call_without_a_gateway_response_is_recorded_as_unknown,
}

async fn a_call_without_a_gateway_response_is_recorded_as_unknown(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "one")).await;
        for (method, action) in ACTS {
            for (script, expected) in
                [(refuses(), (Failed, 9)), (Script::Disconnect, (Unknown, 14))]
            {
                simulator.script(method, script, Times::Next(1));
                assert_eq!(act(&sg, name, method).await, expected.1, "{name} {method}");
                // The entry of an operation is closed after the operation has ended.
                wait_until("the entry is closed", || async {
                    audit_entries(&sg, action).await[0].outcome() != pb::AuditOutcome::Open
                })
                .await;
                let entry = audit_entries(&sg, action).await.remove(0);
                assert_eq!((entry.outcome(), entry.code), expected, "{name} {method}: {entry:?}");
            }
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

each_generation! { sqlite_tests, GATEWAYS; a_command_abandoned_before_its_response_is_recorded_as_unknown }

async fn a_command_abandoned_before_its_response_is_recorded_as_unknown(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let simulator = start_gateway(&sg, name, generation).await;
    create_sandbox(&sg, create_request(&sg, name, "one")).await;
    simulator.script("ExecSandbox", Script::Hang, Times::All);
    let operation = exec(&sg, name).await.unwrap();
    wait_until("the gateway was asked", || async { call_count(&simulator, "/ExecSandbox") == 1 })
        .await;
    let request = pb::CancelOperationRequest { operation: operation.clone(), ..Default::default() };
    sg.admin().operations().cancel_operation(request).await.unwrap();
    wait_operation(&sg.admin(), &operation).await;
    let entry = audit_entries(&sg, "sandbox.exec").await.remove(0);
    assert_eq!((entry.outcome(), entry.code), (Unknown, 1), "{name}: {entry:?}");

    let mut raw = RawClient::connect(&sg).await;
    let command = encode_framed(&pb::ExecSandboxRequest {
        gateway: name.to_owned(),
        sandbox: "one".to_owned(),
        command: vec!["true".to_owned()],
        ..Default::default()
    });
    let head = raw.post(EXEC).header("grpc-timeout", "2S");
    assert_eq!(raw.call(head, &[command]).await.code(), "4");
    assert_eq!(call_count(&simulator, "/ExecSandbox"), 2);
    let entry = audit_entries(&sg, "sandbox.exec").await.remove(0);
    assert_eq!((entry.outcome(), entry.code), (Unknown, 4), "{name}: {entry:?}");
    simulator.stop().await;
    sg.finish().await;
}
