//! Users with accounts and service principals, created through the API, and SQL statements that no rpc makes.

use std::time::Instant;

use diesel_async::RunQueryDsl;
use shoreguard::db::on_conn;
use shoreguard::pb::v1 as pb;

use super::server::{Bearer, Caller, TestServer};
use super::{CONDITION_TIME_MAX, pause};

/// Password of all these users.
pub(crate) const PASSWORD: &str = "a password of theirs";

/// Columns of a review that its copies have, too.
const REVIEW_COLUMNS: [&str; 17] = [
    "action",
    "gateway_id",
    "gateway_name",
    "workspace",
    "sandbox_name",
    "sandbox_id",
    "chunk_id",
    "state",
    "digest",
    "generation",
    "authors_json",
    "summary_json",
    "opened_at",
    "expires_at",
    "closed_at",
    "content",
    "proposer",
];

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
    /// Does the same as [`Caller::create_user`] as the admin.
    pub(crate) async fn create_user(&self, email: &str, role: impl Into<pb::Role>) -> String {
        self.admin().create_user(email, role.into()).await
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

    /// Stores copies of the first review. The columns in `changed` have other values, in SQL: `i` counts the copies
    /// from 1.
    pub(crate) async fn copy_review(&self, count: usize, changed: &[(&str, &str)]) {
        let mut values: Vec<&str> = REVIEW_COLUMNS.to_vec();
        for &(column, value) in changed {
            let at = REVIEW_COLUMNS.iter().position(|name| *name == column);
            values[at.unwrap_or_else(|| panic!("`{column}` is not copied"))] = value;
        }
        let statement = format!(
            "INSERT INTO approval_rounds ({}) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             SELECT {} FROM approval_rounds CROSS JOIN n WHERE id = (SELECT MIN(id) FROM approval_rounds)",
            REVIEW_COLUMNS.join(", "),
            values.join(", ")
        );
        assert_eq!(self.sql(&statement).await, count);
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

    /// Invites a user, who accepts with [`PASSWORD`]. Returns the session token.
    pub(crate) async fn create_user(&self, email: &str, role: pb::Role) -> String {
        let invite_token = self.invite(email, role).await;
        let anonymous = Self { channel: self.channel.clone(), bearer: Bearer(None) };
        let accept = pb::AcceptInviteRequest { invite_token, password: PASSWORD.to_owned() };
        anonymous.auth().accept_invite(accept).await.unwrap().into_inner().session_token
    }
}
