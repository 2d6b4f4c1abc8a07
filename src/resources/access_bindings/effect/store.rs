//! Rows of roles and bindings, read inside the transaction that changes them.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::schema::{
    gateways, group_gateway_roles, group_members, groups, selector_bindings, service_principals,
    sp_gateway_roles, user_gateway_roles, users,
};
use crate::db::types::{GatewayId, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::labels::{Labels, Selector};
use crate::resources::access_bindings::domain::HolderKind;
use crate::role::Role;

/// Advisory lock on PostgreSQL that serializes all changes that can remove an admin, so that no two of them each rely
/// on the admin that the other removes.
const ADMINS_LOCK: i64 = 0x5348_4f52_4541_444d;

/// Takes the lock for changes of access, until the end of the transaction.
pub async fn lock_admins(conn: &mut Conn) -> Result<(), Error> {
    conn.advisory_lock(ADMINS_LOCK).await
}

/// A principal's own global role, and whether it can make calls.
#[derive(Debug, Clone, Copy)]
pub struct OwnRole {
    /// Own role, without the roles of its groups.
    pub role: Role,
    /// Whether the account is active and has not expired.
    pub can_call: bool,
}

/// Returns a principal's own role, or `None` if the principal does not exist.
pub async fn own_role(
    conn: &mut Conn,
    principal: PrincipalId,
    now: Timestamp,
) -> Result<Option<OwnRole>, Error> {
    match principal {
        PrincipalId::User(id) => {
            let row: Option<(String, bool)> = on_conn!(conn, |c| users::table
                .find(id.get())
                .select((users::role, users::is_active))
                .first(c)
                .await
                .optional())?;
            row.map(|(text, can_call)| Ok(OwnRole { role: parse_role(&text)?, can_call }))
                .transpose()
        }
        PrincipalId::ServicePrincipal(id) => {
            let row: Option<(String, Option<Timestamp>)> =
                on_conn!(conn, |c| service_principals::table
                    .find(id.get())
                    .select((service_principals::role, service_principals::expires_at))
                    .first(c)
                    .await
                    .optional())?;
            let own = |(text, ends): (String, Option<Timestamp>)| {
                Ok(OwnRole { role: parse_role(&text)?, can_call: ends.is_none_or(|at| at > now) })
            };
            row.map(own).transpose()
        }
    }
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
