//! Sessions through the API: refreshing, listing and ending them.

use std::time::Duration;

use shoreguard::access::live::EndReason;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::sessions::SESSIONS_MAX;

use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, TestServer};
use crate::support::{dump, soon};

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};

async fn login(sg: &TestServer) -> pb::LoginResponse {
    let request =
        pb::LoginRequest { email: ADMIN_EMAIL.to_owned(), password: ADMIN_PASSWORD.to_owned() };
    sg.anonymous().auth().login(request).await.unwrap().into_inner()
}

async fn refresh(
    sg: &TestServer,
    token: &str,
) -> Result<pb::RefreshSessionResponse, tonic::Status> {
    let request = pb::RefreshSessionRequest { refresh_token: token.to_owned() };
    sg.anonymous().auth().refresh_session(request).await.map(tonic::Response::into_inner)
}

async fn who(sg: &TestServer, token: &str) -> Result<String, tonic::Status> {
    let answer = sg.with_token(token).auth().get_current_identity(WHO).await?;
    Ok(answer.into_inner().actor)
}

async fn sessions(sg: &TestServer, token: &str) -> Vec<pb::Session> {
    let request = pb::ListSessionsRequest::default();
    sg.with_token(token).auth().list_sessions(request).await.unwrap().into_inner().sessions
}

server_tests! {
    a_session_is_renewed_by_its_refresh_token,
    t14_a_reused_refresh_token_ends_its_session_family,
    t14_a_session_family_ends_after_thirty_days_even_if_it_is_used,
    a_refresh_token_is_not_a_bearer_credential_and_only_it_refreshes,
    a_session_is_listed_and_can_be_revoked_by_its_owner,
    a_live_stream_ends_with_its_session,
    a_session_over_the_limit_of_a_user_ends_the_oldest,
    t14_a_password_change_ends_every_session_except_the_new_one,
    t14_session_and_refresh_tokens_are_not_stored_in_plain_text,
}

