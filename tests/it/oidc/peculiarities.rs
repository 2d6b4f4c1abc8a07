//! What real issuers do that a strict reading would not expect: addresses without a statement, keys without ids,
//! content types of static hosts, large tokens, copied nonces, and claims that are left out because of their size.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;

use super::{AUDIENCE, configure_issuers};
use crate::oidc_provider::{IssuerCommand, TokenSpec};
use crate::support::server::TestServer;

/// Configures `corp` as an issuer that verifies every address without a statement in its tokens.
fn configure(config: &mut Config) {
    configure_issuers(config);
    config.oidc.providers[0].emails_verified = true;
}

sqlite_tests! {
    tuned configure;
    an_address_without_a_statement_counts_only_if_the_provider_is_configured_so,
    keys_and_tokens_may_have_no_key_id_if_one_key_fits,
    a_key_set_may_have_any_content_type_and_a_discovery_document_must_be_json,
    a_large_access_token_is_accepted_alike_as_bearer_token_and_in_an_exchange,
    an_access_token_with_the_nonce_of_a_login_is_accepted_if_it_states_its_kind,
    a_role_claim_that_was_left_out_as_too_large_lowers_no_role,
}

/// Claims of an ID token of Microsoft Entra ID.
fn entra(sub: &str, email: &str) -> Value {
    json!({
        "sub": sub, "email": email, "preferred_username": email, "ver": "2.0",
        "oid": "00000000-0000-0000-0000-000000000001",
        "tid": "00000000-0000-0000-0000-000000000002",
    })
}

/// Claims of an access token of a job that may be exchanged.
fn job() -> Value {
    json!({ "aud": AUDIENCE, "sub": "w", "repository": "acme/infra", "ref": "refs/heads/main" })
}

async fn an_address_without_a_statement_counts_only_if_the_provider_is_configured_so(
    sg: TestServer,
) {
    sg.issuer("partner").send(IssuerCommand::Login(entra("1", "ana@partner.example"))).await;
    assert_refused!(sg.oidc_login("partner").await, Unauthenticated, "LOGIN_FAILED");

    let corp = sg.issuer("corp");
    let refused = async |claims: Value| {
        corp.send(IssuerCommand::Login(claims.clone())).await;
        let refused = sg.oidc_login("corp").await;
        assert!(refused.is_err(), "{claims}");
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    };
    for statement in [json!(false), json!("true"), json!("no")] {
        let mut claims = entra("1", "ana@corp.example");
        claims["email_verified"] = statement;
        refused(claims).await;
    }
    corp.send(IssuerCommand::Login(entra("1", "ana@corp.example"))).await;
    let session = sg.oidc_login("corp").await.unwrap();
    let who = sg.with_token(&session.session_token).current_identity().await.unwrap();
    assert_eq!(who.actor, "ana@corp.example");

    // The address still takes over no account with a password or the role admin.
    sg.create_user("bo@corp.example", Role::Viewer).await;
    refused(entra("2", "bo@corp.example")).await;
    sg.create_user("cy@corp.example", Role::Admin).await;
    sg.set_user("cy@corp.example", "hashed_password = NULL").await;
    refused(entra("3", "cy@corp.example")).await;
    sg.finish().await;
}

