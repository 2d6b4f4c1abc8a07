//! How users get an account and a password, through the API: by invitation, reset or registration.

use std::time::Duration;

use futures_util::StreamExt;
use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::invite::USERS_TO_REGISTER_MAX;
use tonic::{Response, Status};

use crate::support::dump;
use crate::support::people::PASSWORD;
use crate::support::server::{ADMIN_EMAIL, ADMIN_PASSWORD, Caller, TestServer};

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};
const ANA: &str = "ana@example.com";
/// Number of races between two calls.
const RACES: usize = 8;

async fn accept(
    sg: &TestServer,
    invite_token: &str,
    password: &str,
) -> Result<pb::AcceptInviteResponse, Status> {
    let (invite_token, password) = (invite_token.to_owned(), password.to_owned());
    let request = pb::AcceptInviteRequest { invite_token, password };
    sg.anonymous().auth().accept_invite(request).await.map(Response::into_inner)
}

async fn login(sg: &TestServer, password: &str) -> Result<pb::LoginResponse, Status> {
    let request = pb::LoginRequest { email: ANA.to_owned(), password: password.to_owned() };
    sg.anonymous().auth().login(request).await.map(Response::into_inner)
}

async fn register(
    sg: &TestServer,
    email: &str,
    password: &str,
) -> Result<pb::RegisterResponse, Status> {
    let (email, password) = (email.to_owned(), password.to_owned());
    let request = pb::RegisterRequest { email, password };
    sg.anonymous().auth().register(request).await.map(Response::into_inner)
}

async fn get(admin: &Caller, user: &str) -> pb::User {
    let request = pb::GetUserRequest { user: user.to_owned() };
    admin.users().get_user(request).await.unwrap().into_inner().user.unwrap()
}

async fn resend(admin: &Caller, user: &str) -> pb::ResendInviteResponse {
    let request = pb::ResendInviteRequest { user: user.to_owned(), ..Default::default() };
    admin.users().resend_invite(request).await.unwrap().into_inner()
}

async fn reset(admin: &Caller, user: &str) -> Result<pb::ResetPasswordResponse, Status> {
    let request = pb::ResetPasswordRequest { user: user.to_owned(), ..Default::default() };
    admin.users().reset_password(request).await.map(Response::into_inner)
}

async fn activate(admin: &Caller, user: &str, is_active: bool) {
    let paths = vec!["is_active".to_owned()];
    let update_mask = Some(prost_types::FieldMask { paths });
    let user = user.to_owned();
    let request = pb::UpdateUserRequest { user, update_mask, is_active, ..Default::default() };
    admin.users().update_user(request).await.unwrap();
}

async fn entries(sg: &TestServer, action: &str) -> Vec<pb::AuditEntry> {
    let request = pb::ListAuditEntriesRequest { action: action.to_owned(), ..Default::default() };
    sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries
}

async fn advance(sg: &TestServer, by: Duration) {
    sg.pass(by).await;
}

server_tests! {
    an_invited_user_sets_a_password_and_gets_a_session,
    an_invitation_is_valid_for_a_week_after_it_was_last_sent,
    t16_an_invalid_invite_token_is_refused_and_stores_nothing,
    only_one_of_two_concurrent_acceptances_succeeds,
    a_repeated_invitation_returns_the_first_response_for_five_minutes,
    t14_a_password_reset_revokes_the_password_and_all_sessions,
    t14_a_pending_reset_is_not_replaced_by_an_invitation,
    t14_a_password_reset_is_not_undone_by_a_concurrent_password_change,
    a_password_of_73_bytes_is_refused_by_every_method,
    registration_is_refused_unless_it_is_enabled,
}

