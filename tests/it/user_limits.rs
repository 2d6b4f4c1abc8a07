//! Tests of the limits of users and of what is refused.

use crate::support::dump;
use crate::support::server::TestServer;
use crate::users::{
    ANA, delete_request, get_user, invite_request, reset_request, set_active_request,
    set_role_request, update_request, update_user,
};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::users::domain::{EMAIL_CHARACTERS_MAX, USERS_MAX};

server_tests! {
    an_invalid_user_request_is_refused_and_changes_nothing,
    an_email_address_that_is_too_long_is_an_invalid_field,
    the_number_of_users_is_limited,
}

async fn an_invalid_user_request_is_refused_and_changes_nothing(sg: TestServer) {
    let admin = sg.admin();
    let viewer = sg.create_user("viewer@example.com", pb::Role::Operator).await;
    let me = sg.create_user(ANA, pb::Role::Admin).await;
    let me = sg.with_token(&me);
    let before = dump::table(&sg.app.db, "users").await;
    let (users, own) = (|| admin.users(), || me.users());
    assert_refused!(
        users().invite_user(invite_request("ANA@example.com", pb::Role::Viewer)).await,
        AlreadyExists,
        "ALREADY_EXISTS"
    );
    assert_refused!(
        users().invite_user(invite_request("b@example.com", pb::Role::Unspecified)).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    for name in ["", "ana", "a@b@c", "1e3"] {
        assert_refused!(get_user(&admin, name).await, InvalidArgument, "INVALID_FIELD");
        assert_refused!(
            users().delete_user(delete_request(name)).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
    }
    for name in ["nobody@example.com", "999999", "-1"] {
        assert_refused!(get_user(&admin, name).await, NotFound, "NOT_FOUND");
        assert_refused!(
            update_user(&admin, set_active_request(name, false)).await,
            NotFound,
            "NOT_FOUND"
        );
        assert_refused!(users().delete_user(delete_request(name)).await, NotFound, "NOT_FOUND");
        assert_refused!(users().reset_password(reset_request(name)).await, NotFound, "NOT_FOUND");
        let unlock = pb::UnlockUserRequest { user: name.into(), ..Default::default() };
        assert_refused!(users().unlock_user(unlock).await, NotFound, "NOT_FOUND");
    }
    for mask in [&[][..], &["email"], &["role", "password"]] {
        let request =
            pb::UpdateUserRequest { role: pb::Role::Viewer.into(), ..update_request(ANA, mask) };
        assert_refused!(update_user(&admin, request).await, InvalidArgument, "INVALID_FIELD");
    }
    assert_refused!(
        update_user(&admin, update_request(ANA, &["role"])).await,
        InvalidArgument,
        "INVALID_FIELD"
    );
    let stale = || "v9".to_owned();
    assert_refused!(
        update_user(
            &admin,
            pb::UpdateUserRequest { etag: stale(), ..set_active_request(ANA, true) }
        )
        .await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    assert_refused!(
        users().delete_user(pb::DeleteUserRequest { etag: stale(), ..delete_request(ANA) }).await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    assert_refused!(
        users()
            .reset_password(pb::ResetPasswordRequest { etag: stale(), ..reset_request(ANA) })
            .await,
        Aborted,
        "CONCURRENT_CHANGE"
    );
    // You cannot do this to your own account, neither by address nor by ID.
    let id = get_user(&admin, ANA).await.unwrap().id.to_string();
    for name in [ANA, &id] {
        assert_refused!(
            own().delete_user(delete_request(name)).await,
            FailedPrecondition,
            "OWN_ACCOUNT"
        );
        assert_refused!(
            update_user(&me, set_active_request(name, false)).await,
            FailedPrecondition,
            "OWN_ACCOUNT"
        );
        assert_refused!(
            own().reset_password(reset_request(name)).await,
            FailedPrecondition,
            "OWN_ACCOUNT"
        );
    }
    let resend = pb::ResendInviteRequest { user: ANA.into(), ..Default::default() };
    assert_refused!(users().resend_invite(resend).await, FailedPrecondition, "NO_INVITE");
    let theirs =
        pb::ListUserSessionsRequest { user: "viewer@example.com".into(), ..Default::default() };
    let session_id = users().list_user_sessions(theirs).await.unwrap().into_inner().sessions[0].id;
    let mixed =
        pb::RevokeUserSessionsRequest { user: ANA.into(), session_id, ..Default::default() };
    assert_refused!(users().revoke_user_sessions(mixed).await, NotFound, "NOT_FOUND");
    let negative = pb::ListUsersRequest { page_size: -1, ..Default::default() };
    assert_refused!(users().list_users(negative).await, InvalidArgument, "INVALID_FIELD");
    assert_refused!(
        update_user(&sg.with_token(&viewer), set_role_request(ANA, pb::Role::Viewer)).await,
        PermissionDenied,
        "ROLE_TOO_LOW"
    );
    assert_eq!(dump::table(&sg.app.db, "users").await, before);
    sg.finish().await;
}

async fn an_email_address_that_is_too_long_is_an_invalid_field(sg: TestServer) {
    let admin = sg.admin();
    let most = format!("{}@example.com", "a".repeat(EMAIL_CHARACTERS_MAX - 12));
    let wide = format!("{}@example.com", "\u{e4}".repeat(EMAIL_CHARACTERS_MAX - 12));
    // Its letter grows in Unicode's lower case. Only ASCII letters are converted.
    let kept = format!("{}@example.com", "\u{130}".repeat(EMAIL_CHARACTERS_MAX - 12));
    for good in [&most, &wide, &kept] {
        admin.invite(good, pb::Role::Viewer).await;
        assert_eq!(get_user(&admin, good).await.unwrap().email, *good);
    }
    for bad in [format!("a{most}"), format!("a{wide}"), format!("{}@b", "a".repeat(100_000))] {
        assert_refused!(
            admin.users().invite_user(invite_request(&bad, pb::Role::Viewer)).await,
            InvalidArgument,
            "INVALID_FIELD"
        );
        assert_refused!(get_user(&admin, &bad).await, InvalidArgument, "INVALID_FIELD");
    }
    sg.finish().await;
}

async fn the_number_of_users_is_limited(sg: TestServer) {
    let admin = sg.admin();
    let rows = USERS_MAX - 2;
    sg.sql(&format!(
        "INSERT INTO users (email, role, is_active, created_at) \
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
            SELECT 'n' || i || '@example.com', 'none', true, '2026-01-01 00:00:00.000000' FROM n"
    ))
    .await;
    admin.invite("last@example.com", pb::Role::Viewer).await;
    let beyond =
        admin.users().invite_user(invite_request("beyond@example.com", pb::Role::Viewer)).await;
    assert_refused!(beyond, FailedPrecondition, "LIMIT_REACHED");
    assert_refused!(get_user(&admin, "beyond@example.com").await, NotFound, "NOT_FOUND");
    admin.users().delete_user(delete_request("last@example.com")).await.unwrap();
    admin.invite("beyond@example.com", pb::Role::Viewer).await;
    sg.finish().await;
}
