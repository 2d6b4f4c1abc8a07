//! Gateways whose access tokens are fetched from an identity provider.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use shoreguard::config::Config;
use shoreguard::pb::v0_1::openshell::v1 as openshell;
use shoreguard::pb::v1 as pb;
use shoreguard::upstream::identity::RETRY;
use shoreguard_simulator::Simulator;
use tonic::Request;

use crate::gateway_credentials::{
    call_gateway, register_request, rotate_credentials, start_token_gateway,
};
use crate::oidc::configure_issuers;
use crate::oidc_provider::{Behavior, IssuerCommand};
use crate::support::server::TestServer;
use crate::support::{dump, eventually, pause};

sqlite_tests! { tuned configure_issuers; gateway_tokens_are_fetched_from_the_identity_provider }

async fn gateway_tokens_are_fetched_from_the_identity_provider(sg: TestServer) {
    let (corp, simulator) = (sg.issuer("corp"), start_token_gateway("granted-1-gateway").await);
    let admin = sg.admin();
    let credentials = |secret: &str| pb::GatewayCredentials {
        oidc_client_id: "shoreguard".into(),
        oidc_client_secret: secret.into(),
        ..Default::default()
    };
    let oidc_client = pb::GatewayOidcClient {
        token_url: format!("{}/token", corp.url),
        scope: "gateway".into(),
        ..Default::default()
    };
    let request = pb::RegisterGatewayRequest {
        auth_mode: pb::GatewayAuthMode::OidcClient.into(),
        credentials: Some(credentials("client secret")),
        oidc_client: Some(oidc_client.clone()),
        ..register_request(&simulator)
    };
    let nowhere = pb::RegisterGatewayRequest { oidc_client: None, ..request.clone() };
    assert_refused!(
        admin.gateways().register_gateway(nowhere).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let stored =
        admin.gateways().register_gateway(request).await.unwrap().into_inner().gateway.unwrap();
    assert_eq!(
        (stored.auth_mode(), stored.oidc_client.as_ref()),
        (pb::GatewayAuthMode::OidcClient, Some(&oidc_client))
    );
    assert!(stored.has_oidc_client_secret);
    // The probe of the registration has fetched a token of its own.
    let fetched = corp.count("token").await;
    simulator.require_bearer(&["granted-1-gateway", "granted-2-gateway", "granted-3-gateway"]);
    for _ in 0..3 {
        call_gateway(&admin).await.unwrap();
    }
    let held = corp.count("token").await;
    assert_eq!(held, fetched + 1, "one token serves them all");

    // Shortly before the token expires, the next one is fetched while the current one stays in use. An expired
    // token is never used.
    sg.pass(Duration::from_secs(85)).await;
    call_gateway(&admin).await.unwrap();
    while corp.count("token").await == held {
        pause().await;
    }
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Fail)).await;
    sg.pass(Duration::from_secs(200)).await;
    assert_refused!(call_gateway(&admin).await, Unavailable, "GATEWAY_TOKEN_UNAVAILABLE");
    let asked = corp.count("token").await;
    assert_refused!(call_gateway(&admin).await, Unavailable, "GATEWAY_TOKEN_UNAVAILABLE");
    assert_eq!(corp.count("token").await, asked, "an issuer that is away is asked seldom");
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Normal)).await;
    sg.pass(RETRY).await;
    simulator.require_bearer(&["granted-4-gateway", "granted-5-gateway", "granted-3-gateway"]);
    call_gateway(&admin).await.unwrap();

    let wrong = rotate_credentials(&admin, credentials("another"), false).await;
    assert_refused!(wrong, FailedPrecondition, "CREDENTIALS_UNPROVEN");
    call_gateway(&admin).await.unwrap();

    // T04: the secret is not sent to another token URL.
    let elsewhere = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["oidc_client".into()] }),
        oidc_client: Some(pb::GatewayOidcClient {
            token_url: "https://thief.example.com/token".into(),
            ..oidc_client
        }),
        ..Default::default()
    };
    assert_refused!(
        admin.gateways().update_gateway(elsewhere).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let row = dump::table(&sg.app.db, "gateways").await;
    assert!(!row.contains("client secret") && !row.contains(&json!("granted").to_string()));
    simulator.stop().await;
    sg.finish().await;
}

