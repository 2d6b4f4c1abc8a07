//! T02 and T03: tokens that are bound to a gateway, with every method and endpoint.

use shoreguard::access::policy::METHODS;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::{
    access_token, create_key_for, list_names, start_gateway, token_by_key, token_by_refresh,
};
use crate::support::server::{
    ADMIN_EMAIL, ADMIN_PASSWORD, Bearer, Caller, TestServer, reason, run,
};

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};
const IDENTITY: &str = "/shoreguard.v1.AuthService/GetCurrentIdentity";

sqlite_tests! {
    t02_a_bound_token_is_valid_only_for_its_gateway,
    t02_a_bound_token_is_refused_by_the_shoreguard_api,
    t03_every_credential_is_accepted_only_for_its_own_purpose,
}

async fn t02_a_bound_token_is_valid_only_for_its_gateway(sg: TestServer) {
    let (alpha, beta, hidden) = (
        start_gateway(&sg, "alpha").await,
        start_gateway(&sg, "beta").await,
        start_gateway(&sg, "hidden").await,
    );
    let key = create_key_for(&sg, "ci", &["alpha", "beta"]).await;
    let bound = sg.with_token(&access_token(&sg, "alpha", &key).await);
    assert_eq!(list_names(&bound, None).await.unwrap(), "alpha");
    assert_eq!(list_names(&bound, Some("alpha")).await.unwrap(), "alpha");
    // A gateway that the caller may use, one hidden from it, and names that do not exist: all get the same error.
    let mut messages = Vec::new();
    for other in ["beta", "hidden", "nowhere", "ALPHA", "alpha "] {
        let refused = assert_refused!(
            list_names(&bound, Some(other)).await,
            PermissionDenied,
            "CREDENTIAL_BOUND"
        );
        messages.push(refused.message().to_owned());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(list_names(&sg.with_token(&key), Some("beta")).await.unwrap(), "beta");
    for gateway in [alpha, beta, hidden] {
        gateway.stop().await;
    }
    sg.finish().await;
}

async fn t02_a_bound_token_is_refused_by_the_shoreguard_api(sg: TestServer) {
    let (alpha, beta) = (start_gateway(&sg, "alpha").await, start_gateway(&sg, "beta").await);
    // A token of an admin, whose role would be sufficient for everything.
    let bound = sg.with_token(&access_token(&sg, "alpha", &sg.admin_key).await);
    for method in METHODS.iter().filter(|method| method.path != IDENTITY) {
        let refused = bound.call_raw(method.path, method.streaming, vec![], &[]).await.unwrap_err();
        let told = (refused.code(), reason(&refused));
        assert_eq!(
            told,
            (tonic::Code::PermissionDenied, "CREDENTIAL_BOUND".to_owned()),
            "{}",
            method.path
        );
    }
    let who = bound.auth().get_current_identity(WHO).await.unwrap().into_inner();
    assert_eq!(
        (who.actor.as_str(), who.bound_gateway.as_str(), who.role()),
        ("sp:root", "alpha", pb::Role::None)
    );
    let seen: Vec<_> =
        who.gateways.iter().map(|access| (access.gateway.as_str(), access.role())).collect();
    assert_eq!(seen, [("alpha", pb::Role::Admin)]);
    assert!(who.expire_time.is_some() && !who.gateways_cut);
    let unbound = sg.admin().auth().get_current_identity(WHO).await.unwrap().into_inner();
    assert_eq!((unbound.bound_gateway.as_str(), unbound.gateways.len()), ("", 2));
    // Health is public.
    let mut health = HealthClient::with_interceptor(bound.channel.clone(), bound.bearer.clone());
    health.check(HealthCheckRequest { service: String::new() }).await.unwrap();
    for gateway in [alpha, beta] {
        gateway.stop().await;
    }
    sg.finish().await;
}

async fn t03_every_credential_is_accepted_only_for_its_own_purpose(sg: TestServer) {
    let (alpha, beta) = (start_gateway(&sg, "alpha").await, start_gateway(&sg, "beta").await);
    let login = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: ADMIN_PASSWORD.into() };
    let session = sg.anonymous().auth().login(login).await.unwrap().into_inner();
    let key = create_key_for(&sg, "ci", &["alpha", "beta"]).await;
    let (of_alpha, of_beta) =
        (access_token(&sg, "alpha", &key).await, access_token(&sg, "beta", &key).await);
    // Tokens that differ from valid ones only in their header: other types, algorithms and keys.
    let (head, rest) = of_alpha.split_once('.').unwrap();
    let head = String::from_utf8(decode(head)).unwrap();
    let with_head = |from: &str, to: &str| format!("{}.{rest}", encode(&head.replace(from, to)));
    let session_head = session.session_token.split_once('.').unwrap().0;

    let table: [(&str, &str, &str, [bool; 5]); 11] = [
        // own API, alpha, beta, as a key at alpha, as a refresh token at Shoreguard's API
        ("a session token", &session.session_token, "", [true, true, true, false, false]),
        ("a key", &key, "", [true, true, true, true, false]),
        ("a token of alpha", &of_alpha, "", [false, true, false, false, false]),
        ("a token of beta", &of_beta, "", [false, false, true, false, false]),
        ("as a session token", &with_head("sg-gateway+jwt", "sg-session+jwt"), "", [false; 5]),
        ("under a session's key", &format!("{session_head}.{rest}"), "", [false; 5]),
        ("of another algorithm", &with_head("HS256", "HS512"), "", [false; 5]),
        (
            "of no algorithm",
            &format!("{}.", with_head("HS256", "none").rsplit_once('.').unwrap().0),
            "",
            [false; 5],
        ),
        ("of a gateway's own issuer", &with_head("sg-gateway+jwt", "JWT"), "", [false; 5]),
        ("a token whose end is cut", &of_alpha[..of_alpha.len() - 4], "", [false; 5]),
        ("a refresh token", "", &session.refresh_token, [false, false, false, false, true]),
    ];
    for (what, bearer, refresh, [own, at_alpha, at_beta, as_key, as_refresh]) in table {
        let given = if bearer.is_empty() { refresh } else { bearer };
        let caller = sg.with_token(given);
        let request = pb::ListSessionsRequest::default();
        let own_answer = match caller.auth().list_sessions(request).await {
            // A service principal has no sessions. This reason shows that it was authenticated.
            Err(status) if reason(&status) == "ROLE_TOO_LOW" => true,
            answer => answer.is_ok(),
        };
        assert_eq!(own_answer, own, "{what} at our own API");
        assert_eq!(list_names(&caller, Some("alpha")).await.is_ok(), at_alpha, "{what} at alpha");
        assert_eq!(list_names(&caller, Some("beta")).await.is_ok(), at_beta, "{what} at beta");
        assert_eq!(
            token_by_key(&sg, "alpha", given).await.status == 200,
            as_key,
            "{what} as a key"
        );
        assert_eq!(refreshes(&sg, given).await, as_refresh, "{what} as a refresh token");
        assert_ne!(
            token_by_refresh(&sg, "alpha", given).await.status,
            200,
            "{what} refreshes at alpha"
        );
    }
    for gateway in [alpha, beta] {
        gateway.stop().await;
    }
    sg.finish().await;
}

