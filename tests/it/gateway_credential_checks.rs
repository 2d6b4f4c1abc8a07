//! Probes verify the credential of a gateway. `Health` alone needs no credential and proves nothing.

use std::time::Duration;

use h2::server::SendResponse;
use prost::bytes::Bytes;
use shoreguard::feed;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::GatewayFindingKind::CredentialUnusable;
use shoreguard::pb::v1::GatewayStatus::{Degraded, Healthy};
use shoreguard::resources::gateways::worker::PROBES;
use shoreguard_simulator::{
    Generation, Script, Simulator, SimulatorOptions, Times, TokenPermissions,
};
use tonic::Code;

use crate::gateway_credentials::{register_request, rotate_credentials};
use crate::proxy::raw::{encode_framed, read};
use crate::proxy::rogue::{ReceivedRequest, send_message, start_rogue_version};
use crate::support::dump;
use crate::support::server::TestServer;

/// Releases with and without `GetCurrentUser`, of each generation.
const RELEASES: [(Generation, &str, &str); 4] = [
    (Generation::V0_0, "0.0.88", "GetGatewayInfo"),
    (Generation::V0_0, "0.0.94", "GetGatewayInfo"),
    (Generation::V0_0, "0.0.95", "GetCurrentUser"),
    (Generation::V0_1, "0.1.5", "GetCurrentUser"),
];

async fn start(generation: Generation, version: &str, bearer: Option<&str>) -> Simulator {
    let options = SimulatorOptions {
        version: version.to_owned(),
        require_bearer: bearer.map(str::to_owned),
        ..SimulatorOptions::new(generation)
    };
    Simulator::start(options).await.unwrap()
}

fn token(token: &str) -> pb::GatewayCredentials {
    pb::GatewayCredentials { bearer_token: token.to_owned(), ..Default::default() }
}

/// Registers the simulator as `edge` with a bearer token, or without a credential.
async fn register(sg: &TestServer, simulator: &Simulator, bearer: Option<&str>) -> pb::Gateway {
    let credentials = bearer.map(token);
    let request = pb::RegisterGatewayRequest { credentials, ..register_request(simulator) };
    let registered = sg.admin().gateways().register_gateway(request).await.unwrap();
    registered.into_inner().gateway.unwrap()
}

async fn unregister(sg: &TestServer) {
    let request =
        pb::UnregisterGatewayRequest { gateway: "edge".into(), force: true, ..Default::default() };
    sg.admin().gateways().unregister_gateway(request).await.unwrap();
}

