//! Credentials of gateways: replacement in place, access tokens in use, and events before certificates expire.

use std::time::Duration;

use shoreguard::db::types::{GatewayId, GatewayRef};
use shoreguard::openshell::Gateway;
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Script, Simulator, SimulatorOptions, Times};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::support::dump;
use crate::support::server::{Caller, TestServer};
use crate::tls::{Issuer, create_ca, sign_certificate_for, start_mtls_gateway, uri};

const DAY: Duration = Duration::from_hours(24);

fn pair((cert, key): (String, String)) -> pb::GatewayCredentials {
    pb::GatewayCredentials {
        client_cert: cert.into(),
        client_key: key.into(),
        ..Default::default()
    }
}

fn token(token: &str) -> pb::GatewayCredentials {
    pb::GatewayCredentials { bearer_token: token.into(), ..Default::default() }
}

fn ours(clients: &Issuer, life: Duration) -> pb::GatewayCredentials {
    pair(sign_certificate_for(clients, uri("spiffe://example/shoreguard"), life))
}

fn mutual(
    simulator: &Simulator,
    ca: &Issuer,
    credentials: pb::GatewayCredentials,
) -> pb::RegisterGatewayRequest {
    pb::RegisterGatewayRequest {
        name: "edge".into(),
        endpoint: format!("localhost:{}", simulator.addr().port()),
        scheme: pb::GatewayScheme::Https.into(),
        ca_cert: ca.pem().into_bytes().into(),
        credentials: Some(credentials),
        ..Default::default()
    }
}

pub(crate) async fn rotate_credentials(
    caller: &Caller,
    credentials: pb::GatewayCredentials,
    unproven: bool,
) -> Result<pb::RotateGatewayCredentialsResponse, Status> {
    let request = pb::RotateGatewayCredentialsRequest {
        gateway: "edge".into(),
        credentials: Some(credentials),
        unproven,
        ..Default::default()
    };
    caller.gateways().rotate_gateway_credentials(request).await.map(tonic::Response::into_inner)
}

pub(crate) async fn call_gateway(caller: &Caller) -> Result<(), Status> {
    caller.openshell_v0_1().get_current_user(openshell::GetCurrentUserRequest {}).await.map(|_| ())
}

