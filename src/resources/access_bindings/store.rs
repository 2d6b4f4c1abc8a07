//! Rows of roles on gateways: one table per kind of holder for named gateways, and one table for all roles by selector,
//! with one column per kind.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::domain::{Holder, HolderKind};
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    gateways, group_gateway_roles, groups, selector_bindings, service_principals, sp_gateway_roles,
    user_gateway_roles, users,
};
use crate::db::types::GatewayId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::role::Role;

/// Where a role applies.
#[derive(Debug, Clone, Copy)]
pub enum ScopeRef<'a> {
    /// On this gateway.
    Gateway(GatewayId),
    /// On all gateways that this selector matches, in canonical form.
    Selector(&'a str),
}

/// An existing role.
#[derive(Debug, Clone, Copy)]
pub struct ExistingRole {
    row: i64,
    /// Role.
    pub role: Role,
    /// Version.
    pub version: i64,
}

/// A role as listed.
#[derive(Debug)]
pub struct ListedRole {
    /// Name of the holder.
    pub holder: String,
    /// Name of the gateway, or the selector.
    pub scope: String,
    /// Role.
    pub role: Role,
    /// Version.
    pub version: i64,
}

impl ListedRole {
    fn from_row(row: (String, String, String, i64)) -> Result<Self, Error> {
        let (holder, scope, text, version) = row;
        Ok(Self { holder, scope, role: parse_role(&text)?, version })
    }
}

/// Filter for roles on named gateways.
#[derive(Debug, Clone, Copy)]
pub struct RoleFilter {
    /// Only on this gateway.
    pub gateway: Option<GatewayId>,
    /// Only of this holder.
    pub holder: Option<Holder>,
}

