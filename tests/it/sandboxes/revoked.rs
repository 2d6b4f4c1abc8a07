//! Creations and commands whose caller loses the required right.

use std::time::Instant;

use prost::Message as _;
use shoreguard::access::policy::StreamingMode;
use shoreguard::pb::{v0_0, v0_1};
use shoreguard_simulator::{Hold, Script, Times};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::access_bindings::set_role_request;

/// Time for work to stop: one second, plus the delay of a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(50);

/// Ways in which the service principal `ops` loses its right.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Rotated,
    Deleted,
    Demoted,
    LockedOut,
}

async fn lose(sg: &TestServer, gateway: &str, loss: Loss) {
    let (admin, name) = (sg.admin(), "ops".to_owned());
    match loss {
        Loss::Rotated => {
            let request =
                pb::RotateServicePrincipalRequest { service_principal: name, ..Default::default() };
            admin.service_principals().rotate_service_principal(request).await.unwrap();
        }
        Loss::Deleted => {
            let request =
                pb::DeleteServicePrincipalRequest { service_principal: name, ..Default::default() };
            admin.service_principals().delete_service_principal(request).await.unwrap();
        }
        Loss::Demoted => {
            admin
                .access()
                .set_gateway_role(set_role_request("ops", gateway, pb::Role::Viewer))
                .await
                .unwrap();
        }
        Loss::LockedOut => {
            admin
                .access()
                .set_gateway_role(set_role_request("ops", gateway, pb::Role::None))
                .await
                .unwrap();
        }
    }
}

async fn stopped(sg: &TestServer, operation: &str, since: Instant) {
    let cancelled = wait_operation(&sg.admin(), operation).await;
    assert!(since.elapsed() < STOPS_WITHIN, "{:?}", since.elapsed());
    assert_eq!(cancelled.error_code(), pb::OperationErrorCode::Cancelled, "{cancelled:?}");
    assert!(
        cancelled.error_message.contains("no longer valid")
            || cancelled.error_message.contains("too low"),
        "{cancelled:?}"
    );
}

server_tests! {
    t14_a_command_ends_when_its_caller_loses_the_right_to_it,
    t14_a_creation_is_undone_when_its_caller_loses_the_right_to_it,
    a_pending_proxied_deletion_is_not_sent_after_its_credential_is_revoked,
    t14_an_ssh_session_is_not_opened_if_its_credential_ended_while_the_sandbox_was_read,
}

async fn t14_a_command_ends_when_its_caller_loses_the_right_to_it(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        create_sandbox(&sg, create_request(&sg, name, "box")).await;
        for loss in [Loss::Rotated, Loss::Deleted, Loss::Demoted] {
            // Left from the previous iteration.
            let leftover = pb::DeleteServicePrincipalRequest {
                service_principal: "ops".into(),
                ..Default::default()
            };
            let _ = sg.admin().service_principals().delete_service_principal(leftover).await;
            let ops = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
            let request = pb::StartExecSandboxRequest {
                gateway: name.to_owned(),
                sandbox: "box".to_owned(),
                command: vec!["sleep".to_owned(), "600".to_owned()],
                ..Default::default()
            };
            let started = ops.sandboxes().start_exec_sandbox(request).await.unwrap();
            let operation = started.into_inner().operation.unwrap().id;
            wait_until("it runs", || async { simulator.running_commands() == 1 }).await;
            let since = Instant::now();
            lose(&sg, name, loss).await;
            stopped(&sg, &operation, since).await;
            wait_until("it has ended in the sandbox", || async {
                simulator.running_commands() == 0
            })
            .await;
        }
    }
}

