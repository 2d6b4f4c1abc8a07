//! Request IDs on gateways of generation 0.1: Shoreguard sends none of its own; those of clients are forwarded, counted
//! and limited.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use shoreguard::openshell::annotation;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1::gateway_setting_value::Kind;
use shoreguard_simulator::{Script, Times};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;

type Direct = new::open_shell_client::OpenShellClient<tonic::transport::Channel>;

fn id(number: u32) -> String {
    format!("0199c0de-0000-7000-8000-{number:012x}")
}

fn to<M>(gateway: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    request
}

async fn direct(simulator: &Simulator) -> Direct {
    Direct::connect(format!("http://{}", simulator.addr())).await.unwrap()
}

fn delete_missing(request_id: String) -> new::DeleteSandboxRequest {
    new::DeleteSandboxRequest { name: "missing".into(), request_id, ..Default::default() }
}

fn theirs(name: &str, request_id: String) -> new::CreateSandboxRequest {
    let spec = Some(new::SandboxSpec::default());
    new::CreateSandboxRequest { name: name.into(), spec, request_id, ..Default::default() }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Scripts an error by which a gateway leaves the outcome of a request unknown.
fn uncertain(reason: &str) -> Script {
    let details = ErrorDetails::with_error_info(reason, "openshell", HashMap::new());
    let status = Status::with_error_details(Code::FailedPrecondition, "not known", details);
    let details = bytes::Bytes::copy_from_slice(status.details());
    Script::Fail { code: status.code(), message: status.message().to_owned(), details }
}

/// Creates the sandbox of an operation directly on the gateway, after the gateway was called, as if the call had
/// succeeded.
async fn made_all_the_same(sg: &TestServer, simulator: &Simulator, name: &str) -> pb::Operation {
    wait_until("the gateway was asked", || async { call_count(simulator, "/CreateSandbox") > 0 })
        .await;
    let operation = proxied::operations(sg, "new").await.remove(0);
    assert_eq!(operation.sandbox, name);
    takeover::create_noted(simulator, name, &operation.id).await;
    wait_passing(sg, &operation.id).await
}

/// Returns the sum of a metric, selected by its name and its labels.
fn value(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    let found = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    found.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

server_tests! {
    a_full_request_id_table_does_not_block_own_methods,
    a_creation_with_an_uncertain_outcome_is_looked_up_on_the_gateway,
    a_proxied_creation_with_an_uncertain_outcome_is_looked_up_on_the_gateway,
    a_sandbox_of_another_actor_with_the_same_request_id_is_not_adopted,
}

async fn a_full_request_id_table_does_not_block_own_methods(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    let mut client = direct(&simulator).await;
    let fills = (1..=1_000).map(|number| {
        let mut client = client.clone();
        async move { client.delete_sandbox(delete_missing(id(number))).await.unwrap_err().code() }
    });
    let codes: Vec<_> = futures_util::stream::iter(fills).buffer_unordered(32).collect().await;
    assert_eq!(codes, [Code::NotFound; 1_000]);
    let full = client.delete_sandbox(delete_missing(id(2_000))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "the table is full");

    create_sandbox(&sg, create_request(&sg, "new", "ours")).await;
    let admin = sg.admin();
    for sandbox in ["", "ours"] {
        let update = pb::UpdateGatewaySettingRequest {
            gateway: "new".into(),
            sandbox: sandbox.into(),
            key: "ocsf_json_enabled".into(),
            value: Some(pb::GatewaySettingValue { kind: Some(Kind::Switch(true)) }),
            request_id: request_id(&sg),
            ..Default::default()
        };
        admin.gateways().update_gateway_setting(update).await.unwrap();
        let delete = pb::DeleteGatewaySettingRequest {
            gateway: "new".into(),
            sandbox: sandbox.into(),
            key: "ocsf_json_enabled".into(),
            request_id: request_id(&sg),
            ..Default::default()
        };
        assert!(
            admin.gateways().delete_gateway_setting(delete).await.unwrap().into_inner().deleted
        );
    }
    let said = commands::read_output(
        &admin,
        vec![pb::ExecSandboxRequest {
            sandbox: "ours".into(),
            ..commands::exec_request("new", &["echo", "hi"])
        }],
    );
    assert_eq!(said.await.unwrap().len(), 2);
    for stop in [true, false] {
        let (gateway, sandbox, request_id) = ("new".to_owned(), "ours".to_owned(), request_id(&sg));
        if stop {
            let stop =
                pb::StopSandboxRequest { gateway, sandbox, request_id, ..Default::default() };
            admin.sandboxes().stop_sandbox(stop).await.unwrap();
        } else {
            let start =
                pb::StartSandboxRequest { gateway, sandbox, request_id, ..Default::default() };
            admin.sandboxes().start_sandbox(start).await.unwrap();
        }
    }
    // The gateway accepts the call: it is deleting the sandbox, or has deleted it.
    delete_sandbox(&sg, "new", "ours").await;
    let left = get_sandbox(&admin, "new", "ours").await;
    assert!(left.is_err() || left.unwrap().phase() == pb::SandboxPhase::Deleting);

    // A client's own ID is refused because of the full table. A request without an ID is not.
    let refused = admin
        .openshell_v0_1()
        .create_sandbox(to("new", theirs("theirs", id(3_000))))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, ""),
        "as the gateway says it"
    );
    proxied::create_proxied(&admin, Generation::V0_1, "new", "theirs").await.unwrap();
    sg.operations_ended().await;
}