async fn a_session_is_renewed_by_its_refresh_token(sg: TestServer) {
    let first = login(&sg).await;
    sg.pass(Duration::from_mins(16)).await;
    assert_refused!(who(&sg, &first.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let second = refresh(&sg, &first.refresh_token).await.unwrap();
    assert_eq!(who(&sg, &second.session_token).await.unwrap(), ADMIN_EMAIL);
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(
        second.refresh_expire_time, first.refresh_expire_time,
        "a family lives no longer by use"
    );
    let third = refresh(&sg, &second.refresh_token).await.unwrap();
    assert_eq!(third.role(), pb::Role::Admin);
    sg.finish().await;
}

async fn t14_a_reused_refresh_token_ends_its_session_family(sg: TestServer) {
    let first = login(&sg).await;
    let other = login(&sg).await;
    let second = refresh(&sg, &first.refresh_token).await.unwrap();
    // The token was used by a thief, or by the owner after a thief. Since the server cannot distinguish them, the
    // whole session ends.
    assert_refused!(
        refresh(&sg, &first.refresh_token).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    assert_refused!(
        refresh(&sg, &second.refresh_token).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    assert_refused!(who(&sg, &second.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_refused!(who(&sg, &first.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    // Another login of the same user is not affected.
    who(&sg, &other.session_token).await.unwrap();
    refresh(&sg, &other.refresh_token).await.unwrap();
    sg.app.audit.wait_settled().await;
    let request =
        pb::ListAuditEntriesRequest { action: "session.refresh".into(), ..Default::default() };
    let entries =
        sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    let reused: Vec<_> =
        entries.iter().filter(|entry| entry.detail_json.contains("reused")).collect();
    assert_eq!(reused.len(), 1, "{entries:?}");
    sg.finish().await;
}

async fn t14_a_session_family_ends_after_thirty_days_even_if_it_is_used(sg: TestServer) {
    let mut token = login(&sg).await.refresh_token;
    for _ in 0..29 {
        sg.pass(Duration::from_hours(24)).await;
        token = refresh(&sg, &token).await.unwrap().refresh_token;
    }
    sg.pass(Duration::from_hours(24)).await;
    assert_refused!(refresh(&sg, &token).await, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn a_refresh_token_is_not_a_bearer_credential_and_only_it_refreshes(sg: TestServer) {
    let session = login(&sg).await;
    assert_refused!(who(&sg, &session.refresh_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let other_end = format!("{}AAAA", &session.refresh_token[..session.refresh_token.len() - 4]);
    for bad in ["", "sgr_", &session.session_token, &sg.admin_key, &"x".repeat(100_000)] {
        assert_refused!(refresh(&sg, bad).await, Unauthenticated, "CREDENTIAL_INVALID");
    }
    refresh(&sg, &session.refresh_token).await.unwrap();
    let again = login(&sg).await;
    // A made-up end with the right family counts as a reused token.
    assert_refused!(refresh(&sg, &other_end).await, Unauthenticated, "CREDENTIAL_INVALID");
    who(&sg, &again.session_token).await.unwrap();
    sg.finish().await;
}

async fn a_session_is_listed_and_can_be_revoked_by_its_owner(sg: TestServer) {
    let (mine, lost) = (login(&sg).await, login(&sg).await);
    let listed = sessions(&sg, &mine.session_token).await;
    let (current, others): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|session| session.current);
    assert_eq!(current.len(), 1);
    assert_eq!(current[0].kind(), pb::SessionKind::Password);
    assert_eq!(current[0].client_ip, "127.0.0.1");
    let lost_id = others.iter().map(|session| session.id).max().unwrap();
    let revoke = pb::RevokeSessionRequest { session_id: lost_id, ..Default::default() };
    sg.with_token(&mine.session_token).auth().revoke_session(revoke.clone()).await.unwrap();
    assert_refused!(who(&sg, &lost.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_refused!(refresh(&sg, &lost.refresh_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let again = sg.with_token(&mine.session_token).auth().revoke_session(revoke).await;
    assert_refused!(again, NotFound, "NOT_FOUND");
    // An API key has no sessions and cannot end those of others.
    let theirs = pb::RevokeSessionRequest { session_id: current[0].id, ..Default::default() };
    assert_refused!(
        sg.admin().auth().revoke_session(theirs).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_refused!(
        sg.admin().auth().logout(pb::LogoutRequest::default()).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    sg.with_token(&mine.session_token).auth().logout(pb::LogoutRequest::default()).await.unwrap();
    assert_refused!(who(&sg, &mine.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    sg.finish().await;
}

async fn a_live_stream_ends_with_its_session(sg: TestServer) {
    let session = login(&sg).await;
    let request = pb::WatchEventsRequest::default();
    let mut events = sg
        .with_token(&session.session_token)
        .events()
        .watch_events(request)
        .await
        .unwrap()
        .into_inner();
    sg.with_token(&session.session_token)
        .auth()
        .logout(pb::LogoutRequest::default())
        .await
        .unwrap();
    let ended = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream that loses its session says so"),
                Err(status) => return status,
            }
        }
    };
    let status = soon("the stream ends", ended).await;
    let expected = shoreguard::status::to_status(EndReason::CredentialGone.into());
    assert_eq!((status.code(), status.message()), (expected.code(), expected.message()));
    sg.finish().await;
}

async fn a_session_over_the_limit_of_a_user_ends_the_oldest(sg: TestServer) {
    // The setup of the first admin has logged in once.
    let oldest = login(&sg).await;
    let mut last = None;
    for _ in 0..SESSIONS_MAX {
        last = Some(login(&sg).await);
    }
    let last = last.unwrap();
    assert_refused!(who(&sg, &oldest.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert_refused!(
        refresh(&sg, &oldest.refresh_token).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let listed = sessions(&sg, &last.session_token).await;
    assert_eq!(i64::try_from(listed.len()).unwrap(), SESSIONS_MAX);
    let mut request = pb::ListSessionsRequest { page_size: 20, ..Default::default() };
    let mut seen = vec![];
    loop {
        let page = sg
            .with_token(&last.session_token)
            .auth()
            .list_sessions(request.clone())
            .await
            .unwrap()
            .into_inner();
        seen.extend(page.sessions.into_iter().map(|session| session.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, listed.iter().map(|session| session.id).collect::<Vec<_>>());
    sg.finish().await;
}

async fn t14_a_password_change_ends_every_session_except_the_new_one(sg: TestServer) {
    let (here, there) = (login(&sg).await, login(&sg).await);
    let change = |current: &str, new: &str| pb::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
        ..Default::default()
    };
    let caller = sg.with_token(&here.session_token);
    let wrong =
        caller.auth().change_password(change("not the password", "another horse battery")).await;
    assert_refused!(wrong, Unauthenticated, "LOGIN_FAILED");
    let short = caller.auth().change_password(change(ADMIN_PASSWORD, "short")).await;
    assert_refused!(short, InvalidArgument, "INVALID_FIELD");
    // A repeat could not get the tokens, so the key is refused before anything is changed.
    let keyed = pb::ChangePasswordRequest {
        request_id: "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01".into(),
        ..change(ADMIN_PASSWORD, "another horse battery")
    };
    let refused = caller.auth().change_password(keyed).await;
    let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    assert!(refused.message().contains("`request_id` must be empty"), "{refused:?}");
    who(&sg, &there.session_token).await.unwrap();
    let new = caller
        .auth()
        .change_password(change(ADMIN_PASSWORD, "another horse battery"))
        .await
        .unwrap()
        .into_inner();
    for dead in [&here, &there] {
        assert_refused!(who(&sg, &dead.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
        assert_refused!(
            refresh(&sg, &dead.refresh_token).await,
            Unauthenticated,
            "CREDENTIAL_INVALID"
        );
    }
    assert_eq!(who(&sg, &new.session_token).await.unwrap(), ADMIN_EMAIL);
    refresh(&sg, &new.refresh_token).await.unwrap();
    let old = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: ADMIN_PASSWORD.into() };
    assert_refused!(sg.anonymous().auth().login(old).await, Unauthenticated, "LOGIN_FAILED");
    sg.finish().await;
}

async fn t14_session_and_refresh_tokens_are_not_stored_in_plain_text(sg: TestServer) {
    let session = login(&sg).await;
    let dump = dump::table(&sg.app.db, "sessions").await;
    assert!(dump.contains("127.0.0.1"), "{dump}");
    for part in [&session.session_token, &session.refresh_token, &session.refresh_token[4..]] {
        assert!(!dump.contains(part), "a token is stored in plain text");
    }
    sg.finish().await;
}

server_tests! {
    tuned |config| config.limits.credentials_per_minute = 5;
    logins_and_refreshes_are_rate_limited_per_user,
}

async fn logins_and_refreshes_are_rate_limited_per_user(sg: TestServer) {
    let mut token = login(&sg).await.refresh_token;
    let refused = loop {
        match refresh(&sg, &token).await {
            Ok(next) => token = next.refresh_token,
            Err(refused) => break refused,
        }
    };
    assert_refused!(Err::<(), _>(refused), ResourceExhausted, "RATE_LIMITED");
    // The token was not checked, so the session did not end.
    let request = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: ADMIN_PASSWORD.into() };
    assert_refused!(sg.anonymous().auth().login(request).await, ResourceExhausted, "RATE_LIMITED");
    sg.finish().await;
}
