//! T15: the device flow, for the device and for the approving user.

use std::time::Duration;

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::device_codes::worker::EXPIRY;
use shoreguard::workers;
use tonic::Status;

use super::derived::{open_watch, wait_stream_end};
use super::{
    CLIENT, create_key_for, discover, entries, list_names, request_token, start_gateway,
    token_by_refresh, url_path,
};
use crate::support::dump;
use crate::support::http::{HttpResponse, get, post};
use crate::support::people::PASSWORD;
use crate::support::server::TestServer;

pub(super) const GRANT: (&str, &str) =
    ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
pub(super) const ANA: &str = "ana@example.com";

/// Enables the device flow.
pub(super) fn people(config: &mut Config) {
    config.token_service.device_flow = true;
}

/// The code that the client shows, the code that it polls with, and the response.
pub(super) struct Device {
    pub(super) shown: String,
    pub(super) polls: String,
    answer: HttpResponse,
}

/// Requests a device code, as `gateway add` does without a key and without a browser.
pub(super) async fn device(sg: &TestServer, gateway: &str) -> Device {
    let document = discover(sg, gateway).await;
    let endpoint = document["device_authorization_endpoint"].as_str().unwrap();
    let form = [CLIENT, ("scope", "openid")];
    let answer = post(sg.address, &url_path(sg, endpoint), &form, &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    Device { shown: answer.text("user_code"), polls: answer.text("device_code"), answer }
}

/// Polls once, after the minimum interval.
pub(super) async fn poll(sg: &TestServer, gateway: &str, device: &Device) -> HttpResponse {
    sg.pass(Duration::from_secs(5)).await;
    request_token(sg, gateway, &[GRANT, ("device_code", &device.polls), CLIENT]).await
}

pub(super) async fn decide(
    sg: &TestServer,
    session: &str,
    code: &str,
    decision: Option<pb::DeviceDecision>,
) -> Result<pb::ApproveDeviceResponse, Status> {
    let request = pb::ApproveDeviceRequest {
        user_code: code.to_owned(),
        decision: decision.unwrap_or_default().into(),
        validate_only: decision.is_none(),
        ..Default::default()
    };
    sg.with_token(session).auth().approve_device(request).await.map(tonic::Response::into_inner)
}

pub(super) const APPROVE: Option<pb::DeviceDecision> = Some(pb::DeviceDecision::Approve);
const DENY: Option<pb::DeviceDecision> = Some(pb::DeviceDecision::Deny);

/// Returns the tokens of a device that `session` approves.
async fn approved(sg: &TestServer, session: &str, gateway: &str) -> HttpResponse {
    let device = device(sg, gateway).await;
    decide(sg, session, &device.shown, APPROVE).await.unwrap();
    let answer = poll(sg, gateway, &device).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn sessions(sg: &TestServer, session: &str) -> Vec<pb::Session> {
    let request = pb::ListSessionsRequest::default();
    let listed =
        sg.with_token(session).auth().list_sessions(request).await.unwrap().into_inner().sessions;
    listed.into_iter().filter(|session| session.kind() == pb::SessionKind::Device).collect()
}

pub(super) fn refused(error: &str) -> (u16, String) {
    (400, error.to_owned())
}

server_tests! {
    tuned people;
    an_approved_device_can_call_the_gateway,
    t15_a_device_code_is_valid_once_and_for_ten_minutes,
    t15_a_user_has_five_wrong_attempts,
    t15_concurrent_guesses_share_the_limit_of_attempts,
    t15_approval_requires_a_user_with_a_recent_login,
    t15_a_code_for_an_invisible_gateway_is_not_found,
    t15_a_device_code_is_typed_by_the_user_and_not_stored,
    t15_the_number_of_pending_device_codes_is_limited,
    t14_device_tokens_end_with_their_session_the_password_or_the_approving_session,
    t03_a_refresh_token_is_accepted_only_where_it_was_issued,
}

async fn an_approved_device_can_call_the_gateway(sg: TestServer) {
    let (alpha, beta) = (start_gateway(&sg, "alpha").await, start_gateway(&sg, "beta").await);
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let device = device(&sg, "alpha").await;
    assert_eq!(
        (device.answer.json()["expires_in"].as_u64(), device.answer.json()["interval"].as_u64()),
        (Some(600), Some(5))
    );
    assert_eq!(poll(&sg, "alpha", &device).await.refusal(), refused("authorization_pending"));
    let about = decide(&sg, &ana, &device.shown, None).await.unwrap();
    assert_eq!(
        (about.gateway.as_str(), about.role(), about.client_ip.as_str()),
        ("alpha", pb::Role::Operator, "127.0.0.1")
    );
    assert_eq!(
        poll(&sg, "alpha", &device).await.refusal(),
        refused("authorization_pending"),
        "a look decides nothing"
    );
    decide(&sg, &ana, &device.shown.to_lowercase().replace('-', " "), APPROVE).await.unwrap();
    let answer = poll(&sg, "alpha", &device).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text("token_type").as_str()),
        (200, "Bearer"),
        "{answer:?}"
    );
    assert!(answer.json()["expires_in"].as_u64().unwrap() <= 15 * 60);
    let caller = sg.with_token(&answer.text("access_token"));
    assert_eq!(list_names(&caller, None).await.unwrap(), "alpha");
    assert_refused!(list_names(&caller, Some("beta")).await, PermissionDenied, "CREDENTIAL_BOUND");
    let who = caller
        .auth()
        .get_current_identity(pb::GetCurrentIdentityRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((who.actor.as_str(), who.bound_gateway.as_str()), (ANA, "alpha"));
    let listed = sessions(&sg, &ana).await;
    assert_eq!(
        (listed.len(), listed[0].gateway.as_str(), listed[0].client_ip.as_str()),
        (1, "alpha", "127.0.0.1")
    );

    // The client refreshes by itself, once per refresh token, at its own gateway.
    sg.pass(Duration::from_mins(16)).await;
    assert_refused!(list_names(&caller, None).await, Unauthenticated, "CREDENTIAL_INVALID");
    let first = answer.text("refresh_token");
    assert_eq!(token_by_refresh(&sg, "beta", &first).await.refusal(), refused("invalid_grant"));
    let again = token_by_refresh(&sg, "alpha", &first).await;
    assert_eq!(
        list_names(&sg.with_token(&again.text("access_token")), None).await.unwrap(),
        "alpha"
    );
    assert_eq!(token_by_refresh(&sg, "alpha", &first).await.refusal(), refused("invalid_grant"));
    assert_refused!(
        list_names(&sg.with_token(&again.text("access_token")), None).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    assert_eq!(
        entries(&sg, "gateway_token.issue").await.iter().filter(|entry| entry.actor == ANA).count(),
        3
    );
    assert_eq!(entries(&sg, "device_code.approve").await.len(), 2);
    alpha.stop().await;
    beta.stop().await;
    sg.finish().await;
}

async fn t15_a_device_code_is_valid_once_and_for_ten_minutes(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let (used, denied) = (device(&sg, "alpha").await, device(&sg, "alpha").await);
    decide(&sg, &ana, &used.shown, APPROVE).await.unwrap();
    assert_refused!(decide(&sg, &ana, &used.shown, DENY).await, NotFound, "NOT_FOUND");
    assert_eq!(poll(&sg, "alpha", &used).await.status, 200);
    assert_eq!(poll(&sg, "alpha", &used).await.refusal(), refused("invalid_grant"));
    assert_refused!(decide(&sg, &ana, &used.shown, APPROVE).await, NotFound, "NOT_FOUND");
    decide(&sg, &ana, &denied.shown, DENY).await.unwrap();
    assert_eq!(poll(&sg, "alpha", &denied).await.refusal(), refused("access_denied"));
    assert_refused!(decide(&sg, &ana, &denied.shown, APPROVE).await, NotFound, "NOT_FOUND");

    // A code of another gateway, a made-up code, and a poll that is too early.
    let late = device(&sg, "alpha").await;
    assert_eq!(poll(&sg, "nowhere", &late).await.refusal(), refused("invalid_grant"));
    let made_up = Device { polls: format!("sgd_{}", "A".repeat(43)), ..device(&sg, "alpha").await };
    assert_eq!(poll(&sg, "alpha", &made_up).await.refusal(), refused("invalid_grant"));
    assert_eq!(poll(&sg, "alpha", &late).await.refusal(), refused("authorization_pending"));
    let soon = [GRANT, ("device_code", late.polls.as_str()), CLIENT];
    assert_eq!(request_token(&sg, "alpha", &soon).await.refusal(), refused("slow_down"));
    sg.pass(Duration::from_mins(10)).await;
    assert_eq!(poll(&sg, "alpha", &late).await.refusal(), refused("expired_token"));
    let fresh = sg.login(ANA).await.bearer.0.unwrap();
    assert_refused!(decide(&sg, &fresh, &late.shown, APPROVE).await, NotFound, "NOT_FOUND");
    sg.pass(Duration::from_mins(11)).await;
    // Expires the lease of the worker that runs beside the test.
    sg.app.db.advance_clock(Duration::from_secs(31));
    workers::run_once(&sg.app, &EXPIRY).await.unwrap().unwrap();
    assert_eq!(dump::table(&sg.app.db, "device_codes").await, "");
    assert_eq!(dump::table(&sg.app.db, "device_tries").await, "");
    assert_eq!(poll(&sg, "alpha", &late).await.refusal(), refused("invalid_grant"));
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_a_user_has_five_wrong_attempts(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let (ana, ben) = (
        sg.create_user(ANA, pb::Role::Operator).await,
        sg.create_user("ben@example.com", pb::Role::Operator).await,
    );
    let device = device(&sg, "alpha").await;
    let wrong = if device.shown == "BBBB-BBBB" { "CCCC-CCCC" } else { "BBBB-BBBB" };
    for typed in ["", "ABCD-EFGH", "BCDF-GHJ", "BCDF-GHJKL"] {
        assert_refused!(decide(&sg, &ana, typed, APPROVE).await, InvalidArgument, "INVALID_FIELD");
    }
    for n in 0..5 {
        // Reading a code counts as a try.
        let refused = decide(&sg, &ana, wrong, if n % 2 == 0 { APPROVE } else { None }).await;
        assert_refused!(refused, NotFound, "NOT_FOUND");
        if n < 4 {
            decide(&sg, &ana, &device.shown, None).await.unwrap();
        }
    }
    assert_refused!(
        decide(&sg, &ana, &device.shown, APPROVE).await,
        ResourceExhausted,
        "RATE_LIMITED"
    );
    decide(&sg, &ben, &device.shown, None).await.unwrap();
    sg.pass(Duration::from_mins(10)).await;
    let fresh = sg.login(ANA).await.bearer.0.unwrap();
    let later = crate::token_service::devices::device(&sg, "alpha").await;
    decide(&sg, &fresh, &later.shown, APPROVE).await.unwrap();
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_concurrent_guesses_share_the_limit_of_attempts(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let guesses = (0..20).map(|_| decide(&sg, &ana, "BBBB-BBBB", APPROVE));
    let answers = futures_util::future::join_all(guesses).await;
    let tried = answers
        .iter()
        .filter(|answer| answer.as_ref().unwrap_err().code() == tonic::Code::NotFound);
    assert_eq!(tried.count(), 5);
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_approval_requires_a_user_with_a_recent_login(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let tokens = approved(&sg, &ana, "alpha").await;
    let asking = device(&sg, "alpha").await;
    let key = create_key_for(&sg, "ci", &["alpha"]).await;
    assert_refused!(
        decide(&sg, &key, &asking.shown, APPROVE).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    let bound = tokens.text("access_token");
    assert_refused!(
        decide(&sg, &bound, &asking.shown, APPROVE).await,
        PermissionDenied,
        "CREDENTIAL_BOUND"
    );
    assert_refused!(
        decide(&sg, &tokens.text("refresh_token"), &asking.shown, APPROVE).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.pass(Duration::from_mins(10)).await;
    let later = device(&sg, "alpha").await;
    for decision in [APPROVE, DENY, None] {
        assert_refused!(
            decide(&sg, &ana, &later.shown, decision).await,
            FailedPrecondition,
            "LOGIN_STALE"
        );
    }
    let unsaid = pb::ApproveDeviceRequest { user_code: later.shown.clone(), ..Default::default() };
    let fresh = sg.login(ANA).await;
    assert_refused!(fresh.auth().approve_device(unsaid).await, InvalidArgument, "INVALID_FIELD");
    decide(&sg, &fresh.bearer.0.unwrap(), &later.shown, APPROVE).await.unwrap();
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_a_code_for_an_invisible_gateway_is_not_found(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let eve = sg.create_user("eve@example.com", pb::Role::None).await;
    let mut messages = Vec::new();
    for name in ["alpha", "nowhere"] {
        let device = device(&sg, name).await;
        let missing =
            assert_refused!(decide(&sg, &eve, &device.shown, APPROVE).await, NotFound, "NOT_FOUND");
        assert!(!missing.message().contains(&device.shown));
        messages.push(missing.message().to_owned());
    }
    let unknown =
        assert_refused!(decide(&sg, &eve, "BBBB-BBBB", APPROVE).await, NotFound, "NOT_FOUND");
    messages.push(unknown.message().to_owned());
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_a_device_code_is_typed_by_the_user_and_not_stored(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let asking = device(&sg, "alpha").await;
    assert!(asking.answer.json().get("verification_uri_complete").is_none());
    let page = url_path(&sg, &asking.answer.text("verification_uri"));
    assert_eq!(page, "/gateways/alpha/device");
    let (there, nowhere) =
        (get(sg.address, &page).await, get(sg.address, "/gateways/nowhere/device").await);
    assert_eq!((there.status.as_u16(), nowhere.status.as_u16()), (200, 200));
    let text = |answer: &HttpResponse, name: &str| {
        String::from_utf8_lossy(&answer.body).replace(name, "X")
    };
    assert_eq!(text(&there, "alpha"), text(&nowhere, "nowhere"));
    assert!(there.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(
        there.headers["content-security-policy"],
        "default-src 'none'; frame-ancestors 'none'"
    );
    // A link with the code only shows the page.
    get(sg.address, &format!("{page}?user_code={}", asking.shown)).await;
    assert_eq!(poll(&sg, "alpha", &asking).await.refusal(), refused("authorization_pending"));
    decide(&sg, &ana, &asking.shown, APPROVE).await.unwrap();
    let tokens = poll(&sg, "alpha", &asking).await;
    let letters = asking.shown.replace('-', "");
    sg.app.audit.wait_settled().await;
    for table in ["device_codes", "sessions", "audit_log", "events", "idempotency_keys"] {
        let dump = dump::table(&sg.app.db, table).await;
        for secret in [
            &asking.shown,
            &letters,
            &asking.polls,
            &asking.polls[4..],
            &tokens.text("refresh_token"),
            &tokens.text("access_token"),
        ] {
            assert!(!dump.contains(secret), "a secret is stored in {table} in plain text");
        }
    }
    assert!(dump::table(&sg.app.db, "device_codes").await.contains("consumed"));
    alpha.stop().await;
    sg.finish().await;
}

async fn t15_the_number_of_pending_device_codes_is_limited(sg: TestServer) {
    let form = [CLIENT];
    let path = "/gateways/alpha/device_authorization";
    for _ in 0..20 {
        assert_eq!(post(sg.address, path, &form, &[]).await.status, 200);
    }
    let refused = post(sg.address, path, &form, &[]).await;
    assert_eq!(refused.refusal(), (429, "slow_down".to_owned()));
    sg.pass(Duration::from_mins(10)).await;
    assert_eq!(post(sg.address, path, &form, &[]).await.status, 200);
    assert_eq!(
        entries(&sg, "").await.iter().filter(|entry| entry.method.contains("device")).count(),
        0
    );
    sg.finish().await;
}

async fn t14_device_tokens_end_with_their_session_the_password_or_the_approving_session(
    sg: TestServer,
) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    // Revoked in the list of sessions.
    let tokens = approved(&sg, &ana, "alpha").await;
    let stream = open_watch(&sg.with_token(&tokens.text("access_token"))).await;
    let id = sessions(&sg, &ana).await[0].id;
    let revoke = pb::RevokeSessionRequest { session_id: id, ..Default::default() };
    sg.with_token(&ana).auth().revoke_session(revoke).await.unwrap();
    assert_eq!(wait_stream_end(stream).await.code(), tonic::Code::Unauthenticated);
    assert_eq!(
        token_by_refresh(&sg, "alpha", &tokens.text("refresh_token")).await.refusal(),
        refused("invalid_grant")
    );
    // The password is changed, in one case between the approval and the poll.
    let tokens = approved(&sg, &ana, "alpha").await;
    let pending = device(&sg, "alpha").await;
    decide(&sg, &ana, &pending.shown, APPROVE).await.unwrap();
    let stream = open_watch(&sg.with_token(&tokens.text("access_token"))).await;
    let change = pb::ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: "another password of theirs".to_owned(),
        ..Default::default()
    };
    let ana = sg
        .with_token(&ana)
        .auth()
        .change_password(change)
        .await
        .unwrap()
        .into_inner()
        .session_token;
    assert_eq!(wait_stream_end(stream).await.code(), tonic::Code::Unauthenticated);
    assert_eq!(
        token_by_refresh(&sg, "alpha", &tokens.text("refresh_token")).await.refusal(),
        refused("invalid_grant")
    );
    assert_eq!(poll(&sg, "alpha", &pending).await.refusal(), refused("access_denied"));
    // The session that approved ends before the poll.
    let pending = device(&sg, "alpha").await;
    decide(&sg, &ana, &pending.shown, APPROVE).await.unwrap();
    sg.with_token(&ana).auth().logout(pb::LogoutRequest::default()).await.unwrap();
    assert_eq!(poll(&sg, "alpha", &pending).await.refusal(), refused("access_denied"));
    alpha.stop().await;
    sg.finish().await;
}

async fn t03_a_refresh_token_is_accepted_only_where_it_was_issued(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let tokens = approved(&sg, &ana, "alpha").await;
    // A device's refresh token at Shoreguard's API, other credentials at the token service, and other codes as a
    // device code.
    let ours = pb::RefreshSessionRequest { refresh_token: tokens.text("refresh_token") };
    assert_refused!(
        sg.anonymous().auth().refresh_session(ours).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let login = pb::LoginRequest { email: ANA.into(), password: PASSWORD.into() };
    let session = sg.anonymous().auth().login(login).await.unwrap().into_inner();
    let pending = device(&sg, "alpha").await;
    for other in [
        &session.refresh_token,
        &session.session_token,
        &sg.admin_key,
        &pending.polls,
        &tokens.text("access_token"),
    ] {
        assert_eq!(token_by_refresh(&sg, "alpha", other).await.refusal(), refused("invalid_grant"));
    }
    for other in
        [&session.refresh_token, &tokens.text("refresh_token"), &sg.admin_key, &pending.shown]
    {
        let poll = [GRANT, ("device_code", other.as_str()), CLIENT];
        assert_eq!(request_token(&sg, "alpha", &poll).await.refusal(), refused("invalid_grant"));
    }
    let with_secret =
        [GRANT, ("device_code", &pending.polls), CLIENT, ("client_secret", &sg.admin_key)];
    assert_eq!(
        request_token(&sg, "alpha", &with_secret).await.refusal(),
        refused("invalid_request")
    );
    // None of these attempts has ended the session.
    assert_eq!(token_by_refresh(&sg, "alpha", &tokens.text("refresh_token")).await.status, 200);
    alpha.stop().await;
    sg.finish().await;
}

server_tests! { t15_device_codes_are_disabled_unless_configured }

async fn t15_device_codes_are_disabled_unless_configured(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let document = discover(&sg, "alpha").await;
    assert!(document.get("device_authorization_endpoint").is_none());
    assert_eq!(document["grant_types_supported"], serde_json::json!(["client_credentials"]));
    assert_eq!(
        post(sg.address, "/gateways/alpha/device_authorization", &[CLIENT], &[]).await.status,
        404
    );
    assert_eq!(get(sg.address, "/gateways/alpha/device").await.status, 404);
    let poll = [GRANT, ("device_code", "sgd_x"), CLIENT];
    assert_eq!(
        request_token(&sg, "alpha", &poll).await.refusal(),
        refused("unsupported_grant_type")
    );
    assert_eq!(
        token_by_refresh(&sg, "alpha", "sgr_x").await.refusal(),
        refused("unsupported_grant_type")
    );
    alpha.stop().await;
    sg.finish().await;
}