async fn a_creation_with_an_uncertain_outcome_is_looked_up_on_the_gateway(sg: TestServer) {
    for (number, reason) in
        ["REQUEST_OUTCOME_UNCERTAIN", "REQUEST_ID_PAYLOAD_MISMATCH", "REQUEST_REPLAY_UNAVAILABLE"]
            .into_iter()
            .enumerate()
    {
        let simulator = start_gateway(&sg, &format!("g{number}"), Generation::V0_1).await;
        let name = format!("g{number}");
        simulator.script("CreateSandbox", uncertain(reason), Times::Next(1));
        let operation = begin_creation(&sg.admin(), create_request(&sg, &name, "ours")).await;
        wait_until("the gateway was asked", || async {
            call_count(&simulator, "/CreateSandbox") > 0
        })
        .await;
        takeover::create_noted(&simulator, "ours", &operation).await;
        let made = wait_passing(&sg, &operation).await;
        assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{reason}: {made:?}");
        assert_eq!(
            call_count(&simulator, "/CreateSandbox"),
            2,
            "one of them by hand: nothing is sent again"
        );
    }
}

async fn a_proxied_creation_with_an_uncertain_outcome_is_looked_up_on_the_gateway(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    simulator.script("CreateSandbox", uncertain("REQUEST_OUTCOME_UNCERTAIN"), Times::Next(1));
    let refused =
        proxied::create_proxied(&sg.admin(), Generation::V0_1, "new", "theirs").await.unwrap_err();
    assert_eq!(
        reason(&refused),
        "REQUEST_OUTCOME_UNCERTAIN",
        "its client gets the gateway's own answer"
    );
    let made = made_all_the_same(&sg, &simulator, "theirs").await;
    assert_eq!(made.status(), pb::OperationStatus::Succeeded, "{made:?}");
}

async fn a_sandbox_of_another_actor_with_the_same_request_id_is_not_adopted(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    let ana = sg.with_token(&sg.admin().create_key("ana", pb::Role::Operator).await);
    let ben = sg.with_token(&sg.admin().create_key("ben", pb::Role::Operator).await);
    ana.openshell_v0_1().create_sandbox(to("new", theirs("box", id(1)))).await.unwrap();
    let refused =
        ben.openshell_v0_1().create_sandbox(to("new", theirs("box", id(1)))).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_PAYLOAD_MISMATCH", "the gateway sees two messages");
    let operation = proxied::operations(&sg, "new").await.remove(0);
    let failed = wait_operation(&sg.admin(), &operation.id).await;
    assert_eq!(
        (failed.actor.as_str(), failed.status()),
        ("sp:ben", pb::OperationStatus::Failed),
        "{failed:?}"
    );
    let found = get_sandbox(&sg.admin(), "new", "box").await.unwrap();
    assert_eq!(found.gateway_annotations[annotation::ACTOR], "sp:ana");
    assert_eq!(call_count(&simulator, "/CreateSandbox"), 2);
}

server_tests! {
    tuned |config| config.gateways.request_ids_per_principal = 3;
    request_ids_are_limited_per_principal_and_gateway,
}

