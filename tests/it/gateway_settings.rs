//! Settings of gateways through the API, and the findings that result from them.

use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_sandbox;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::gateway_setting_value::Kind;
use shoreguard::resources::gateways::findings::CHECKS;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tonic::Status;

use crate::support::dump;
use crate::support::server::{Caller, TestServer};

const GATEWAYS: [(&str, Generation); 2] = [("new", Generation::V0_1), ("old", Generation::V0_0)];
const MODE: &str = "proposal_approval_mode";
const OCSF: &str = "ocsf_json_enabled";

async fn seeded(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = Simulator::start(SimulatorOptions::new(generation)).await.unwrap();
    simulator.seed_demo().unwrap();
    sg.register_gateway(name, simulator.addr()).await;
    simulator
}

fn text(word: &str) -> Kind {
    Kind::Text(word.to_owned())
}

fn to_set(gateway: &str, sandbox: &str, key: &str, kind: Kind) -> pb::UpdateGatewaySettingRequest {
    pb::UpdateGatewaySettingRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        key: key.to_owned(),
        value: Some(pb::GatewaySettingValue { kind: Some(kind) }),
        ..Default::default()
    }
}

async fn set(
    caller: &Caller,
    request: pb::UpdateGatewaySettingRequest,
) -> Result<pb::UpdateGatewaySettingResponse, Status> {
    Ok(caller.gateways().update_gateway_setting(request).await?.into_inner())
}

async fn delete(caller: &Caller, gateway: &str, sandbox: &str, key: &str) -> Result<bool, Status> {
    let request = pb::DeleteGatewaySettingRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        key: key.to_owned(),
        ..Default::default()
    };
    Ok(caller.gateways().delete_gateway_setting(request).await?.into_inner().deleted)
}

async fn list(
    caller: &Caller,
    gateway: &str,
    sandbox: &str,
) -> Result<Vec<pb::GatewaySetting>, Status> {
    let request = pb::ListGatewaySettingsRequest {
        gateway: gateway.to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    };
    Ok(caller.gateways().list_gateway_settings(request).await?.into_inner().gateway_settings)
}

/// Returns value and scope of a setting, and whether the gateway manages it.
async fn one(
    caller: &Caller,
    gateway: &str,
    sandbox: &str,
    key: &str,
) -> (Option<Kind>, pb::GatewaySettingScope, bool) {
    let all = list(caller, gateway, sandbox).await.unwrap();
    let found = all.into_iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(found.sandbox, sandbox);
    let scope = found.scope();
    (found.value.and_then(|value| value.kind), scope, found.managed_by_gateway)
}

async fn findings(sg: &TestServer, gateway: &str) -> Vec<pb::GatewayFinding> {
    let request = pb::GetGatewayRequest { gateway: gateway.to_owned() };
    let found = sg.admin().gateways().get_gateway(request).await.unwrap().into_inner();
    found.gateway.unwrap().findings
}

/// Checks every gateway once, after the lease of the worker has expired. Returns how many findings have changed.
async fn look(sg: &TestServer) -> usize {
    sg.run_job(&CHECKS).await.done
}

async fn told(sg: &TestServer, event: &str) -> usize {
    dump::table(&sg.app.db, "events").await.matches(event).count()
}

/// Changes the setting directly on the gateway, without Shoreguard.
pub(crate) async fn behind_our_back(simulator: &Simulator, mode: &str) {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", simulator.addr()));
    let channel = channel.unwrap().connect().await.unwrap();
    let value = old_sandbox::setting_value::Value::StringValue(mode.to_owned());
    let update = old::UpdateConfigRequest {
        global: true,
        setting_key: MODE.to_owned(),
        setting_value: Some(old_sandbox::SettingValue { value: Some(value) }),
        ..Default::default()
    };
    // The fields are equal in both generations.
    let mut client = old::open_shell_client::OpenShellClient::new(channel);
    client.update_config(update).await.unwrap();
}

