//! Rights to operations: running work and waiting calls of a caller who is revoked or demoted.

use std::time::{Duration, Instant};

use http::HeaderMap;
use serde_json::json;
use shoreguard::access::authn::token::TokenGrant;
use shoreguard::access::principal::Caller as Known;
use shoreguard::db::Engine;
use shoreguard::feed;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::{OperationErrorCode as Code, OperationStatus as Status};

use crate::access_bindings::{set_role_request, subject_of};
use crate::boot_hook_runs::{is_alive, wait_for_waiting};
use crate::boot_hooks::{PRE, create_hook, hook_request, start_gateway, with_folder};
use crate::operation_leases::{RESUMING, run_once, start_and_kill};
use crate::support::eventually;
use crate::support::people::PASSWORD;
use crate::support::server::{Caller, TestServer, run_without_jobs};
use crate::support::work::{HeldOperation, OperationSpec};

/// Time for work to stop: one second, plus the delay of a busy machine. Less than the maximum time of a wait.
const STOPS_WITHIN: Duration = Duration::from_secs(50);
const ANA: &str = "ana@example.com";

/// Authenticates a credential.
fn caller(sg: &TestServer, credential: &str) -> Known {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {credential}").parse().unwrap());
    sg.app.authn.authenticate(&headers, None, &sg.app.snapshot, None).unwrap().unwrap()
}

/// Starts work on `edge` with a credential. It runs until it is stopped.
async fn held(sg: &TestServer, credential: &str) -> HeldOperation {
    sg.start_held(&OperationSpec {
        key: credential.to_owned(),
        exec: true,
        ..sg.operation_spec("edge", "box")
    })
    .await
}

/// Creates Ana, who is admin of the gateway `edge` only and may start the work of these tests. Returns her session.
async fn ana(sg: &TestServer) -> String {
    let session = sg.create_user(ANA, pb::Role::None).await;
    bind_ana(sg, pb::Role::Admin).await;
    session
}

async fn bind_ana(sg: &TestServer, role: pb::Role) {
    let subject = subject_of(pb::subject::Subject::User(ANA.to_owned()));
    let request =
        pb::SetGatewayRoleRequest { subject: Some(subject), ..set_role_request("", "edge", role) };
    sg.admin().access().set_gateway_role(request).await.unwrap();
}

async fn stopped(sg: &TestServer, id: &str, since: Instant, why: &str) {
    let ended = sg.admin().wait_operation(id).await;
    assert!(since.elapsed() < STOPS_WITHIN, "{:?}", since.elapsed());
    assert_eq!(
        (ended.status(), ended.error_code()),
        (Status::Failed, Code::Cancelled),
        "{ended:?}"
    );
    assert!(ended.error_message.contains(why), "{ended:?}");
}

/// Waits for an operation with the maximum timeout.
async fn wait(caller: Caller, id: String) -> Result<pb::Operation, tonic::Status> {
    let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = pb::WaitOperationRequest { operation: id, timeout };
    Ok(caller.operations().wait_operation(request).await?.into_inner().operation.unwrap())
}

/// Waits until `count` streams and waiting calls are registered.
async fn registered(sg: &TestServer, count: usize) {
    eventually("they are registered", || async { sg.app.live.count() >= count }).await;
}

/// A way in which Ana loses her credential or her role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Deactivated,
    Deleted,
    SessionRevoked,
    SessionsRevoked,
    PasswordReset,
    PasswordChanged,
    LoggedOut,
    Demoted,
    LockedOut,
}

async fn lose(sg: &TestServer, session: &str, loss: Loss) {
    let (admin, user, ana) = (sg.admin(), ANA.to_owned(), sg.with_token(session));
    match loss {
        Loss::Deactivated => sg.deactivate(ANA).await,
        Loss::Deleted => {
            let request = pb::DeleteUserRequest { user, ..Default::default() };
            admin.users().delete_user(request).await.unwrap();
        }
        Loss::SessionRevoked => {
            let session_id = caller(sg, session).session().unwrap().get();
            let request = pb::RevokeUserSessionsRequest { user, session_id, ..Default::default() };
            admin.users().revoke_user_sessions(request).await.unwrap();
        }
        Loss::SessionsRevoked => {
            let request = pb::RevokeUserSessionsRequest { user, ..Default::default() };
            admin.users().revoke_user_sessions(request).await.unwrap();
        }
        Loss::PasswordReset => {
            let request = pb::ResetPasswordRequest { user, ..Default::default() };
            admin.users().reset_password(request).await.unwrap();
        }
        Loss::PasswordChanged => {
            let request = pb::ChangePasswordRequest {
                current_password: PASSWORD.to_owned(),
                new_password: "another password of hers".to_owned(),
                ..Default::default()
            };
            ana.auth().change_password(request).await.unwrap();
        }
        Loss::LoggedOut => {
            ana.auth().logout(pb::LogoutRequest::default()).await.unwrap();
        }
        Loss::Demoted => bind_ana(sg, pb::Role::Viewer).await,
        Loss::LockedOut => bind_ana(sg, pb::Role::None).await,
    }
}