async fn request_ids_are_limited_per_principal_and_gateway(sg: TestServer) {
    let simulator = start_gateway(&sg, "new", Generation::V0_1).await;
    let _second = start_gateway(&sg, "second", Generation::V0_1).await;
    let ana = sg.with_token(&sg.admin().create_key("ana", pb::Role::Admin).await);
    let ben = sg.with_token(&sg.admin().create_key("ben", pb::Role::Operator).await);
    // Two requests that fail, and one in a method that names no sandbox.
    for number in 1..=2 {
        let failed =
            ana.openshell_v0_1().delete_sandbox(to("new", delete_missing(id(number)))).await;
        assert_eq!(failed.unwrap_err().code(), Code::NotFound);
    }
    let workspace = |number| new::CreateWorkspaceRequest {
        name: format!("team-{number}"),
        request_id: id(number),
        ..Default::default()
    };
    ana.openshell_v0_1().create_workspace(to("new", workspace(3))).await.unwrap();
    // The server's own calls can come meanwhile.
    let writes = || {
        let calls = simulator.calls().into_iter();
        calls
            .filter(|(path, _)| path.ends_with("Workspace") || path.ends_with("DeleteSandbox"))
            .collect::<Vec<_>>()
    };
    let before = writes();
    for _ in 0..2 {
        let over = ana.openshell_v0_1().create_workspace(to("new", workspace(4))).await;
        assert_refused!(over, ResourceExhausted, "LIMIT_REACHED");
    }
    let over = ana.openshell_v0_1().delete_sandbox(to("new", delete_missing(id(4)))).await;
    assert_refused!(over, ResourceExhausted, "LIMIT_REACHED");
    assert_eq!(writes(), before, "nothing of them has reached the gateway");
    wait_until("the refusal is recorded", || async {
        let entry = audit_entries(&sg, "workspace.create").await.remove(0);
        entry.actor == "sp:ana" && entry.outcome() != pb::AuditOutcome::Ok
    })
    .await;

    // A repetition does not count against the limit, and is forwarded unchanged.
    let again = ana.openshell_v0_1().create_workspace(to("new", workspace(3))).await.unwrap();
    assert_eq!(again.metadata().get("openshell-replayed").unwrap(), "true");
    let again =
        ana.openshell_v0_1().delete_sandbox(to("new", delete_missing(id(1)))).await.unwrap_err();
    assert_eq!(reason(&again), "REQUEST_OUTCOME_UNCERTAIN");
    // A call without an ID does not count either. Other principals and other gateways have limits of their own.
    let without =
        ana.openshell_v0_1().delete_sandbox(to("new", delete_missing(String::new()))).await;
    assert_eq!(without.unwrap_err().code(), Code::NotFound);
    let other = ben.openshell_v0_1().delete_sandbox(to("new", delete_missing(id(4)))).await;
    assert_eq!(other.unwrap_err().code(), Code::NotFound);
    let other = ana.openshell_v0_1().delete_sandbox(to("second", delete_missing(id(4)))).await;
    assert_eq!(other.unwrap_err().code(), Code::NotFound);
}

#[test]
fn request_ids_of_clients_are_counted_in_metrics() {
    crate::support::server::run(
        shoreguard::db::Engine::Sqlite,
        |_| {},
        |sg| async move {
            // No other test in this process reads metrics.
            let metrics = shoreguard::telemetry::metrics::install().unwrap();
            let simulator = start_gateway(&sg, "counted", Generation::V0_1).await;
            let mut client = sg.admin().openshell_v0_1();
            client.create_sandbox(to("counted", theirs("one", id(1)))).await.unwrap();
            let workspace = new::CreateWorkspaceRequest {
                name: "team".into(),
                request_id: id(2),
                ..Default::default()
            };
            client.create_workspace(to("counted", workspace)).await.unwrap();
            for number in 3..=5 {
                client.delete_sandbox(to("counted", delete_missing(id(number)))).await.unwrap_err();
            }
            let command = new::ExecSandboxRequest {
                sandbox: "one".into(),
                command: vec!["true".into()],
                request_id: id(6),
                ..Default::default()
            };
            let ran = client.exec_sandbox(to("counted", command)).await.unwrap();
            let mut events = ran.into_inner();
            while events.message().await.unwrap().is_some() {}
            simulator.script("StopSandbox", Script::Disconnect, Times::Next(1));
            let stop = new::StopSandboxRequest {
                name: "one".into(),
                request_id: id(7),
                ..Default::default()
            };
            client.stop_sandbox(to("counted", stop)).await.unwrap_err();
            client.delete_sandbox(to("counted", delete_missing(String::new()))).await.unwrap_err();
            let counted = |outcome: &str| {
                let outcome = format!("outcome=\"{outcome}\"");
                let labels = ["gateway=\"counted\"", outcome.as_str()];
                value(&metrics.render(), "shoreguard_gateway_request_ids_total", &labels)
            };
            wait_until("all are counted", || async {
                counted("confirmed") == 3 && counted("lost") == 1
            })
            .await;
            assert_eq!((counted("confirmed"), counted("failed"), counted("lost")), (3, 3, 1));
            sg.finish().await;
            simulator.stop().await;
        },
    );
}
