//! Connections to gateways: scheme, credentials and generation have the configured effect, and an unregistered name
//! causes no connection.

use std::net::TcpListener;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tonic::{Code, Request, Status};

use crate::support::dump;
use crate::support::server::{Caller, TestServer};
use crate::tls::{create_ca, localhost, sign_certificate};

fn to<M>(gateway: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-shoreguard-gateway", gateway.parse().unwrap());
    request
}

async fn start(generation: Generation, version: &str) -> Simulator {
    let options =
        SimulatorOptions { version: version.to_owned(), ..SimulatorOptions::new(generation) };
    Simulator::start(options).await.unwrap()
}

async fn get(caller: &Caller, gateway: &str) -> Result<pb::Gateway, Status> {
    let request = pb::GetGatewayRequest { gateway: gateway.to_owned() };
    Ok(caller.gateways().get_gateway(request).await?.into_inner().gateway.unwrap())
}

async fn registered(sg: &TestServer, request: pb::RegisterGatewayRequest) -> pb::Gateway {
    let answer = sg.admin().gateways().register_gateway(request).await.unwrap();
    answer.into_inner().gateway.unwrap()
}

async fn pin(sg: &TestServer, gateway: &str, generation: pb::WireGeneration) -> pb::Gateway {
    let request = pb::UpdateGatewayRequest {
        gateway: gateway.to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["pinned_generation".into()] }),
        pinned_generation: generation.into(),
        ..Default::default()
    };
    sg.admin().gateways().update_gateway(request).await.unwrap().into_inner().gateway.unwrap()
}

async fn who(caller: &Caller, gateway: &str) -> Result<(), Status> {
    let request = to(gateway, new::GetCurrentUserRequest {});
    caller.openshell_v0_1().get_current_user(request).await.map(drop)
}

async fn delete(caller: &Caller, gateway: &str, name: &str) -> Result<(), Status> {
    let request = old::DeleteSandboxRequest { name: name.to_owned(), ..Default::default() };
    caller.openshell_v0_0().delete_sandbox(to(gateway, request)).await.map(drop)
}

/// Calls every method that could make the server look for the gateway. Returns their errors.
async fn about(caller: &Caller, gateway: &str) -> Vec<Status> {
    let gateway = || gateway.to_owned();
    let test = pb::TestGatewayRequest { gateway: gateway(), ..Default::default() };
    let health = pb::GetGatewayHealthRequest { gateway: gateway() };
    let gone = pb::UnregisterGatewayRequest { gateway: gateway(), ..Default::default() };
    let list = pb::ListSandboxesRequest { gateway: gateway(), ..Default::default() };
    let sandbox =
        pb::GetSandboxRequest { gateway: gateway(), sandbox: "one".into(), ..Default::default() };
    vec![
        get(caller, &gateway()).await.unwrap_err(),
        caller.gateways().test_gateway(test).await.unwrap_err(),
        caller.gateways().get_gateway_health(health).await.unwrap_err(),
        caller.gateways().unregister_gateway(gone).await.unwrap_err(),
        caller.sandboxes().list_sandboxes(list).await.unwrap_err(),
        caller.sandboxes().get_sandbox(sandbox).await.unwrap_err(),
        who(caller, &gateway()).await.unwrap_err(),
    ]
}

sqlite_tests! {
    an_unknown_gateway_is_not_found_and_other_gateways_still_work,
    the_scheme_and_auth_mode_of_a_gateway_are_applied,
    an_unregistered_gateway_name_opens_no_connection,
    gateway_capabilities_are_shown_and_checked_before_a_call,
    t09_a_pinned_generation_that_contradicts_the_version_blocks_policy_writes,
    a_version_that_does_not_reveal_its_generation_can_be_pinned,
}

async fn an_unknown_gateway_is_not_found_and_other_gateways_still_work(sg: TestServer) {
    let simulator = start(Generation::V0_1, "0.1.5").await;
    sg.register_gateway("edge", simulator.addr()).await;
    let operator = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    for refused in about(&sg.admin(), "ghost").await {
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
        assert_eq!(refused.message(), "gateway `ghost` does not exist");
    }
    for ask in [get(&operator, "ghost").await.map(drop), who(&operator, "ghost").await] {
        assert_refused!(ask, NotFound, "NOT_FOUND");
    }
    assert_eq!(get(&operator, "edge").await.unwrap().status(), pb::GatewayStatus::Healthy);
    who(&operator, "edge").await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}

