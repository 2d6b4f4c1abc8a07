//! Rows of sessions.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{LiveSession, NewSession, SessionInfo, SessionKind, TokenFamily};
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{gateways, sessions, users};
use crate::db::types::{GatewayId, SessionId, UserId};
use crate::db::{Conn, on_conn};
use crate::delete_first;
use crate::error::Error;

/// A session to store.
pub struct NewSessionRow<'a> {
    /// Session.
    pub session: &'a NewSession,
    /// SHA-256 of the family part of its refresh tokens.
    pub family_hash: &'a str,
    /// SHA-256 of the secret part of the current refresh token.
    pub refresh_hash: &'a str,
    /// Client address.
    pub client_ip: Option<&'a str>,
    /// Current time.
    pub now: Timestamp,
    /// When the family ends.
    pub expires_at: Timestamp,
}

/// Locks the row of a user until the transaction ends, and returns whether the user is active and still has this
/// password version. A concurrent change of either waits for the new session and then ends it with the others.
pub async fn lock_user(
    conn: &mut Conn,
    user: UserId,
    password_version: i64,
) -> Result<bool, Error> {
    use users as t;
    let held = on_conn!(conn, |c| diesel::update(
        t::table
            .filter(t::id.eq(user.get()).and(t::is_active.eq(true)))
            .filter(t::password_version.eq(password_version))
    )
    .set(t::is_active.eq(true))
    .execute(c)
    .await)?;
    Ok(held == 1)
}

/// Stores a new session.
pub async fn insert(conn: &mut Conn, new: &NewSessionRow<'_>) -> Result<SessionId, Error> {
    use sessions as t;
    let row = (
        t::user_id.eq(new.session.user.get()),
        t::kind.eq(new.session.kind),
        t::gateway_id.eq(new.session.gateway.map(GatewayId::get)),
        t::family_hash.eq(new.family_hash),
        t::refresh_hash.eq(new.refresh_hash),
        t::password_version.eq(new.session.password_version),
        t::client_ip.eq(new.client_ip),
        t::authenticated_at.eq(new.session.authenticated_at),
        t::created_at.eq(new.now),
        t::refreshed_at.eq(new.now),
        t::expires_at.eq(new.expires_at),
    );
    let id: i64 = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(t::id)
        .get_result(c)
        .await)?;
    Ok(SessionId(id))
}

/// Ends all live sessions of a user except the `keep` most recently refreshed ones. Returns the number of ended
/// sessions.
pub async fn end_oldest(
    conn: &mut Conn,
    user: UserId,
    keep: i64,
    now: Timestamp,
) -> Result<usize, Error> {
    use sessions as t;
    let beyond: Vec<i64> = on_conn!(conn, |c| t::table
        .filter(t::user_id.eq(user.get()).and(t::revoked_at.is_null()).and(t::expires_at.gt(now)))
        .select(t::id)
        .order((t::refreshed_at.desc(), t::id.desc()))
        .offset(keep)
        .limit(i64::MAX)
        .load(c)
        .await)?;
    if beyond.is_empty() {
        return Ok(0);
    }
    let ended = on_conn!(conn, |c| diesel::update(t::table.filter(t::id.eq_any(&beyond)))
        .set(t::revoked_at.eq(now))
        .execute(c)
        .await)?;
    Ok(ended)
}

type FamilyRow = (i64, i64, SessionKind, Option<i64>, i64, Timestamp, Timestamp, String);

/// Returns the live family of a hash, if its user is active and the password version is unchanged.
pub async fn find_family(
    conn: &mut Conn,
    family_hash: &str,
    now: Timestamp,
) -> Result<Option<TokenFamily>, Error> {
    use sessions as t;
    let row: Option<FamilyRow> = on_conn!(conn, |c| t::table
        .inner_join(users::table)
        .filter(t::family_hash.eq(family_hash))
        .filter(t::revoked_at.is_null().and(t::expires_at.gt(now)))
        .filter(users::is_active.eq(true).and(users::password_version.eq(t::password_version)))
        .select((
            t::id,
            t::user_id,
            t::kind,
            t::gateway_id,
            t::password_version,
            t::authenticated_at,
            t::expires_at,
            users::email,
        ))
        .first(c)
        .await
        .optional())?;
    let family = |(
        id,
        user,
        kind,
        gateway,
        password_version,
        authenticated_at,
        expires_at,
        email,
    ): FamilyRow| {
        let (user, gateway) = (UserId(user), gateway.map(GatewayId));
        let new = NewSession { user, password_version, kind, gateway, authenticated_at };
        TokenFamily { id: SessionId(id), session: new, expires_at, email }
    };
    Ok(row.map(family))
}

