//! Exchange of tokens of CI jobs and workloads for session tokens of service principals.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;

use super::{AUDIENCE, configure_issuers};
use crate::oidc_provider::{Issuer, IssuerCommand};
use crate::support::server::TestServer;

fn job(repository: &str, at: &str) -> Value {
    json!({ "aud": AUDIENCE, "sub": "repo:acme", "repository": repository, "ref": at })
}

async fn good(issuer: &Issuer) -> String {
    issuer.access_token(job("acme/infra", "refs/heads/main")).await
}

server_tests! {
    tuned configure_issuers;
    the_first_matching_rule_selects_the_service_principal_of_an_exchange,
    an_exchange_returns_a_session_with_the_role_of_its_rule,
    t14_an_exchange_session_ends_with_its_token_and_service_principal,
    a_rule_that_names_a_missing_service_principal_does_not_create_it,
    service_principal_names_with_the_oidc_prefix_are_reserved,
    concurrent_exchanges_create_one_service_principal,
    keys_of_an_unreachable_issuer_are_used_for_a_day,
}

async fn the_first_matching_rule_selects_the_service_principal_of_an_exchange(sg: TestServer) {
    let corp = sg.issuer("corp");
    sg.admin().create_key("robots", pb::Role::Viewer).await;
    for (claims, expected) in [
        (job("acme/infra", "refs/heads/main"), Some("oidc/corp/deploy")),
        (job("acme/infra", "refs/tags/v1"), Some("oidc/corp/deploy")),
        (job("acme/infra", "refs/heads/other"), None),
        (job("acme/infra2", "refs/heads/main"), None),
        (json!({ "aud": AUDIENCE, "sub": "robot-7" }), Some("robots")),
        (json!({ "aud": AUDIENCE, "sub": "a robot-7" }), None),
        (json!({ "aud": AUDIENCE, "sub": "ana" }), None),
        (json!({ "aud": "https://else.example.com", "sub": "robot-7" }), None),
        (json!({ "sub": "robot-7" }), None),
    ] {
        let got = sg.exchange("corp", &corp.access_token(claims.clone()).await).await;
        match expected {
            Some(name) => assert_eq!(got.unwrap().service_principal, name, "{claims}"),
            None => _ = assert_refused!(got, Unauthenticated, "CREDENTIAL_INVALID"),
        }
    }
    // A rule with an audience of its own accepts no other audience.
    let ci = sg.issuer("ci");
    let look = |aud: &str| json!({ "aud": aud, "environment": "prod" });
    let got =
        sg.exchange("ci", &ci.access_token(look("https://look.example.com")).await).await.unwrap();
    assert_eq!((got.service_principal.as_str(), got.role()), ("oidc/ci/look", pb::Role::Viewer));
    let other = sg.exchange("ci", &ci.access_token(look(AUDIENCE)).await).await;
    assert_refused!(other, Unauthenticated, "CREDENTIAL_INVALID");
    // A token of one issuer is not accepted for another, unknown or empty provider.
    for provider in ["partner", "ci", "nowhere", ""] {
        let refused = sg.exchange(provider, &good(&corp).await).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    }
    sg.finish().await;
}

async fn an_exchange_returns_a_session_with_the_role_of_its_rule(sg: TestServer) {
    let corp = sg.issuer("corp");
    let got = sg.exchange("corp", &good(&corp).await).await.unwrap();
    assert_eq!(got.role(), pb::Role::Operator);
    let who = sg.with_token(&got.session_token).current_identity().await.unwrap();
    assert_eq!((who.actor.as_str(), who.role()), ("sp:oidc/corp/deploy", pb::Role::Operator));
    let ends = got.expire_time.unwrap().seconds - sg.app.clock.now().unix_seconds();
    assert!((895..=900).contains(&ends), "{ends}");
    let details = sg.audit_details("oidc_token.exchange").await;
    for part in [r#""provider":"corp""#, r#""rule":"deploy""#, r#""sub":"repo:acme""#] {
        assert!(details[0].contains(part), "{details:?}");
    }
    // The role was changed in the meantime. The next exchange sets it to that of the rule.
    sg.sql("UPDATE service_principals SET role = 'admin' WHERE name = 'oidc/corp/deploy'").await;
    let again = sg.exchange("corp", &good(&corp).await).await.unwrap();
    assert_eq!(again.role(), pb::Role::Operator);
    assert_eq!(
        sg.with_token(&again.session_token).current_identity().await.unwrap().principal,
        who.principal
    );
    sg.finish().await;
}

