//! Users and groups, put in as their own services would.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use shoreguard::access::roles::Role;
use shoreguard::db::schema::{group_members, groups, users as user_rows};
use shoreguard::db::types::{GroupId, UserId};
use shoreguard::db::{Conn, on_conn};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::access_bindings::feed::{self, Subject, store::log_change};
use shoreguard::resources::users::store as users;
use shoreguard::secret::Secret;

use super::server::{Caller, TestServer};

const PASSWORD: &str = "correct horse battery";

async fn logged(sg: &TestServer, conn: &mut Conn, subject: Subject) {
    log_change(conn, subject, sg.app.clock.now()).await.unwrap();
}

impl TestServer {
    /// A user, and its session.
    pub(crate) async fn user(&self, email: &str, role: Role) -> (UserId, Caller) {
        let hash = self.app.passwords.hash(Secret::new(PASSWORD)).await.unwrap();
        let now = self.app.clock.now();
        let made = self.app.db.transaction(async |conn| {
            let id = users::insert(conn, email, &hash, role, now).await?;
            logged(self, conn, Subject::User(id)).await;
            Ok(id)
        });
        let id = made.await.unwrap();
        feed::refresh(&self.app).await.unwrap();
        let login = pb::LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned() };
        let session = self.anonymous().auth().login(login).await.unwrap().into_inner();
        (id, self.with(&session.session_token))
    }

    /// A group with members.
    pub(crate) async fn group(&self, name: &str, role: Role, members: &[UserId]) -> GroupId {
        let now = self.app.clock.now();
        let made = self.app.db.transaction(async |conn| {
            let row =
                (groups::name.eq(name), groups::role.eq(role.as_str()), groups::created_at.eq(now));
            let id: i64 = on_conn!(conn, |c| diesel::insert_into(groups::table)
                .values(row)
                .returning(groups::id)
                .get_result(c)
                .await)?;
            for user in members {
                let row = (group_members::group_id.eq(id), group_members::user_id.eq(user.get()));
                on_conn!(conn, |c| diesel::insert_into(group_members::table)
                    .values(row)
                    .execute(c)
                    .await)?;
                logged(self, conn, Subject::User(*user)).await;
            }
            logged(self, conn, Subject::Group(id.into())).await;
            Ok(GroupId(id))
        });
        let id = made.await.unwrap();
        feed::refresh(&self.app).await.unwrap();
        id
    }

    /// Makes an account one that may not be used.
    pub(crate) async fn deactivate(&self, user: UserId) {
        let done = self.app.db.transaction(async |conn| {
            on_conn!(conn, |c| diesel::update(user_rows::table.find(user.get()))
                .set(user_rows::is_active.eq(false))
                .execute(c)
                .await)?;
            logged(self, conn, Subject::User(user)).await;
            Ok(())
        });
        done.await.unwrap();
        feed::refresh(&self.app).await.unwrap();
    }
}
