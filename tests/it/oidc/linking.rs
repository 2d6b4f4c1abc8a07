//! Which account an identity can use (T11), and owners who link their accounts.

use std::time::Duration;

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;
use tonic::{Response, Status};

use super::{AUDIENCE, completion_request, configure_issuers};
use crate::oidc_provider::{Behavior, IssuerCommand};
use crate::support::server::{Caller, TestServer};
use crate::support::{dump, soon};

/// Removes the password of an account.
const NO_PASSWORD: &str = "hashed_password = NULL";

async fn link(sg: &TestServer, caller: &Caller, provider: &str) -> Result<String, Status> {
    let begun = sg.begin_login(provider).await;
    let back = sg.issuer(provider).log_in(&begun.authorization_url).await;
    let end = completion_request(&begun.login_token, &back);
    let request = pb::LinkOidcIdentityRequest {
        login_token: end.login_token,
        code: end.code,
        state: end.state,
        issuer: end.issuer,
        request_id: String::new(),
    };
    let answer = caller.auth().link_oidc_identity(request).await;
    answer.map(Response::into_inner).map(|linked| linked.provider)
}

async fn unlink(caller: &Caller) -> Result<(), Status> {
    let request = pb::UnlinkOidcIdentityRequest::default();
    caller.auth().unlink_oidc_identity(request).await.map(|_| ())
}

server_tests! {
    tuned configure_issuers;
    t11_an_oidc_login_cannot_take_over_an_owned_account_by_its_address,
    t11_an_issuer_can_link_only_accounts_of_its_own_domains,
    an_unverified_address_is_not_linked_to_an_account,
    t11_an_address_that_only_unicode_folds_is_not_linked_to_an_account,
    linking_an_account_invalidates_its_invitation,
    a_deactivated_user_gets_no_session_by_oidc_login,
    an_existing_identity_link_is_never_overwritten,
    an_account_linked_without_a_stored_issuer_is_still_found,
    a_user_links_an_identity_and_the_role_does_not_change,
    linking_requires_a_user_with_a_recent_login,
    a_session_that_is_revoked_during_linking_links_nothing,
    t14_unlinking_revokes_sessions_and_tokens_of_the_identity,
    the_only_way_to_log_in_cannot_be_unlinked,
}

async fn t11_an_oidc_login_cannot_take_over_an_owned_account_by_its_address(sg: TestServer) {
    // Accounts with a password, with the role admin, with an admin group, with a link to another issuer, and
    // deactivated.
    for name in ["password", "admin", "group-admin", "linked", "gone"] {
        sg.create_user(&format!("{name}@corp.example"), Role::Viewer).await;
    }
    sg.set_user("admin@corp.example", &format!("{NO_PASSWORD}, role = 'admin'")).await;
    sg.set_user("group-admin@corp.example", NO_PASSWORD).await;
    let elsewhere = "oidc_provider = 'partner', oidc_issuer = 'https://p', oidc_sub = 'x'";
    sg.set_user("linked@corp.example", &format!("{NO_PASSWORD}, {elsewhere}")).await;
    sg.set_user("gone@corp.example", &format!("{NO_PASSWORD}, is_active = false")).await;
    let group = pb::CreateGroupRequest {
        name: "admins".into(),
        role: pb::Role::Admin.into(),
        ..Default::default()
    };
    sg.admin().groups().create_group(group).await.unwrap();
    sg.sql(
        "INSERT INTO group_members (group_id, user_id) SELECT g.id, u.id FROM groups g, users u \
                WHERE u.email = 'group-admin@corp.example'",
    )
    .await;
    let before = dump::table(&sg.app.db, "users").await;
    for name in ["password", "admin", "group-admin", "linked", "gone"] {
        let address = format!("{name}@corp.example");
        let refused = sg
            .log_in_as("corp", &format!("sub-{name}"), &address, json!({ "groups": "ops" }))
            .await;
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    }
    assert_eq!(dump::table(&sg.app.db, "users").await, before);
    sg.finish().await;
}

