//! Roles that an issuer assigns at each login, but never to the last admin.

use serde_json::{Value, json};
use shoreguard::pb::v1 as pb;

use super::configure_issuers;
use crate::oidc_provider::IssuerCommand;
use crate::support::eventually;
use crate::support::server::ADMIN_EMAIL;
use crate::support::server::TestServer;

server_tests! {
    tuned configure_issuers;
    the_role_is_raised_or_lowered_to_that_of_the_issuer_at_each_login,
    an_issuer_without_role_mapping_changes_no_role,
    the_role_of_the_last_active_admin_is_not_lowered_by_its_issuer,
    concurrent_first_logins_create_one_account,
}

async fn the_role_is_raised_or_lowered_to_that_of_the_issuer_at_each_login(sg: TestServer) {
    let mut events = vec![];
    for (groups, role) in [
        (json!(["ops"]), pb::Role::Operator),
        (json!(["all", "ops", "unknown"]), pb::Role::Operator),
        (json!("all"), pb::Role::Viewer),
        (json!([]), pb::Role::None),
        (Value::Null, pb::Role::None),
        (json!(["unknown"]), pb::Role::None),
        (json!("ops"), pb::Role::Operator),
    ] {
        let session = sg
            .log_in_as("corp", "1", "ana@corp.example", json!({ "groups": groups }))
            .await
            .unwrap();
        assert_eq!(session.role(), role, "{groups}");
        assert_eq!(
            sg.with_token(&session.session_token).current_identity().await.unwrap().role(),
            role,
            "{groups}"
        );
        events.push(session);
    }
    // Her older sessions have only the role of the newest login.
    let oldest = sg.with_token(&events[0].session_token).current_identity().await.unwrap();
    assert_eq!(oldest.role(), pb::Role::Operator);
    let listed = pb::ListEventsRequest { page_size: 1000, ..Default::default() };
    let names = async || {
        let all =
            sg.admin().events().list_events(listed.clone()).await.unwrap().into_inner().events;
        all.into_iter().filter(|event| event.name == "user.updated").count()
    };
    eventually("the changes of role are events", || async { names().await >= 3 }).await;
    sg.finish().await;
}

async fn an_issuer_without_role_mapping_changes_no_role(sg: TestServer) {
    let session = sg
        .log_in_as("partner", "1", "bo@partner.example", json!({ "groups": "ops" }))
        .await
        .unwrap();
    assert_eq!(session.role(), pb::Role::None, "a new account has no role");
    sg.set_user("bo@partner.example", "role = 'viewer'").await;
    assert_eq!(sg.oidc_login("partner").await.unwrap().role(), pb::Role::Viewer);
    sg.finish().await;
}

async fn the_role_of_the_last_active_admin_is_not_lowered_by_its_issuer(sg: TestServer) {
    sg.log_in_as("corp", "1", "ana@corp.example", json!({ "groups": "ops" })).await.unwrap();
    sg.set_user("ana@corp.example", "role = 'admin'").await;
    sg.set_user(ADMIN_EMAIL, "is_active = false").await;
    let session = sg.oidc_login("corp").await.unwrap();
    assert_eq!(session.role(), pb::Role::Admin);
    // With another active admin, she gets the role from her issuer.
    sg.set_user(ADMIN_EMAIL, "is_active = true").await;
    assert_eq!(sg.oidc_login("corp").await.unwrap().role(), pb::Role::Operator);
    assert_eq!(
        sg.with_token(&session.session_token).current_identity().await.unwrap().role(),
        pb::Role::Operator
    );
    sg.finish().await;
}

async fn concurrent_first_logins_create_one_account(sg: TestServer) {
    sg.issuer("corp")
        .send(IssuerCommand::Login(json!({
            "sub": "1", "email": "ana@corp.example", "email_verified": true, "groups": "all",
        })))
        .await;
    let (a, b, c) =
        tokio::join!(sg.oidc_login("corp"), sg.oidc_login("corp"), sg.oidc_login("corp"));
    let mut principals = vec![];
    for session in [a, b, c] {
        principals.push(
            sg.with_token(&session.unwrap().session_token)
                .current_identity()
                .await
                .unwrap()
                .principal,
        );
    }
    principals.dedup();
    assert_eq!(principals.len(), 1, "{principals:?}");
    sg.finish().await;
}
