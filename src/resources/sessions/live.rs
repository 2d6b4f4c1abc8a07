//! Live sessions, from which others are derived: the user approves a device in one of them.

use super::{NewSession, store};
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::types::{SessionId, UserId};
use crate::error::Error;

/// A live session, with the properties needed to derive another one.
pub struct LiveSession {
    /// E-mail address of the user.
    pub email: String,
    /// Version of the password that the session depends on.
    pub password_version: i64,
    /// When the user authenticated.
    pub authenticated_at: Timestamp,
}

/// Returns a live session of a user; `None` if it has ended.
pub async fn find_live(
    app: &App,
    user: UserId,
    id: SessionId,
) -> Result<Option<LiveSession>, Error> {
    let mut conn = app.db.read().await?;
    store::find_live(&mut conn, user, id, app.clock.now()).await
}

/// Checks again, in the transaction that starts a session, that the session `from` from which it is derived is live, and
/// keeps that one from ending until the transaction ends. Returns whether it is.
///
/// # Errors
/// Those of the database.
pub async fn hold_live(
    conn: &mut Conn,
    from: SessionId,
    new: &NewSession,
    now: Timestamp,
) -> Result<bool, Error> {
    // The user first, in the order of the transactions that end all sessions of an account.
    Ok(store::lock_user(conn, new.user, new.password_version).await?
        && store::lock_live(conn, new.user, from, now).await?)
}
