//! Setup, login, and invalid credentials.

use std::time::Duration;

use shoreguard::pb::v1 as pb;
use tonic::Code;

use crate::support::server::TestServer;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD};

fn login(email: &str, password: &str) -> pb::LoginRequest {
    pb::LoginRequest { email: email.to_owned(), password: password.to_owned() }
}

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};

server_tests! {
    setup_is_refused_after_the_first_admin_is_created,
    a_login_returns_a_session_that_expires,
    a_wrong_password_and_a_missing_account_fail_alike_and_store_nothing,
    t17_request_ids_belong_to_one_authenticated_caller,
    t19_a_call_with_two_credentials_or_forged_headers_is_refused,
    invalid_tokens_are_refused_without_echoing_them,
}

async fn setup_is_refused_after_the_first_admin_is_created(sg: TestServer) {
    let again = pb::SetupRequest {
        setup_token: "x".repeat(43),
        email: "eve@example.com".into(),
        password: ADMIN_PASSWORD.into(),
    };
    assert_refused!(sg.anonymous().auth().setup(again).await, FailedPrecondition, "ALREADY_SET_UP");
    assert!(shoreguard::resources::auth::setup::ensure_token(&sg.app).await.unwrap().is_none());
    assert!(!shoreguard::resources::auth::setup::token_file(&sg.app).exists());
    let info = sg
        .anonymous()
        .auth()
        .get_server_info(pb::GetServerInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(info.set_up);
    sg.finish().await;
}

async fn a_login_returns_a_session_that_expires(sg: TestServer) {
    let session = sg
        .anonymous()
        .auth()
        .login(login(" Admin@Example.com", ADMIN_PASSWORD))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(session.role(), pb::Role::Admin);
    let caller = sg.with_token(&session.session_token);
    let who = caller.auth().get_current_identity(WHO).await.unwrap().into_inner();
    assert_eq!((who.actor.as_str(), who.expire_time), (ADMIN_EMAIL, session.expire_time));
    sg.app.clock.advance(Duration::from_secs(15 * 60 + 1));
    shoreguard::feed::refresh(&sg.app).await.unwrap();
    assert_refused!(
        caller.auth().get_current_identity(WHO).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn a_wrong_password_and_a_missing_account_fail_alike_and_store_nothing(sg: TestServer) {
    let wrong = sg.anonymous().auth().login(login(ADMIN_EMAIL, "wrong horse battery")).await;
    let wrong = assert_refused!(wrong, Unauthenticated, "LOGIN_FAILED");
    let nobody =
        sg.anonymous().auth().login(login("nobody@example.com", "wrong horse battery")).await;
    let nobody = assert_refused!(nobody, Unauthenticated, "LOGIN_FAILED");
    let malformed = sg.anonymous().auth().login(login("", "")).await;
    assert_refused!(malformed, Unauthenticated, "LOGIN_FAILED");
    let long = sg.anonymous().auth().login(login(ADMIN_EMAIL, &"a".repeat(100_000))).await;
    assert_refused!(long, Unauthenticated, "LOGIN_FAILED");
    assert_eq!(wrong.message(), nobody.message());
    let request = pb::ListAuditEntriesRequest { action: "user.login".into(), ..Default::default() };
    let entries =
        sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
    sg.finish().await;
}

async fn t17_request_ids_belong_to_one_authenticated_caller(sg: TestServer) {
    // A public method has no such field, so a caller cannot request another caller's response.
    let pool = shoreguard::pb::descriptors::OWN.pool();
    for method in shoreguard::access::policy::METHODS {
        if method.access == shoreguard::access::policy::AllowedCallers::Public {
            let request = pool.get_message_by_name(method.request).unwrap();
            assert!(request.get_field_by_name("request_id").is_none(), "{}", method.path);
        }
    }
    // The same ID from another caller starts a separate call.
    let id = "6f1c4f0a-3c67-4cf3-a1cd-54c2b06a6f52";
    let request = |name: &str| pb::CreateServicePrincipalRequest {
        name: name.into(),
        role: pb::Role::Viewer.into(),
        request_id: id.into(),
        ..Default::default()
    };
    let first = sg
        .admin()
        .service_principals()
        .create_service_principal(request("a"))
        .await
        .unwrap()
        .into_inner();
    let second_admin = sg.admin().create_key("second", pb::Role::Admin).await;
    let second = sg
        .with_token(&second_admin)
        .service_principals()
        .create_service_principal(request("b"))
        .await
        .unwrap();
    assert_ne!(first.key, second.into_inner().key);
    // A rotated credential of the same caller does not get the stored secret.
    let made = sg
        .with_token(&second_admin)
        .service_principals()
        .create_service_principal(request("b"))
        .await
        .unwrap();
    assert_eq!(made.into_inner().service_principal.unwrap().name, "b");
    let rotate = pb::RotateServicePrincipalRequest {
        service_principal: "second".into(),
        ..Default::default()
    };
    let rotated = sg
        .admin()
        .service_principals()
        .rotate_service_principal(rotate)
        .await
        .unwrap()
        .into_inner()
        .key;
    let replay =
        sg.with_token(&rotated).service_principals().create_service_principal(request("b")).await;
    assert_refused!(replay, Aborted, "REQUEST_IN_FLIGHT");
    sg.finish().await;
}

async fn t19_a_call_with_two_credentials_or_forged_headers_is_refused(sg: TestServer) {
    let key = &sg.admin_key;
    let path = "/shoreguard.v1.AuthService/GetCurrentIdentity";
    let unary = shoreguard::access::policy::StreamingMode::Unary;
    let bearer = format!("Bearer {key}");
    let twice = sg
        .anonymous()
        .call_raw(path, unary, vec![], &[("authorization", &bearer), ("authorization", &bearer)])
        .await;
    assert_refused!(twice, Unauthenticated, "CREDENTIAL_AMBIGUOUS");
    let gateways = [("x-shoreguard-gateway", "a"), ("x-shoreguard-gateway", "b")];
    let twice = sg.admin().call_raw(path, unary, vec![], &gateways).await;
    assert_refused!(twice, Unauthenticated, "CREDENTIAL_AMBIGUOUS");
    let forged = [
        ("x-shoreguard-principal", "user:1"),
        ("x-remote-user", "root"),
        ("x-forwarded-for", "10.9.8.7"),
    ];
    assert_refused!(
        sg.anonymous().call_raw(path, unary, vec![], &forged).await,
        Unauthenticated,
        "CREDENTIAL_MISSING"
    );
    sg.finish().await;
}

async fn invalid_tokens_are_refused_without_echoing_them(sg: TestServer) {
    let session = sg
        .anonymous()
        .auth()
        .login(login(ADMIN_EMAIL, ADMIN_PASSWORD))
        .await
        .unwrap()
        .into_inner()
        .session_token;
    let mut parts = session.split('.');
    let (head, claims) = (parts.next().unwrap(), parts.next().unwrap());
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoic2ctc2Vzc2lvbitqd3QifQ.{claims}.");
    let bad = [
        "sg_".to_owned(),
        sg.admin_key[..45].to_owned(),
        format!("{}x", sg.admin_key),
        sg.admin_key.to_uppercase(),
        session[..session.len() - 2].to_owned(),
        format!("{head}.{claims}.{}", "A".repeat(43)),
        none,
        "a.b.c".to_owned(),
        "x".repeat(5000),
    ];
    for token in bad {
        let refused = sg.with_token(&token).auth().get_current_identity(WHO).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{token}");
        assert!(!format!("{refused:?}").contains(&token) || token.len() < 6, "echoed {token}");
    }
    sg.finish().await;
}
