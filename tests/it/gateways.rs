//! The registry of gateways, through the API.

use std::collections::HashMap;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};

use crate::support::server::TestServer;

async fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::new(Generation::V0_1)).await.unwrap()
}

fn register(name: &str, endpoint: &str) -> pb::RegisterGatewayRequest {
    pb::RegisterGatewayRequest {
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
        scheme: pb::GatewayScheme::Http.into(),
        ..Default::default()
    }
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|&p| p.to_owned()).collect() }
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

async fn names(sg: &TestServer, selector: &str) -> Vec<String> {
    let request =
        pb::ListGatewaysRequest { label_selector: selector.to_owned(), ..Default::default() };
    let list = sg.admin().gateways().list_gateways(request).await.unwrap().into_inner();
    list.gateways.into_iter().map(|g| g.name).collect()
}

server_tests! {
    a_gateway_is_registered_probed_changed_and_unregistered,
    a_change_is_audited_with_the_previous_values_and_without_secrets,
    a_field_named_twice_in_the_mask_is_set,
    gateway_lists_are_filtered_by_label_and_paged,
    an_invalid_registration_is_refused_and_not_stored,
    t04_a_changed_destination_drops_the_secret,
    t07_only_a_global_admin_sets_access_labels,
    t18_gateway_secrets_are_sealed_in_the_database,
}

async fn a_gateway_is_registered_probed_changed_and_unregistered(sg: TestServer) {
    let simulator = simulator().await;
    let admin = sg.admin();
    let registered = sg.register_gateway("edge", simulator.addr()).await;
    assert_eq!(
        (registered.status(), registered.wire_generation(), registered.version.as_str()),
        (pb::GatewayStatus::Healthy, pb::WireGeneration::V01, "0.1.5")
    );
    let again = admin.gateways().register_gateway(register("edge", "127.0.0.1:1")).await;
    assert_refused!(again, AlreadyExists, "ALREADY_EXISTS");

    let update = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["description", "labels", "metadata_json"])),
        description: "the edge".into(),
        labels: labels(&[("env", "prod")]),
        metadata_json: "{\"runtime\": \"docker\"}".into(),
        etag: registered.etag.clone(),
        ..Default::default()
    };
    let updated = admin
        .gateways()
        .update_gateway(update.clone())
        .await
        .unwrap()
        .into_inner()
        .gateway
        .unwrap();
    assert_eq!((updated.description.as_str(), updated.etag.as_str()), ("the edge", "v2"));
    assert_refused!(
        admin.gateways().update_gateway(update.clone()).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    let empty = pb::UpdateGatewayRequest {
        update_mask: Some(mask(&[])),
        etag: String::new(),
        ..update.clone()
    };
    assert_refused!(admin.gateways().update_gateway(empty).await, InvalidArgument, "INVALID_FIELD");
    let unknown = pb::UpdateGatewayRequest {
        update_mask: Some(mask(&["name"])),
        etag: String::new(),
        ..update
    };
    assert_refused!(
        admin.gateways().update_gateway(unknown).await,
        InvalidArgument,
        "INVALID_FIELD"
    );

    simulator.set_version("0.3.0");
    let test = pb::TestGatewayRequest { gateway: "edge".into(), ..Default::default() };
    let tested = admin.gateways().test_gateway(test).await.unwrap().into_inner();
    assert_eq!(tested.wire_generation(), pb::WireGeneration::Unsupported);

    admin.create_key("ci", pb::Role::None).await;
    admin.bind("ci", "edge", pb::Role::Viewer).await;
    let gone = pb::UnregisterGatewayRequest { gateway: "edge".into(), ..Default::default() };
    let gone = admin.gateways().unregister_gateway(gone).await.unwrap().into_inner();
    assert_eq!(gone.gateway_roles_removed, 1);
    let get = pb::GetGatewayRequest { gateway: "edge".into() };
    assert_refused!(admin.gateways().get_gateway(get).await, NotFound, "NOT_FOUND");
    simulator.stop().await;
    sg.finish().await;
}

