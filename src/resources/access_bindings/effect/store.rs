//! Rows of roles and bindings, read inside the transaction that changes them.

use std::collections::HashMap;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::future;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    gateways, group_gateway_roles, group_members, groups, selector_bindings, service_principals,
    sp_gateway_roles, user_gateway_roles, users,
};
use crate::db::types::{GatewayId, UserId};
use crate::db::{Conn, PgConn, SqliteConn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::labels::{Labels, Selector};
use crate::resources::access_bindings::domain::HolderKind;
use crate::role::Role;

/// Advisory lock on PostgreSQL that serializes all changes that can remove an admin, so that no two of them each rely
/// on the admin that the other removes.
const ADMINS_LOCK: i64 = 0x5348_4f52_4541_444d;

/// How a transaction holds the lock for changes of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Alone, to change roles.
    Exclusive,
    /// Together with others that only rely on roles.
    Shared,
}

impl LockMode {
    fn query(self) -> impl QueryFragment<Pg> + QueryId + Send {
        let query = match self {
            Self::Exclusive => "SELECT pg_advisory_xact_lock($1)",
            Self::Shared => "SELECT pg_advisory_xact_lock_shared($1)",
        };
        cached(diesel::sql_query(query).bind::<BigInt, _>(ADMINS_LOCK))
    }
}

/// A principal's own global role, and whether it can make calls.
#[derive(Debug, Clone, Copy)]
pub struct OwnRole {
    /// Own role, without the roles of its groups.
    pub role: Role,
    /// Whether the account is active.
    is_active: bool,
    /// When it expires.
    expires_at: Option<Timestamp>,
}

impl OwnRole {
    /// Returns whether the account is active and has not expired. `now` must be read after the row: the query may have
    /// waited for a lock.
    #[must_use]
    pub fn can_call(&self, now: Timestamp) -> bool {
        self.is_active && self.expires_at.is_none_or(|at| at > now)
    }
}

/// Queries the global role that is set for a principal, without the roles of its groups. `$c` is a connection of either
/// engine.
macro_rules! own_role {
    ($c:expr, $principal:expr) => {
        match $principal {
            PrincipalId::User(id) => {
                let query = users::table.find(id.get()).select((users::role, users::is_active));
                let row: Option<(String, bool)> = query.first($c).await.optional()?;
                let own = |(text, is_active): (String, bool)| {
                    Ok(OwnRole { role: parse_role(&text)?, is_active, expires_at: None })
                };
                row.map(own).transpose()
            }
            PrincipalId::ServicePrincipal(id) => {
                use service_principals as t;
                let query = t::table.find(id.get()).select((t::role, t::expires_at));
                let row: Option<(String, Option<Timestamp>)> = query.first($c).await.optional()?;
                let own = |(text, expires_at): (String, Option<Timestamp>)| {
                    Ok(OwnRole { role: parse_role(&text)?, is_active: true, expires_at })
                };
                row.map(own).transpose()
            }
        }
    };
}

/// Takes the lock for changes of access alone, until the end of the transaction. On SQLite there is only one writer.
pub async fn lock(conn: &mut Conn) -> Result<(), Error> {
    if let Conn::Pg(pooled) = conn {
        let c: &mut PgConn = pooled;
        LockMode::Exclusive.query().execute(c).await?;
    }
    Ok(())
}

async fn own_role_postgres(
    mut c: &PgConn,
    principal: PrincipalId,
) -> Result<Option<OwnRole>, Error> {
    own_role!(&mut c, principal)
}

/// Does the same as [`own_role`] on SQLite.
pub async fn own_role_sqlite(
    c: &mut SqliteConn,
    principal: PrincipalId,
) -> Result<Option<OwnRole>, Error> {
    own_role!(c, principal)
}

/// Returns a principal's own role, or `None` if the principal does not exist.
pub async fn own_role(conn: &mut Conn, principal: PrincipalId) -> Result<Option<OwnRole>, Error> {
    match conn {
        Conn::Pg(c) => own_role_postgres(c, principal).await,
        Conn::Sqlite(c) => own_role_sqlite(c, principal).await,
    }
}