async fn get(sg: &TestServer) -> pb::Gateway {
    let request = pb::GetGatewayRequest { gateway: "edge".into() };
    sg.admin().gateways().get_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

async fn probe(sg: &TestServer) {
    let request = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    assert!(sg.admin().gateways().test_gateway(request).await.unwrap().into_inner().reachable);
}

async fn expiring(sg: &TestServer) -> usize {
    dump::table(&sg.app.db, "events").await.matches("gateway.cert_expiring").count()
}

/// Starts a gateway that requires the bearer token `known`.
pub(crate) async fn start_token_gateway(known: &str) -> Simulator {
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.require_bearer = Some(known.to_owned());
    Simulator::start(options).await.unwrap()
}

pub(crate) fn register_request(simulator: &Simulator) -> pb::RegisterGatewayRequest {
    pb::RegisterGatewayRequest {
        name: "edge".into(),
        endpoint: simulator.addr().to_string(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    }
}

server_tests! {
    certificates_are_rotated_in_place,
    rotating_to_the_stored_credentials_changes_nothing,
    a_token_is_replaced_without_dropping_a_stream,
    a_probe_result_during_a_credential_check_is_preserved,
    a_held_gateway_uses_rotated_credentials_but_not_a_changed_endpoint,
    an_expiring_certificate_is_reported_three_times,
    an_expired_client_certificate_is_refused_with_its_cause,
}

async fn certificates_are_rotated_in_place(sg: TestServer) {
    let (servers, clients, strangers) =
        (create_ca("gateways"), create_ca("clients"), create_ca("strangers"));
    let simulator = start_mtls_gateway(&servers, &clients).await;
    let admin = sg.admin();
    let request = mutual(&simulator, &servers, ours(&clients, 90 * DAY));
    admin.gateways().register_gateway(request).await.unwrap();
    let lead = sg.with_token(&admin.create_key("lead", pb::Role::None).await);
    admin.bind("lead", "edge", pb::Role::Admin).await;
    call_gateway(&lead).await.unwrap();

    let before = get(&sg).await;
    let refused = rotate_credentials(&lead, ours(&strangers, 90 * DAY), false).await;
    assert_refused!(refused, FailedPrecondition, "CREDENTIALS_UNPROVEN");
    assert_eq!(get(&sg).await, before, "what was refused left something behind");

    let ends = |gateway: &pb::Gateway| {
        let client =
            gateway.certificates.iter().find(|c| c.kind() == pb::GatewayCertificateKind::Client);
        client.and_then(|c| c.expire_time).unwrap().seconds
    };
    let rotated = rotate_credentials(&lead, ours(&clients, 200 * DAY), false).await.unwrap();
    let after = rotated.gateway.unwrap();
    assert!(rotated.rotated && ends(&after) > ends(&before), "{after:?}");
    assert_eq!(after.id, before.id);
    call_gateway(&lead).await.expect("the role on the gateway has stayed");
    let kinds: Vec<_> = after.certificates.iter().map(pb::GatewayCertificate::kind).collect();
    assert_eq!(
        kinds,
        [
            pb::GatewayCertificateKind::Ca,
            pb::GatewayCertificateKind::Client,
            pb::GatewayCertificateKind::Server
        ]
    );
    let entries = admin.audit_entries("edge", "gateway.rotate_credentials").await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    simulator.stop().await;
    sg.finish().await;
}

async fn rotating_to_the_stored_credentials_changes_nothing(sg: TestServer) {
    let simulator = start_token_gateway("one").await;
    let admin = sg.admin();
    let request = pb::RegisterGatewayRequest {
        credentials: Some(token("one")),
        ..register_request(&simulator)
    };
    admin.gateways().register_gateway(request).await.unwrap();
    let before = get(&sg).await;
    let same = rotate_credentials(&admin, token("one"), false).await.unwrap();
    assert!(!same.rotated);
    assert_eq!(same.gateway.unwrap(), before);
    assert!(!dump::table(&sg.app.db, "events").await.contains("gateway.credentials_rotated"));
    simulator.stop().await;
    sg.finish().await;
}

async fn a_token_is_replaced_without_dropping_a_stream(sg: TestServer) {
    let simulator = start_token_gateway("one").await;
    let admin = sg.admin();
    let request = pb::RegisterGatewayRequest {
        credentials: Some(token("one")),
        ..register_request(&simulator)
    };
    admin.gateways().register_gateway(request).await.unwrap();
    simulator.seed_demo().unwrap();
    let list = openshell::ListSandboxesRequest::default();
    let sandboxes =
        admin.openshell_v0_1().list_sandboxes(list).await.unwrap().into_inner().sandboxes;
    let name = sandboxes[0].metadata.as_ref().unwrap().name.clone();
    let watch = openshell::WatchSandboxRequest {
        sandbox: name.clone(),
        follow_status: true,
        follow_logs: true,
        ..Default::default()
    };
    let mut stream = admin.openshell_v0_1().watch_sandbox(watch).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("a first word");

    simulator.require_bearer(&["one", "two"]);
    assert!(rotate_credentials(&admin, token("two"), false).await.unwrap().rotated);
    simulator.require_bearer(&["two"]);
    assert_refused!(
        rotate_credentials(&admin, token("three"), false).await,
        FailedPrecondition,
        "CREDENTIALS_UNPROVEN"
    );
    call_gateway(&admin).await.unwrap();
    assert_eq!(simulator.last_headers("GetCurrentUser").unwrap()["authorization"], "Bearer two");
    simulator.log("default", &name, "info", "still here").unwrap();
    loop {
        let said = stream.message().await.unwrap().expect("the stream continues");
        if format!("{said:?}").contains("still here") {
            break;
        }
    }
    drop(stream);

    // With `unproven` the token is stored without a test.
    assert!(rotate_credentials(&admin, token("three"), true).await.unwrap().rotated);
    call_gateway(&admin).await.unwrap_err();
    assert_refused!(
        rotate_credentials(&admin, pb::GatewayCredentials::default(), false).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let key = admin.create_key("viewer", pb::Role::Operator).await;
    assert_refused!(
        rotate_credentials(&sg.with_token(&key), token("two"), false).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn a_probe_result_during_a_credential_check_is_preserved(sg: TestServer) {
    let simulator = start_token_gateway("one").await;
    let admin = sg.admin();
    let request = pb::RegisterGatewayRequest {
        credentials: Some(token("one")),
        ..register_request(&simulator)
    };
    admin.gateways().register_gateway(request).await.unwrap();
    simulator.require_bearer(&["one", "two"]);
    let answered = CancellationToken::new();
    simulator.script("GetCurrentUser", Script::Until(answered.clone()), Times::Next(1));
    let asked = || simulator.calls()["/openshell.v1.OpenShell/GetCurrentUser"];
    let before = asked();
    let rotation =
        sg.app.spawn(async move { rotate_credentials(&admin, token("two"), false).await });
    while asked() == before {
        crate::support::pause().await;
    }
    simulator.set_version("0.1.6");
    probe(&sg).await;
    assert!(!rotation.is_finished(), "the new credentials are still being proven");
    answered.cancel();
    assert!(rotation.await.unwrap().unwrap().rotated);
    assert_eq!(get(&sg).await.version, "0.1.6");
    // If the rotation restored the old version, the next probe would report the new version a second time.
    let told = dump::table(&sg.app.db, "events").await.matches("gateway.version_changed").count();
    assert_eq!(told, 1);
    simulator.stop().await;
    sg.finish().await;
}

async fn a_held_gateway_uses_rotated_credentials_but_not_a_changed_endpoint(sg: TestServer) {
    let (simulator, other) = (start_token_gateway("one").await, start_token_gateway("two").await);
    let admin = sg.admin();
    let request = pb::RegisterGatewayRequest {
        credentials: Some(token("one")),
        ..register_request(&simulator)
    };
    admin.gateways().register_gateway(request).await.unwrap();
    let target = sg.app.fleet.targets.all().remove(0);
    let edge = GatewayRef { id: target.id, name: "edge".into() };
    let held = Gateway::connect(&sg.app, &edge).await.unwrap();
    held.settings(None).await.unwrap();
    simulator.require_bearer(&["one", "two"]);
    assert!(rotate_credentials(&admin, token("two"), false).await.unwrap().rotated);
    simulator.require_bearer(&["two"]);
    held.settings(None).await.expect("a new call shows the new token");

    // T04: a call that began for one address never reaches another one.
    let moved = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["endpoint".into(), "credentials".into()],
        }),
        endpoint: other.addr().to_string(),
        credentials: Some(token("two")),
        ..Default::default()
    };
    admin.gateways().update_gateway(moved).await.unwrap();
    let refused = held.settings(None).await.unwrap_err();
    assert!(refused.to_string().contains("gateway `edge` has changed"), "{refused}");
    let now = Gateway::connect(&sg.app, &edge).await.unwrap();
    now.settings(None).await.unwrap();
    let unknown = GatewayRef { id: GatewayId(target.id.0 + 1), name: "gone".into() };
    let refused = Gateway::connect(&sg.app, &unknown).await.err().unwrap();
    assert_eq!(refused.to_string(), "gateway `gone` was removed");
    drop((held, now));
    simulator.stop().await;
    other.stop().await;
    sg.finish().await;
}

async fn an_expiring_certificate_is_reported_three_times(sg: TestServer) {
    let (servers, clients) = (create_ca("gateways"), create_ca("clients"));
    let simulator = start_mtls_gateway(&servers, &clients).await;
    let admin = sg.admin();
    let request = mutual(&simulator, &servers, ours(&clients, 40 * DAY));
    admin.gateways().register_gateway(request).await.unwrap();
    assert_eq!(expiring(&sg).await, 0);
    for (passed, told) in [(11 * DAY, 1), (Duration::from_hours(1), 1), (23 * DAY, 2), (5 * DAY, 3)]
    {
        sg.pass(passed).await;
        probe(&sg).await;
        assert_eq!(expiring(&sg).await, told);
    }
    // A new certificate has events of its own.
    rotate_credentials(&sg.admin(), ours(&clients, 45 * DAY), true).await.unwrap();
    assert_eq!(expiring(&sg).await, 4);
    simulator.stop().await;
    sg.finish().await;
}

async fn an_expired_client_certificate_is_refused_with_its_cause(sg: TestServer) {
    let (servers, clients) = (create_ca("gateways"), create_ca("clients"));
    let simulator = start_mtls_gateway(&servers, &clients).await;
    let admin = sg.admin();
    let (short, long) = (ours(&clients, DAY), ours(&clients, 90 * DAY));
    sg.pass(2 * DAY).await;
    let refused = |status: Status| {
        let field = "`credentials.client_cert` expired at ";
        assert!(status.message().starts_with(field), "{status:?}");
    };
    let request = mutual(&simulator, &servers, short.clone());
    let registered = admin.gateways().register_gateway(request).await;
    refused(assert_refused!(registered, InvalidArgument, "INVALID_FIELD"));
    let request = mutual(&simulator, &servers, long);
    admin.gateways().register_gateway(request).await.unwrap();
    // It is refused even if the caller wants no check by the gateway.
    for unproven in [false, true] {
        let rotated = rotate_credentials(&admin, short.clone(), unproven).await;
        refused(assert_refused!(rotated, InvalidArgument, "INVALID_FIELD"));
    }
    let update = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        credentials: Some(short),
        update_mask: Some(prost_types::FieldMask { paths: vec!["credentials".to_owned()] }),
        ..Default::default()
    };
    let updated = admin.gateways().update_gateway(update).await;
    refused(assert_refused!(updated, InvalidArgument, "INVALID_FIELD"));
    simulator.stop().await;
    sg.finish().await;
}