/// Defines the queries of each kind of holder, on three tables: its roles on named gateways, the table with its name,
/// and its column in the roles by selector.
macro_rules! holders {
    ($($module:ident: $roles:ident.$holder:ident, $holders:ident.$name:ident, $column:ident;)+) => {$(
        mod $module {
            use super::*;
            use super::selector_bindings as by_selector;

            pub(super) async fn id_of(conn: &mut Conn, name: &str) -> Result<Option<i64>, Error> {
                Ok(on_conn!(conn, |c| $holders::table
                    .filter($holders::$name.eq(name))
                    .select($holders::id)
                    .first(c)
                    .await
                    .optional())?)
            }

            pub(super) async fn get(
                conn: &mut Conn,
                holder: i64,
                scope: ScopeRef<'_>,
            ) -> Result<Option<(i64, String, i64)>, Error> {
                Ok(match scope {
                    ScopeRef::Gateway(gateway) => on_conn!(conn, |c| $roles::table
                        .filter($roles::$holder.eq(holder).and($roles::gateway_id.eq(gateway.get())))
                        .select(($roles::id, $roles::role, $roles::version))
                        .first(c)
                        .await
                        .optional())?,
                    ScopeRef::Selector(selector) => on_conn!(conn, |c| by_selector::table
                        .filter(by_selector::$column.eq(holder).and(by_selector::selector.eq(selector)))
                        .select((by_selector::id, by_selector::role, by_selector::version))
                        .first(c)
                        .await
                        .optional())?,
                })
            }

            pub(super) async fn insert(
                conn: &mut Conn,
                holder: Holder,
                scope: ScopeRef<'_>,
                role: Role,
                at: Timestamp,
            ) -> Result<(), Error> {
                match scope {
                    ScopeRef::Gateway(gateway) => {
                        let row = (
                            $roles::$holder.eq(holder.id),
                            $roles::gateway_id.eq(gateway.get()),
                            $roles::role.eq(role.as_str()),
                        );
                        on_conn!(conn, |c| diesel::insert_into($roles::table).values(row).execute(c).await)?;
                    }
                    ScopeRef::Selector(selector) => {
                        let row = (
                            by_selector::subject_kind.eq(holder.kind.as_str()),
                            by_selector::$column.eq(holder.id),
                            by_selector::selector.eq(selector),
                            by_selector::role.eq(role.as_str()),
                            by_selector::created_at.eq(at),
                        );
                        on_conn!(conn, |c| diesel::insert_into(by_selector::table).values(row).execute(c).await)?;
                    }
                }
                Ok(())
            }

            pub(super) async fn update(
                conn: &mut Conn,
                existing: ExistingRole,
                role: Role,
            ) -> Result<usize, Error> {
                use $roles as t;
                let at = t::table.filter(t::id.eq(existing.row).and(t::version.eq(existing.version)));
                let set = (t::role.eq(role.as_str()), t::version.eq(existing.version + 1));
                Ok(on_conn!(conn, |c| cached(diesel::update(at).set(set)).execute(c).await)?)
            }

            pub(super) async fn delete(conn: &mut Conn, existing: ExistingRole) -> Result<usize, Error> {
                use $roles as t;
                let at = t::table.filter(t::id.eq(existing.row).and(t::version.eq(existing.version)));
                Ok(on_conn!(conn, |c| diesel::delete(at).execute(c).await)?)
            }

            pub(super) async fn holder_ids_on(conn: &mut Conn, gateway: GatewayId) -> Result<Vec<i64>, Error> {
                Ok(on_conn!(conn, |c| $roles::table
                    .filter($roles::gateway_id.eq(gateway.get()))
                    .select($roles::$holder)
                    .load(c)
                    .await)?)
            }

            pub(super) async fn count_selectors(conn: &mut Conn, holder: i64) -> Result<i64, Error> {
                Ok(on_conn!(conn, |c| by_selector::table
                    .filter(by_selector::$column.eq(holder))
                    .count()
                    .get_result(c)
                    .await)?)
            }

            pub(super) async fn page(
                conn: &mut Conn,
                filter: RoleFilter,
                after: Option<(&str, &str)>,
                limit: i64,
            ) -> Result<Vec<(String, String, String, i64)>, Error> {
                Ok(on_conn!(conn, |c| {
                    let mut query = $roles::table
                        .inner_join($holders::table)
                        .inner_join(gateways::table)
                        .select(($holders::$name, gateways::name, $roles::role, $roles::version))
                        .order((gateways::name, $holders::$name))
                        .limit(limit)
                        .into_boxed();
                    if let Some(id) = filter.gateway {
                        query = query.filter($roles::gateway_id.eq(id.get()));
                    }
                    if let Some(holder) = filter.holder {
                        query = query.filter($roles::$holder.eq(holder.id));
                    }
                    if let Some((gateway, name)) = after {
                        let later = gateways::name.eq(gateway).and($holders::$name.gt(name));
                        query = query.filter(gateways::name.gt(gateway).or(later));
                    }
                    query.load(c).await
                })?)
            }

            pub(super) async fn page_by_selector(
                conn: &mut Conn,
                holder: Option<Holder>,
                after: Option<(&str, &str)>,
                limit: i64,
            ) -> Result<Vec<(String, String, String, i64)>, Error> {
                use selector_bindings as t;
                Ok(on_conn!(conn, |c| {
                    let mut query = t::table
                        .inner_join($holders::table)
                        .select(($holders::$name, t::selector, t::role, t::version))
                        .order((t::selector, $holders::$name))
                        .limit(limit)
                        .into_boxed();
                    if let Some(holder) = holder {
                        query = query.filter(t::$column.eq(holder.id));
                    }
                    if let Some((selector, name)) = after {
                        let later = t::selector.eq(selector).and($holders::$name.gt(name));
                        query = query.filter(t::selector.gt(selector).or(later));
                    }
                    query.load(c).await
                })?)
            }
        }
    )+};
}

holders! {
    of_users: user_gateway_roles.user_id, users.email, user_id;
    of_service_principals: sp_gateway_roles.sp_id, service_principals.name, sp_id;
    of_groups: group_gateway_roles.group_id, groups.name, group_id;
}

/// Runs a query of one kind of holder.
macro_rules! of {
    ($kind:expr, $query:ident($($argument:expr),*)) => {
        match $kind {
            HolderKind::User => of_users::$query($($argument),*).await,
            HolderKind::ServicePrincipal => of_service_principals::$query($($argument),*).await,
            HolderKind::Group => of_groups::$query($($argument),*).await,
        }
    };
}

