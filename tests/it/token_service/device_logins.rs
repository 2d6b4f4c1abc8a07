//! T15: logins on a device, for a session of Shoreguard's own API.

use std::time::Duration;

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use tonic::Status;

use super::devices::{ANA, APPROVE, decide, device, people, poll, refused};
use super::{entries, start_gateway};
use crate::support::dump;
use crate::support::server::TestServer;

pub(super) const SESSION: pb::DeviceScope = pb::DeviceScope::Session;
/// Minimum interval between two polls.
const INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn with_logins(config: &mut Config) {
    config.auth.device_login = true;
}

pub(super) fn with_both_flows(config: &mut Config) {
    with_logins(config);
    people(config);
}

pub(super) async fn begin(sg: &TestServer) -> pb::BeginDeviceLoginResponse {
    try_to_begin(sg).await.unwrap()
}

pub(super) async fn try_to_begin(sg: &TestServer) -> Result<pb::BeginDeviceLoginResponse, Status> {
    let request = pb::BeginDeviceLoginRequest {};
    sg.anonymous().auth().begin_device_login(request).await.map(tonic::Response::into_inner)
}

/// Polls without waiting.
pub(super) async fn complete_now(
    sg: &TestServer,
    device_code: &str,
) -> Result<pb::CompleteDeviceLoginResponse, Status> {
    let request = pb::CompleteDeviceLoginRequest { device_code: device_code.to_owned() };
    sg.anonymous().auth().complete_device_login(request).await.map(tonic::Response::into_inner)
}

/// Polls after the minimum interval.
pub(super) async fn complete(
    sg: &TestServer,
    begun: &pb::BeginDeviceLoginResponse,
) -> Result<pb::CompleteDeviceLoginResponse, Status> {
    sg.pass(INTERVAL).await;
    complete_now(sg, &begun.device_code).await
}

pub(super) async fn approve(
    sg: &TestServer,
    session: &str,
    begun: &pb::BeginDeviceLoginResponse,
    scope: pb::DeviceScope,
) -> Result<pb::ApproveDeviceResponse, Status> {
    let request = pb::ApproveDeviceRequest {
        user_code: begun.user_code.clone(),
        decision: pb::DeviceDecision::Approve.into(),
        scope: scope.into(),
        ..Default::default()
    };
    sg.with_token(session).auth().approve_device(request).await.map(tonic::Response::into_inner)
}

async fn who(sg: &TestServer, token: &str) -> Result<pb::GetCurrentIdentityResponse, Status> {
    let request = pb::GetCurrentIdentityRequest {};
    sg.with_token(token).auth().get_current_identity(request).await.map(tonic::Response::into_inner)
}

/// Returns the session of a device that `session` approves.
async fn logged_in(sg: &TestServer, session: &str) -> pb::CompleteDeviceLoginResponse {
    let begun = begin(sg).await;
    approve(sg, session, &begun, SESSION).await.unwrap();
    complete(sg, &begun).await.unwrap()
}

server_tests! {
    tuned with_logins;
    a_device_gets_a_session_of_the_user_who_approves_it,
    t15_an_approval_that_names_no_session_gives_none,
    t15_a_login_code_is_valid_once_and_for_ten_minutes,
    t15_concurrent_completions_start_one_session,
    t15_the_session_of_a_device_is_no_recent_login,
    t15_login_codes_are_not_stored,
    t14_a_device_login_ends_with_the_approving_session_and_with_the_account,
    t16_login_codes_and_their_entries_are_limited_per_address,
}

