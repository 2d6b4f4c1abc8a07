//! Users over the wire: how people come to an account, and what an admin does to it.

use shoreguard::pb::v1 as pb;
use tonic::Status;

use crate::support::dump;
use crate::support::people::PASSWORD;
use crate::support::server::{Caller, TestServer};

const WHO: pb::GetCurrentIdentityRequest = pb::GetCurrentIdentityRequest {};

fn invite(email: &str, role: pb::Role) -> pb::InviteUserRequest {
    pb::InviteUserRequest { email: email.to_owned(), role: role.into(), ..Default::default() }
}

async fn accept(
    sg: &TestServer,
    invite_token: &str,
    password: &str,
) -> Result<pb::AcceptInviteResponse, Status> {
    let (invite_token, password) = (invite_token.to_owned(), password.to_owned());
    let request = pb::AcceptInviteRequest { invite_token, password };
    sg.anonymous().auth().accept_invite(request).await.map(tonic::Response::into_inner)
}

async fn get(admin: &Caller, user: &str) -> Result<pb::User, Status> {
    let request = pb::GetUserRequest { user: user.to_owned() };
    Ok(admin.users().get_user(request).await?.into_inner().user.unwrap())
}

served! {
    async fn whoever_is_invited_sets_a_password_and_is_in(sg: TestServer) {
        let admin = sg.admin();
        let invited = admin.users().invite_user(invite(" Ana@Example.com ", pb::Role::Operator)).await.unwrap().into_inner();
        let (user, token) = (invited.user.unwrap(), invited.invite_token);
        assert_eq!((token.len(), &token[..4]), (47, "sgi_"));
        assert_eq!((user.email.as_str(), user.role(), user.effective_role()), ("ana@example.com", pb::Role::Operator, pb::Role::Operator));
        assert!(user.is_active && user.pending_invite && !user.has_password);
        assert_eq!(get(&admin, "ANA@example.com").await.unwrap(), user);
        assert_eq!(get(&admin, &user.id.to_string()).await.unwrap(), user);
        assert!(!dump::table(&sg.app.db, "users").await.contains(&token[4..]), "the token stands in the database");

        let session = accept(&sg, &token, PASSWORD).await.unwrap();
        assert_eq!(session.role(), pb::Role::Operator);
        let who = sg.with(&session.session_token).auth().get_current_identity(WHO).await.unwrap().into_inner();
        assert_eq!((who.actor.as_str(), who.principal), ("ana@example.com", format!("user:{}", user.id)));
        let refresh = pb::RefreshSessionRequest { refresh_token: session.refresh_token };
        sg.anonymous().auth().refresh_session(refresh).await.unwrap();
        let now = get(&admin, "ana@example.com").await.unwrap();
        assert!(now.has_password && !now.pending_invite && now.invite_expire_time.is_none());
        assert_ne!(now.etag, user.etag);
        sg.login("ana@example.com").await;
        // Once.
        assert_refused!(accept(&sg, &token, PASSWORD).await, Unauthenticated, "CREDENTIAL_INVALID");
        sg.finish().await;
    }
}