/// Takes the lock for changes of access alone, until the end of the transaction, and then returns a principal's own
/// role. On PostgreSQL this is one round trip.
pub async fn lock_and_own_role(
    conn: &mut Conn,
    principal: PrincipalId,
) -> Result<Option<OwnRole>, Error> {
    match conn {
        Conn::Pg(c) => lock_and_own_role_postgres(c, LockMode::Exclusive, Some(principal)).await,
        Conn::Sqlite(c) => own_role_sqlite(c, principal).await,
    }
}

/// Does the same as [`lock_and_own_role`] on PostgreSQL. Without a principal it takes the lock only. Its statements can
/// be sent with others.
pub async fn lock_and_own_role_postgres(
    c: &PgConn,
    mode: LockMode,
    principal: Option<PrincipalId>,
) -> Result<Option<OwnRole>, Error> {
    let mut locking = c;
    let own = async {
        match principal {
            Some(principal) => own_role_postgres(c, principal).await,
            None => Ok(None),
        }
    };
    // The server executes the query after the lock is granted, in a snapshot of its own.
    let (locked, own) = future::join(mode.query().execute(&mut locking), own).await;
    locked?;
    own
}

/// Returns the id and global role of each group of a user.
pub async fn groups_of(conn: &mut Conn, user: UserId) -> Result<Vec<(i64, Role)>, Error> {
    let rows: Vec<(i64, String)> = on_conn!(conn, |c| group_members::table
        .inner_join(groups::table)
        .filter(group_members::user_id.eq(user.get()))
        .select((groups::id, groups::role))
        .load(c)
        .await)?;
    rows.into_iter().map(|(id, text)| Ok((id, parse_role(&text)?))).collect()
}

/// Returns the labels of a gateway that selectors of bindings match against.
pub async fn labels(conn: &mut Conn, gateway: GatewayId) -> Result<Labels, Error> {
    let found: Option<Option<String>> = on_conn!(conn, |c| gateways::table
        .find(gateway.get())
        .select(gateways::labels_json)
        .first(c)
        .await
        .optional())?;
    Ok(Labels::from_json(found.flatten().as_deref()).access_labels())
}

/// Roles that the bindings of one holder grant on one gateway.
#[derive(Debug, Default)]
pub struct BoundRoles {
    /// Role of the binding on the gateway itself.
    pub direct: Option<Role>,
    /// Roles of the selectors that match the gateway.
    pub matching: Vec<Role>,
}

macro_rules! rows {
    ($conn:expr, $ids:expr, $gateway:expr, $table:ident.$holder:ident, $by_selector:ident) => {{
        let direct: Vec<(i64, String)> = on_conn!($conn, |c| {
            use $table as t;
            t::table
                .filter(t::$holder.eq_any($ids))
                .filter(t::gateway_id.eq($gateway.get()))
                .select((t::$holder, t::role))
                .load(c)
                .await
        })?;
        let by_selector: Vec<(i64, String, String)> = on_conn!($conn, |c| {
            use selector_bindings as t;
            t::table
                .filter(t::$by_selector.eq_any($ids))
                .select((t::$by_selector.assume_not_null(), t::selector, t::role))
                .load(c)
                .await
        })?;
        (direct, by_selector)
    }};
}

/// Returns the roles that the bindings of these holders grant on a gateway, by the id of the holder.
pub async fn bound_roles(
    conn: &mut Conn,
    kind: HolderKind,
    ids: &[i64],
    gateway: GatewayId,
    labels: &Labels,
) -> Result<HashMap<i64, BoundRoles>, Error> {
    let (direct, by_selector) = match kind {
        HolderKind::User => rows!(conn, ids, gateway, user_gateway_roles.user_id, user_id),
        HolderKind::ServicePrincipal => rows!(conn, ids, gateway, sp_gateway_roles.sp_id, sp_id),
        HolderKind::Group => rows!(conn, ids, gateway, group_gateway_roles.group_id, group_id),
    };
    let mut all: HashMap<i64, BoundRoles> = HashMap::new();
    for (holder, text) in direct {
        all.entry(holder).or_default().direct = Some(parse_role(&text)?);
    }
    for (holder, selector, text) in by_selector {
        if Selector::parse_access("selector", &selector).map_err(Error::internal)?.matches(labels) {
            all.entry(holder).or_default().matching.push(parse_role(&text)?);
        }
    }
    Ok(all)
}