/// Returns a live session of a user, if the user is active and the password version is unchanged.
pub async fn find_live(
    conn: &mut Conn,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<Option<LiveSession>, Error> {
    use sessions as t;
    let row: Option<(String, i64, Timestamp)> = on_conn!(conn, |c| t::table
        .inner_join(users::table)
        .filter(t::id.eq(id.get()).and(t::user_id.eq(user.get())))
        .filter(t::revoked_at.is_null().and(t::expires_at.gt(now)))
        .filter(users::is_active.eq(true).and(users::password_version.eq(t::password_version)))
        .select((users::email, t::password_version, t::authenticated_at))
        .first(c)
        .await
        .optional())?;
    let live = |(email, password_version, authenticated_at)| LiveSession {
        email,
        password_version,
        authenticated_at,
    };
    Ok(row.map(live))
}

/// Returns whether a session of a user has not ended, and locks it, so that it does not end until the transaction ends.
pub async fn lock_live(
    conn: &mut Conn,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<bool, Error> {
    use sessions as t;
    let row = t::table
        .filter(t::id.eq(id.get()).and(t::user_id.eq(user.get())))
        .filter(t::revoked_at.is_null().and(t::expires_at.gt(now)))
        .select(t::id);
    let found: Option<i64> = match conn {
        Conn::Pg(c) => row.for_no_key_update().first(c).await.optional()?,
        // The transaction already holds the database's only write lock.
        Conn::Sqlite(c) => row.first(c).await.optional()?,
    };
    Ok(found.is_some())
}

/// Replaces the refresh token if `before` is the current one and the session is not revoked. Returns whether it was
/// replaced.
pub async fn replace_refresh_token(
    conn: &mut Conn,
    id: SessionId,
    before: &str,
    after: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    use sessions as t;
    let row = t::table
        .filter(t::id.eq(id.get()).and(t::refresh_hash.eq(before)).and(t::revoked_at.is_null()));
    let set = (t::refresh_hash.eq(after), t::refreshed_at.eq(now));
    let swapped = on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(swapped == 1)
}

/// Ends a session of a user. Returns `false` if it does not exist or has been revoked already.
pub async fn end(
    conn: &mut Conn,
    user: UserId,
    id: SessionId,
    now: Timestamp,
) -> Result<bool, Error> {
    use sessions as t;
    let ended = on_conn!(conn, |c| diesel::update(
        t::table
            .filter(t::id.eq(id.get()).and(t::user_id.eq(user.get())).and(t::revoked_at.is_null()))
            .filter(t::expires_at.gt(now))
    )
    .set(t::revoked_at.eq(now))
    .execute(c)
    .await)?;
    Ok(ended == 1)
}

/// Ends all live sessions of a user. Returns their number.
pub async fn end_all(conn: &mut Conn, user: UserId, now: Timestamp) -> Result<usize, Error> {
    use sessions as t;
    let live = t::table
        .filter(t::user_id.eq(user.get()).and(t::revoked_at.is_null()).and(t::expires_at.gt(now)));
    let ended =
        on_conn!(conn, |c| diesel::update(live).set(t::revoked_at.eq(now)).execute(c).await)?;
    Ok(ended)
}

type SessionInfoRow =
    (i64, SessionKind, Option<String>, Option<String>, Timestamp, Timestamp, Timestamp);

/// Returns a page of a user's live sessions, newest first, after a cursor.
pub async fn page(
    conn: &mut Conn,
    user: UserId,
    after: Option<SessionId>,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<SessionInfo>, Error> {
    use sessions as t;
    let rows: Vec<SessionInfoRow> = on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(users::table)
            .left_join(gateways::table)
            .filter(t::user_id.eq(user.get()))
            .filter(t::revoked_at.is_null().and(t::expires_at.gt(now)))
            .filter(users::password_version.eq(t::password_version))
            .select((
                t::id,
                t::kind,
                gateways::name.nullable(),
                t::client_ip,
                t::authenticated_at,
                t::refreshed_at,
                t::expires_at,
            ))
            .order(t::id.desc())
            .limit(limit)
            .into_boxed();
        if let Some(id) = after {
            query = query.filter(t::id.lt(id.get()));
        }
        query.load(c).await
    })?;
    let shown =
        |(id, kind, gateway, client_ip, authenticated_at, refreshed_at, expires_at): SessionInfoRow| {
            let id = SessionId(id);
            SessionInfo { id, kind, gateway, client_ip, authenticated_at, refreshed_at, expires_at }
        };
    Ok(rows.into_iter().map(shown).collect())
}

/// Deletes sessions that ended before `before`. Returns their number.
pub async fn delete_ended(conn: &mut Conn, before: Timestamp, limit: i64) -> Result<usize, Error> {
    use sessions as t;
    let ended = t::expires_at.lt(before).or(t::revoked_at.lt(before));
    Ok(delete_first!(conn, t, ended, t::id, limit)?)
}
