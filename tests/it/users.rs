//! Users through the API: reading and changing them as an admin.

use shoreguard::access::live::EndReason;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;
use tonic::{Code, Response, Status, Streaming};

use crate::support::people::PASSWORD;
use crate::support::server::{ADMIN_EMAIL, Caller, TestServer};
use crate::support::{dump, soon};

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};
pub(crate) const ANA: &str = "ana@example.com";

pub(crate) fn invite_request(email: &str, role: pb::Role) -> pb::InviteUserRequest {
    pb::InviteUserRequest { email: email.to_owned(), role: role.into(), ..Default::default() }
}

pub(crate) fn update_request(user: &str, fields: &[&str]) -> pb::UpdateUserRequest {
    let paths = fields.iter().map(|field| (*field).to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    pb::UpdateUserRequest { user: user.to_owned(), update_mask, ..Default::default() }
}

pub(crate) fn set_role_request(user: &str, role: pb::Role) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest { role: role.into(), ..update_request(user, &["role"]) }
}

pub(crate) fn set_active_request(user: &str, is_active: bool) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest { is_active, ..update_request(user, &["is_active"]) }
}

pub(crate) fn delete_request(user: &str) -> pb::DeleteUserRequest {
    pb::DeleteUserRequest { user: user.to_owned(), ..Default::default() }
}

pub(crate) fn reset_request(user: &str) -> pb::ResetPasswordRequest {
    pb::ResetPasswordRequest { user: user.to_owned(), ..Default::default() }
}

pub(crate) async fn get_user(admin: &Caller, user: &str) -> Result<pb::User, Status> {
    let request = pb::GetUserRequest { user: user.to_owned() };
    Ok(admin.users().get_user(request).await?.into_inner().user.unwrap())
}

pub(crate) async fn update_user(
    admin: &Caller,
    request: pb::UpdateUserRequest,
) -> Result<pb::User, Status> {
    Ok(admin.users().update_user(request).await?.into_inner().user.unwrap())
}

async fn who(sg: &TestServer, token: &str) -> Result<pb::GetCurrentIdentityResponse, Status> {
    sg.with_token(token).auth().get_current_identity(WHO).await.map(Response::into_inner)
}

async fn events(caller: &Caller) -> Streaming<pb::WatchEventsResponse> {
    caller.events().watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner()
}

/// Waits for the end of a stream and checks its reason.
async fn ended(mut events: Streaming<pb::WatchEventsResponse>, why: EndReason) {
    let end = async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream that is ended says why"),
                Err(status) => return status,
            }
        }
    };
    let status = soon("the stream ends", end).await;
    let expected = shoreguard::status::to_status(why.into());
    assert_eq!((status.code(), status.message()), (expected.code(), expected.message()));
}

async fn emails(admin: &Caller, mut request: pb::ListUsersRequest) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let page = admin.users().list_users(request.clone()).await.unwrap().into_inner();
        let fits = usize::try_from(request.page_size).unwrap();
        assert!(fits == 0 || page.users.len() <= fits);
        seen.extend(page.users.into_iter().map(|user| user.email));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return seen;
        }
    }
}

async fn group(admin: &Caller, name: &str, role: pb::Role, members: &[&str]) {
    let request =
        pb::CreateGroupRequest { name: name.to_owned(), role: role.into(), ..Default::default() };
    admin.groups().create_group(request).await.unwrap();
    for user in members {
        let (group, user) = (name.to_owned(), (*user).to_owned());
        let request = pb::AddGroupMemberRequest { group, user, ..Default::default() };
        admin.groups().add_group_member(request).await.unwrap();
    }
}

