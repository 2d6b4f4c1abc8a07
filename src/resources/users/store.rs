//! Users as rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::roles::Role;
use crate::db::schema::{group_members, groups, users};
use crate::db::types::{Timestamp, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// Serialises whatever can take an admin away on PostgreSQL, so that two such changes never each count the other's admin.
const ADMINS_LOCK: i64 = 0x5348_4f52_4541_444d;

/// Waits for the turn to change who is admin; until the end of the transaction.
pub async fn lock_admins(conn: &mut Conn) -> Result<(), Error> {
    conn.serialise(ADMINS_LOCK).await
}

/// Whether there is a user that is active, can log in, and is admin by its own role or by a group's.
pub async fn any_active_admin(conn: &mut Conn) -> Result<bool, Error> {
    let admin = Role::Admin.as_str();
    let first: Option<i64> = on_conn!(conn, |c| {
        let by_group = group_members::table
            .inner_join(groups::table)
            .filter(group_members::user_id.eq(users::id).and(groups::role.eq(admin)));
        users::table
            .filter(users::is_active.eq(true))
            .filter(users::hashed_password.is_not_null().or(users::oidc_sub.is_not_null()))
            .filter(users::role.eq(admin).or(diesel::dsl::exists(by_group)))
            .select(users::id)
            .first(c)
            .await
            .optional()
    })?;
    Ok(first.is_some())
}

/// What a login needs to know of an account.
#[derive(Debug)]
pub struct Account {
    /// Id.
    pub id: UserId,
    /// bcrypt hash; none where no password was set.
    pub hashed_password: Option<String>,
    /// Whether the account may be used.
    pub active: bool,
    /// Moves with each change of the password.
    pub password_version: i64,
}

type AccountRow = (i64, Option<String>, bool, i64);

fn account_from((id, hashed_password, active, password_version): AccountRow) -> Account {
    Account { id: id.into(), hashed_password, active, password_version }
}

/// The account of an e-mail address.
pub async fn account(conn: &mut Conn, email: &str) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = on_conn!(conn, |c| users::table
        .filter(users::email.eq(email))
        .select((users::id, users::hashed_password, users::is_active, users::password_version))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(account_from))
}

/// The account of a user.
pub async fn account_of(conn: &mut Conn, id: UserId) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = on_conn!(conn, |c| users::table
        .find(id.get())
        .select((users::id, users::hashed_password, users::is_active, users::password_version))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(account_from))
}

/// Whether there is any user.
pub async fn any(conn: &mut Conn) -> Result<bool, Error> {
    let first: Option<i64> =
        on_conn!(conn, |c| users::table.select(users::id).first(c).await.optional())?;
    Ok(first.is_some())
}

/// Stores a new user with a password; an address that is taken is `Exists`.
pub async fn insert(
    conn: &mut Conn,
    email: &str,
    hashed_password: &str,
    role: Role,
    at: Timestamp,
) -> Result<UserId, Error> {
    let row = (
        users::email.eq(email),
        users::hashed_password.eq(hashed_password),
        users::role.eq(role.as_str()),
        users::is_active.eq(true),
        users::created_at.eq(at),
    );
    let id: Result<i64, _> = on_conn!(conn, |c| diesel::insert_into(users::table)
        .values(row)
        .returning(users::id)
        .get_result(c)
        .await);
    Ok(id.map_err(|error| crate::db::error::about(error.into(), email))?.into())
}

/// Sets a password and answers its version, none where there is no such user. What was made from the older one is
/// dead, an invitation included.
pub async fn set_password(
    conn: &mut Conn,
    id: UserId,
    hashed_password: &str,
) -> Result<Option<i64>, Error> {
    let version: Option<i64> = on_conn!(conn, |c| diesel::update(users::table.find(id.get()))
        .set((
            users::hashed_password.eq(hashed_password),
            users::password_version.eq(users::password_version + 1),
            users::invite_token_hash.eq(None::<String>),
            users::invite_expires_at.eq(None::<Timestamp>),
            users::version.eq(users::version + 1),
        ))
        .returning(users::password_version)
        .get_result(c)
        .await
        .optional())?;
    Ok(version)
}