server_tests! {
    t14_an_operation_stops_when_its_caller_loses_the_right_to_it,
    an_operation_continues_after_its_token_expires_and_with_a_sufficient_role,
    an_operation_continues_after_a_key_rotation_with_overlap,
    t14_a_waiting_call_is_refused_when_its_caller_loses_the_right_to_it,
}

async fn t14_an_operation_stops_when_its_caller_loses_the_right_to_it(sg: TestServer) {
    sg.register_unreachable("edge").await;
    for loss in [
        Loss::Deactivated,
        Loss::Deleted,
        Loss::SessionRevoked,
        Loss::SessionsRevoked,
        Loss::PasswordReset,
        Loss::PasswordChanged,
        Loss::LoggedOut,
        Loss::Demoted,
        Loss::LockedOut,
    ] {
        let session = ana(&sg).await;
        let held = held(&sg, &session).await;
        let since = Instant::now();
        lose(&sg, &session, loss).await;
        let why = if matches!(loss, Loss::Demoted | Loss::LockedOut) {
            "too low"
        } else {
            "no longer valid"
        };
        stopped(&sg, &held.id, since, why).await;
        if loss != Loss::Deleted {
            lose(&sg, &session, Loss::Deleted).await;
        }
    }
    sg.finish().await;
}

async fn an_operation_continues_after_its_token_expires_and_with_a_sufficient_role(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let session = ana(&sg).await;
    let known = caller(&sg, &session);
    let now = sg.app.clock.now();
    let short = TokenGrant {
        principal: known.principal(),
        version: known.version(),
        session: known.session(),
        gateway: None,
        authenticated_at: known.authenticated_at(),
        issued_at: now,
        expires_at: now.plus(Duration::from_secs(10)),
    };
    let short = sg.app.authn.tokens.issue(&short).unwrap();
    let held = held(&sg, &short).await;
    let waiting = sg.app.spawn(wait(sg.with_token(&short), held.id.clone()));
    registered(&sg, 1).await;
    // Less than the duration of a lease.
    sg.app.clock.advance(Duration::from_secs(20));
    feed::refresh(&sg.app).await.unwrap();
    sg.app.live.recheck_all(&sg.app.snapshot);
    assert_refused!(waiting.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    assert!(!held.running.cancel().is_cancelled(), "its token has ended as planned");
    bind_ana(&sg, pb::Role::Operator).await;
    assert!(!held.running.cancel().is_cancelled(), "an operator may have begun it, too");
    let id = held.id.clone();
    held.finish(Ok(json!({})));
    assert_eq!(sg.admin().wait_operation(&id).await.status(), Status::Succeeded);
    sg.finish().await;
}

async fn an_operation_continues_after_a_key_rotation_with_overlap(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    let key = admin.create_key("ci", pb::Role::Admin).await;
    let held = held(&sg, &key).await;
    let rotate = |seconds| pb::RotateServicePrincipalRequest {
        service_principal: "ci".to_owned(),
        overlap: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..Default::default()
    };
    admin.service_principals().rotate_service_principal(rotate(5)).await.unwrap();
    sg.app.clock.advance(Duration::from_secs(10));
    feed::refresh(&sg.app).await.unwrap();
    sg.app.live.recheck_all(&sg.app.snapshot);
    assert!(!held.running.cancel().is_cancelled(), "the overlap has ended as planned");
    let since = Instant::now();
    admin.service_principals().rotate_service_principal(rotate(0)).await.unwrap();
    stopped(&sg, &held.id, since, "no longer valid").await;
    sg.finish().await;
}

async fn t14_a_waiting_call_is_refused_when_its_caller_loses_the_right_to_it(sg: TestServer) {
    sg.register_unreachable("edge").await;
    let admin = sg.admin();
    // Another caller has started it, so that the operation itself continues.
    let held = sg.start_held(&sg.operation_spec("edge", "box")).await;
    #[expect(
        clippy::async_yields_async,
        reason = "the call and the test continue at the same time"
    )]
    let operator = async || {
        let key = admin.create_key("ops", pb::Role::None).await;
        admin.bind("ops", "edge", pb::Role::Operator).await;
        let waiting = sg.app.spawn(wait(sg.with_token(&key), held.id.clone()));
        registered(&sg, 1).await;
        waiting
    };
    let delete = async || {
        let request = pb::DeleteServicePrincipalRequest {
            service_principal: "ops".into(),
            ..Default::default()
        };
        admin.service_principals().delete_service_principal(request).await.unwrap();
    };
    let since = Instant::now();
    let waiting = operator().await;
    delete().await;
    assert_refused!(waiting.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    let waiting = operator().await;
    admin.bind("ops", "edge", pb::Role::Viewer).await;
    assert_refused!(waiting.await.unwrap(), PermissionDenied, "ROLE_TOO_LOW");
    delete().await;
    let waiting = operator().await;
    admin.bind("ops", "edge", pb::Role::None).await;
    assert_refused!(waiting.await.unwrap(), NotFound, "NOT_FOUND");
    delete().await;
    // The caller who has started the operation needs no role to see it, but a valid credential.
    let key = admin.create_key("ops", pb::Role::Admin).await;
    let own = self::held(&sg, &key).await;
    let waiting = sg.app.spawn(wait(sg.with_token(&key), own.id.clone()));
    registered(&sg, 1).await;
    delete().await;
    assert_refused!(waiting.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    assert!(since.elapsed() < STOPS_WITHIN, "none of them waits for its timeout");
    let id = held.id.clone();
    held.finish(Ok(json!({})));
    assert_eq!(admin.wait_operation(&id).await.status(), Status::Succeeded);
    sg.finish().await;
}

server_tests! {
    tuned with_folder;
    t14_a_manually_started_hook_stops_when_its_caller_loses_the_right_to_it,
}

async fn t14_a_manually_started_hook_stops_when_its_caller_loses_the_right_to_it(sg: TestServer) {
    let simulator = start_gateway(&sg, "edge").await;
    wait_for_waiting(&sg);
    let hook = create_hook(&sg.admin(), hook_request("wait", PRE, "wait")).await.unwrap();
    let ops = sg.with_token(&sg.admin().create_key("ops", pb::Role::Operator).await);
    let running = sg.app.spawn(async move {
        let request = pb::RunBootHookRequest {
            gateway: "edge".to_owned(),
            sandbox: "box".to_owned(),
            boot_hook_id: hook.id,
            ..Default::default()
        };
        ops.boot_hooks().run_boot_hook(request).await
    });
    let begun = sg.app.config.server.data_dir.join("begun");
    let child = tokio::task::spawn_blocking(move || std::fs::read_to_string(begun).unwrap());
    let child = child.await.unwrap();
    let since = Instant::now();
    let delete =
        pb::DeleteServicePrincipalRequest { service_principal: "ops".into(), ..Default::default() };
    sg.admin().service_principals().delete_service_principal(delete).await.unwrap();
    // The response does not matter. It arrives when the hook has ended.
    let _ = running.await.unwrap();
    assert!(since.elapsed() < STOPS_WITHIN, "{:?}", since.elapsed());
    assert!(!is_alive(child.trim()), "the hook has ended with what it began");
    simulator.stop().await;
    sg.finish().await;
}

/// Runs a test on PostgreSQL, the only engine with replicas.
fn on_replicas<F: Future<Output = ()>>(test: impl FnOnce(TestServer) -> F) {
    run_without_jobs(Engine::Postgres, async |sg: TestServer| {
        sg.register_unreachable("edge").await;
        test(sg).await;
    });
}

#[test]
fn t14_a_takeover_undoes_an_operation_whose_key_was_rotated_meanwhile() {
    on_replicas(async |sg| {
        let key = sg.admin().create_key("ci", pb::Role::Admin).await;
        let begin = OperationSpec {
            key,
            input: Some(b"input".to_vec()),
            ..sg.operation_spec("edge", "box")
        };
        for replaced in [false, true] {
            let id = start_and_kill(&sg, begin.clone(), "made").await;
            if replaced {
                let name = "ci".to_owned();
                let request = pb::RotateServicePrincipalRequest {
                    service_principal: name,
                    ..Default::default()
                };
                sg.admin().service_principals().rotate_service_principal(request).await.unwrap();
            }
            sg.app.db.advance_clock(Duration::from_secs(31));
            assert_eq!(run_once(&sg.app, &RESUMING).await, 1);
            let ended = sg.admin().wait_operation(&id).await;
            let expected = if replaced { Status::Failed } else { Status::Succeeded };
            assert_eq!(ended.status(), expected, "{ended:?}");
            assert_eq!(ended.error_message.contains("no longer valid"), replaced, "{ended:?}");
        }
        sg.finish().await;
    });
}

#[test]
fn t14_a_lost_right_is_stored_as_cancelling_for_a_later_takeover() {
    on_replicas(async |sg| {
        // Work that does not stop by itself, so that the test sees the state in between.
        let key = sg.admin().create_key("ci", pb::Role::None).await;
        sg.admin().bind("ci", "edge", pb::Role::Admin).await;
        let running = crate::support::work::begin_operation(
            &sg.app,
            &OperationSpec { key, ..sg.operation_spec("edge", "box") },
        )
        .await;
        sg.admin().bind("ci", "edge", pb::Role::Viewer).await;
        eventually("it is being canceled", || async {
            sg.admin().operation(running.id()).await.unwrap().status() == Status::Cancelling
        })
        .await;
        let id = running.id().to_owned();
        running.finish(Err(shoreguard::resources::operations::Failure::cancelled())).await.unwrap();
        assert_eq!(sg.admin().wait_operation(&id).await.error_code(), Code::Cancelled);
        sg.finish().await;
    });
}
