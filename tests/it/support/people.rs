//! People with an account, made past the front door, and statements that no rpc makes.

use diesel_async::RunQueryDsl;
use shoreguard::access::roles::Role;
use shoreguard::db::on_conn;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::access_bindings::feed::{self, Subject, store::log_change};
use shoreguard::resources::users::store;
use shoreguard::secret::Secret;

use super::server::{Caller, TestServer};

/// What everybody logs in with.
const PASSWORD: &str = "a password of theirs";

impl TestServer {
    /// Makes an active user with a password.
    pub(crate) async fn user(&self, email: &str, role: Role) {
        let now = self.app.clock.now();
        let hash = self.app.passwords.hash(Secret::new(PASSWORD)).await.unwrap();
        self.app
            .db
            .transaction(async |conn| {
                let id = store::insert(conn, email, &hash, role, now).await?;
                log_change(conn, Subject::User(id), now).await
            })
            .await
            .unwrap();
        feed::refresh(&self.app).await.unwrap();
    }

    /// Logs one of them in.
    pub(crate) async fn login(&self, email: &str) -> Caller {
        let login = pb::LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned() };
        let session = self.anonymous().auth().login(login).await.unwrap().into_inner();
        self.with(&session.session_token)
    }

    /// Runs one statement on the database. What it changes of access, the snapshot doesn't know.
    pub(crate) async fn sql(&self, statement: &str) -> usize {
        let mut conn = self.app.db.write().await.unwrap();
        on_conn!(&mut conn, |c| diesel::sql_query(statement).execute(c).await).unwrap()
    }
}
