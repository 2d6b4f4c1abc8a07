//! Invitations and password resets, as columns of users.

use std::ops::RangeInclusive;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::users;
use crate::db::types::UserId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::role::Role;

/// Token of a pending invitation or reset.
#[derive(Debug, Clone, Copy)]
pub struct PendingToken<'a> {
    /// SHA-256 of the token, 64 hexadecimal digits.
    pub token_hash: &'a str,
    /// When it expires.
    pub expires_at: Timestamp,
}

/// Stores a new user without a password. Returns `Exists` if the address is in use.
pub async fn insert_invited(
    conn: &mut Conn,
    email: &str,
    role: Role,
    token: PendingToken<'_>,
    at: Timestamp,
) -> Result<UserId, Error> {
    let row = (
        users::email.eq(email),
        users::role.eq(role.as_str()),
        users::is_active.eq(true),
        users::invite_token_hash.eq(token.token_hash),
        users::invite_expires_at.eq(token.expires_at),
        users::created_at.eq(at),
    );
    let id: Result<i64, _> = on_conn!(conn, |c| diesel::insert_into(users::table)
        .values(row)
        .returning(users::id)
        .get_result(c)
        .await);
    Ok(id.map_err(|error| crate::db::error::with_name(error.into(), email))?.into())
}

/// Returns whether a user has a pending token and never had a password: its password version is the `first` one.
pub async fn is_invited(conn: &mut Conn, id: UserId, first: i64) -> Result<bool, Error> {
    let invited = users::table
        .filter(users::id.eq(id.get()).and(users::invite_token_hash.is_not_null()))
        .filter(users::hashed_password.is_null().and(users::password_version.eq(first)));
    Ok(on_conn!(conn, |c| diesel::select(diesel::dsl::exists(invited)).get_result(c).await)?)
}

/// Replaces the token of a user if the user's version is still `version`. Returns whether it was replaced.
pub async fn set_pending_token(
    conn: &mut Conn,
    id: UserId,
    version: i64,
    token: PendingToken<'_>,
) -> Result<bool, Error> {
    let row = users::table.filter(users::id.eq(id.get()).and(users::version.eq(version)));
    let set = (
        users::invite_token_hash.eq(token.token_hash),
        users::invite_expires_at.eq(token.expires_at),
        users::version.eq(version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Removes the password of a user if its version is in `versions`, which invalidates all credentials made from it, and
/// sets a token. Returns whether the user was changed.
pub async fn reset(
    conn: &mut Conn,
    id: UserId,
    versions: RangeInclusive<i64>,
    token: PendingToken<'_>,
) -> Result<bool, Error> {
    let among = users::version.between(*versions.start(), *versions.end());
    let row = users::table.filter(users::id.eq(id.get()).and(among));
    let set = (
        users::hashed_password.eq(None::<String>),
        users::password_version.eq(users::password_version + 1),
        users::invite_token_hash.eq(token.token_hash),
        users::invite_expires_at.eq(token.expires_at),
        users::version.eq(users::version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Returns id and e-mail address of the active user with this token; `None` if it is unknown or expired.
pub async fn find_by_token(
    conn: &mut Conn,
    token_hash: &str,
    now: Timestamp,
) -> Result<Option<(UserId, String)>, Error> {
    let found: Option<(i64, String)> = on_conn!(conn, |c| users::table
        .filter(users::invite_token_hash.eq(token_hash))
        .filter(users::invite_expires_at.gt(now).and(users::is_active.eq(true)))
        .select((users::id, users::email))
        .first(c)
        .await
        .optional())?;
    Ok(found.map(|(id, email)| (id.into(), email)))
}

/// Consumes a token and sets the password of its user. Returns the user's id and the new password version; `None` if
/// the token is no longer valid.
pub async fn accept(
    conn: &mut Conn,
    token_hash: &str,
    hashed_password: &str,
    now: Timestamp,
) -> Result<Option<(UserId, i64)>, Error> {
    let waiting = users::table
        .filter(users::invite_token_hash.eq(token_hash))
        .filter(users::invite_expires_at.gt(now).and(users::is_active.eq(true)));
    let set = (
        users::hashed_password.eq(hashed_password),
        users::password_version.eq(users::password_version + 1),
        users::invite_token_hash.eq(None::<String>),
        users::invite_expires_at.eq(None::<Timestamp>),
        users::version.eq(users::version + 1),
    );
    let taken: Option<(i64, i64)> = on_conn!(conn, |c| diesel::update(waiting)
        .set(set)
        .returning((users::id, users::password_version))
        .get_result(c)
        .await
        .optional())?;
    Ok(taken.map(|(id, version)| (id.into(), version)))
}
