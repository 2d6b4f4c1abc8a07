//! Access tokens of an issuer as bearer credentials.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;

use super::{AUDIENCE, configure_issuers};
use crate::oidc_provider::IssuerCommand;
use crate::support::server::{Caller, TestServer};
use crate::support::soon;

async fn of(sg: &TestServer, provider: &str, sub: &str) -> String {
    let claims = json!({ "aud": AUDIENCE, "sub": sub });
    sg.issuer(provider).access_token(claims).await
}

sqlite_tests! {
    tuned configure_issuers;
    an_access_token_authenticates_its_linked_user_until_deactivation,
    an_access_token_without_a_user_maps_to_the_service_principal_of_its_rule,
    bearer_tokens_are_accepted_only_of_issuers_configured_for_them,
    an_access_token_is_refused_after_it_expires,
    t16_tokens_with_unknown_keys_do_not_flood_the_issuer,
    issuer_keys_are_fetched_again_after_an_hour,
}

async fn an_access_token_authenticates_its_linked_user_until_deactivation(sg: TestServer) {
    let token = of(&sg, "corp", "1").await;
    assert_refused!(
        sg.with_token(&token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.log_in_as("corp", "1", "ana@corp.example", json!({ "groups": "ops" })).await.unwrap();
    let who = sg.with_token(&token).current_identity().await.unwrap();
    assert_eq!((who.actor.as_str(), who.role()), ("ana@corp.example", pb::Role::Operator));
    assert!(who.expire_time.is_some());
    let watch = pb::WatchEventsRequest::default();
    let mut events = sg.with_token(&token).events().watch_events(watch).await.unwrap().into_inner();
    sg.set_user("ana@corp.example", "is_active = false").await;
    assert_refused!(
        sg.with_token(&token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let ended = async { while let Ok(Some(_)) = events.message().await {} };
    soon("the stream ends", ended).await;
    sg.finish().await;
}

async fn an_access_token_without_a_user_maps_to_the_service_principal_of_its_rule(sg: TestServer) {
    let robot = of(&sg, "corp", "robot-7").await;
    assert_refused!(
        sg.with_token(&robot).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.admin().create_key("robots", pb::Role::Viewer).await;
    assert_eq!(sg.with_token(&robot).current_identity().await.unwrap().actor, "sp:robots");
    // A rule that creates service principals creates none for a bearer token. A service principal created by an
    // exchange is found.
    let job = json!({ "aud": AUDIENCE, "repository": "acme/infra", "ref": "refs/heads/main" });
    let job = sg.issuer("corp").access_token(job).await;
    assert_refused!(
        sg.with_token(&job).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.exchange("corp", &job).await.unwrap();
    assert_eq!(sg.with_token(&job).current_identity().await.unwrap().actor, "sp:oidc/corp/deploy");
    // A deactivated user is not admitted by a rule instead.
    sg.log_in_as("corp", "robot-7", "robot@corp.example", Value::Null).await.unwrap();
    assert_eq!(sg.with_token(&robot).current_identity().await.unwrap().actor, "robot@corp.example");
    sg.set_user("robot@corp.example", "is_active = false").await;
    assert_refused!(
        sg.with_token(&robot).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn bearer_tokens_are_accepted_only_of_issuers_configured_for_them(sg: TestServer) {
    sg.log_in_as("partner", "1", "bo@partner.example", Value::Null).await.unwrap();
    let token = of(&sg, "partner", "1").await;
    assert_refused!(
        sg.with_token(&token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let claims = json!({ "aud": "https://look.example.com", "environment": "prod" });
    let token = sg.issuer("ci").access_token(claims).await;
    sg.exchange("ci", &token).await.unwrap();
    assert_refused!(
        sg.with_token(&token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    assert_eq!(sg.issuer("partner").count("keys").await, 1, "the login's");
    sg.finish().await;
}

async fn an_access_token_is_refused_after_it_expires(sg: TestServer) {
    sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let exp = sg.app.clock.now().unix_seconds() + 100;
    let claims = json!({ "aud": AUDIENCE, "sub": "1", "exp": exp });
    let token = sg.issuer("corp").access_token(claims).await;
    sg.with_token(&token).current_identity().await.unwrap();
    sg.pass(Duration::from_secs(140)).await;
    assert_refused!(
        sg.with_token(&token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn t16_tokens_with_unknown_keys_do_not_flood_the_issuer(sg: TestServer) {
    let corp = sg.issuer("corp");
    sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let old = of(&sg, "corp", "1").await;
    sg.with_token(&old).current_identity().await.unwrap();
    let fetched = corp.count("keys").await;
    let mut unknown = vec![];
    for _ in 0..5 {
        corp.send(IssuerCommand::Rotate("ES256".to_owned())).await;
        unknown.push(of(&sg, "corp", "1").await);
    }
    for token in unknown.iter().chain(&unknown) {
        assert_refused!(
            sg.with_token(token).current_identity().await,
            Unauthenticated,
            "CREDENTIAL_INVALID"
        );
    }
    assert_eq!(corp.count("keys").await, fetched);
    sg.pass(Duration::from_secs(30)).await;
    let all: Vec<_> = unknown.iter().map(|token| sg.with_token(token)).collect();
    let answers = futures_util::future::join_all(all.iter().map(Caller::current_identity)).await;
    let known: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(known, [false, false, false, false, true], "the newest key is found, by one fetch");
    assert_eq!(corp.count("keys").await, fetched + 1);
    // The key that signed it is no longer published.
    assert_refused!(
        sg.with_token(&old).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn issuer_keys_are_fetched_again_after_an_hour(sg: TestServer) {
    let corp = sg.issuer("corp");
    sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let token = of(&sg, "corp", "1").await;
    let fetched = corp.count("keys").await;
    for _ in 0..3 {
        sg.with_token(&token).current_identity().await.unwrap();
    }
    assert_eq!(corp.count("keys").await, fetched);
    sg.pass(Duration::from_hours(1)).await;
    sg.with_token(&token).current_identity().await.unwrap();
    assert_eq!(corp.count("keys").await, fetched + 1);
    sg.finish().await;
}
