//! OIDC identities of users, as columns of their rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::account::Account;
use crate::access::roles;
use crate::clock::Timestamp;
use crate::db::schema::{group_members, groups, users};
use crate::db::types::UserId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::role::Role;

/// An identity authenticated by an issuer.
#[derive(Debug, Clone, Copy)]
pub struct OidcIdentity<'a> {
    /// Name of the provider.
    pub provider: &'a str,
    /// URL of the issuer.
    pub issuer: &'a str,
    /// Subject at the issuer.
    pub subject: &'a str,
}

type Row = (i64, String, String, bool, Option<String>, Option<String>, i64);

async fn account(conn: &mut Conn, row: Option<Row>) -> Result<Option<Account>, Error> {
    let Some((id, email, own, active, password, linked_at, password_version)) = row else {
        return Ok(None);
    };
    let of_groups: Vec<String> = on_conn!(conn, |c| group_members::table
        .inner_join(groups::table)
        .filter(group_members::user_id.eq(id))
        .select(groups::role)
        .load(c)
        .await)?;
    let of_groups: Vec<Role> =
        of_groups.iter().map(|text| parse_role(text)).collect::<Result<_, _>>()?;
    let own_role = parse_role(&own)?;
    Ok(Some(Account {
        id: UserId(id),
        email,
        own_role,
        role: roles::global_role(own_role, of_groups),
        active,
        has_password: password.is_some(),
        linked_provider: linked_at,
        password_version,
    }))
}

/// Columns for [`account`].
macro_rules! columns {
    () => {
        (
            users::id,
            users::email,
            users::role,
            users::is_active,
            users::hashed_password,
            users::oidc_provider,
            users::password_version,
        )
    };
}

/// Returns the account that is linked to an identity. An account that was linked before the issuer was stored is
/// matched by the name of its provider.
pub async fn by_identity(
    conn: &mut Conn,
    issuer: &str,
    provider: &str,
    subject: &str,
) -> Result<Option<Account>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| users::table
        .filter(users::oidc_sub.eq(subject).and(users::oidc_issuer.eq(issuer)))
        .select(columns!())
        .order(users::id)
        .first(c)
        .await
        .optional())?;
    if row.is_some() {
        return account(conn, row).await;
    }
    let row: Option<Row> = on_conn!(conn, |c| users::table
        .filter(users::oidc_sub.eq(subject).and(users::oidc_provider.eq(provider)))
        .filter(users::oidc_issuer.is_null())
        .select(columns!())
        .first(c)
        .await
        .optional())?;
    account(conn, row).await
}

/// Returns the account of an e-mail address.
pub async fn by_email(conn: &mut Conn, email: &str) -> Result<Option<Account>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| users::table
        .filter(users::email.eq(email))
        .select(columns!())
        .first(c)
        .await
        .optional())?;
    account(conn, row).await
}

/// Returns the account of a user.
pub async fn by_id(conn: &mut Conn, user: UserId) -> Result<Option<Account>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| users::table
        .find(user.get())
        .select(columns!())
        .first(c)
        .await
        .optional())?;
    account(conn, row).await
}

/// Stores a new user who logs in with OIDC. Returns its id and its password version; it has no password. Returns
/// `Exists` if the address or identity is in use.
pub async fn insert(
    conn: &mut Conn,
    email: &str,
    role: Role,
    identity: &OidcIdentity<'_>,
    at: Timestamp,
) -> Result<(UserId, i64), Error> {
    let row = (
        users::email.eq(email),
        users::role.eq(role.as_str()),
        users::is_active.eq(true),
        users::created_at.eq(at),
        users::oidc_provider.eq(identity.provider),
        users::oidc_issuer.eq(identity.issuer),
        users::oidc_sub.eq(identity.subject),
    );
    let made: Result<(i64, i64), _> = on_conn!(conn, |c| diesel::insert_into(users::table)
        .values(row)
        .returning((users::id, users::password_version))
        .get_result(c)
        .await);
    let (id, version) = made.map_err(|error| crate::db::error::with_name(error.into(), email))?;
    Ok((UserId(id), version))
}

/// Links an active user without a link, and deletes its invitation. Returns whether the user was linked.
pub async fn link(
    conn: &mut Conn,
    user: UserId,
    identity: &OidcIdentity<'_>,
) -> Result<bool, Error> {
    let linked = on_conn!(conn, |c| diesel::update(
        users::table
            .find(user.get())
            .filter(users::oidc_sub.is_null().and(users::is_active.eq(true)))
    )
    .set((
        users::oidc_provider.eq(identity.provider),
        users::oidc_issuer.eq(identity.issuer),
        users::oidc_sub.eq(identity.subject),
        users::invite_token_hash.eq(None::<String>),
        users::invite_expires_at.eq(None::<Timestamp>),
        users::version.eq(users::version + 1),
    ))
    .execute(c)
    .await);
    let linked = linked.map_err(|e| crate::db::error::with_name(e.into(), identity.provider))?;
    Ok(linked == 1)
}

/// Stores the issuer and the current provider name of a linked user, and returns whether they changed.
pub async fn update_issuer(
    conn: &mut Conn,
    user: UserId,
    identity: &OidcIdentity<'_>,
) -> Result<bool, Error> {
    let differs = users::oidc_issuer
        .is_null()
        .or(users::oidc_provider.is_null())
        .or(users::oidc_provider.ne(identity.provider));
    let named = on_conn!(conn, |c| diesel::update(
        users::table.find(user.get()).filter(users::oidc_sub.eq(identity.subject)).filter(differs)
    )
    .set((users::oidc_issuer.eq(identity.issuer), users::oidc_provider.eq(identity.provider),))
    .execute(c)
    .await)?;
    Ok(named == 1)
}

/// Removes a user's link and increments its password version, which invalidates all credentials made from the link.
/// Returns `false` if the user has no link or no password.
pub async fn unlink(conn: &mut Conn, user: UserId) -> Result<bool, Error> {
    let both = users::oidc_sub.is_not_null().and(users::hashed_password.is_not_null());
    let unlinked = on_conn!(conn, |c| diesel::update(users::table.find(user.get()).filter(both))
        .set((
            users::oidc_provider.eq(None::<String>),
            users::oidc_issuer.eq(None::<String>),
            users::oidc_sub.eq(None::<String>),
            users::password_version.eq(users::password_version + 1),
            users::version.eq(users::version + 1),
        ))
        .execute(c)
        .await)?;
    Ok(unlinked == 1)
}

/// Sets the role of a user without a password.
pub async fn set_role(conn: &mut Conn, user: UserId, role: Role) -> Result<(), Error> {
    on_conn!(conn, |c| diesel::update(
        users::table.find(user.get()).filter(users::hashed_password.is_null())
    )
    .set((users::role.eq(role.as_str()), users::version.eq(users::version + 1)))
    .execute(c)
    .await)?;
    Ok(())
}
