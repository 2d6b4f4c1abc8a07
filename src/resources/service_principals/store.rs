//! Rows of service principals.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::domain::ServicePrincipal;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{approval_decisions, service_principals};
use crate::db::types::{ServicePrincipalId, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::role::Role;

/// Advisory lock on PostgreSQL that serializes creation, so that the number of service principals stays within the
/// limit.
const COUNT_LOCK: i64 = 0x5348_4f52_4553_504e;

/// A row without the hash of the key.
#[derive(Queryable, Selectable)]
#[diesel(table_name = service_principals)]
struct Row {
    id: i64,
    name: String,
    role: String,
    key_prefix: Option<String>,
    created_by: Option<i64>,
    created_at: Timestamp,
    last_used: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    previous_key_expires_at: Option<Timestamp>,
    version: i64,
}

impl TryFrom<Row> for ServicePrincipal {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.into(),
            name: row.name,
            role: parse_role(&row.role)?,
            key_prefix: row.key_prefix.unwrap_or_default(),
            created_by: row.created_by.map(Into::into),
            created_at: row.created_at,
            last_used: row.last_used,
            expires_at: row.expires_at,
            previous_ends_at: row.previous_key_expires_at,
            version: row.version,
        })
    }
}

/// A service principal to store.
#[derive(Debug)]
pub struct NewServicePrincipal<'a> {
    /// Unique name.
    pub name: &'a str,
    /// SHA-256 of the key, 64 hexadecimal digits.
    pub key_hash: &'a str,
    /// First 12 characters of the key.
    pub key_prefix: &'a str,
    /// Global role.
    pub role: Role,
    /// User who creates it.
    pub created_by: Option<UserId>,
    /// Principal that creates it; `None` for the configuration and the command line.
    pub maker: Option<PrincipalId>,
    /// Current time.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
}

/// Stores a new service principal. Returns `Exists` if the name is in use.
pub async fn insert(
    conn: &mut Conn,
    new: &NewServicePrincipal<'_>,
) -> Result<ServicePrincipal, Error> {
    use service_principals as t;
    let row = (
        t::name.eq(new.name),
        t::key_hash.eq(new.key_hash),
        t::key_prefix.eq(new.key_prefix),
        t::role.eq(new.role.as_str()),
        t::created_by.eq(new.created_by.map(UserId::get)),
        t::maker.eq(new.maker.map(|maker| maker.to_string())),
        t::created_at.eq(new.created_at),
        t::expires_at.eq(new.expires_at),
    );
    let stored: Result<Row, _> = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(Row::as_returning())
        .get_result(c)
        .await);
    stored.map_err(|error| crate::db::error::with_name(error.into(), new.name))?.try_into()
}

/// Returns a service principal by name.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<ServicePrincipal>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| service_principals::table
        .filter(service_principals::name.eq(name))
        .select(Row::as_select())
        .first(c)
        .await
        .optional())?;
    row.map(TryInto::try_into).transpose()
}