async fn t14_an_exchange_session_ends_with_its_token_and_service_principal(sg: TestServer) {
    let corp = sg.issuer("corp");
    let now = sg.app.clock.now().unix_seconds();
    let mut claims = job("acme/infra", "refs/heads/main");
    claims["exp"] = json!(now + 100);
    let short = sg.exchange("corp", &corp.access_token(claims).await).await.unwrap();
    assert_eq!(short.expire_time.unwrap().seconds, now + 100);
    sg.with_token(&short.session_token).current_identity().await.unwrap();
    sg.pass(Duration::from_secs(101)).await;
    assert_refused!(
        sg.with_token(&short.session_token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );

    let name = "oidc/corp/deploy".to_owned();
    let rotated = sg.exchange("corp", &good(&corp).await).await.unwrap();
    let request =
        pb::RotateServicePrincipalRequest { service_principal: name.clone(), ..Default::default() };
    sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
    assert_refused!(
        sg.with_token(&rotated.session_token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let deleted = sg.exchange("corp", &good(&corp).await).await.unwrap();
    let request =
        pb::DeleteServicePrincipalRequest { service_principal: name, ..Default::default() };
    sg.admin().service_principals().delete_service_principal(request).await.unwrap();
    assert_refused!(
        sg.with_token(&deleted.session_token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn a_rule_that_names_a_missing_service_principal_does_not_create_it(sg: TestServer) {
    let corp = sg.issuer("corp");
    let robot = corp.access_token(json!({ "aud": AUDIENCE, "sub": "robot-7" })).await;
    assert_refused!(sg.exchange("corp", &robot).await, Unauthenticated, "CREDENTIAL_INVALID");
    sg.admin().create_key("robots", pb::Role::Viewer).await;
    assert_eq!(sg.exchange("corp", &robot).await.unwrap().role(), pb::Role::Viewer);
    sg.finish().await;
}

async fn service_principal_names_with_the_oidc_prefix_are_reserved(sg: TestServer) {
    for name in ["oidc/corp/deploy", "oidc/"] {
        let request = pb::CreateServicePrincipalRequest {
            name: name.to_owned(),
            role: pb::Role::Viewer.into(),
            ..Default::default()
        };
        let refused = sg.admin().service_principals().create_service_principal(request).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    sg.finish().await;
}

async fn concurrent_exchanges_create_one_service_principal(sg: TestServer) {
    let token = good(&sg.issuer("corp")).await;
    let all = [(); 4].map(|()| sg.exchange("corp", &token));
    let mut names: Vec<String> = vec![];
    for got in futures_util::future::join_all(all).await {
        let token = got.unwrap().session_token;
        names.push(sg.with_token(&token).current_identity().await.unwrap().principal);
    }
    names.dedup();
    assert_eq!(names.len(), 1, "{names:?}");
    sg.finish().await;
}

async fn keys_of_an_unreachable_issuer_are_used_for_a_day(sg: TestServer) {
    let corp = sg.issuer("corp");
    let token = good(&corp).await;
    sg.exchange("corp", &token).await.unwrap();
    for path in ["keys", ".well-known/openid-configuration"] {
        corp.send(IssuerCommand::SetBehavior(
            path.to_owned(),
            crate::oidc_provider::Behavior::Fail,
        ))
        .await;
    }
    sg.pass(Duration::from_hours(2)).await;
    sg.exchange("corp", &token).await.unwrap();
    sg.pass(Duration::from_hours(22)).await;
    assert_refused!(sg.exchange("corp", &token).await, Unavailable, "ISSUER_UNAVAILABLE");
    sg.finish().await;
}
