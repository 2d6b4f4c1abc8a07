//! Errors of Shoreguard's own methods, audit entries and operations if a gateway rejects Shoreguard's credential.

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::Status;

use crate::gateway_credentials::register_request;
use crate::proxy::for_gateway;
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

/// A gateway that accepted the credential when it was registered, and rejects it now.
async fn rejecting(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let options = SimulatorOptions {
        require_bearer: Some("one".to_owned()),
        ..SimulatorOptions::new(generation)
    };
    let simulator = Simulator::start(options).await.unwrap();
    simulator.seed_demo().unwrap();
    let credentials = pb::GatewayCredentials { bearer_token: "one".into(), ..Default::default() };
    let request = pb::RegisterGatewayRequest {
        name: name.to_owned(),
        credentials: Some(credentials),
        ..register_request(&simulator)
    };
    sg.admin().gateways().register_gateway(request).await.unwrap();
    simulator.require_bearer(&["two"]);
    simulator
}

/// Makes a call of each kind. Returns their results.
async fn calls(sg: &TestServer, gateway: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let admin = sg.admin();
    let (mut sandboxes, mut gateways) = (admin.sandboxes(), admin.gateways());
    let name = || (gateway.to_owned(), "coder".to_owned());
    let id = || sg.app.new_id().to_string();
    let (gateway, sandbox) = name();
    let get = pb::GetSandboxRequest { gateway, sandbox, ..Default::default() };
    let (gateway, sandbox) = name();
    let delete =
        pb::DeleteSandboxRequest { gateway, sandbox, request_id: id(), ..Default::default() };
    let (gateway, sandbox) = name();
    let logs = pb::GetSandboxLogsRequest { gateway, sandbox, ..Default::default() };
    let (gateway, sandbox) = name();
    let watch = pb::WatchSandboxRequest { gateway, sandbox, ..Default::default() };
    let (gateway, sandbox) = name();
    let ssh =
        pb::CreateSshSessionRequest { gateway, sandbox, request_id: id(), ..Default::default() };
    let (gateway, sandbox) = name();
    let command = vec!["true".to_owned()];
    let exec = pb::ExecSandboxRequest { gateway, sandbox, command, ..Default::default() };
    let (gateway, _) = name();
    let list = pb::ListSandboxesRequest { gateway, ..Default::default() };
    let (gateway, _) = name();
    let settings = pb::ListGatewaySettingsRequest { gateway, ..Default::default() };
    let (gateway, _) = name();
    let set = pb::UpdateGatewaySettingRequest {
        gateway,
        key: "ocsf_json_enabled".to_owned(),
        value: Some(pb::GatewaySettingValue {
            kind: Some(pb::gateway_setting_value::Kind::Switch(true)),
        }),
        ..Default::default()
    };
    vec![
        ("get", sandboxes.get_sandbox(get).await.map(drop)),
        ("list", sandboxes.list_sandboxes(list).await.map(drop)),
        ("logs", sandboxes.get_sandbox_logs(logs).await.map(drop)),
        ("watch", first(sandboxes.watch_sandbox(watch).await).await),
        ("exec", first(sandboxes.exec_sandbox(tokio_stream::iter([exec])).await).await),
        ("ssh", sandboxes.create_ssh_session(ssh).await.map(drop)),
        ("delete", sandboxes.delete_sandbox(delete).await.map(drop)),
        ("settings", gateways.list_gateway_settings(settings).await.map(drop)),
        ("set", gateways.update_gateway_setting(set).await.map(drop)),
    ]
}

/// Reads the first message of a stream.
async fn first<M>(
    stream: Result<tonic::Response<tonic::Streaming<M>>, Status>,
) -> Result<(), Status> {
    stream?.into_inner().message().await.map(drop)
}

async fn operation(caller: &Caller, gateway: &str) -> pb::Operation {
    let list = pb::ListOperationsRequest { gateway: gateway.to_owned(), ..Default::default() };
    let listed = caller.operations().list_operations(list).await.unwrap().into_inner();
    let id = listed.operations[0].id.clone();
    caller.wait_operation(&id).await
}

