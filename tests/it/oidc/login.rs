//! The authorization code flow: valid logins, and attempts that must fail.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;

use super::{BACK, configure_issuers};
use crate::oidc_provider::{IssuerCommand, LoginRedirect, SigningMode};
use crate::support::dump;
use crate::support::server::TestServer;

server_tests! {
    tuned configure_issuers;
    an_oidc_login_creates_a_session_with_the_role_of_the_issuer,
    an_oidc_login_completes_only_with_its_own_login_token,
    an_oidc_login_accepts_only_configured_or_loopback_redirect_uris,
    an_authorization_code_is_valid_once_and_only_for_its_own_login,
    an_oidc_login_expires_after_ten_minutes,
    an_id_token_with_any_invalid_claim_or_signature_is_refused,
    equal_subjects_of_two_issuers_are_different_users,
    every_supported_algorithm_is_verified_and_rotated_keys_are_fetched,
    the_client_authenticates_by_a_method_that_the_issuer_supports,
    the_secrets_of_an_oidc_login_are_not_stored,
}

async fn an_oidc_login_creates_a_session_with_the_role_of_the_issuer(sg: TestServer) {
    let request = pb::ListOidcProvidersRequest {};
    let listed = sg
        .anonymous()
        .auth()
        .list_oidc_providers(request)
        .await
        .unwrap()
        .into_inner()
        .oidc_providers;
    let listed: Vec<_> =
        listed.iter().map(|p| (p.name.as_str(), p.display_name.as_str())).collect();
    assert_eq!(listed, [("corp", "The Corporation"), ("partner", "partner")]);

    let session =
        sg.log_in_as("corp", "1", "Ana@corp.example", json!({ "groups": ["ops"] })).await.unwrap();
    assert_eq!(session.role(), pb::Role::Operator);
    let ana = sg.with_token(&session.session_token);
    let who = ana.current_identity().await.unwrap();
    assert_eq!((who.actor.as_str(), who.role()), ("ana@corp.example", pb::Role::Operator));
    let request = pb::ListSessionsRequest::default();
    let sessions = ana.auth().list_sessions(request).await.unwrap().into_inner().sessions;
    assert_eq!((sessions.len(), sessions[0].kind()), (1, pb::SessionKind::Oidc));
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    sg.anonymous().auth().refresh_session(refresh).await.unwrap();

    // The second login is to the same account, even if the issuer reports another address.
    let again = sg
        .log_in_as("corp", "1", "renamed@corp.example", json!({ "groups": ["ops"] }))
        .await
        .unwrap();
    assert_eq!(
        sg.with_token(&again.session_token).current_identity().await.unwrap().principal,
        who.principal
    );
    let details = sg.audit_details("user.login").await;
    assert_eq!(details.len(), 2);
    assert!(
        details[1].contains(r#""created":true"#) && !details[0].contains("created"),
        "{details:?}"
    );
    for detail in &details {
        assert!(
            detail.contains(r#""provider":"corp""#) && detail.contains(r#""role":"operator""#),
            "{detail}"
        );
    }
    sg.finish().await;
}

async fn an_oidc_login_completes_only_with_its_own_login_token(sg: TestServer) {
    let begun = sg.begin_login("corp").await;
    let url = &begun.authorization_url;
    assert!(url.contains("&code_challenge_method=S256") && url.contains("&nonce="), "{url}");
    let back = sg.issuer("corp").log_in(url).await;
    // Code and state are useless without the sealed token, or with that of another login.
    let other = sg.begin_login("corp").await.login_token;
    for token in ["", "x", &other, &begun.login_token[1..], &"A".repeat(10_000)] {
        assert_refused!(sg.complete_login(token, &back).await, Unauthenticated, "LOGIN_FAILED");
    }
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    let back = sg.issuer("corp").log_in(url).await;
    sg.complete_login(&begun.login_token, &back).await.unwrap();
    sg.finish().await;
}

async fn an_oidc_login_accepts_only_configured_or_loopback_redirect_uris(sg: TestServer) {
    let begin = async |provider: &str, redirect_uri: &str| {
        let (provider, redirect_uri) = (provider.to_owned(), redirect_uri.to_owned());
        let request = pb::BeginOidcLoginRequest { provider, redirect_uri };
        sg.anonymous().auth().begin_oidc_login(request).await
    };
    begin("corp", BACK).await.unwrap();
    begin("corp", "http://127.0.0.1:4321/callback").await.unwrap();
    assert_refused!(
        begin("partner", "http://127.0.0.1:4321/callback").await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(
        begin("corp", "https://evil.example.com/back").await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    assert_refused!(begin("nowhere", BACK).await, NotFound, "NOT_FOUND");
    assert_refused!(begin("ci", BACK).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn an_authorization_code_is_valid_once_and_only_for_its_own_login(sg: TestServer) {
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    let begun = sg.begin_login("corp").await;
    let back = sg.issuer("corp").log_in(&begun.authorization_url).await;
    let wrong = |change: fn(&mut LoginRedirect)| {
        let mut back = back.clone();
        change(&mut back);
        back
    };
    let not_yet = [
        wrong(|back| back.state.clear()),
        wrong(|back| back.state.push('A')),
        wrong(|back| back.code.clear()),
        wrong(|back| back.code = "x".repeat(5_000)),
        wrong(|back| back.issuer.clear()),
        wrong(|back| back.issuer.insert_str(0, "https://evil.example.com/")),
    ];
    for back in not_yet {
        assert_refused!(
            sg.complete_login(&begun.login_token, &back).await,
            Unauthenticated,
            "LOGIN_FAILED"
        );
    }
    assert_eq!(sg.issuer("corp").count("token").await, 0, "no request was sent to the issuer");
    sg.complete_login(&begun.login_token, &back).await.unwrap();
    assert_refused!(
        sg.complete_login(&begun.login_token, &back).await,
        Unauthenticated,
        "LOGIN_FAILED"
    );

    // A code of one login with the code verifier of another, as after a theft of the code.
    let (mine, theirs) = (sg.begin_login("corp").await, sg.begin_login("corp").await);
    let stolen = sg.issuer("corp").log_in(&theirs.authorization_url).await;
    let own = sg.issuer("corp").log_in(&mine.authorization_url).await;
    let mixed = LoginRedirect { code: stolen.code, ..own };
    assert_refused!(
        sg.complete_login(&mine.login_token, &mixed).await,
        Unauthenticated,
        "LOGIN_FAILED"
    );
    sg.finish().await;
}

async fn an_oidc_login_expires_after_ten_minutes(sg: TestServer) {
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    for (minutes, over) in [(9, false), (10, true)] {
        let begun = sg.begin_login("corp").await;
        let back = sg.issuer("corp").log_in(&begun.authorization_url).await;
        sg.pass(Duration::from_mins(minutes)).await;
        assert_eq!(sg.complete_login(&begun.login_token, &back).await.is_err(), over);
    }
    sg.finish().await;
}

async fn an_id_token_with_any_invalid_claim_or_signature_is_refused(sg: TestServer) {
    let issuer = sg.issuer("corp");
    issuer.set_person("1", "ana@corp.example", Value::Null).await;
    let nobody = no_such_account(&sg).await;
    for lie in [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "another-client" }),
        json!({ "aud": ["shoreguard", "another-client"] }),
        json!({ "azp": "another-client" }),
        json!({ "iss": sg.issuer("partner").url }),
        json!({ "exp": 1 }),
        json!({ "iat": 99_999_999_999_i64 }),
        json!({ "sub": "" }),
        json!({ "sub": null }),
        json!({ "sub": "s".repeat(256) }),
        json!({ "email_verified": false }),
        json!({ "email_verified": "true" }),
        json!({ "email": null, "preferred_username": "ana@corp.example" }),
        json!({ "email": "no address" }),
    ] {
        issuer.send(IssuerCommand::OverrideClaims(lie.clone())).await;
        let refused = assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
        assert_eq!(refused.message(), nobody, "{lie}");
    }
    issuer.send(IssuerCommand::OverrideClaims(json!({}))).await;
    for signed in [SigningMode::Unsigned, SigningMode::HmacWithPublicKey, SigningMode::OtherKey] {
        issuer.send(IssuerCommand::SignLogins(signed)).await;
        assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
    }
    let users = dump::table(&sg.app.db, "users").await;
    assert!(!users.contains("corp.example"), "{users}");
    assert!(sg.audit_details("user.login").await.is_empty(), "what is refused stores nothing");
    issuer.send(IssuerCommand::SignLogins(SigningMode::Valid)).await;
    sg.oidc_login("corp").await.unwrap();
    sg.finish().await;
}

async fn equal_subjects_of_two_issuers_are_different_users(sg: TestServer) {
    let ours = sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let theirs = sg.log_in_as("partner", "1", "ana@partner.example", Value::Null).await.unwrap();
    let who = async |token: &str| sg.with_token(token).current_identity().await.unwrap().actor;
    assert_eq!(who(&ours.session_token).await, "ana@corp.example");
    assert_eq!(who(&theirs.session_token).await, "ana@partner.example");
    // The response of one issuer is not accepted for a login at another one.
    let (begun, other) = (sg.begin_login("partner").await, sg.begin_login("corp").await);
    let back = sg.issuer("corp").log_in(&other.authorization_url).await;
    let mixed = LoginRedirect {
        state: sg.issuer("partner").log_in(&begun.authorization_url).await.state,
        ..back
    };
    assert_refused!(
        sg.complete_login(&begun.login_token, &mixed).await,
        Unauthenticated,
        "LOGIN_FAILED"
    );
    sg.finish().await;
}

async fn every_supported_algorithm_is_verified_and_rotated_keys_are_fetched(sg: TestServer) {
    let issuer = sg.issuer("corp");
    issuer.set_person("1", "ana@corp.example", Value::Null).await;
    sg.oidc_login("corp").await.unwrap();
    let mut fetched = issuer.count("keys").await;
    assert_eq!(fetched, 1);
    for algorithm in
        ["ES256", "ES384", "EdDSA", "PS256", "PS384", "PS512", "RS384", "RS512", "RS256"]
    {
        issuer.send(IssuerCommand::Rotate(algorithm.to_owned())).await;
        // The keys were fetched recently, and are fetched again only after a while.
        for _ in 0..3 {
            assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
        }
        assert_eq!(issuer.count("keys").await, fetched, "{algorithm}");
        sg.pass(Duration::from_secs(30)).await;
        sg.oidc_login("corp").await.unwrap();
        fetched += 1;
        assert_eq!(issuer.count("keys").await, fetched, "{algorithm}");
    }
    sg.finish().await;
}

async fn the_client_authenticates_by_a_method_that_the_issuer_supports(sg: TestServer) {
    sg.log_in_as("partner", "1", "ana@partner.example", Value::Null).await.unwrap();
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    sg.issuer("corp").send(IssuerCommand::Secret(Some("another secret".to_owned()))).await;
    assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
    // The other method of client authentication, if the issuer supports no other.
    sg.issuer("corp").send(IssuerCommand::Secret(Some("client secret".to_owned()))).await;
    sg.pass(Duration::from_hours(1)).await;
    let post = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    sg.issuer("corp").send(IssuerCommand::Discovery(post)).await;
    sg.oidc_login("corp").await.unwrap();
    sg.finish().await;
}

async fn the_secrets_of_an_oidc_login_are_not_stored(sg: TestServer) {
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    let begun = sg.begin_login("corp").await;
    let back = sg.issuer("corp").log_in(&begun.authorization_url).await;
    let session = sg.complete_login(&begun.login_token, &back).await.unwrap();
    let mut all = String::new();
    for table in ["users", "sessions", "audit_log", "events"] {
        all += &dump::table(&sg.app.db, table).await;
    }
    for secret in [&begun.login_token, &back.state, &session.session_token, &session.refresh_token]
    {
        assert!(!all.contains(secret.as_str()), "a secret is in the database");
    }
    sg.finish().await;
}

/// Returns the error message of a failed login with a password.
async fn no_such_account(sg: &TestServer) -> String {
    let request = pb::LoginRequest { email: "nobody@example.com".into(), password: "x".into() };
    let refused = sg.anonymous().auth().login(request).await.unwrap_err();
    refused.message().to_owned()
}