async fn t11_an_issuer_can_link_only_accounts_of_its_own_domains(sg: TestServer) {
    for name in ["ana@corp.example", "ana@else.example", "bo@sub.corp.example"] {
        sg.create_user(name, Role::Viewer).await;
        sg.set_user(name, NO_PASSWORD).await;
    }
    for (provider, address) in [
        ("partner", "ana@corp.example"),
        ("corp", "ana@else.example"),
        ("corp", "bo@sub.corp.example"),
        // No account has this address, but only another issuer may vouch for its domain.
        ("partner", "new@corp.example"),
    ] {
        let refused = sg.log_in_as(provider, "1", address, Value::Null).await;
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    }
    let linked =
        sg.log_in_as("corp", "1", "ana@corp.example", json!({ "groups": "ops" })).await.unwrap();
    assert_eq!(linked.role(), pb::Role::Operator);
    assert!(sg.audit_details("user.login").await[0].contains(r#""linked":true"#));
    // A person is identified by the issuer's subject, not by an address: another subject with this address is
    // another person.
    let other = sg.log_in_as("corp", "2", "ana@corp.example", Value::Null).await;
    assert_refused!(other, Unauthenticated, "LOGIN_FAILED");
    sg.finish().await;
}

async fn an_unverified_address_is_not_linked_to_an_account(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    sg.set_user("ana@corp.example", NO_PASSWORD).await;
    let issuer = sg.issuer("corp");
    for claims in [
        json!({ "sub": "1", "email": "ana@corp.example" }),
        json!({ "sub": "1", "email": "ana@corp.example", "email_verified": false }),
        json!({ "sub": "1", "preferred_username": "ana@corp.example", "email_verified": true }),
        json!({ "sub": "", "email": "ana@corp.example", "email_verified": true }),
    ] {
        issuer.send(IssuerCommand::Login(claims)).await;
        assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
    }
    sg.finish().await;
}

async fn t11_an_address_that_only_unicode_folds_is_not_linked_to_an_account(sg: TestServer) {
    sg.create_user("kim@corp.example", Role::Viewer).await;
    sg.set_user("kim@corp.example", NO_PASSWORD).await;
    // KELVIN SIGN, whose lower case is `k` in Unicode.
    for other in ["\u{212a}im@corp.example", "kim\u{200b}@corp.example"] {
        let refused = sg.log_in_as("corp", "1", other, Value::Null).await;
        assert_refused!(refused, Unauthenticated, "LOGIN_FAILED");
    }
    let linked = sg.log_in_as("corp", "1", "KIM@corp.example", json!({ "groups": "all" })).await;
    assert_eq!(linked.unwrap().role(), pb::Role::Viewer);
    sg.finish().await;
}

async fn linking_an_account_invalidates_its_invitation(sg: TestServer) {
    let invite = pb::InviteUserRequest {
        email: "ana@corp.example".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    let token = sg.admin().users().invite_user(invite).await.unwrap().into_inner().invite_token;
    sg.log_in_as("corp", "1", "ana@corp.example", json!({ "groups": "all" })).await.unwrap();
    let accept =
        pb::AcceptInviteRequest { invite_token: token, password: "a password of another".into() };
    let refused = sg.anonymous().auth().accept_invite(accept).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    let users = dump::table(&sg.app.db, "users").await;
    assert_eq!(users.matches("ana@corp.example").count(), 1, "{users}");
    sg.finish().await;
}

async fn a_deactivated_user_gets_no_session_by_oidc_login(sg: TestServer) {
    let session = sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    sg.set_user("ana@corp.example", "is_active = false").await;
    assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
    assert_refused!(
        sg.with_token(&session.session_token).current_identity().await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn an_existing_identity_link_is_never_overwritten(sg: TestServer) {
    sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let before = dump::table(&sg.app.db, "users").await;
    // The same address with another subject at the same issuer, and at another issuer.
    let other = sg.log_in_as("corp", "2", "ana@corp.example", Value::Null).await;
    assert_refused!(other, Unauthenticated, "LOGIN_FAILED");
    let other = sg.log_in_as("partner", "1", "ana@corp.example", Value::Null).await;
    assert_refused!(other, Unauthenticated, "LOGIN_FAILED");
    assert_eq!(dump::table(&sg.app.db, "users").await, before);
    sg.finish().await;
}

async fn an_account_linked_without_a_stored_issuer_is_still_found(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    let old = format!("{NO_PASSWORD}, oidc_provider = 'corp', oidc_sub = '1'");
    sg.set_user("ana@corp.example", &old).await;
    let session =
        sg.log_in_as("corp", "1", "other@corp.example", json!({ "groups": "all" })).await.unwrap();
    assert_eq!(
        sg.with_token(&session.session_token).current_identity().await.unwrap().actor,
        "ana@corp.example"
    );
    assert!(dump::table(&sg.app.db, "users").await.contains(&sg.issuer("corp").url));
    sg.finish().await;
}

async fn a_user_links_an_identity_and_the_role_does_not_change(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Admin).await;
    let ana = sg.login("ana@corp.example").await;
    sg.issuer("corp").set_person("1", "somebody@corp.example", json!({ "groups": "all" })).await;
    assert_eq!(link(&sg, &ana, "corp").await.unwrap(), "corp");
    link(&sg, &ana, "corp").await.unwrap();
    let session = sg.oidc_login("corp").await.unwrap();
    assert_eq!(
        session.role(),
        pb::Role::Admin,
        "an account with a password has the role that it was given here"
    );
    assert_eq!(
        sg.with_token(&session.session_token).current_identity().await.unwrap().actor,
        "ana@corp.example"
    );
    // Neither a second identity for her account, nor her identity for another account.
    sg.issuer("partner").set_person("1", "ana@partner.example", Value::Null).await;
    assert_refused!(link(&sg, &ana, "partner").await, AlreadyExists, "ALREADY_EXISTS");
    sg.create_user("bo@corp.example", Role::Viewer).await;
    let bo = sg.login("bo@corp.example").await;
    assert_refused!(link(&sg, &bo, "corp").await, AlreadyExists, "ALREADY_EXISTS");
    let details = sg.audit_details("user.link_oidc").await;
    assert!(details.iter().all(|detail| detail.contains(r#""provider":"#)), "{details:?}");
    sg.finish().await;
}

async fn linking_requires_a_user_with_a_recent_login(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    let begun = sg.begin_login("corp").await;
    let back = sg.issuer("corp").log_in(&begun.authorization_url).await;
    let end = completion_request(&begun.login_token, &back);
    let nobody = pb::LinkOidcIdentityRequest { login_token: end.login_token, ..Default::default() };
    let refused = sg.anonymous().auth().link_oidc_identity(nobody).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_MISSING");
    assert_refused!(link(&sg, &sg.admin(), "corp").await, PermissionDenied, "ROLE_TOO_LOW");
    let ana = sg.login("ana@corp.example").await;
    sg.pass(Duration::from_mins(10) - Duration::from_secs(5)).await;
    sg.pass(Duration::from_secs(6)).await;
    assert_refused!(link(&sg, &ana, "corp").await, FailedPrecondition, "LOGIN_STALE");
    let ana = sg.login("ana@corp.example").await;
    sg.pass(Duration::from_mins(9)).await;
    link(&sg, &ana, "corp").await.unwrap();
    sg.finish().await;
}

async fn a_session_that_is_revoked_during_linking_links_nothing(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    let ana = sg.login("ana@corp.example").await;
    let corp = sg.issuer("corp");
    corp.set_person("1", "ana@corp.example", Value::Null).await;
    let before = dump::table(&sg.app.db, "users").await;
    let asked = corp.count("token").await;
    corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Late)).await;
    let revoking = async {
        while corp.count("token").await == asked {
            crate::support::pause().await;
        }
        let request =
            pb::RevokeUserSessionsRequest { user: "ana@corp.example".into(), ..Default::default() };
        sg.admin().users().revoke_user_sessions(request).await.unwrap();
        corp.send(IssuerCommand::SetBehavior("token".to_owned(), Behavior::Normal)).await;
    };
    let (linked, ()) = tokio::join!(link(&sg, &ana, "corp"), revoking);
    assert_refused!(linked, Unauthenticated, "CREDENTIAL_INVALID");
    let after = dump::table(&sg.app.db, "users").await;
    assert_eq!(after.contains(&corp.url), before.contains(&corp.url), "{after}");
    sg.finish().await;
}

async fn t14_unlinking_revokes_sessions_and_tokens_of_the_identity(sg: TestServer) {
    sg.create_user("ana@corp.example", Role::Viewer).await;
    let ana = sg.login("ana@corp.example").await;
    sg.issuer("corp").set_person("1", "ana@corp.example", Value::Null).await;
    assert_refused!(unlink(&ana).await, NotFound, "NOT_FOUND");
    link(&sg, &ana, "corp").await.unwrap();
    let session = sg.oidc_login("corp").await.unwrap();
    let token = json!({ "aud": AUDIENCE, "sub": "1" });
    let token = sg.with_token(&sg.issuer("corp").access_token(token).await);
    assert_eq!(token.current_identity().await.unwrap().actor, "ana@corp.example");
    let watch = pb::WatchEventsRequest::default();
    let mut events = token.events().watch_events(watch).await.unwrap().into_inner();
    unlink(&sg.with_token(&session.session_token)).await.unwrap();
    let ended = async { while let Ok(Some(_)) = events.message().await {} };
    soon("the stream ends", ended).await;
    for dead in [ana, token, sg.with_token(&session.session_token)] {
        assert_refused!(dead.current_identity().await, Unauthenticated, "CREDENTIAL_INVALID");
    }
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    let refused = sg.anonymous().auth().refresh_session(refresh).await;
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    // The account with this address has a password, so the identity no longer gives access to it.
    assert_refused!(sg.oidc_login("corp").await, Unauthenticated, "LOGIN_FAILED");
    sg.login("ana@corp.example").await.current_identity().await.unwrap();
    sg.finish().await;
}

async fn the_only_way_to_log_in_cannot_be_unlinked(sg: TestServer) {
    let session = sg.log_in_as("corp", "1", "ana@corp.example", Value::Null).await.unwrap();
    let ana = sg.with_token(&session.session_token);
    assert_refused!(unlink(&ana).await, FailedPrecondition, "NO_OTHER_LOGIN");
    assert_refused!(unlink(&sg.admin()).await, PermissionDenied, "ROLE_TOO_LOW");
    ana.current_identity().await.unwrap();
    sg.finish().await;
}