async fn get(sg: &TestServer) -> pb::Gateway {
    let request = pb::GetGatewayRequest { gateway: "edge".into() };
    sg.admin().gateways().get_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

async fn test(sg: &TestServer) -> pb::TestGatewayResponse {
    let request = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    sg.admin().gateways().test_gateway(request).await.unwrap().into_inner()
}

/// Runs one round of probes.
async fn probes(sg: &TestServer) {
    // Advances in steps for which the access data stays fresh, since a watch would end otherwise.
    for _ in 0..8 {
        let step = Duration::from_secs(4);
        sg.app.clock.advance(step);
        sg.app.db.advance_clock(step);
        feed::refresh(&sg.app).await.unwrap();
    }
    sg.run_job(&PROBES).await;
}

/// Returns the number of events of each kind: `status_changed`, `finding_opened`, `finding_closed`.
async fn events(sg: &TestServer) -> [usize; 3] {
    let all = dump::table(&sg.app.db, "events").await;
    ["status_changed", "finding_opened", "finding_closed"]
        .map(|name| all.matches(&format!("gateway.{name}")).count())
}

fn findings(gateway: &pb::Gateway) -> Vec<pb::GatewayFindingKind> {
    gateway.findings.iter().map(pb::GatewayFinding::kind).collect()
}

fn called(simulator: &Simulator, method: &str) -> u64 {
    simulator.calls().get(&format!("/openshell.v1.OpenShell/{method}")).copied().unwrap_or_default()
}

fn assert_unusable(gateway: &pb::Gateway, why: &str) {
    let found = (gateway.status(), findings(gateway));
    assert_eq!(found, (Degraded, vec![CredentialUnusable]), "{gateway:?}");
    assert!(gateway.last_error.contains(why), "{}", gateway.last_error);
    let finding = &gateway.findings[0];
    assert!(finding.since_time.is_some() && finding.description.contains("credential"));
}

fn assert_usable(gateway: &pb::Gateway) {
    assert_eq!((gateway.status(), findings(gateway)), (Healthy, vec![]), "{gateway:?}");
    assert_eq!(gateway.last_error, "");
}

server_tests! {
    a_gateway_that_rejects_the_credential_is_registered_as_degraded_with_a_finding,
    a_credential_that_expires_is_reported_once_by_the_next_probe,
    permission_denied_does_not_prove_a_credential,
    each_release_is_checked_with_a_method_that_it_has,
    a_gateway_without_a_credential_is_usable_only_if_it_requires_none,
    a_failed_check_degrades_the_gateway_and_changes_no_finding,
    a_replaced_credential_or_destination_closes_the_finding,
    watchers_see_that_a_credential_became_unusable,
    roles_of_an_identity_provider_prove_nothing,
}

async fn a_gateway_that_rejects_the_credential_is_registered_as_degraded_with_a_finding(
    sg: TestServer,
) {
    for (generation, version, method) in RELEASES {
        let simulator = start(generation, version, Some("good")).await;
        let before = events(&sg).await;
        let registered = register(&sg, &simulator, Some("rubbish")).await;
        assert_unusable(&registered, "UNAUTHENTICATED: invalid token");
        assert!(registered.last_error.contains(method), "{}", registered.last_error);
        assert_eq!(get(&sg).await, registered);
        assert_eq!(events(&sg).await, [before[0], before[1] + 1, before[2]]);

        let tested = test(&sg).await;
        assert!(
            tested.reachable && !tested.usable && tested.error.contains("invalid token"),
            "{tested:?}"
        );
        assert_eq!((tested.status(), tested.version.as_str()), (Degraded, version));

        let rotated = rotate_credentials(&sg.admin(), token("good"), false).await.unwrap();
        assert!(rotated.rotated);
        assert_usable(&rotated.gateway.unwrap());
        let tested = test(&sg).await;
        assert!(tested.reachable && tested.usable && tested.error.is_empty(), "{tested:?}");
        assert_eq!(events(&sg).await, [before[0] + 1, before[1] + 1, before[2] + 1]);
        unregister(&sg).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_credential_that_expires_is_reported_once_by_the_next_probe(sg: TestServer) {
    for (generation, version, _) in RELEASES {
        let simulator = start(generation, version, Some("one")).await;
        assert_usable(&register(&sg, &simulator, Some("one")).await);
        let before = events(&sg).await;
        simulator.require_tokens(&[("one", TokenPermissions::Expired)]);
        probes(&sg).await;
        let expired = get(&sg).await;
        assert_unusable(&expired, "ExpiredSignature");
        probes(&sg).await;
        assert_eq!(get(&sg).await.findings, expired.findings);
        assert_eq!(events(&sg).await, [before[0] + 1, before[1] + 1, before[2]]);
        let request = pb::GetGatewayHealthRequest { gateway: "edge".into() };
        let health = sg.admin().gateways().get_gateway_health(request).await.unwrap().into_inner();
        let states: Vec<_> = health.states.iter().map(pb::GatewayState::status).collect();
        assert_eq!(states, [Degraded, Healthy]);
        assert!(health.states[0].error.contains("ExpiredSignature"), "{health:?}");

        simulator.require_bearer(&["one"]);
        probes(&sg).await;
        assert_usable(&get(&sg).await);
        assert_eq!(events(&sg).await, [before[0] + 2, before[1] + 1, before[2] + 1]);
        unregister(&sg).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn permission_denied_does_not_prove_a_credential(sg: TestServer) {
    let admin = sg.admin();
    for (generation, version, method) in RELEASES {
        let simulator = start(generation, version, None).await;
        simulator.require_tokens(&[
            ("strong", TokenPermissions::Admin),
            ("weak", TokenPermissions::Nothing),
            ("user", TokenPermissions::User),
        ]);
        assert_unusable(&register(&sg, &simulator, Some("weak")).await, "PERMISSION_DENIED");
        let tested = test(&sg).await;
        assert!(tested.reachable && !tested.usable && !tested.error.is_empty(), "{tested:?}");
        rotate_credentials(&admin, token("strong"), false).await.unwrap();
        assert_usable(&get(&sg).await);
        for unusable in ["weak", "rubbish", "strong2"] {
            assert_refused!(
                rotate_credentials(&admin, token(unusable), false).await,
                FailedPrecondition,
                "CREDENTIALS_UNPROVEN"
            );
            assert_usable(&get(&sg).await);
            assert!(test(&sg).await.usable, "the working credential was replaced");
        }
        // The credential of a user without the role of a platform admin is usable if its roles are reported.
        let user = rotate_credentials(&admin, token("user"), false).await;
        assert_eq!(user.is_ok(), method == "GetCurrentUser", "{version}: {user:?}");
        unregister(&sg).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn each_release_is_checked_with_a_method_that_it_has(sg: TestServer) {
    for (generation, version, method) in RELEASES {
        let simulator = start(generation, version, Some("one")).await;
        assert_usable(&register(&sg, &simulator, Some("one")).await);
        for asked in ["GetCurrentUser", "GetGatewayInfo"] {
            assert_eq!(called(&simulator, asked), u64::from(asked == method), "{version}: {asked}");
        }
        unregister(&sg).await;
        simulator.stop().await;
    }
    // A gateway with an unknown version that is pinned to a generation may lack the method.
    let simulator = start(Generation::V0_0, "nightly", Some("one")).await;
    let unsupported = register(&sg, &simulator, Some("one")).await;
    assert_eq!(
        (unsupported.status(), findings(&unsupported)),
        (Degraded, vec![]),
        "nothing is sent to it"
    );
    assert_eq!(called(&simulator, "GetCurrentUser"), 0);
    simulator.script(
        "GetCurrentUser",
        Script::TrailersOnly { code: Code::Unimplemented, message: String::new() },
        Times::All,
    );
    let pinned = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["pinned_generation".into()] }),
        pinned_generation: pb::WireGeneration::V00.into(),
        ..Default::default()
    };
    let pinned =
        sg.admin().gateways().update_gateway(pinned).await.unwrap().into_inner().gateway.unwrap();
    assert_usable(&pinned);
    assert_eq!(
        (called(&simulator, "GetCurrentUser"), called(&simulator, "GetGatewayInfo")),
        (1, 1)
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn a_gateway_without_a_credential_is_usable_only_if_it_requires_none(sg: TestServer) {
    for (generation, version, _) in RELEASES {
        let simulator = start(generation, version, None).await;
        assert_usable(&register(&sg, &simulator, None).await);
        assert!(test(&sg).await.usable);
        simulator.require_bearer(&["one"]);
        let tested = test(&sg).await;
        assert!(
            !tested.usable && tested.error.contains("missing authorization header"),
            "{tested:?}"
        );
        assert_unusable(&get(&sg).await, "missing authorization header");
        unregister(&sg).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_failed_check_degrades_the_gateway_and_changes_no_finding(sg: TestServer) {
    for (generation, version, method) in RELEASES {
        let simulator = start(generation, version, Some("one")).await;
        assert_usable(&register(&sg, &simulator, Some("one")).await);
        let failing =
            || Script::Fail { code: Code::Internal, message: "busy".into(), details: Bytes::new() };
        simulator.script(method, failing(), Times::All);
        let tested = test(&sg).await;
        assert!(tested.reachable && !tested.usable && tested.error.contains("busy"), "{tested:?}");
        let unknown = get(&sg).await;
        assert_eq!((unknown.status(), findings(&unknown)), (Degraded, vec![]));
        assert_refused!(
            rotate_credentials(&sg.admin(), token("two"), false).await,
            FailedPrecondition,
            "CREDENTIALS_UNPROVEN"
        );

        simulator.clear_scripts();
        simulator.require_bearer(&["other"]);
        test(&sg).await;
        let open = get(&sg).await;
        assert_unusable(&open, "invalid token");
        simulator.script(method, failing(), Times::All);
        test(&sg).await;
        assert_eq!(get(&sg).await.findings, open.findings);
        simulator.stop().await;
        assert!(!test(&sg).await.reachable);
        assert_eq!(get(&sg).await.findings, open.findings);
        unregister(&sg).await;
    }
    sg.finish().await;
}

async fn a_replaced_credential_or_destination_closes_the_finding(sg: TestServer) {
    let (simulator, other) = (
        start(Generation::V0_1, "0.1.5", Some("one")).await,
        start(Generation::V0_0, "0.0.116", None).await,
    );
    assert_unusable(&register(&sg, &simulator, Some("two")).await, "invalid token");
    let before = events(&sg).await;
    // Stored without a proof, and rejected by the probe that follows.
    let rotated =
        rotate_credentials(&sg.admin(), token("three"), true).await.unwrap().gateway.unwrap();
    assert_unusable(&rotated, "invalid token");
    assert_eq!(events(&sg).await, [before[0], before[1] + 1, before[2] + 1]);
    let moved = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["endpoint".into(), "auth_mode".into(), "credentials".into()],
        }),
        endpoint: other.addr().to_string(),
        auth_mode: pb::GatewayAuthMode::None.into(),
        ..Default::default()
    };
    other.script(
        "Health",
        Script::Fail { code: Code::Unavailable, message: "away".into(), details: Bytes::new() },
        Times::Next(1),
    );
    let moved =
        sg.admin().gateways().update_gateway(moved).await.unwrap().into_inner().gateway.unwrap();
    assert_eq!(findings(&moved), vec![], "what another gateway said of another credential");
    probes(&sg).await;
    assert_usable(&get(&sg).await);
    simulator.stop().await;
    other.stop().await;
    sg.finish().await;
}

async fn watchers_see_that_a_credential_became_unusable(sg: TestServer) {
    let simulator = start(Generation::V0_1, "0.1.5", Some("one")).await;
    assert_usable(&register(&sg, &simulator, Some("one")).await);
    let request = pb::WatchGatewaysRequest::default();
    let mut watching = sg.admin().gateways().watch_gateways(request).await.unwrap().into_inner();
    // Waits for the current state, so that no message is pending while the clock moves.
    while !matches!(
        watching.message().await.unwrap().unwrap().change,
        Some(pb::watch_gateways_response::Change::Gateway(_))
    ) {}
    simulator.require_bearer(&[]);
    probes(&sg).await;
    loop {
        let next = watching.message().await.unwrap().unwrap();
        if let Some(pb::watch_gateways_response::Change::Gateway(gateway)) = next.change
            && gateway.status() == Degraded
        {
            assert_unusable(&gateway, "invalid token");
            break;
        }
    }
    drop(watching);
    simulator.stop().await;
    sg.finish().await;
}

async fn roles_of_an_identity_provider_prove_nothing(sg: TestServer) {
    let strangers = ["offline_access", "uma_authorization"].map(str::to_owned).to_vec();
    for (roles, info, usable) in [
        (vec![], Info::Denied, false),
        (strangers.clone(), Info::Denied, false),
        (strangers.clone(), Info::Empty, false),
        (vec!["openshell-user".to_owned()], Info::Denied, true),
        // The gateway may be configured with other names, or check no roles.
        (strangers, Info::Told, true),
        (vec![], Info::Told, true),
    ] {
        let addr = start_rogue_version("0.0.116", move |request, respond| {
            answer(roles.clone(), info, request, respond)
        })
        .await;
        let gateway = sg.register_gateway("edge", addr).await;
        if usable {
            assert_usable(&gateway);
        } else {
            assert_eq!(gateway.status(), Degraded);
            assert_eq!(findings(&gateway).len(), usize::from(info == Info::Denied), "{gateway:?}");
        }
        unregister(&sg).await;
    }
    sg.finish().await;
}

/// How a gateway responds to `GetGatewayInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Info {
    Told,
    Empty,
    Denied,
}

async fn answer(
    roles: Vec<String>,
    info: Info,
    request: ReceivedRequest,
    mut respond: SendResponse<Bytes>,
) {
    let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
    read(request.into_body()).await;
    if method == "GetCurrentUser" {
        let subject = "robot".to_owned();
        send_message(
            respond,
            encode_framed(&old::GetCurrentUserResponse { subject, roles, ..Default::default() }),
        );
    } else if method == "GetGatewayInfo" && info != Info::Denied {
        let gateway_version = if info == Info::Told { "0.0.116" } else { "" }.to_owned();
        send_message(
            respond,
            encode_framed(&old::GetGatewayInfoResponse { gateway_version, ..Default::default() }),
        );
    } else {
        let denied = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "7")
            .header("grpc-message", "role 'openshell-user' required");
        respond.send_response(denied.body(()).unwrap(), true).unwrap();
    }
}