/// Returns the holder of a name.
pub async fn find_holder(
    conn: &mut Conn,
    kind: HolderKind,
    name: &str,
) -> Result<Option<Holder>, Error> {
    Ok(of!(kind, id_of(conn, name))?.map(|id| Holder { kind, id }))
}

/// Returns the role of a holder at a place.
pub async fn get(
    conn: &mut Conn,
    holder: Holder,
    scope: ScopeRef<'_>,
) -> Result<Option<ExistingRole>, Error> {
    let found = of!(holder.kind, get(conn, holder.id, scope))?;
    let standing = |(row, text, version): (i64, String, i64)| {
        Ok(ExistingRole { row, role: parse_role(&text)?, version })
    };
    found.map(standing).transpose()
}

/// Stores a new role. Returns `Exists` if the holder already has a role at this place.
pub async fn insert(
    conn: &mut Conn,
    holder: Holder,
    scope: ScopeRef<'_>,
    role: Role,
    at: Timestamp,
) -> Result<(), Error> {
    of!(holder.kind, insert(conn, holder, scope, role, at))
}

/// Updates a role if its version is unchanged. Returns whether it was updated.
pub async fn update(
    conn: &mut Conn,
    kind: HolderKind,
    scope: ScopeRef<'_>,
    existing: ExistingRole,
    role: Role,
) -> Result<bool, Error> {
    use selector_bindings as t;
    let changed = match scope {
        ScopeRef::Gateway(_) => of!(kind, update(conn, existing, role))?,
        ScopeRef::Selector(_) => {
            let at = t::table.filter(t::id.eq(existing.row).and(t::version.eq(existing.version)));
            let set = (t::role.eq(role.as_str()), t::version.eq(existing.version + 1));
            on_conn!(conn, |c| cached(diesel::update(at).set(set)).execute(c).await)?
        }
    };
    Ok(changed == 1)
}

/// Deletes a role if its version is unchanged. Returns whether it was deleted.
pub async fn delete(
    conn: &mut Conn,
    kind: HolderKind,
    scope: ScopeRef<'_>,
    existing: ExistingRole,
) -> Result<bool, Error> {
    use selector_bindings as t;
    let gone = match scope {
        ScopeRef::Gateway(_) => of!(kind, delete(conn, existing))?,
        ScopeRef::Selector(_) => {
            let at = t::table.filter(t::id.eq(existing.row).and(t::version.eq(existing.version)));
            on_conn!(conn, |c| diesel::delete(at).execute(c).await)?
        }
    };
    Ok(gone == 1)
}

/// Returns the holders of roles on a gateway by its name.
pub async fn holders_on_gateway(conn: &mut Conn, gateway: GatewayId) -> Result<Vec<Holder>, Error> {
    let mut holders = Vec::new();
    for &kind in HolderKind::ALL {
        let ids = of!(kind, holder_ids_on(conn, gateway))?;
        holders.extend(ids.into_iter().map(|id| Holder { kind, id }));
    }
    Ok(holders)
}

/// Returns the number of roles by selector of a holder.
pub async fn count_selectors(conn: &mut Conn, holder: Holder) -> Result<i64, Error> {
    of!(holder.kind, count_selectors(conn, holder.id))
}

/// Returns roles on named gateways of one kind of holder, ordered by gateway and name, after a cursor.
pub async fn page(
    conn: &mut Conn,
    kind: HolderKind,
    filter: RoleFilter,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<ListedRole>, Error> {
    let rows = of!(kind, page(conn, filter, after, limit))?;
    rows.into_iter().map(ListedRole::from_row).collect()
}

/// Returns roles by selector of one kind of holder, ordered by selector and name, after a cursor.
pub async fn page_by_selector(
    conn: &mut Conn,
    kind: HolderKind,
    holder: Option<Holder>,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<ListedRole>, Error> {
    let rows = of!(kind, page_by_selector(conn, holder, after, limit))?;
    rows.into_iter().map(ListedRole::from_row).collect()
}