async fn an_invited_user_sets_a_password_and_gets_a_session(sg: TestServer) {
    let admin = sg.admin();
    let email = " Ana@Example.com ".to_owned();
    let request =
        pb::InviteUserRequest { email, role: pb::Role::Operator.into(), ..Default::default() };
    let invited = admin.users().invite_user(request).await.unwrap().into_inner();
    let (user, token) = (invited.user.unwrap(), invited.invite_token);
    assert_eq!((token.len(), &token[..4]), (47, "sgi_"));
    assert_eq!(
        (user.email.as_str(), user.role(), user.effective_role()),
        (ANA, pb::Role::Operator, pb::Role::Operator)
    );
    assert!(user.is_active && user.pending_invite && !user.has_password);
    assert_eq!(get(&admin, "ANA@example.com").await, user);
    assert_eq!(get(&admin, &user.id.to_string()).await, user);
    assert!(
        !dump::table(&sg.app.db, "users").await.contains(&token[4..]),
        "the token is stored in plain text"
    );
    assert_refused!(login(&sg, PASSWORD).await, Unauthenticated, "LOGIN_FAILED");

    let session = accept(&sg, &token, PASSWORD).await.unwrap();
    assert_eq!(session.role(), pb::Role::Operator);
    let who = sg
        .with_token(&session.session_token)
        .auth()
        .get_current_identity(WHO)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((who.actor.as_str(), who.principal), (ANA, format!("user:{}", user.id)));
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    sg.anonymous().auth().refresh_session(refresh).await.unwrap();
    let now = get(&admin, ANA).await;
    assert!(now.has_password && !now.pending_invite && now.invite_expire_time.is_none());
    assert_ne!(now.etag, user.etag);
    login(&sg, PASSWORD).await.unwrap();
    // The token is valid once.
    assert_refused!(accept(&sg, &token, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
    let accepted = entries(&sg, "user.accept_invite").await;
    assert_eq!(
        (accepted.len(), accepted[0].actor.as_str(), accepted[0].resource_id.as_str()),
        (1, ANA, ANA)
    );
    sg.finish().await;
}

async fn an_invitation_is_valid_for_a_week_after_it_was_last_sent(sg: TestServer) {
    let admin = sg.admin();
    let first = admin.invite(ANA, pb::Role::Viewer).await;
    let late = admin.invite("late@example.com", pb::Role::Viewer).await;
    advance(&sg, Duration::from_hours(100)).await;
    let again = resend(&admin, ANA).await;
    assert_eq!(again.user.unwrap(), get(&admin, ANA).await);
    assert_refused!(accept(&sg, &first, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
    advance(&sg, Duration::from_hours(68)).await;
    assert_refused!(accept(&sg, &late, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
    assert!(get(&admin, "late@example.com").await.pending_invite);
    advance(&sg, Duration::from_hours(100).checked_sub(Duration::from_mins(5)).unwrap()).await;
    accept(&sg, &again.invite_token, PASSWORD).await.unwrap();
    let late = resend(&admin, "late@example.com").await.invite_token;
    accept(&sg, &late, PASSWORD).await.unwrap();
    sg.finish().await;
}

async fn t16_an_invalid_invite_token_is_refused_and_stores_nothing(sg: TestServer) {
    let admin = sg.admin();
    let token = admin.invite(ANA, pb::Role::Viewer).await;
    activate(&admin, ANA, false).await;
    let before = dump::table(&sg.app.db, "users").await;
    let flipped = format!("sgi_{}", "A".repeat(43));
    let request = pb::LoginRequest { email: ADMIN_EMAIL.into(), password: ADMIN_PASSWORD.into() };
    let session = sg.anonymous().auth().login(request).await.unwrap().into_inner().refresh_token;
    for bad in [
        "",
        "sgi_",
        &token[..46],
        &token[4..],
        &format!("{token}A"),
        &flipped,
        &session,
        &"x".repeat(100_000),
        &token,
    ] {
        assert_refused!(accept(&sg, bad, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
        assert!(
            sg.with_token(bad).auth().get_current_identity(WHO).await.is_err(),
            "an invitation is not a credential"
        );
    }
    assert_eq!(dump::table(&sg.app.db, "users").await, before);
    assert!(entries(&sg, "user.accept_invite").await.is_empty());
    activate(&admin, ANA, true).await;
    accept(&sg, &token, PASSWORD).await.unwrap();
    sg.finish().await;
}

async fn only_one_of_two_concurrent_acceptances_succeeds(sg: TestServer) {
    for race in 0..RACES {
        let email = format!("u{race}@example.com");
        let token = sg.admin().invite(&email, pb::Role::Viewer).await;
        let (a, b) = tokio::join!(
            accept(&sg, &token, PASSWORD),
            accept(&sg, &token, "another password of theirs")
        );
        assert_ne!(a.is_ok(), b.is_ok(), "race {race}: {a:?} {b:?}");
        let lost = a.err().or(b.err()).unwrap();
        assert_eq!(crate::support::server::reason(&lost), "CREDENTIAL_INVALID");
    }
    sg.finish().await;
}

async fn a_repeated_invitation_returns_the_first_response_for_five_minutes(sg: TestServer) {
    let admin = sg.admin();
    let request = pb::InviteUserRequest {
        email: ANA.into(),
        role: pb::Role::Viewer.into(),
        request_id: "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a01".into(),
    };
    let first = admin.users().invite_user(request.clone()).await.unwrap().into_inner();
    assert_eq!(admin.users().invite_user(request.clone()).await.unwrap().into_inner(), first);
    let other = pb::InviteUserRequest { email: "ben@example.com".into(), ..request.clone() };
    assert_refused!(admin.users().invite_user(other).await, InvalidArgument, "REQUEST_ID_REUSED");
    advance(&sg, Duration::from_mins(6)).await;
    assert_refused!(admin.users().invite_user(request).await, AlreadyExists, "ALREADY_EXISTS");
    // Another session of the same user is another credential.
    let request = pb::ResetPasswordRequest {
        user: ANA.into(),
        request_id: "8c5b0f6e-7d1d-4f0c-9c57-3d9a6f2f1a02".into(),
        ..Default::default()
    };
    sg.create_user("ben@example.com", pb::Role::Admin).await;
    let (one, two) = (sg.login("ben@example.com").await, sg.login("ben@example.com").await);
    let answer = one.users().reset_password(request.clone()).await.unwrap().into_inner();
    assert_eq!(one.users().reset_password(request.clone()).await.unwrap().into_inner(), answer);
    assert_refused!(two.users().reset_password(request).await, Aborted, "REQUEST_IN_FLIGHT");
    sg.finish().await;
}

async fn t14_a_password_reset_revokes_the_password_and_all_sessions(sg: TestServer) {
    let admin = sg.admin();
    let session = sg.create_user(ANA, pb::Role::Viewer).await;
    let answer = reset(&admin, ANA).await.unwrap();
    let user = answer.user.unwrap();
    assert!(!user.has_password && user.pending_invite && user.is_active);
    assert_refused!(
        sg.with_token(&session).auth().get_current_identity(WHO).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    assert_refused!(login(&sg, PASSWORD).await, Unauthenticated, "LOGIN_FAILED");
    accept(&sg, &answer.reset_token, "another password of theirs").await.unwrap();
    login(&sg, "another password of theirs").await.unwrap();
    // The token is valid for a day, and a later one replaces it.
    let first = reset(&admin, ANA).await.unwrap().reset_token;
    let second = reset(&admin, ANA).await.unwrap().reset_token;
    assert_refused!(accept(&sg, &first, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
    advance(&sg, Duration::from_hours(24)).await;
    assert_refused!(accept(&sg, &second, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
    let third = reset(&admin, ANA).await.unwrap().reset_token;
    accept(&sg, &third, PASSWORD).await.unwrap();
    login(&sg, PASSWORD).await.unwrap();
    sg.finish().await;
}

async fn t14_a_pending_reset_is_not_replaced_by_an_invitation(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user(ANA, pb::Role::Viewer).await;
    admin.invite("ben@example.com", pb::Role::Viewer).await;
    for user in [ANA, "ben@example.com"] {
        let token = reset(&admin, user).await.unwrap().reset_token;
        let before = get(&admin, user).await;
        let request = pb::ResendInviteRequest { user: user.to_owned(), ..Default::default() };
        let refused = admin.users().resend_invite(request).await;
        let refused = assert_refused!(refused, FailedPrecondition, "NO_INVITE");
        assert!(refused.message().contains("reset the password again"), "{refused:?}");
        assert_eq!(get(&admin, user).await, before);
        accept(&sg, &token, PASSWORD).await.unwrap();
    }
    sg.finish().await;
}

async fn t14_a_password_reset_is_not_undone_by_a_concurrent_password_change(sg: TestServer) {
    let admin = sg.admin();
    let mut session = sg.create_user(ANA, pb::Role::Viewer).await;
    for race in 0..RACES {
        let caller = sg.with_token(&session);
        let mut auth = caller.auth();
        let change = auth.change_password(pb::ChangePasswordRequest {
            current_password: PASSWORD.into(),
            new_password: "what the thief wants it to be".into(),
            ..Default::default()
        });
        let (changed, reset) = tokio::join!(change, reset(&admin, ANA));
        let Ok(reset) = reset else {
            panic!("race {race}: {reset:?} {changed:?}");
        };
        let user = get(&admin, ANA).await;
        assert!(!user.has_password && user.pending_invite, "race {race}: {changed:?}");
        session = accept(&sg, &reset.reset_token, PASSWORD).await.unwrap().session_token;
    }
    sg.finish().await;
}

async fn a_password_of_73_bytes_is_refused_by_every_method(sg: TestServer) {
    let (most, beyond) = ("\u{e4}".repeat(36), format!("{}a", "\u{e4}".repeat(36)));
    assert_eq!((most.len(), beyond.len()), (72, 73));
    let token = sg.admin().invite(ANA, pb::Role::Viewer).await;
    for bad in [&beyond, "elevenchars", &"a".repeat(128)] {
        let set_up = pb::SetupRequest {
            password: bad.into(),
            email: "b@example.com".into(),
            ..Default::default()
        };
        assert_refused!(
            sg.anonymous().auth().setup(set_up).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
        assert_refused!(accept(&sg, &token, bad).await, InvalidArgument, "INVALID_FIELD");
    }
    let session = accept(&sg, &token, &most).await.unwrap().session_token;
    login(&sg, &most).await.unwrap();
    let change = |current: &str, new: &str| pb::ChangePasswordRequest {
        current_password: current.to_owned(),
        new_password: new.to_owned(),
        ..Default::default()
    };
    let caller = sg.with_token(&session);
    assert_refused!(
        caller.auth().change_password(change(&most, &beyond)).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let other = "b".repeat(72);
    caller.auth().change_password(change(&most, &other)).await.unwrap();
    login(&sg, &other).await.unwrap();
    // Bytes after the 72 that bcrypt reads are not ignored.
    assert_refused!(login(&sg, &format!("{other}b")).await, Unauthenticated, "LOGIN_FAILED");
    sg.finish().await;
}

async fn registration_is_refused_unless_it_is_enabled(sg: TestServer) {
    assert_refused!(register(&sg, ANA, PASSWORD).await, FailedPrecondition, "FEATURE_DISABLED");
    let info = sg
        .anonymous()
        .auth()
        .get_server_info(pb::GetServerInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(!info.registration_enabled);
    sg.finish().await;
}

server_tests! {
    tuned |config| config.limits.credentials_per_minute = 3;
    invitations_and_resets_are_rate_limited_per_caller,
}

async fn invitations_and_resets_are_rate_limited_per_caller(sg: TestServer) {
    let admin = sg.admin();
    admin.invite(ANA, pb::Role::Viewer).await;
    resend(&admin, ANA).await;
    reset(&admin, ANA).await.unwrap();
    assert_refused!(reset(&admin, ANA).await, ResourceExhausted, "RATE_LIMITED");
    let more = pb::InviteUserRequest {
        email: "b@example.com".into(),
        role: pb::Role::Viewer.into(),
        ..Default::default()
    };
    assert_refused!(admin.users().invite_user(more).await, ResourceExhausted, "RATE_LIMITED");
    sg.finish().await;
}

fn open(config: &mut Config) {
    config.auth.self_registration = true;
}

server_tests! {
    tuned open;
    a_registered_user_is_a_viewer_and_gets_a_session,
    registration_with_an_existing_address_is_refused,
    repeated_registrations_of_existing_addresses_are_rate_limited,
    the_limit_of_registrations_leaves_room_for_invitations,
}

async fn a_registered_user_is_a_viewer_and_gets_a_session(sg: TestServer) {
    let info = sg
        .anonymous()
        .auth()
        .get_server_info(pb::GetServerInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(info.registration_enabled);
    let session = register(&sg, " Ana@example.com", PASSWORD).await.unwrap();
    assert_eq!(session.role(), pb::Role::Viewer);
    let who = sg
        .with_token(&session.session_token)
        .auth()
        .get_current_identity(WHO)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((who.actor.as_str(), who.role()), (ANA, pb::Role::Viewer));
    let user = get(&sg.admin(), ANA).await;
    assert!(user.has_password && user.is_active && !user.pending_invite);
    login(&sg, PASSWORD).await.unwrap();
    let registered = entries(&sg, "user.register").await;
    assert_eq!(
        (registered.len(), registered[0].actor.as_str(), registered[0].actor_role.as_str()),
        (1, ANA, "viewer")
    );
    sg.finish().await;
}

async fn registration_with_an_existing_address_is_refused(sg: TestServer) {
    let admin = sg.admin();
    admin.invite("invited@example.com", pb::Role::Operator).await;
    sg.create_user(ANA, pb::Role::Operator).await;
    activate(&admin, ANA, false).await;
    let before = dump::table(&sg.app.db, "users").await;
    for taken in [ADMIN_EMAIL, "INVITED@example.com", ANA] {
        // Also with the correct password: registering is not a login.
        for password in [PASSWORD, ADMIN_PASSWORD] {
            assert_refused!(register(&sg, taken, password).await, AlreadyExists, "ALREADY_EXISTS");
        }
    }
    for (email, password) in [
        ("", PASSWORD),
        ("ben", PASSWORD),
        ("ben@example.com", "short"),
        ("ben@example.com", &"b".repeat(73)),
    ] {
        assert_refused!(register(&sg, email, password).await, InvalidArgument, "INVALID_FIELD");
    }
    assert_eq!(dump::table(&sg.app.db, "users").await, before);
    assert!(
        entries(&sg, "user.register").await.is_empty(),
        "a failed try is counted, not recorded"
    );
    register(&sg, "ben@example.com", &"b".repeat(72)).await.unwrap();
    sg.finish().await;
}

async fn repeated_registrations_of_existing_addresses_are_rate_limited(sg: TestServer) {
    let mut asked = 0;
    loop {
        let taken = register(&sg, ADMIN_EMAIL, PASSWORD).await.unwrap_err();
        if taken.code() == tonic::Code::ResourceExhausted {
            break;
        }
        asked += 1;
        assert!(asked < 50, "the number of attempts is not limited");
    }
    // Successful registrations are not slowed down, and do not use the budget.
    let server = &sg;
    let registering = (0..50).map(|n| async move {
        register(server, &format!("u{n}@example.com"), PASSWORD).await.unwrap();
    });
    futures_util::stream::iter(registering).buffer_unordered(3).collect::<Vec<()>>().await;
    sg.finish().await;
}

async fn the_limit_of_registrations_leaves_room_for_invitations(sg: TestServer) {
    let rows = USERS_TO_REGISTER_MAX - 2;
    sg.sql(&format!(
        "INSERT INTO users (email, role, is_active, created_at) \
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
            SELECT 'n' || i || '@example.com', 'none', true, '2026-01-01 00:00:00.000000' FROM n"
    ))
    .await;
    register(&sg, "last@example.com", PASSWORD).await.unwrap();
    assert_refused!(
        register(&sg, "beyond@example.com", PASSWORD).await,
        FailedPrecondition,
        "LIMIT_REACHED"
    );
    sg.admin().invite("beyond@example.com", pb::Role::Viewer).await;
    sg.finish().await;
}