/// Checks that each change of an account is in the audit log under its name, and emitted as an event.
async fn each_was_recorded(sg: &TestServer, admin: &Caller) {
    sg.app.audit.wait_settled().await;
    let request = pb::ListAuditEntriesRequest { page_size: 1000, ..Default::default() };
    let entries = admin.audit().list_audit_entries(request).await.unwrap().into_inner();
    let done = |action: &str| {
        let mut entries = entries.audit_entries.iter();
        entries.any(|entry| {
            entry.action == action
                && entry.resource_id == ANA
                && entry.outcome() == pb::AuditOutcome::Ok
        })
    };
    for action in [
        "user.invite",
        "user.resend_invite",
        "user.accept_invite",
        "user.update",
        "user.reset_password",
        "user.unlock",
        "user.revoke_sessions",
        "user.delete",
    ] {
        assert!(done(action), "{action}");
    }
    // Events arrive in the order of their sequence numbers, so all have arrived when the last one has.
    let names = vec!["user.deleted".to_owned()];
    let request = pb::WatchEventsRequest { names, ..Default::default() };
    let mut deleted = admin.events().watch_events(request).await.unwrap().into_inner();
    while deleted.message().await.unwrap().is_some_and(|told| told.event.is_none()) {}
    let request = pb::ListEventsRequest { page_size: 1000, ..Default::default() };
    let events = admin.events().list_events(request).await.unwrap().into_inner().events;
    for (name, actor) in [
        ("user.invited", "sp:root"),
        ("user.invite_resent", "sp:root"),
        ("user.invite_accepted", ANA),
        ("user.updated", "sp:root"),
        ("user.password_reset", "sp:root"),
        ("user.unlocked", "sp:root"),
        ("user.sessions_revoked", "sp:root"),
        ("user.deleted", "sp:root"),
    ] {
        let event = events.iter().find(|event| event.name == name && event.actor == actor);
        let payload = &event.unwrap_or_else(|| panic!("no `{name}` by {actor}")).payload_json;
        assert!(payload.contains(ANA) && !payload.contains("sgi_"), "{name}: {payload}");
    }
}

server_tests! {
    a_role_change_applies_from_the_next_call_and_ends_streams,
    a_reactivated_user_needs_a_new_login,
    deleting_a_user_deletes_its_bindings_but_not_its_service_principals,
    users_are_listed_in_pages_and_filtered,
    an_admin_by_group_is_listed_as_admin,
    an_etag_changes_only_with_a_change_of_the_user,
    an_inactive_admin_can_be_deleted_while_an_active_admin_exists,
    a_user_is_invited_logs_in_is_managed_and_deleted,
}

async fn a_role_change_applies_from_the_next_call_and_ends_streams(sg: TestServer) {
    let admin = sg.admin();
    let ana = sg.create_user(ANA, pb::Role::Viewer).await;
    let stream = events(&sg.with_token(&ana)).await;
    let changed = update_user(&admin, set_role_request(ANA, pb::Role::Operator)).await.unwrap();
    assert_eq!((changed.role(), changed.is_active), (pb::Role::Operator, true));
    assert_eq!(who(&sg, &ana).await.unwrap().role(), pb::Role::Operator);
    update_user(&admin, set_role_request(ANA, pb::Role::None)).await.unwrap();
    assert_eq!(who(&sg, &ana).await.unwrap().role(), pb::Role::None);
    ended(stream, EndReason::RoleTooLow).await;
    // A field that is not in the mask stays unchanged.
    update_user(
        &admin,
        pb::UpdateUserRequest { is_active: false, ..set_role_request(ANA, pb::Role::Viewer) },
    )
    .await
    .unwrap();
    assert!(get_user(&admin, ANA).await.unwrap().is_active);
    sg.finish().await;
}

