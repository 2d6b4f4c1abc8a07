//! Users with accounts and service principals, created through the API, and SQL statements that no rpc makes.

use std::time::Instant;

use diesel_async::RunQueryDsl;
use shoreguard::db::on_conn;
use shoreguard::pb::v1 as pb;

use super::server::{Caller, TestServer};
use super::{CONDITION_TIME_MAX, pause};

/// Password of all these users.
pub(crate) const PASSWORD: &str = "a password of theirs";

impl Caller {
    /// Creates a service principal. Returns its key. Repeats a call that was refused with `ACCESS_STALE`, as a client
    /// does: a server that gets no processor for seconds has done nothing then.
    pub(crate) async fn create_key(&self, name: &str, role: pb::Role) -> String {
        let request = pb::CreateServicePrincipalRequest {
            name: name.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        let begun = Instant::now();
        loop {
            let answer = self.service_principals().create_service_principal(request.clone()).await;
            match answer {
                Ok(created) => return created.into_inner().key,
                Err(refused) => {
                    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
                    assert!(begun.elapsed() < CONDITION_TIME_MAX, "{refused:?}");
                    pause().await;
                }
            }
        }
    }
}

impl TestServer {
    /// Invites a user, who accepts with [`PASSWORD`]. Returns the session token.
    pub(crate) async fn create_user(&self, email: &str, role: impl Into<pb::Role>) -> String {
        let invite_token = self.admin().invite(email, role.into()).await;
        let request = pb::AcceptInviteRequest { invite_token, password: PASSWORD.to_owned() };
        self.anonymous().auth().accept_invite(request).await.unwrap().into_inner().session_token
    }

    /// Logs in one of these users.
    pub(crate) async fn login(&self, email: &str) -> Caller {
        let login = pb::LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned() };
        let session = self.anonymous().auth().login(login).await.unwrap().into_inner();
        self.with_token(&session.session_token)
    }

    /// Creates a group with members.
    pub(crate) async fn create_group(
        &self,
        name: &str,
        role: impl Into<pb::Role>,
        members: &[&str],
    ) {
        let admin = self.admin();
        let request = pb::CreateGroupRequest {
            name: name.to_owned(),
            role: role.into().into(),
            ..Default::default()
        };
        admin.groups().create_group(request).await.unwrap();
        for email in members {
            let request = pb::AddGroupMemberRequest {
                group: name.to_owned(),
                user: (*email).to_owned(),
                ..Default::default()
            };
            admin.groups().add_group_member(request).await.unwrap();
        }
    }

    /// Deactivates an account.
    pub(crate) async fn deactivate(&self, email: &str) {
        let request = pb::UpdateUserRequest {
            user: email.to_owned(),
            is_active: false,
            update_mask: Some(prost_types::FieldMask { paths: vec!["is_active".to_owned()] }),
            ..Default::default()
        };
        self.admin().users().update_user(request).await.unwrap();
    }

    /// Runs one statement on the database. The access snapshot does not see its changes.
    pub(crate) async fn sql(&self, statement: &str) -> usize {
        let mut conn = self.app.db.write().await.unwrap();
        on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap()
    }
}

impl Caller {
    /// Invites a user. Returns the invitation token.
    pub(crate) async fn invite(&self, email: &str, role: pb::Role) -> String {
        let request = pb::InviteUserRequest {
            email: email.to_owned(),
            role: role.into(),
            ..Default::default()
        };
        self.users().invite_user(request).await.unwrap().into_inner().invite_token
    }
}