async fn the_scheme_and_auth_mode_of_a_gateway_are_applied(sg: TestServer) {
    let ca = create_ca("gateways");
    let (cert, key) = sign_certificate(&ca, localhost());
    let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(chain, key)
    .unwrap();
    let options = SimulatorOptions {
        tls: Some(tls),
        require_bearer: Some("known".into()),
        ..SimulatorOptions::new(Generation::V0_1)
    };
    let over_tls = Simulator::start(options).await.unwrap();
    let plain = start(Generation::V0_1, "0.1.5").await;
    let admin = sg.admin();
    let at =
        |name: &str, simulator: &Simulator, scheme: pb::GatewayScheme| pb::RegisterGatewayRequest {
            name: name.to_owned(),
            endpoint: format!("localhost:{}", simulator.addr().port()),
            scheme: scheme.into(),
            ca_cert: if scheme == pb::GatewayScheme::Https {
                ca.pem().into_bytes().into()
            } else {
                bytes::Bytes::new()
            },
            ..Default::default()
        };
    let token = |token: &str| {
        Some(pb::GatewayCredentials { bearer_token: token.to_owned(), ..Default::default() })
    };

    // Only the scheme decides about TLS. A client certificate of Shoreguard is not required for it.
    let stored = registered(&sg, at("tls", &over_tls, pb::GatewayScheme::Https)).await;
    assert_eq!(
        (stored.status(), stored.auth_mode()),
        (pb::GatewayStatus::Degraded, pb::GatewayAuthMode::None)
    );
    for (name, simulator, scheme) in [
        ("plain-to-tls", &over_tls, pb::GatewayScheme::Http),
        ("tls-to-plain", &plain, pb::GatewayScheme::Https),
    ] {
        let stored = registered(&sg, at(name, simulator, scheme)).await;
        assert_eq!(stored.status(), pb::GatewayStatus::Unreachable, "{name}");
        assert_refused!(who(&admin, name).await, Unavailable, "GATEWAY_UNREACHABLE");
    }
    assert!(plain.calls().is_empty(), "nothing falls back to plaintext");

    // The auth mode decides which credential is sent.
    assert_refused!(who(&admin, "tls").await, FailedPrecondition, "GATEWAY_CREDENTIAL_REFUSED");
    assert!(!over_tls.last_headers("GetCurrentUser").unwrap().contains_key("authorization"));
    let bearer = pb::RegisterGatewayRequest {
        auth_mode: pb::GatewayAuthMode::Bearer.into(),
        credentials: token("known"),
        ..at("bearer", &over_tls, pb::GatewayScheme::Https)
    };
    let stored = registered(&sg, bearer).await;
    assert_eq!(stored.auth_mode(), pb::GatewayAuthMode::Bearer);
    who(&admin, "bearer").await.unwrap();
    assert_eq!(over_tls.last_headers("GetCurrentUser").unwrap()["authorization"], "Bearer known");
    for (auth_mode, credentials) in [
        (pb::GatewayAuthMode::Bearer, None),
        (pb::GatewayAuthMode::Mtls, token("known")),
        (pb::GatewayAuthMode::None, token("known")),
    ] {
        let unfit = pb::RegisterGatewayRequest {
            auth_mode: auth_mode.into(),
            credentials,
            ..at("unfit", &over_tls, pb::GatewayScheme::Https)
        };
        assert_refused!(
            admin.gateways().register_gateway(unfit).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    over_tls.stop().await;
    plain.stop().await;
    sg.finish().await;
}

async fn an_unregistered_gateway_name_opens_no_connection(sg: TestServer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let local = format!("localhost:{}", listener.local_addr().unwrap().port());
    let admin = sg.admin();
    let events = async || dump::table(&sg.app.db, "events").await.lines().count();
    let before = events().await;
    for name in [address.as_str(), local.as_str(), "localhost", "../../etc/passwd", "~", "ghost"] {
        for refused in about(&admin, name).await {
            let reason = crate::support::server::reason(&refused);
            assert_eq!(
                (refused.code(), reason.as_str()),
                (Code::NotFound, "NOT_FOUND"),
                "{name}: {refused:?}"
            );
        }
    }
    let untouched = listener.accept().unwrap_err();
    assert_eq!(untouched.kind(), std::io::ErrorKind::WouldBlock, "the server has connected");
    assert!(sg.app.fleet.targets.all().is_empty(), "a name has left something in memory");
    assert_eq!(dump::table(&sg.app.db, "gateways").await, "");
    assert_eq!(events().await, before, "a name has left an event");
    sg.finish().await;
}

async fn gateway_capabilities_are_shown_and_checked_before_a_call(sg: TestServer) {
    use pb::GatewayCapability::{CurrentUser, InferenceRoutes, SandboxTemplates, StartStop};
    let (mid, new) =
        (start(Generation::V0_0, "0.0.100").await, start(Generation::V0_1, "0.1.5").await);
    let first = start(Generation::V0_0, "0.0.36").await;
    let shown = sg.register_gateway("mid", mid.addr()).await;
    assert_eq!(shown.capabilities().collect::<Vec<_>>(), [InferenceRoutes, CurrentUser]);
    assert_eq!(shown.wire_note, "");
    let shown = sg.register_gateway("new", new.addr()).await;
    let held: Vec<_> = shown.capabilities().collect();
    assert!(
        held.contains(&SandboxTemplates)
            && held.contains(&StartStop)
            && !held.contains(&InferenceRoutes)
    );
    let shown = sg.register_gateway("first", first.addr()).await;
    assert_eq!(
        (shown.wire_generation(), shown.capabilities.len()),
        (pb::WireGeneration::Unsupported, 0)
    );
    assert_eq!(
        shown.wire_note,
        "version `0.0.36` is not supported (in releases before 0.0.37, sandboxes and providers have another structure): supported are 0.0.88 to 0.0.116 and 0.1.x"
    );

    let admin = sg.admin();
    let place = |gateway: &str| (gateway.to_owned(), "one".to_owned(), sg.app.new_id().to_string());
    let (gateway, sandbox, request_id) = place("mid");
    let stop = pb::StopSandboxRequest { gateway, sandbox, request_id, ..Default::default() };
    let refused = assert_refused!(
        admin.sandboxes().stop_sandbox(stop).await,
        Unimplemented,
        "METHOD_NOT_SUPPORTED"
    );
    assert!(
        refused.message().contains("`StopSandbox` exists since version 0.0.105"),
        "{refused:?}"
    );
    let (gateway, sandbox, request_id) = place("mid");
    let start = pb::StartSandboxRequest { gateway, sandbox, request_id, ..Default::default() };
    assert_refused!(
        admin.sandboxes().start_sandbox(start).await,
        Unimplemented,
        "METHOD_NOT_SUPPORTED"
    );
    let is_probe = |path: &String| path.ends_with("/Health") || path.ends_with("/GetCurrentUser");
    assert!(mid.calls().keys().all(is_probe));
    let (gateway, sandbox, _) = place("first");
    let look = pb::GetSandboxRequest { gateway, sandbox, ..Default::default() };
    let refused = assert_refused!(
        admin.sandboxes().get_sandbox(look).await,
        FailedPrecondition,
        "WIRE_UNSUPPORTED"
    );
    assert!(refused.message().contains("before 0.0.37"), "{refused:?}");
    for simulator in [mid, new, first] {
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t09_a_pinned_generation_that_contradicts_the_version_blocks_policy_writes(sg: TestServer) {
    let simulator = start(Generation::V0_0, "0.0.116").await;
    sg.register_gateway("edge", simulator.addr()).await;
    let admin = sg.admin();
    let spec = Some(old::SandboxSpec::default());
    let made = old::CreateSandboxRequest { name: "one".into(), spec, ..Default::default() };
    admin.openshell_v0_0().create_sandbox(to("edge", made)).await.unwrap();
    // The rest of the creation needs the gateway as it is now.
    let list = pb::ListOperationsRequest::default();
    let operations = admin.operations().list_operations(list).await.unwrap().into_inner();
    for operation in operations.operations {
        admin.wait_operation(&operation.id).await;
    }

    let pinned = pin(&sg, "edge", pb::WireGeneration::V01).await;
    assert!(
        pinned.wire_note.starts_with("version `0.0.116` is not of generation 0.1"),
        "{}",
        pinned.wire_note
    );
    let shown = (pinned.wire_generation(), pinned.pinned_generation());
    assert_eq!(
        shown,
        (pb::WireGeneration::V00, pb::WireGeneration::V01),
        "what was found stays what was found"
    );
    let look = old::GetSandboxRequest { name: "one".into(), ..Default::default() };
    admin.openshell_v0_0().get_sandbox(to("edge", look)).await.expect("a read passes");
    let refused = assert_refused!(
        delete(&admin, "edge", "one").await,
        FailedPrecondition,
        "WIRE_CONTRADICTED"
    );
    assert!(
        refused.message().contains("is set to generation 0.1 by hand but reports `0.0.116`"),
        "{refused:?}"
    );
    let update = old::UpdateConfigRequest {
        name: "one".into(),
        setting_key: "ocsf_json_enabled".into(),
        delete_setting: true,
        ..Default::default()
    };
    let refused = admin.openshell_v0_0().update_config(to("edge", update)).await;
    assert_refused!(refused, FailedPrecondition, "WIRE_CONTRADICTED");
    let own = || (String::from("edge"), String::from("two"), sg.app.new_id().to_string());
    let (gateway, sandbox, request_id) = own();
    let create =
        pb::CreateSandboxRequest { gateway, name: sandbox, request_id, ..Default::default() };
    assert_refused!(
        admin.sandboxes().create_sandbox(create).await,
        FailedPrecondition,
        "WIRE_CONTRADICTED"
    );
    let (gateway, _, request_id) = own();
    let gone = pb::DeleteSandboxRequest {
        gateway,
        sandbox: "one".into(),
        request_id,
        ..Default::default()
    };
    assert_refused!(
        admin.sandboxes().delete_sandbox(gone).await,
        FailedPrecondition,
        "WIRE_CONTRADICTED"
    );
    let calls = simulator.calls();
    for method in ["DeleteSandbox", "UpdateConfig"] {
        assert!(
            !calls.contains_key(&format!("/openshell.v1.OpenShell/{method}")),
            "{method} has reached the gateway"
        );
    }

    // A generation set by hand that matches the version is used, and so is the version's own generation.
    pin(&sg, "edge", pb::WireGeneration::V00).await;
    delete(&admin, "edge", "one").await.unwrap();
    let unpinned = pin(&sg, "edge", pb::WireGeneration::Unspecified).await;
    assert_eq!(
        (unpinned.wire_note.as_str(), unpinned.wire_generation()),
        ("", pb::WireGeneration::V00)
    );
    assert_eq!(delete(&admin, "edge", "none").await.unwrap_err().code(), Code::NotFound);

    assert!(sg.app.fleet.targets.all().iter().all(|target| target.pinned.is_none()));
    simulator.stop().await;
    sg.finish().await;
}

async fn a_version_that_does_not_reveal_its_generation_can_be_pinned(sg: TestServer) {
    let admin = sg.admin();
    let nightly = start(Generation::V0_0, "nightly").await;
    sg.register_gateway("nightly", nightly.addr()).await;
    assert_refused!(
        delete(&admin, "nightly", "none").await,
        FailedPrecondition,
        "WIRE_UNSUPPORTED"
    );
    pin(&sg, "nightly", pb::WireGeneration::V00).await;
    assert_eq!(delete(&admin, "nightly", "none").await.unwrap_err().code(), Code::NotFound);
    let unpinned = pin(&sg, "nightly", pb::WireGeneration::Unspecified).await;
    assert_eq!(unpinned.wire_generation(), pb::WireGeneration::Unsupported);
    assert!(sg.app.fleet.targets.all().iter().all(|target| target.pinned.is_none()));
    nightly.stop().await;
    sg.finish().await;
}