server_tests! {
    settings_are_listed_set_and_deleted_in_both_scopes,
    t05_unknown_settings_and_wrong_types_are_not_sent_to_the_gateway,
    automatic_approvals_are_an_open_finding_until_they_are_turned_off,
    a_setting_changed_outside_shoreguard_is_detected_and_sent_to_watchers,
}

async fn settings_are_listed_set_and_deleted_in_both_scopes(sg: TestServer) {
    use pb::GatewaySettingScope as Scope;
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let keys: Vec<String> =
            list(&admin, name, "").await.unwrap().into_iter().map(|s| s.key).collect();
        assert_eq!(keys, ["agent_policy_proposals_enabled", OCSF, MODE, "providers_v2_enabled"]);
        assert_eq!(one(&admin, name, "coder", OCSF).await, (None, Scope::Unspecified, false));

        let answer = set(&admin, to_set(name, "coder", OCSF, Kind::Switch(true))).await.unwrap();
        assert_eq!(answer.gateway_setting.unwrap().scope(), Scope::Sandbox);
        assert_eq!(
            one(&admin, name, "coder", OCSF).await,
            (Some(Kind::Switch(true)), Scope::Sandbox, false)
        );
        assert_eq!(one(&admin, name, "builder", OCSF).await, (None, Scope::Unspecified, false));
        let answer = set(&admin, to_set(name, "", OCSF, Kind::Switch(false))).await.unwrap();
        assert_eq!(answer.settings_revision, 1);
        assert_eq!(
            one(&admin, name, "", OCSF).await,
            (Some(Kind::Switch(false)), Scope::Gateway, true)
        );
        assert_eq!(
            one(&admin, name, "coder", OCSF).await,
            (Some(Kind::Switch(false)), Scope::Gateway, true)
        );
        let locked = set(&admin, to_set(name, "coder", OCSF, Kind::Switch(true))).await;
        let locked = assert_refused!(locked, FailedPrecondition, "GATEWAY_REFUSED");
        assert!(locked.message().contains("managed globally"), "{locked:?}");

        assert!(delete(&admin, name, "", OCSF).await.unwrap());
        assert!(!delete(&admin, name, "", OCSF).await.unwrap(), "it is already deleted");
        assert_eq!(
            one(&admin, name, "coder", OCSF).await,
            (Some(Kind::Switch(true)), Scope::Sandbox, false)
        );
        assert!(delete(&admin, name, "coder", OCSF).await.unwrap());
        assert_refused!(list(&admin, name, "none").await, NotFound, "NOT_FOUND");
        simulator.stop().await;
        assert_refused!(list(&admin, name, "").await, Unavailable, "GATEWAY_UNREACHABLE");
    }
    assert_eq!(told(&sg, "gateway_setting.updated").await, 4);
    assert_eq!(told(&sg, "gateway_setting.deleted").await, 4);
    sg.app.audit.wait_settled().await;
    let mut entries = admin.audit_entries("", "gateway_setting.update").await;
    entries.retain(|entry| entry.gateway == "old");
    let failed = entries.iter().filter(|entry| entry.outcome() == pb::AuditOutcome::Failed).count();
    assert_eq!((entries.len(), failed), (3, 1), "{entries:?}");
    sg.finish().await;
}