async fn a_device_gets_a_session_of_the_user_who_approves_it(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let begun = begin(&sg).await;
    assert_eq!(begun.poll_interval_seconds, 5);
    assert_refused!(complete(&sg, &begun).await, FailedPrecondition, "DEVICE_LOGIN_PENDING");
    assert_refused!(complete_now(&sg, &begun.device_code).await, ResourceExhausted, "RATE_LIMITED");
    let shown = decide(&sg, &ana, &begun.user_code, None).await.unwrap();
    assert_eq!((shown.scope(), shown.role()), (SESSION, pb::Role::Operator));
    assert_eq!((&*shown.gateway, &*shown.client_ip), ("", "127.0.0.1"));
    assert!(!shown.other_network && shown.request_time.is_some());
    assert_eq!(shown.expire_time, begun.expire_time);
    assert_refused!(complete(&sg, &begun).await, FailedPrecondition, "DEVICE_LOGIN_PENDING");
    approve(&sg, &ana, &begun, SESSION).await.unwrap();
    let session = complete(&sg, &begun).await.unwrap();
    assert_eq!((session.role(), &*session.email), (pb::Role::Operator, ANA));
    let identity = who(&sg, &session.session_token).await.unwrap();
    assert_eq!((&*identity.actor, &*identity.bound_gateway), (ANA, ""));

    let caller = sg.with_token(&session.session_token);
    let listed = caller.auth().list_sessions(pb::ListSessionsRequest::default()).await.unwrap();
    let current: Vec<_> = listed.into_inner().sessions.into_iter().filter(|s| s.current).collect();
    assert_eq!((current.len(), current[0].kind()), (1, pb::SessionKind::Device));
    assert_eq!(current[0].gateway, "");
    sg.pass(Duration::from_mins(16)).await;
    assert_refused!(who(&sg, &session.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    let next = sg.anonymous().auth().refresh_session(refresh).await.unwrap().into_inner();
    assert_eq!(who(&sg, &next.session_token).await.unwrap().actor, ANA);

    assert_eq!(entries(&sg, "device_code.begin_login").await.len(), 1);
    let approved = &entries(&sg, "device_code.approve").await[0];
    assert!(approved.detail_json.contains("session"), "{}", approved.detail_json);
    let logins = entries(&sg, "user.login").await;
    let by_code = logins.iter().filter(|entry| entry.detail_json.contains("device_code"));
    assert_eq!(by_code.map(|entry| &*entry.actor).collect::<Vec<_>>(), [ANA]);
    let request =
        pb::ListEventsRequest { names: vec!["device_code.approved".into()], ..Default::default() };
    let events = sg.admin().events().list_events(request).await.unwrap().into_inner().events;
    assert_eq!((events.len(), &*events[0].gateway), (1, ""));
    assert!(events[0].payload_json.contains("session"), "{}", events[0].payload_json);
    sg.finish().await;
}

async fn t15_an_approval_that_names_no_session_gives_none(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let begun = begin(&sg).await;
    // More often than wrong codes may be typed, since this code is not wrong.
    for _ in 0..4 {
        for scope in [pb::DeviceScope::Unspecified, pb::DeviceScope::Gateway] {
            let mismatch = assert_refused!(
                approve(&sg, &ana, &begun, scope).await,
                FailedPrecondition,
                "DEVICE_SCOPE_MISMATCH"
            );
            assert!(mismatch.message().contains("all of your access"), "{mismatch:?}");
        }
    }
    let unknown = pb::ApproveDeviceRequest {
        user_code: begun.user_code.clone(),
        decision: pb::DeviceDecision::Approve.into(),
        scope: 99,
        ..Default::default()
    };
    let unknown = sg.with_token(&ana).auth().approve_device(unknown).await;
    assert_refused!(unknown, InvalidArgument, "INVALID_FIELD");
    assert_refused!(complete(&sg, &begun).await, FailedPrecondition, "DEVICE_LOGIN_PENDING");
    // Denying names no scope.
    decide(&sg, &ana, &begun.user_code, Some(pb::DeviceDecision::Deny)).await.unwrap();
    assert_refused!(complete(&sg, &begun).await, PermissionDenied, "DEVICE_LOGIN_DENIED");
    assert_refused!(approve(&sg, &ana, &begun, SESSION).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn t15_a_login_code_is_valid_once_and_for_ten_minutes(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let (used, late) = (begin(&sg).await, begin(&sg).await);
    approve(&sg, &ana, &used, SESSION).await.unwrap();
    complete(&sg, &used).await.unwrap();
    let replayed = complete(&sg, &used).await;
    let replayed = assert_refused!(replayed, Unauthenticated, "CREDENTIAL_INVALID");
    let made_up = complete_now(&sg, &format!("sgd_{}", "A".repeat(43))).await;
    let made_up = assert_refused!(made_up, Unauthenticated, "CREDENTIAL_INVALID");
    assert_eq!(replayed.message(), made_up.message());
    // Approved in time, and polled too late.
    approve(&sg, &ana, &late, SESSION).await.unwrap();
    sg.pass(Duration::from_mins(10)).await;
    assert_refused!(complete(&sg, &late).await, Unauthenticated, "CREDENTIAL_INVALID");
    let fresh = sg.login(ANA).await.bearer.0.unwrap();
    assert_refused!(approve(&sg, &fresh, &late, SESSION).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn t15_concurrent_completions_start_one_session(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let begun = begin(&sg).await;
    approve(&sg, &ana, &begun, SESSION).await.unwrap();
    sg.pass(INTERVAL).await;
    let polls = (0..8).map(|_| complete_now(&sg, &begun.device_code));
    let answers = futures_util::future::join_all(polls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    sg.finish().await;
}

async fn t15_the_session_of_a_device_is_no_recent_login(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let first = logged_in(&sg, &ana).await;
    let refresh = pb::RefreshSessionRequest { refresh_token: first.refresh_token.clone() };
    let next = sg.anonymous().auth().refresh_session(refresh).await.unwrap().into_inner();
    for token in [&first.session_token, &next.session_token] {
        let begun = begin(&sg).await;
        assert_refused!(
            approve(&sg, token, &begun, SESSION).await,
            FailedPrecondition,
            "LOGIN_STALE"
        );
        let link = pb::LinkOidcIdentityRequest::default();
        assert_refused!(
            sg.with_token(token).auth().link_oidc_identity(link).await,
            FailedPrecondition,
            "LOGIN_STALE"
        );
    }
    sg.finish().await;
}

async fn t15_login_codes_are_not_stored(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let begun = begin(&sg).await;
    approve(&sg, &ana, &begun, SESSION).await.unwrap();
    let session = complete(&sg, &begun).await.unwrap();
    sg.app.audit.wait_settled().await;
    let letters = begun.user_code.replace('-', "");
    for table in ["device_codes", "sessions", "audit_log", "events", "idempotency_keys"] {
        let dump = dump::table(&sg.app.db, table).await;
        for secret in [
            &*begun.user_code,
            &letters,
            &begun.device_code,
            &begun.device_code[4..],
            &session.refresh_token,
            &session.session_token,
        ] {
            assert!(!dump.contains(secret), "a secret is stored in {table} in plain text");
        }
    }
    sg.finish().await;
}

async fn t14_a_device_login_ends_with_the_approving_session_and_with_the_account(sg: TestServer) {
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let begun = begin(&sg).await;
    approve(&sg, &ana, &begun, SESSION).await.unwrap();
    sg.with_token(&ana).auth().logout(pb::LogoutRequest::default()).await.unwrap();
    assert_refused!(complete(&sg, &begun).await, PermissionDenied, "DEVICE_LOGIN_DENIED");

    let ana = sg.login(ANA).await.bearer.0.unwrap();
    let session = logged_in(&sg, &ana).await;
    let begun = begin(&sg).await;
    approve(&sg, &ana, &begun, SESSION).await.unwrap();
    who(&sg, &session.session_token).await.unwrap();
    sg.deactivate(ANA).await;
    assert_refused!(complete(&sg, &begun).await, PermissionDenied, "DEVICE_LOGIN_DENIED");
    assert_refused!(who(&sg, &session.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    assert_refused!(
        sg.anonymous().auth().refresh_session(refresh).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.finish().await;
}

async fn t16_login_codes_and_their_entries_are_limited_per_address(sg: TestServer) {
    let mut begun = Vec::new();
    for _ in 0..20 {
        begun.push(begin(&sg).await);
    }
    for _ in 0..5 {
        assert_refused!(try_to_begin(&sg).await, ResourceExhausted, "RATE_LIMITED");
    }
    // Polling for a decision is not a refusal.
    assert_refused!(complete(&sg, &begun[0]).await, FailedPrecondition, "DEVICE_LOGIN_PENDING");
    sg.pass(Duration::from_mins(10)).await;
    begin(&sg).await;
    assert_eq!(entries(&sg, "device_code.begin_login").await.len(), 21);
    sg.app.audit.drain().await;
    let log = dump::table(&sg.app.db, "audit_log").await;
    assert!(log.contains("RATE_LIMITED") && !log.contains("DEVICE_LOGIN_PENDING"), "{log}");
    sg.finish().await;
}

server_tests! {
    tuned with_both_flows;
    t03_a_code_is_valid_only_for_its_scope,
}

async fn t03_a_code_is_valid_only_for_its_scope(sg: TestServer) {
    let alpha = start_gateway(&sg, "alpha").await;
    let ana = sg.create_user(ANA, pb::Role::Operator).await;
    let (login, mut of_gateway) = (begin(&sg).await, device(&sg, "alpha").await);
    approve(&sg, &ana, &login, SESSION).await.unwrap();
    let for_gateway = pb::ApproveDeviceRequest {
        user_code: of_gateway.shown.clone(),
        decision: pb::DeviceDecision::Approve.into(),
        scope: SESSION.into(),
        ..Default::default()
    };
    let wider = sg.with_token(&ana).auth().approve_device(for_gateway).await;
    assert_refused!(wider, FailedPrecondition, "DEVICE_SCOPE_MISMATCH");
    let shown = decide(&sg, &ana, &of_gateway.shown, APPROVE).await.unwrap();
    assert_eq!((shown.scope(), &*shown.gateway), (pb::DeviceScope::Gateway, "alpha"));

    let crossed = complete_now(&sg, &of_gateway.polls).await;
    assert_refused!(crossed, Unauthenticated, "CREDENTIAL_INVALID");
    let right = std::mem::replace(&mut of_gateway.polls, login.device_code.clone());
    assert_eq!(poll(&sg, "alpha", &of_gateway).await.refusal(), refused("invalid_grant"));
    of_gateway.polls = right;
    assert_eq!(poll(&sg, "alpha", &of_gateway).await.status, 200);
    complete(&sg, &login).await.unwrap();
    alpha.stop().await;
    sg.finish().await;
}

server_tests! { device_logins_are_off_by_default }

async fn device_logins_are_off_by_default(sg: TestServer) {
    assert_refused!(try_to_begin(&sg).await, FailedPrecondition, "FEATURE_DISABLED");
    assert_refused!(complete_now(&sg, "sgd_").await, FailedPrecondition, "FEATURE_DISABLED");
    let info = sg.anonymous().auth().get_server_info(pb::GetServerInfoRequest {}).await.unwrap();
    assert!(!info.into_inner().device_login_enabled);
    sg.finish().await;
}