async fn a_reactivated_user_needs_a_new_login(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user(ANA, pb::Role::Operator).await;
    let login = pb::LoginRequest { email: ANA.into(), password: PASSWORD.into() };
    let session = sg.anonymous().auth().login(login.clone()).await.unwrap().into_inner();
    let stream = events(&sg.with_token(&session.session_token)).await;
    assert!(!update_user(&admin, set_active_request(ANA, false)).await.unwrap().is_active);
    assert_refused!(who(&sg, &session.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    ended(stream, EndReason::CredentialGone).await;
    assert_refused!(sg.anonymous().auth().login(login).await, Unauthenticated, "LOGIN_FAILED");
    update_user(&admin, set_active_request(ANA, true)).await.unwrap();
    assert_refused!(who(&sg, &session.session_token).await, Unauthenticated, "CREDENTIAL_INVALID");
    let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
    assert_refused!(
        sg.anonymous().auth().refresh_session(refresh).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    sg.login(ANA).await.auth().get_current_identity(WHO).await.unwrap();
    sg.finish().await;
}

async fn deleting_a_user_deletes_its_bindings_but_not_its_service_principals(sg: TestServer) {
    let simulator = sg.start_gateway("edge", Generation::V0_1).await;
    let admin = sg.admin();
    let ana = sg.create_user(ANA, pb::Role::Admin).await;
    let id = get_user(&admin, ANA).await.unwrap().id;
    let key = sg.with_token(&ana).create_key("ci", pb::Role::Viewer).await;
    group(&admin, "ops", pb::Role::Viewer, &[ANA]).await;
    let subject = pb::subject::Subject::User(ANA.into());
    let bind = pb::SetGatewayRoleRequest {
        subject: Some(pb::Subject { subject: Some(subject) }),
        gateway: "edge".into(),
        role: pb::Role::Operator.into(),
        ..Default::default()
    };
    admin.access().set_gateway_role(bind).await.unwrap();
    sg.sql(&format!(
        "INSERT INTO selector_bindings (subject_kind, user_id, selector, role, created_at) \
            VALUES ('user', {id}, 'access/env=prod', 'viewer', '2026-01-01 00:00:00.000000')"
    ))
    .await;
    let stream = events(&sg.with_token(&ana)).await;
    admin.users().delete_user(delete_request(ANA)).await.unwrap();
    assert_refused!(who(&sg, &ana).await, Unauthenticated, "CREDENTIAL_INVALID");
    ended(stream, EndReason::CredentialGone).await;
    assert_refused!(get_user(&admin, ANA).await, NotFound, "NOT_FOUND");
    for table in ["group_members", "user_gateway_roles", "selector_bindings"] {
        assert_eq!(dump::table(&sg.app.db, table).await, "", "{table}");
    }
    assert_eq!(sg.sql(&format!("DELETE FROM sessions WHERE user_id = {id}")).await, 0);
    assert!(who(&sg, &key).await.is_ok());
    let request = pb::GetServicePrincipalRequest { service_principal: "ci".into() };
    let kept =
        admin.service_principals().get_service_principal(request).await.unwrap().into_inner();
    assert_eq!(kept.service_principal.unwrap().created_by, 0);
    sg.app.audit.wait_settled().await;
    let request =
        pb::ListAuditEntriesRequest { action: "user.delete".into(), ..Default::default() };
    let entries =
        admin.audit().list_audit_entries(request).await.unwrap().into_inner().audit_entries;
    assert_eq!((entries.len(), entries[0].resource_id.as_str()), (1, ANA));
    let detail: serde_json::Value = serde_json::from_str(&entries[0].detail_json).unwrap();
    let expected = serde_json::json!({
        "user_id": id, "email": ANA, "memberships": 1, "gateway_roles": 1, "selector_bindings": 1,
        "sessions": 1, "service_principals_kept": 1,
    });
    assert_eq!(detail, expected);
    simulator.stop().await;
    sg.finish().await;
}

async fn users_are_listed_in_pages_and_filtered(sg: TestServer) {
    let admin = sg.admin();
    for n in 0..4 {
        sg.create_user(&format!("u{n}@example.com"), pb::Role::Viewer).await;
    }
    admin.invite("waiting@example.com", pb::Role::Operator).await;
    update_user(&admin, set_active_request("u3@example.com", false)).await.unwrap();
    group(&admin, "admins", pb::Role::Admin, &["u1@example.com"]).await;
    group(&admin, "watchers", pb::Role::None, &["u2@example.com"]).await;
    let all = [
        ADMIN_EMAIL,
        "u0@example.com",
        "u1@example.com",
        "u2@example.com",
        "u3@example.com",
        "waiting@example.com",
    ];
    assert_eq!(
        emails(&admin, pb::ListUsersRequest { page_size: 2, ..Default::default() }).await,
        all
    );
    let with_role = |role: pb::Role| pb::ListUsersRequest {
        role: role.into(),
        page_size: 1,
        ..Default::default()
    };
    assert_eq!(
        emails(&admin, with_role(pb::Role::Viewer)).await,
        ["u0@example.com", "u2@example.com", "u3@example.com"]
    );
    assert_eq!(emails(&admin, with_role(pb::Role::Operator)).await, ["waiting@example.com"]);
    assert!(emails(&admin, with_role(pb::Role::None)).await.is_empty());
    let inactive = pb::ListUsersRequest { is_active: Some(false), ..Default::default() };
    assert_eq!(emails(&admin, inactive).await, ["u3@example.com"]);
    let pending = |pending: bool| pb::ListUsersRequest {
        pending_invite: Some(pending),
        ..Default::default()
    };
    assert_eq!(emails(&admin, pending(true)).await, ["waiting@example.com"]);
    assert_eq!(emails(&admin, pending(false)).await, all[..5]);
    let both = pb::ListUsersRequest { is_active: Some(true), ..with_role(pb::Role::Viewer) };
    assert_eq!(emails(&admin, both).await, ["u0@example.com", "u2@example.com"]);
    // A page token of one request is not valid for another.
    let first = admin.users().list_users(with_role(pb::Role::Viewer)).await.unwrap().into_inner();
    let other =
        pb::ListUsersRequest { page_token: first.next_page_token, ..with_role(pb::Role::Admin) };
    assert_refused!(admin.users().list_users(other).await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn an_admin_by_group_is_listed_as_admin(sg: TestServer) {
    let admin = sg.admin();
    let ana = sg.create_user(ANA, pb::Role::Viewer).await;
    group(&admin, "admins", pb::Role::Admin, &[ANA]).await;
    let shown = get_user(&sg.with_token(&ana), ANA).await.unwrap();
    assert_eq!((shown.role(), shown.effective_role()), (pb::Role::Viewer, pb::Role::Admin));
    let request = pb::ListUsersRequest { role: pb::Role::Admin.into(), ..Default::default() };
    assert_eq!(emails(&sg.with_token(&ana), request).await, [ADMIN_EMAIL, ANA]);
    sg.finish().await;
}

async fn an_etag_changes_only_with_a_change_of_the_user(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user(ANA, pb::Role::Viewer).await;
    let read = get_user(&admin, ANA).await.unwrap();
    sg.login(ANA).await;
    assert_eq!(get_user(&admin, ANA).await.unwrap(), read);
    let changed = update_user(
        &admin,
        pb::UpdateUserRequest {
            etag: read.etag.clone(),
            ..set_role_request(ANA, pb::Role::Operator)
        },
    )
    .await
    .unwrap();
    assert_ne!(changed.etag, read.etag);
    let again =
        pb::UpdateUserRequest { etag: read.etag, ..set_role_request(ANA, pb::Role::Viewer) };
    assert_refused!(update_user(&admin, again).await, Aborted, "CONCURRENT_CHANGE");
    let now = admin
        .users()
        .reset_password(pb::ResetPasswordRequest { etag: changed.etag, ..reset_request(ANA) })
        .await
        .unwrap();
    let etag = now.into_inner().user.unwrap().etag;
    admin.users().delete_user(pb::DeleteUserRequest { etag, ..delete_request(ANA) }).await.unwrap();
    sg.finish().await;
}

async fn an_inactive_admin_can_be_deleted_while_an_active_admin_exists(sg: TestServer) {
    let admin = sg.admin();
    sg.create_user(ANA, pb::Role::Admin).await;
    update_user(&admin, set_active_request(ANA, false)).await.unwrap();
    admin.users().delete_user(delete_request(ANA)).await.unwrap();
    assert_refused!(
        admin.users().delete_user(delete_request(ADMIN_EMAIL)).await,
        FailedPrecondition,
        "LAST_ADMIN"
    );
    sg.finish().await;
}

async fn a_user_is_invited_logs_in_is_managed_and_deleted(sg: TestServer) {
    let admin = sg.admin();
    let (users, nobody) = (|| admin.users(), sg.anonymous());
    let accept = |token: &str| pb::AcceptInviteRequest {
        invite_token: token.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let login =
        |password: &str| pb::LoginRequest { email: ANA.to_owned(), password: password.to_owned() };
    // Invited, and invited again, since the first invitation was lost.
    let lost = admin.invite(ANA, pb::Role::Viewer).await;
    let resend = pb::ResendInviteRequest { user: ANA.into(), ..Default::default() };
    let token = users().resend_invite(resend).await.unwrap().into_inner().invite_token;
    assert_refused!(
        nobody.auth().accept_invite(accept(&lost)).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    nobody.auth().accept_invite(accept(&token)).await.unwrap();
    // Given another role, and deactivated for a while.
    update_user(&admin, set_role_request(ANA, pb::Role::Operator)).await.unwrap();
    update_user(&admin, set_active_request(ANA, false)).await.unwrap();
    assert_refused!(nobody.auth().login(login(PASSWORD)).await, Unauthenticated, "LOGIN_FAILED");
    update_user(&admin, set_active_request(ANA, true)).await.unwrap();
    // The password is changed by its owner, then forgotten, then reset.
    let session = nobody.auth().login(login(PASSWORD)).await.unwrap().into_inner();
    let request = pb::ChangePasswordRequest {
        current_password: PASSWORD.into(),
        new_password: "a password to be forgotten".into(),
        ..Default::default()
    };
    sg.with_token(&session.session_token).auth().change_password(request).await.unwrap();
    let token = users().reset_password(reset_request(ANA)).await.unwrap().into_inner().reset_token;
    nobody.auth().accept_invite(accept(&token)).await.unwrap();
    // Login fails so often that the user must wait, and an admin unlocks the account.
    let mut failed = 0;
    while nobody.auth().login(login("not the password")).await.unwrap_err().code()
        != Code::ResourceExhausted
    {
        failed += 1;
        assert!(failed < 20, "it need never wait");
    }
    assert_refused!(nobody.auth().login(login(PASSWORD)).await, ResourceExhausted, "RATE_LIMITED");
    users()
        .unlock_user(pb::UnlockUserRequest { user: ANA.into(), ..Default::default() })
        .await
        .unwrap();
    let (one, two) = (sg.login(ANA).await, sg.login(ANA).await);
    // One session is revoked, then all of them.
    let ask = pb::ListUserSessionsRequest { user: ANA.into(), ..Default::default() };
    let sessions = users().list_user_sessions(ask.clone()).await.unwrap().into_inner().sessions;
    assert_eq!(
        (sessions.len(), sessions[0].current, sessions[0].client_ip.as_str()),
        (3, false, "127.0.0.1")
    );
    let revoke = |session_id| pb::RevokeUserSessionsRequest {
        user: ANA.into(),
        session_id,
        ..Default::default()
    };
    let revoked = users().revoke_user_sessions(revoke(sessions[0].id)).await.unwrap().into_inner();
    assert_eq!(revoked.revoked_count, 1);
    assert_refused!(
        two.auth().get_current_identity(WHO).await,
        Unauthenticated,
        "CREDENTIAL_INVALID"
    );
    let stream = events(&one).await;
    assert_eq!(
        users().revoke_user_sessions(revoke(0)).await.unwrap().into_inner().revoked_count,
        2
    );
    ended(stream, EndReason::CredentialGone).await;
    assert!(users().list_user_sessions(ask).await.unwrap().into_inner().sessions.is_empty());
    sg.login(ANA).await;
    users().delete_user(delete_request(ANA)).await.unwrap();
    each_was_recorded(&sg, &admin).await;
    sg.finish().await;
}