#[test]
fn t02_an_authority_that_names_another_gateway_is_refused() {
    run(
        Engine::Sqlite,
        |config| config.server.gateway_domain = Some("gw.test".into()),
        async |sg: TestServer| {
            let (alpha, beta) =
                (start_gateway(&sg, "alpha").await, start_gateway(&sg, "beta").await);
            let key = create_key_for(&sg, "ci", &["alpha", "beta"]).await;
            let bound = access_token(&sg, "alpha", &key).await;
            let at = |authority: &str, bearer: &str| Caller {
                channel: Endpoint::new(format!("http://{}", sg.address))
                    .unwrap()
                    .origin(format!("http://{authority}").parse().unwrap())
                    .connect_lazy(),
                bearer: Bearer(Some(bearer.to_owned())),
            };
            assert_eq!(list_names(&at("beta.gw.test", &key), None).await.unwrap(), "beta");
            assert_eq!(list_names(&at("alpha.gw.test", &bound), None).await.unwrap(), "alpha");
            assert_eq!(list_names(&at("sg.test", &bound), None).await.unwrap(), "alpha");
            for (authority, metadata) in [
                ("beta.gw.test", None),
                ("nowhere.gw.test", None),
                // The right metadata does not make up for a wrong authority, nor the other way round.
                ("beta.gw.test", Some("alpha")),
                ("alpha.gw.test", Some("beta")),
            ] {
                let refused = list_names(&at(authority, &bound), metadata).await;
                assert_refused!(refused, PermissionDenied, "CREDENTIAL_BOUND");
            }
            for gateway in [alpha, beta] {
                gateway.stop().await;
            }
            sg.finish().await;
        },
    );
}

async fn refreshes(sg: &TestServer, token: &str) -> bool {
    let request = pb::RefreshSessionRequest { refresh_token: token.to_owned() };
    sg.anonymous().auth().refresh_session(request).await.is_ok()
}

fn decode(part: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()
}

fn encode(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}