async fn keys_and_tokens_may_have_no_key_id_if_one_key_fits(sg: TestServer) {
    let corp = sg.issuer("corp");
    let without_id = async || {
        corp.send(IssuerCommand::Rotate("ES256".to_owned())).await;
        corp.send(IssuerCommand::HideKeyId).await;
        corp.access_token(job()).await
    };
    let first = without_id().await;
    sg.exchange("corp", &first).await.unwrap();
    sg.with_token(&first).current_identity().await.unwrap();
    let fetched = corp.count("keys").await;
    // Without an id, only the signature shows that the key was replaced.
    let second = without_id().await;
    for _ in 0..3 {
        let refused = sg.exchange("corp", &second).await;
        assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    }
    assert_eq!(corp.count("keys").await, fetched, "the keys were fetched a moment ago");
    sg.pass(Duration::from_secs(30)).await;
    sg.with_token(&second).current_identity().await.unwrap();
    sg.exchange("corp", &second).await.unwrap();
    assert_eq!(corp.count("keys").await, fetched + 1);
    let refused = sg.exchange("corp", &first).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn a_key_set_may_have_any_content_type_and_a_discovery_document_must_be_json(sg: TestServer) {
    const DISCOVERY: &str = ".well-known/openid-configuration";
    let content_type = async |provider: &str, path: &str, kind: &str| {
        let set = IssuerCommand::SetContentType(path.to_owned(), kind.to_owned());
        sg.issuer(provider).send(set).await;
    };
    content_type("corp", "keys", "application/octet-stream").await;
    content_type("corp", DISCOVERY, "Application/JSON; charset=utf-8").await;
    let token = sg.issuer("corp").access_token(job()).await;
    sg.exchange("corp", &token).await.unwrap();

    content_type("ci", DISCOVERY, "text/html").await;
    let claims = json!({ "aud": "https://look.example.com", "environment": "prod" });
    let token = sg.issuer("ci").access_token(claims).await;
    assert_refused!(sg.exchange("ci", &token).await, Unavailable, "ISSUER_UNAVAILABLE");
    sg.finish().await;
}

async fn a_large_access_token_is_accepted_alike_as_bearer_token_and_in_an_exchange(sg: TestServer) {
    let corp = sg.issuer("corp");
    let group = |number| format!("{number:08}-0000-4000-8000-000000000000");
    let mut claims = job();
    claims["groups"] = (0..170).map(group).collect();
    let token = corp.access_token(claims.clone()).await;
    assert!(token.len() > 9_000, "{}", token.len());
    sg.exchange("corp", &token).await.unwrap();
    let who = sg.with_token(&token).current_identity().await.unwrap();
    assert_eq!(who.actor, "sp:oidc/corp/deploy");

    // Longer than the limit of 15 KiB, but within that of all headers.
    claims["pad"] = json!("x".repeat((15_500 - token.len()) * 3 / 4));
    let long = corp.access_token(claims).await;
    assert!((15_361..15_700).contains(&long.len()), "{}", long.len());
    for refused in [
        sg.exchange("corp", &long).await.map(|_| ()),
        sg.with_token(&long).current_identity().await.map(|_| ()),
    ] {
        let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().contains("too long"), "{refused:?}");
    }
    sg.finish().await;
}

async fn an_access_token_with_the_nonce_of_a_login_is_accepted_if_it_states_its_kind(
    sg: TestServer,
) {
    sg.admin().create_key("robots", pb::Role::Viewer).await;
    let corp = sg.issuer("corp");
    let issued = async |typ: &str, claim: Value| {
        let claims = json!({
            "aud": AUDIENCE, "sub": "robot-7", "azp": "console", "scope": "openid",
            "nonce": "n-0S6_WzA2Mj", "typ": claim,
        });
        let typ = Some(typ.to_owned());
        corp.issue_token(TokenSpec { claims, typ, ..TokenSpec::default() }).await
    };
    for (typ, claim, is_accepted) in [
        ("at+jwt", json!("Bearer"), true),
        ("at+jwt", Value::Null, true),
        ("JWT", json!("Bearer"), true),
        ("JWT", Value::Null, false),
        ("JWT", json!("ID"), false),
        ("at+jwt", json!("ID"), false),
    ] {
        let token = issued(typ, claim.clone()).await;
        let exchanged = sg.exchange("corp", &token).await;
        let shown = sg.with_token(&token).current_identity().await;
        let both = (exchanged.is_ok(), shown.is_ok());
        assert_eq!(both, (is_accepted, is_accepted), "{typ} {claim}");
    }
    sg.finish().await;
}

async fn a_role_claim_that_was_left_out_as_too_large_lowers_no_role(sg: TestServer) {
    let log_in =
        async |sub: &str, email: &str, more: Value| sg.log_in_as("corp", sub, email, more).await;
    let too_many = json!({
        "_claim_names": { "groups": "src1" },
        "_claim_sources": { "src1": { "endpoint": "https://graph.example.com/getMemberObjects" } },
    });
    let session = log_in("1", "ana@corp.example", json!({ "groups": ["ops"] })).await.unwrap();
    assert_eq!(session.role(), pb::Role::Operator);
    for withheld in [too_many.clone(), json!({ "hasgroups": true })] {
        let refused = log_in("1", "ana@corp.example", withheld).await;
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
        let who = sg.with_token(&session.session_token).current_identity().await.unwrap();
        assert_eq!(who.role(), pb::Role::Operator);
    }
    let refused = log_in("2", "bo@corp.example", too_many).await;
    assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    let session = log_in("2", "bo@corp.example", json!({ "groups": ["all"] })).await.unwrap();
    assert_eq!(session.role(), pb::Role::Viewer);
    sg.finish().await;
}