async fn a_change_is_audited_with_the_previous_values_and_without_secrets(sg: TestServer) {
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.require_bearer = Some("first-secret".to_owned());
    let old = Simulator::start(options).await.unwrap();
    let new = simulator().await;
    let credentials = |token: &str| {
        Some(pb::GatewayCredentials { bearer_token: token.into(), ..Default::default() })
    };
    let admin = sg.admin();
    let request = register("edge", &old.addr().to_string());
    let request =
        pb::RegisterGatewayRequest { credentials: credentials("first-secret"), ..request };
    admin.gateways().register_gateway(request).await.unwrap();
    let recorded = async || {
        sg.app.audit.wait_settled().await;
        let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
        let list =
            admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
        let updates = list.into_iter().filter(|entry| entry.method.ends_with("/UpdateGateway"));
        updates.max_by_key(|entry| entry.id).unwrap().detail_json
    };
    let update = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["endpoint", "credentials", "description", "labels"])),
        endpoint: new.addr().to_string(),
        credentials: credentials("second-secret"),
        description: "moved house".into(),
        labels: labels(&[("env", "prod")]),
        ..Default::default()
    };
    admin.gateways().update_gateway(update.clone()).await.unwrap();
    let text = recorded().await;
    for kept_out in ["secret", "moved house", "prod"] {
        assert!(!text.contains(kept_out), "{text}");
    }
    let detail: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(detail["fields"], json!(["endpoint", "credentials", "description", "labels"]));
    assert_eq!(
        detail["endpoint"],
        json!({ "from": old.addr().to_string(), "to": new.addr().to_string() })
    );
    let words = ["credentials", "description", "labels"]
        .map(|key| detail[key].as_str().unwrap_or_default());
    assert_eq!(words, ["replaced", "changed", "changed"]);
    // A field in the mask whose value stays the same is not recorded as a change.
    let pin = pb::UpdateGatewayRequest {
        update_mask: Some(mask(&["pinned_generation", "description"])),
        pinned_generation: pb::WireGeneration::V01.into(),
        ..update
    };
    admin.gateways().update_gateway(pin).await.unwrap();
    let detail: Value = serde_json::from_str(&recorded().await).unwrap();
    assert_eq!(detail["pinned_generation"], json!({ "from": null, "to": "0.1" }));
    assert_eq!(
        (detail["fields"].clone(), detail.get("description")),
        (json!(["pinned_generation", "description"]), None)
    );
    old.stop().await;
    new.stop().await;
    sg.finish().await;
}

async fn a_field_named_twice_in_the_mask_is_set(sg: TestServer) {
    let simulator = sg.start_gateway("edge", Generation::V0_1).await;
    let update = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["labels", "description", "labels", "description"])),
        labels: [("team".to_owned(), "ml".to_owned())].into(),
        description: "kept".into(),
        ..Default::default()
    };
    let updated =
        sg.admin().gateways().update_gateway(update).await.unwrap().into_inner().gateway.unwrap();
    assert_eq!((updated.labels["team"].as_str(), updated.description.as_str()), ("ml", "kept"));
    simulator.stop().await;
    sg.finish().await;
}