fn assert_names_the_credential(operation: &pb::Operation) {
    assert_eq!(operation.error_code(), pb::OperationErrorCode::Refused, "{operation:?}");
    let why = &operation.error_message;
    assert!(why.contains("credential that Shoreguard presents"), "{operation:?}");
}

const GATEWAYS: [(&str, Generation); 2] = [("old", Generation::V0_0), ("new", Generation::V0_1)];

sqlite_tests! {
    own_methods_return_failed_precondition_if_the_gateway_rejects_the_credential,
    the_fleet_names_a_gateway_that_rejects_the_credential_and_lists_the_others,
    a_rejected_gateway_credential_is_recorded_as_failed_and_not_as_denied,
}

async fn own_methods_return_failed_precondition_if_the_gateway_rejects_the_credential(
    sg: TestServer,
) {
    for (name, generation) in GATEWAYS {
        let simulator = rejecting(&sg, name, generation).await;
        for (call, answer) in calls(&sg, name).await {
            let status = answer.err().unwrap_or_else(|| panic!("{name}: {call} succeeded"));
            let reason = crate::support::server::reason(&status);
            let told = (status.code(), reason.as_str());
            assert_eq!(
                told,
                (tonic::Code::FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED"),
                "{call}: {status:?}"
            );
        }
        let create = pb::CreateSandboxRequest {
            gateway: name.into(),
            name: "mine".into(),
            request_id: sg.app.new_id().to_string(),
            ..Default::default()
        };
        sg.admin().sandboxes().create_sandbox(create).await.unwrap();
        assert_names_the_credential(&operation(&sg.admin(), name).await);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn the_fleet_names_a_gateway_that_rejects_the_credential_and_lists_the_others(
    sg: TestServer,
) {
    let simulator = rejecting(&sg, "bad", Generation::V0_1).await;
    let good = Simulator::start(SimulatorOptions::new(Generation::V0_0)).await.unwrap();
    good.seed_demo().unwrap();
    sg.register_gateway("good", good.addr()).await;
    let list = pb::ListSandboxesRequest::default();
    let page = sg.admin().sandboxes().list_sandboxes(list).await.unwrap().into_inner();
    assert!(
        page.sandboxes.iter().all(|sandbox| sandbox.gateway == "good")
            && !page.sandboxes.is_empty()
    );
    assert_eq!(page.unreachable.len(), 1, "{page:?}");
    assert_eq!(page.unreachable[0].gateway, "bad");
    assert!(page.unreachable[0].error.contains("credential"), "{page:?}");
    simulator.stop().await;
    good.stop().await;
    sg.finish().await;
}

async fn a_rejected_gateway_credential_is_recorded_as_failed_and_not_as_denied(sg: TestServer) {
    use shoreguard::pb::v0_0::openshell::v1 as old;
    let simulator = rejecting(&sg, "old", Generation::V0_0).await;
    let admin = sg.admin();
    let spec = Some(old::SandboxSpec::default());
    let create = old::CreateSandboxRequest { name: "mine".into(), spec, ..Default::default() };
    let refused = admin.openshell_v0_0().create_sandbox(for_gateway("old", create)).await;
    assert_refused!(refused, FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED");
    assert_names_the_credential(&operation(&admin, "old").await);
    let delete = old::DeleteSandboxRequest { name: "coder".into(), ..Default::default() };
    let refused = admin.openshell_v0_0().delete_sandbox(for_gateway("old", delete)).await;
    assert_refused!(refused, FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED");
    for (resource, action) in [("mine", "sandbox.create"), ("coder", "sandbox.delete")] {
        // The entry of a forwarded call is closed after its response.
        eventually("its only entry is closed as failed", || async {
            let entries = admin.audit_entries(resource, action).await;
            entries.len() == 1 && entries[0].outcome() == pb::AuditOutcome::Failed
        })
        .await;
    }
    simulator.stop().await;
    sg.finish().await;
}