/// Returns a page of service principals, ordered by name, after a cursor.
pub async fn page(
    conn: &mut Conn,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<ServicePrincipal>, Error> {
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let mut query = service_principals::table
            .select(Row::as_select())
            .order(service_principals::name)
            .limit(limit)
            .into_boxed();
        if let Some(name) = after {
            query = query.filter(service_principals::name.gt(name));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Takes the lock for creating a service principal, until the end of the transaction.
pub async fn lock_count(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(COUNT_LOCK).await
}

/// Returns the number of service principals.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| service_principals::table.count().get_result(c).await)?)
}

/// Updates role and expiry of a service principal if its version is still `version`. Returns whether it was updated.
pub async fn update(
    conn: &mut Conn,
    id: ServicePrincipalId,
    version: i64,
    role: Role,
    expires_at: Option<Timestamp>,
) -> Result<bool, Error> {
    use service_principals as t;
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = (t::role.eq(role.as_str()), t::expires_at.eq(expires_at), t::version.eq(version + 1));
    let changed = on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?;
    Ok(changed == 1)
}

/// A new key that replaces the present one.
#[derive(Debug)]
pub struct KeyReplacement<'a> {
    /// SHA-256 of the key, 64 hexadecimal digits.
    pub key_hash: &'a str,
    /// First 12 characters of the key.
    pub key_prefix: &'a str,
    /// When the present key expires; `None` makes it invalid immediately.
    pub previous_ends_at: Option<Timestamp>,
    /// Principal that replaces it; `None` for the server's own work.
    pub rotated_by: Option<PrincipalId>,
}

/// Replaces the key of a service principal if its version is still `version`. Returns whether it was replaced. A
/// replacement makes the key before the present one invalid.
pub async fn set_key(
    conn: &mut Conn,
    id: ServicePrincipalId,
    version: i64,
    new: &KeyReplacement<'_>,
) -> Result<bool, Error> {
    use service_principals as t;
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let set = (
        t::key_hash.eq(new.key_hash),
        t::key_prefix.eq(new.key_prefix),
        t::key_version.eq(t::key_version + 1),
        t::previous_key_expires_at.eq(new.previous_ends_at),
        t::rotated_by.eq(new.rotated_by.map(|by| by.to_string())),
        t::version.eq(version + 1),
    );
    let changed = if new.previous_ends_at.is_some() {
        let set = (set, t::previous_key_hash.eq(t::key_hash.nullable()));
        on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?
    } else {
        let set = (set, t::previous_key_hash.eq(None::<&str>));
        on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)?
    };
    Ok(changed == 1)
}

/// Returns the last rotator and the maker of a service principal, each `None` if not known.
pub async fn key_holders(
    conn: &mut Conn,
    id: ServicePrincipalId,
) -> Result<(Option<PrincipalId>, Option<PrincipalId>), Error> {
    use service_principals as t;
    let found: Option<(Option<String>, Option<String>)> = on_conn!(conn, |c| t::table
        .find(id.get())
        .select((t::rotated_by, t::maker))
        .first(c)
        .await
        .optional())?;
    let (rotated_by, maker) = found.unwrap_or_default();
    let parse = |text: Option<String>| text.as_deref().and_then(PrincipalId::parse);
    Ok((parse(rotated_by), parse(maker)))
}

/// Withdraws the votes of a service principal. Those of reviews that have ended are withdrawn already. Returns their
/// number.
pub async fn clear_votes(
    conn: &mut Conn,
    id: ServicePrincipalId,
    at: Timestamp,
) -> Result<usize, Error> {
    use approval_decisions as t;
    let voter = PrincipalId::ServicePrincipal(id).to_string();
    let row = t::table.filter(t::principal.eq(voter).and(t::cleared_at.is_null()));
    let set = t::cleared_at.eq(at);
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?)
}

/// Sets the maker of a service principal if it is not known and the version is still `version`. Returns whether it was
/// set.
pub async fn set_unknown_maker(
    conn: &mut Conn,
    id: ServicePrincipalId,
    version: i64,
    maker: UserId,
) -> Result<bool, Error> {
    use service_principals as t;
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let row = row.filter(t::maker.is_null());
    let maker = PrincipalId::User(maker).to_string();
    let set = (t::maker.eq(maker), t::version.eq(version + 1));
    Ok(on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)? == 1)
}

/// Deletes a service principal if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: ServicePrincipalId, version: i64) -> Result<bool, Error> {
    use service_principals as t;
    let gone = on_conn!(conn, |c| diesel::delete(
        t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)))
    )
    .execute(c)
    .await)?;
    Ok(gone == 1)
}

/// Sets `last_used` of service principals whose stored time is not after `stale_at`. Returns the number of updated
/// rows. Does not increment the version.
pub async fn touch(
    conn: &mut Conn,
    ids: &[ServicePrincipalId],
    at: Timestamp,
    stale_at: Timestamp,
) -> Result<usize, Error> {
    use service_principals as t;
    let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
    let stale = t::last_used.is_null().or(t::last_used.le(stale_at));
    Ok(on_conn!(conn, |c| diesel::update(t::table.filter(t::id.eq_any(&ids).and(stale)))
        .set(t::last_used.eq(at))
        .execute(c)
        .await)?)
}