async fn t05_unknown_settings_and_wrong_types_are_not_sent_to_the_gateway(sg: TestServer) {
    let simulator = seeded(&sg, "edge", Generation::V0_1).await;
    let admin = sg.admin();
    for key in ["policy", "launch_mode", ""] {
        assert_refused!(
            set(&admin, to_set("edge", "", key, text("x"))).await,
            InvalidArgument,
            "SETTING_UNKNOWN"
        );
        assert_refused!(delete(&admin, "edge", "", key).await, InvalidArgument, "SETTING_UNKNOWN");
    }
    let bad = [
        to_set("edge", "", OCSF, text("true")),
        to_set("edge", "", OCSF, Kind::Number(1)),
        to_set("edge", "", MODE, Kind::Switch(true)),
        to_set("edge", "", MODE, text("Auto")),
        pb::UpdateGatewaySettingRequest {
            value: None,
            ..to_set("edge", "", OCSF, Kind::Switch(true))
        },
        pb::UpdateGatewaySettingRequest {
            workspace: "w".into(),
            ..to_set("edge", "", OCSF, Kind::Switch(true))
        },
        to_set("edge", "a/b", OCSF, Kind::Switch(true)),
    ];
    for request in bad {
        assert_refused!(set(&admin, request).await, InvalidArgument, "INVALID_FIELD");
    }
    let key = admin.create_key("op", pb::Role::None).await;
    admin.bind("op", "edge", pb::Role::Operator).await;
    let operator = sg.with_token(&key);
    assert_eq!(list(&operator, "edge", "").await.unwrap().len(), 4);
    assert_refused!(
        set(&operator, to_set("edge", "", OCSF, Kind::Switch(true))).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(delete(&operator, "edge", "", OCSF).await, PermissionDenied, "ROLE_TOO_LOW");
    assert!(!simulator.calls().keys().any(|path| path.ends_with("/UpdateConfig")));
    simulator.stop().await;
    sg.finish().await;
}

async fn automatic_approvals_are_an_open_finding_until_they_are_turned_off(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        set(&admin, to_set(name, "", MODE, text("manual"))).await.unwrap();
        assert!(findings(&sg, name).await.is_empty());
        set(&admin, to_set(name, "", MODE, text("auto"))).await.unwrap();
        let found = findings(&sg, name).await;
        assert_eq!(found.len(), 1, "at once");
        assert_eq!(found[0].kind(), pb::GatewayFindingKind::AutomaticApprovals);
        assert!(found[0].since_time.is_some() && found[0].description.contains(MODE));
        set(&admin, to_set(name, "", MODE, text("auto"))).await.unwrap();
        assert_eq!(
            findings(&sg, name).await,
            found,
            "the finding keeps its time and is reported once"
        );

        // If the gateway returns an error, the finding stays.
        simulator.script(
            "GetGatewayConfig",
            Script::TrailersOnly { code: tonic::Code::Internal, message: "no".into() },
            Times::All,
        );
        assert_eq!(look(&sg).await, 0);
        assert_eq!(findings(&sg, name).await, found);
        simulator.clear_scripts();
        // Another change of the gateway in the meantime leaves the finding unchanged.
        let describe = pb::UpdateGatewayRequest {
            gateway: name.into(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["description".into()] }),
            description: "the edge".into(),
            ..Default::default()
        };
        let described = admin.gateways().update_gateway(describe).await.unwrap().into_inner();
        assert_eq!(described.gateway.unwrap().findings, found);

        assert!(delete(&admin, name, "", MODE).await.unwrap());
        assert!(findings(&sg, name).await.is_empty());
        simulator.stop().await;
    }
    assert_eq!(told(&sg, "gateway.finding_opened").await, 2);
    assert_eq!(told(&sg, "gateway.finding_closed").await, 2);
    sg.finish().await;
}

async fn a_setting_changed_outside_shoreguard_is_detected_and_sent_to_watchers(sg: TestServer) {
    let simulator = seeded(&sg, "edge", Generation::V0_0).await;
    let request = pb::WatchGatewaysRequest::default();
    let mut watching = sg.admin().gateways().watch_gateways(request).await.unwrap().into_inner();
    behind_our_back(&simulator, "auto").await;
    assert!(findings(&sg, "edge").await.is_empty());
    assert_eq!(look(&sg).await, 1);
    assert_eq!(look(&sg).await, 0);
    assert_eq!(findings(&sg, "edge").await.len(), 1);
    loop {
        let next = watching.message().await.unwrap().unwrap();
        if let Some(pb::watch_gateways_response::Change::Gateway(gateway)) = next.change
            && !gateway.findings.is_empty()
        {
            break;
        }
    }
    behind_our_back(&simulator, "manual").await;
    assert_eq!(look(&sg).await, 1);
    assert!(findings(&sg, "edge").await.is_empty());
    drop(watching);
    simulator.stop().await;
    sg.finish().await;
}