async fn gateway_lists_are_filtered_by_label_and_paged(sg: TestServer) {
    let admin = sg.admin();
    for (n, pairs) in [
        &[("env", "prod"), ("team", "ml")][..],
        &[("env", "prod"), ("team", "web")],
        &[("env", "test"), ("team", "ml"), ("legacy", "")],
        &[],
    ]
    .iter()
    .enumerate()
    {
        let request = pb::RegisterGatewayRequest {
            labels: labels(pairs),
            ..register(&format!("g{n}"), "127.0.0.1:1")
        };
        let stored =
            admin.gateways().register_gateway(request).await.unwrap().into_inner().gateway.unwrap();
        assert_eq!(stored.status(), pb::GatewayStatus::Unreachable);
        assert!(!stored.last_error.is_empty());
    }
    assert_eq!(names(&sg, "env=prod").await, ["g0", "g1"]);
    assert_eq!(names(&sg, "env=prod,team in (ml,db)").await, ["g0"]);
    assert_eq!(names(&sg, "env!=prod").await, ["g2", "g3"]);
    assert_eq!(names(&sg, "!legacy,team").await, ["g0", "g1"]);
    assert_eq!(names(&sg, "team notin (ml)").await, ["g1", "g3"]);
    for selector in ["a in (", "team in ()", "team notin ( )"] {
        let bad = pb::ListGatewaysRequest { label_selector: selector.into(), ..Default::default() };
        let refused = admin.gateways().list_gateways(bad).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }

    let first = pb::ListGatewaysRequest { page_size: 3, ..Default::default() };
    let page = admin.gateways().list_gateways(first).await.unwrap().into_inner();
    assert_eq!(page.gateways.len(), 3);
    let next = pb::ListGatewaysRequest {
        page_size: 3,
        page_token: page.next_page_token.clone(),
        ..Default::default()
    };
    let page = admin.gateways().list_gateways(next.clone()).await.unwrap().into_inner();
    assert_eq!((page.gateways.len(), page.next_page_token.as_str()), (1, ""));
    // T19: a page token is bound to the request and to the caller.
    let other = pb::ListGatewaysRequest { label_selector: "env".into(), ..next.clone() };
    assert_refused!(admin.gateways().list_gateways(other).await, InvalidArgument, "INVALID_FIELD");
    let key = admin.create_key("other", pb::Role::Admin).await;
    assert_refused!(
        sg.with_token(&key).gateways().list_gateways(next).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let negative = pb::ListGatewaysRequest { page_size: -1, ..Default::default() };
    assert_refused!(
        admin.gateways().list_gateways(negative).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let token = pb::ListGatewaysRequest { page_token: "AAAA".into(), ..Default::default() };
    assert_refused!(admin.gateways().list_gateways(token).await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn an_invalid_registration_is_refused_and_not_stored(sg: TestServer) {
    let admin = sg.admin();
    let ok = || register("fine", "127.0.0.1:1");
    let token = |token: &str| {
        Some(pb::GatewayCredentials { bearer_token: token.into(), ..Default::default() })
    };
    let bad = [
        pb::RegisterGatewayRequest { name: String::new(), ..ok() },
        pb::RegisterGatewayRequest { name: "a/b".into(), ..ok() },
        pb::RegisterGatewayRequest { name: "a".repeat(254), ..ok() },
        pb::RegisterGatewayRequest { endpoint: "http://host:1".into(), ..ok() },
        pb::RegisterGatewayRequest { endpoint: "host".into(), ..ok() },
        pb::RegisterGatewayRequest { endpoint: "host:99999".into(), ..ok() },
        pb::RegisterGatewayRequest { scheme: 9, ..ok() },
        pb::RegisterGatewayRequest { auth_mode: 9, ..ok() },
        pb::RegisterGatewayRequest { auth_mode: pb::GatewayAuthMode::Bearer.into(), ..ok() },
        pb::RegisterGatewayRequest { auth_mode: pb::GatewayAuthMode::Mtls.into(), ..ok() },
        pb::RegisterGatewayRequest {
            auth_mode: pb::GatewayAuthMode::None.into(),
            credentials: token("t"),
            ..ok()
        },
        pb::RegisterGatewayRequest { credentials: token(&"t".repeat(8193)), ..ok() },
        pb::RegisterGatewayRequest { ca_cert: "not PEM".into(), ..ok() },
        pb::RegisterGatewayRequest { metadata_json: "[]".into(), ..ok() },
        pb::RegisterGatewayRequest {
            metadata_json: format!("{{\"a\":\"{}\"}}", "x".repeat(16_384)),
            ..ok()
        },
        pb::RegisterGatewayRequest { description: "x".repeat(1001), ..ok() },
        pb::RegisterGatewayRequest { labels: labels(&[("-", "")]), ..ok() },
        pb::RegisterGatewayRequest { request_id: "7".into(), ..ok() },
    ];
    for request in bad {
        assert_refused!(
            admin.gateways().register_gateway(request).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    // Even without the check, no packet to these leaves this host: the system connects an unspecified address to
    // loopback, and TCP to none of the others. The unit tests of `net/guard.rs` have all forbidden addresses.
    for endpoint in [
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "[fe80::1]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
    ] {
        let forbidden = admin.gateways().register_gateway(register("fine", endpoint)).await;
        assert_refused!(forbidden, InvalidArgument, "ADDRESS_FORBIDDEN");
    }
    assert!(names(&sg, "").await.is_empty());
    admin
        .gateways()
        .register_gateway(pb::RegisterGatewayRequest { name: "a".repeat(253), ..ok() })
        .await
        .unwrap();
    sg.finish().await;
}

async fn t04_a_changed_destination_drops_the_secret(sg: TestServer) {
    let mut options = SimulatorOptions::new(Generation::V0_1);
    options.require_bearer = Some("upstream-token".to_owned());
    let honest = Simulator::start(options).await.unwrap();
    let thief = simulator().await;
    let admin = sg.admin();
    let credentials =
        pb::GatewayCredentials { bearer_token: "upstream-token".into(), ..Default::default() };
    let request = pb::RegisterGatewayRequest {
        credentials: Some(credentials.clone()),
        ..register("edge", &honest.addr().to_string())
    };
    let stored =
        admin.gateways().register_gateway(request).await.unwrap().into_inner().gateway.unwrap();
    assert!(stored.has_bearer_token && stored.auth_mode() == pb::GatewayAuthMode::Bearer);
    let user = shoreguard::pb::v0_1::openshell::v1::GetCurrentUserRequest {};
    admin.openshell_v0_1().get_current_user(user).await.unwrap();

    // The admin of the gateway cannot change its endpoint, and a global admin cannot keep the token with a new
    // endpoint.
    let key = admin.create_key("lead", pb::Role::None).await;
    admin.bind("lead", "edge", pb::Role::Admin).await;
    let moved = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["endpoint"])),
        endpoint: thief.addr().to_string(),
        ..Default::default()
    };
    assert_refused!(
        sg.with_token(&key).gateways().update_gateway(moved.clone()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        admin.gateways().update_gateway(moved.clone()).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let anew = pb::UpdateGatewayRequest {
        update_mask: Some(mask(&["endpoint", "credentials"])),
        credentials: Some(pb::GatewayCredentials {
            bearer_token: "for-the-new-one".into(),
            ..Default::default()
        }),
        ..moved
    };
    admin.gateways().update_gateway(anew).await.unwrap();
    let _ = admin.openshell_v0_1().get_current_user(user).await;
    let seen = thief.last_headers("GetCurrentUser").unwrap();
    assert_eq!(seen.get("authorization").unwrap(), "Bearer for-the-new-one");
    let scheme = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["auth_mode"])),
        auth_mode: pb::GatewayAuthMode::None.into(),
        ..Default::default()
    };
    let stored =
        admin.gateways().update_gateway(scheme).await.unwrap().into_inner().gateway.unwrap();
    assert!(!stored.has_bearer_token);
    honest.stop().await;
    thief.stop().await;
    sg.finish().await;
}

async fn t07_only_a_global_admin_sets_access_labels(sg: TestServer) {
    let simulator = simulator().await;
    sg.register_gateway("edge", simulator.addr()).await;
    let admin = sg.admin();
    let key = admin.create_key("lead", pb::Role::None).await;
    admin.bind("lead", "edge", pb::Role::Admin).await;
    let with = |pairs: &[(&str, &str)]| pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(mask(&["labels"])),
        labels: labels(pairs),
        ..Default::default()
    };
    sg.with_token(&key).gateways().update_gateway(with(&[("env", "prod")])).await.unwrap();
    let refused =
        sg.with_token(&key).gateways().update_gateway(with(&[("access/zone", "eu")])).await;
    assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    admin.gateways().update_gateway(with(&[("access/zone", "eu")])).await.unwrap();
    assert_refused!(
        sg.with_token(&key).gateways().update_gateway(with(&[])).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    simulator.stop().await;
    sg.finish().await;
}

async fn t18_gateway_secrets_are_sealed_in_the_database(sg: TestServer) {
    let credentials = pb::GatewayCredentials {
        bearer_token: "very-secret-upstream-token".into(),
        ..Default::default()
    };
    let request = pb::RegisterGatewayRequest {
        credentials: Some(credentials),
        ..register("edge", "127.0.0.1:1")
    };
    sg.admin().gateways().register_gateway(request).await.unwrap();
    let row = shoreguard::resources::gateways::store::by_name(
        &mut sg.app.db.read().await.unwrap(),
        "edge",
    )
    .await
    .unwrap()
    .unwrap();
    let sealed = row.bearer_token.clone().unwrap();
    assert!(!sealed.windows(11).any(|w| w == b"very-secret"));
    // It cannot be unsealed in the row of another gateway or with another endpoint.
    let mut other = row.clone();
    other.name = "other".into();
    assert!(shoreguard::upstream::targets::from_row(&sg.app.target_context(), &other).is_err());
    let mut moved = row.clone();
    moved.endpoint = "127.0.0.1:2".into();
    assert!(shoreguard::upstream::targets::from_row(&sg.app.target_context(), &moved).is_err());
    assert!(shoreguard::upstream::targets::from_row(&sg.app.target_context(), &row).is_ok());
    sg.finish().await;
}