/// Returns a registration of a gateway whose tokens are fetched at `token_url`.
fn fetching(simulator: &Simulator, token_url: &str) -> pb::RegisterGatewayRequest {
    pb::RegisterGatewayRequest {
        auth_mode: pb::GatewayAuthMode::OidcClient.into(),
        credentials: Some(pb::GatewayCredentials {
            oidc_client_id: "shoreguard".into(),
            oidc_client_secret: "client secret".into(),
            ..Default::default()
        }),
        oidc_client: Some(pb::GatewayOidcClient {
            token_url: token_url.to_owned(),
            scope: "gateway".into(),
            ..Default::default()
        }),
        ..register_request(simulator)
    }
}

/// Sets the timeout of the identity provider to more than the pause after a failed fetch.
fn patient(config: &mut Config) {
    configure_issuers(config);
    config.gateways.connect_timeout_seconds = RETRY.as_secs() + 1;
}

sqlite_tests! {
    tuned patient;
    concurrent_callers_share_one_token_request_to_a_slow_provider,
    forbidden_addresses_are_refused_even_if_no_token_can_be_fetched,
}

async fn concurrent_callers_share_one_token_request_to_a_slow_provider(sg: TestServer) {
    let (corp, simulator) = (sg.issuer("corp"), start_token_gateway("granted-1-gateway").await);
    let admin = sg.admin();
    let request = fetching(&simulator, &format!("{}/token", corp.url));
    admin.gateways().register_gateway(request).await.unwrap();
    sg.pass(Duration::from_hours(1)).await;
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Hang)).await;
    let asked = corp.count("token").await;
    // A caller that times out does not cancel the fetch for the others.
    let mut hasty = Request::new(openshell::GetCurrentUserRequest {});
    hasty.set_timeout(Duration::from_millis(300));
    admin.openshell_v0_1().get_current_user(hasty).await.unwrap_err();
    // The callers wait for the fetch. A caller that is late gets the same answer, since nothing is fetched again soon.
    let calls = join_all((0..4).map(|_| call_gateway(&admin)));
    let passing = async {
        eventually("the fetch has begun", || async { corp.count("token").await > asked }).await;
        for _ in 0..20 {
            pause().await;
        }
        sg.app.clock.advance(RETRY + Duration::from_secs(1));
    };
    let (refusals, ()) = tokio::join!(calls, passing);
    for refused in refusals {
        assert_refused!(refused, Unavailable, "GATEWAY_TOKEN_UNAVAILABLE");
    }
    assert_refused!(call_gateway(&admin).await, Unavailable, "GATEWAY_TOKEN_UNAVAILABLE");
    assert_eq!(corp.count("token").await, asked + 1);
    simulator.require_bearer(&["granted-2-gateway", "granted-3-gateway", "granted-4-gateway"]);
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Normal)).await;
    sg.pass(RETRY).await;
    call_gateway(&admin).await.unwrap();
    simulator.stop().await;
    sg.finish().await;
}
async fn forbidden_addresses_are_refused_even_if_no_token_can_be_fetched(sg: TestServer) {
    let (corp, simulator) = (sg.issuer("corp"), start_token_gateway("granted-1-gateway").await);
    let admin = sg.admin();
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Fail)).await;
    let request = fetching(&simulator, &format!("{}/token", corp.url));
    let inside = fetching(&simulator, "https://0.0.0.0/token");
    let forbidden = pb::RegisterGatewayRequest { endpoint: "0.0.0.0:80".into(), ..request.clone() };
    for forbidden in [forbidden, inside.clone()] {
        let refused = admin.gateways().register_gateway(forbidden).await;
        assert_refused!(refused, InvalidArgument, "ADDRESS_FORBIDDEN");
    }
    admin.gateways().register_gateway(request).await.unwrap();
    let moved = pb::UpdateGatewayRequest {
        gateway: "edge".into(),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["oidc_client".into(), "credentials".into()],
        }),
        oidc_client: inside.oidc_client,
        credentials: inside.credentials,
        ..Default::default()
    };
    assert_refused!(
        admin.gateways().update_gateway(moved).await,
        InvalidArgument,
        "ADDRESS_FORBIDDEN"
    );
    simulator.stop().await;
    sg.finish().await;
}
