//! Sessions and accounts of people, who have other names in each form.

use serde_json::{Value, json};
use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::Role;

use super::super::FORMS;
use super::scene::{ADMIN, Form, Scene};
use crate::oidc::{AUDIENCE, completion_request, configure_issuers};
use crate::support::people::PASSWORD;
use crate::support::server::{Caller, TestServer};

/// Enables every way to get a session.
pub(super) fn configure(config: &mut Config) {
    configure_issuers(config);
    config.auth.device_login = true;
    config.auth.self_registration = true;
}

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    scene.write("password", PASSWORD);
    scene.write("next", "another password of theirs");
    sg.admin().create_key("robots", Role::Viewer).await;
    for form in FORMS {
        begin(sg, scene, form).await;
        link(sg, scene, form).await;
        end(sg, scene, form).await;
    }
}

/// Gets sessions: by an invitation, a registration, and a token of a workload.
async fn begin(sg: &TestServer, scene: &mut Scene, form: Form) {
    let invited = sg.admin().invite(&format!("eve-{}@example.com", form.1), Role::Viewer).await;
    let accept = "session accept-invite --invite-token - --password @{password}";
    scene.ok_with(form, ADMIN, accept, &invited).await;
    let register = "session register lea-{f}@example.com --password -";
    scene.ok_with(form, ADMIN, register, PASSWORD).await;
    let claims = json!({ "aud": AUDIENCE, "sub": "robot-7" });
    let token = sg.issuer("corp").access_token(claims).await;
    scene.ok_with(form, ADMIN, "session exchange corp --token -", &token).await;
}

/// Approves a device, links an identity of an issuer to the account, and removes it, which ends the session.
async fn link(sg: &TestServer, scene: &mut Scene, form: Form) {
    let email = format!("kim-{}@corp.example", form.1);
    sg.create_user(&email, Role::Viewer).await;
    scene.add_caller("kim", sg.login(&email).await.bearer.0.as_deref().unwrap());
    let device = sg.anonymous().auth().begin_device_login(pb::BeginDeviceLoginRequest {}).await;
    let code = device.unwrap().into_inner().user_code;
    let approve = "session approve-device --user-code - --decision approve --scope session";
    scene.ok_with(form, "kim", approve, &code).await;

    let issuer = sg.issuer("corp");
    issuer.set_person(form.1, &email, Value::Null).await;
    let begun = sg.begin_login("corp").await;
    let back = issuer.log_in(&begun.authorization_url).await;
    let end = completion_request(&begun.login_token, &back);
    scene.write("login", &end.login_token);
    scene.set("state", end.state);
    scene.set("issuer", end.issuer);
    let link =
        "session link-oidc --login-token @{login} --code - --state={state} --issuer={issuer}";
    scene.ok_with(form, "kim", link, &end.code).await;
    scene.ok(form, "kim", "session unlink-oidc").await;
}

/// Ends sessions: a chosen one, and all by another password.
async fn end(sg: &TestServer, scene: &mut Scene, form: Form) {
    let email = format!("bob-{}@example.com", form.1);
    let session = sg.create_user(&email, Role::Viewer).await;
    scene.add_caller("bob", &session);
    sg.login(&email).await;
    scene.set("session", other_session(&sg.with_token(&session)).await.to_string());
    scene.ok(form, "bob", "session list").await;
    scene.ok(form, "bob", "session revoke {session}").await;
    let change = "session change-password --current-password - --new-password @{next}";
    scene.ok_with(form, "bob", change, PASSWORD).await;
}

/// Returns the id of the session of a user that is not the current one.
async fn other_session(caller: &Caller) -> i64 {
    let request = pb::ListSessionsRequest::default();
    let listed = caller.auth().list_sessions(request).await.unwrap().into_inner();
    listed.sessions.iter().find(|session| !session.current).unwrap().id
}