async fn t14_a_creation_is_undone_when_its_caller_loses_the_right_to_it(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let options = SimulatorOptions {
            ready_after: Duration::from_mins(10),
            ..SimulatorOptions::new(generation)
        };
        let simulator = Simulator::start(options).await.unwrap();
        sg.register_gateway(name, simulator.addr()).await;
        for (sandbox, loss) in [("one", Loss::Deleted), ("two", Loss::LockedOut)] {
            let leftover = pb::DeleteServicePrincipalRequest {
                service_principal: "ops".into(),
                ..Default::default()
            };
            let _ = sg.admin().service_principals().delete_service_principal(leftover).await;
            let ops = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
            let operation = begin_creation(&ops, create_request(&sg, name, sandbox)).await;
            wait_until("it is being made", || async {
                get_sandbox(&sg.admin(), name, sandbox).await.is_ok()
            })
            .await;
            let since = Instant::now();
            lose(&sg, name, loss).await;
            stopped(&sg, &operation, since).await;
            wait_until("the sandbox is deleted", || is_gone(&sg, name, sandbox)).await;
        }
    }
}

async fn a_pending_proxied_deletion_is_not_sent_after_its_credential_is_revoked(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = start_gateway(&sg, name, generation).await;
        let leftover = pb::DeleteServicePrincipalRequest {
            service_principal: "ops".into(),
            ..Default::default()
        };
        let _ = sg.admin().service_principals().delete_service_principal(leftover).await;
        let ops = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
        let ask = match generation {
            Generation::V0_0 => v0_0::openshell::v1::DeleteSandboxRequest {
                name: "box".into(),
                ..Default::default()
            }
            .encode_to_vec(),
            Generation::V0_1 => v0_1::openshell::v1::DeleteSandboxRequest {
                name: "box".into(),
                ..Default::default()
            }
            .encode_to_vec(),
        };
        // Opens the caller's own connection. The deletion is sent on another one, which is not open yet.
        let health = "/openshell.v1.OpenShell/Health";
        let on = [("x-shoreguard-gateway", name)];
        let path = "/openshell.v1.OpenShell/ListSandboxes";
        ops.call_raw(path, StreamingMode::Unary, Vec::new(), &on).await.unwrap();
        let probes = call_count(&simulator, health);
        let answered = CancellationToken::new();
        simulator.script("Health", Script::Until(answered.clone()), Times::All);
        let losing = async {
            wait_until("it is being reached", || async { call_count(&simulator, health) > probes })
                .await;
            lose(&sg, name, Loss::Rotated).await;
            simulator.clear_scripts();
            answered.cancel();
        };
        let path = "/openshell.v1.OpenShell/DeleteSandbox";
        let deleting = ops.call_raw(path, StreamingMode::Unary, ask, &on);
        let (deleted, ()) = tokio::join!(deleting, losing);
        assert_refused!(deleted, Unauthenticated, "CREDENTIAL_INVALID");
        // The call continues without its caller, and closes its entry at its end.
        audit_entries(&sg, "sandbox.delete").await;
        assert_eq!(call_count(&simulator, "/DeleteSandbox"), 0);
    }
}

/// In generation 0.0, a sandbox is read for its id before the call that changes something.
async fn t14_an_ssh_session_is_not_opened_if_its_credential_ended_while_the_sandbox_was_read(
    sg: TestServer,
) {
    let simulator = start_gateway(&sg, "old", Generation::V0_0).await;
    create_sandbox(&sg, create_request(&sg, "old", "box")).await;
    let ops = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    let hold = Hold::default();
    simulator.script("GetSandbox", Script::HoldAfter(hold.clone()), Times::Next(1));
    let losing = async {
        hold.wait_reached(1).await;
        lose(&sg, "old", Loss::Rotated).await;
        hold.release();
    };
    let request = pb::CreateSshSessionRequest {
        gateway: "old".to_owned(),
        sandbox: "box".to_owned(),
        ..Default::default()
    };
    let mut client = ops.sandboxes();
    let (refused, ()) = tokio::join!(client.create_ssh_session(request), losing);
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(call_count(&simulator, "/CreateSshSession"), 0);
}
