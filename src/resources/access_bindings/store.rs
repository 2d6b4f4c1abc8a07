//! Roles on gateways, as rows: one table for users, one for service principals.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::domain::{Binding, Holder};
use super::feed::store::role;
use crate::access::roles::Role;
use crate::db::schema::{
    gateways, service_principals, sp_gateway_roles, user_gateway_roles, users,
};
use crate::db::types::{GatewayId, ServicePrincipalId, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;

/// The user of an e-mail address.
pub async fn user_by_email(conn: &mut Conn, email: &str) -> Result<Option<UserId>, Error> {
    let id: Option<i64> = on_conn!(conn, |c| users::table
        .filter(users::email.eq(email))
        .select(users::id)
        .first(c)
        .await
        .optional())?;
    Ok(id.map(Into::into))
}

/// The service principal of a name.
pub async fn service_principal_by_name(
    conn: &mut Conn,
    name: &str,
) -> Result<Option<ServicePrincipalId>, Error> {
    let id: Option<i64> = on_conn!(conn, |c| service_principals::table
        .filter(service_principals::name.eq(name))
        .select(service_principals::id)
        .first(c)
        .await
        .optional())?;
    Ok(id.map(Into::into))
}

/// Role and version of a holder on a gateway.
pub async fn get(
    conn: &mut Conn,
    holder: Holder,
    gateway: GatewayId,
) -> Result<Option<(Role, i64)>, Error> {
    let row: Option<(String, i64)> = match holder {
        Holder::User(id) => {
            use user_gateway_roles as t;
            on_conn!(conn, |c| t::table
                .filter(t::user_id.eq(id.get()).and(t::gateway_id.eq(gateway.get())))
                .select((t::role, t::version))
                .first(c)
                .await
                .optional())?
        }
        Holder::ServicePrincipal(id) => {
            use sp_gateway_roles as t;
            on_conn!(conn, |c| t::table
                .filter(t::sp_id.eq(id.get()).and(t::gateway_id.eq(gateway.get())))
                .select((t::role, t::version))
                .first(c)
                .await
                .optional())?
        }
    };
    row.map(|(text, version)| Ok((role(&text)?, version))).transpose()
}

/// Stores a role that was not there; a concurrent one of the same holder is `Exists`.
pub async fn insert(
    conn: &mut Conn,
    holder: Holder,
    gateway: GatewayId,
    role: Role,
) -> Result<(), Error> {
    match holder {
        Holder::User(id) => {
            use user_gateway_roles as t;
            let row = (
                t::user_id.eq(id.get()),
                t::gateway_id.eq(gateway.get()),
                t::role.eq(role.as_str()),
            );
            on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
        }
        Holder::ServicePrincipal(id) => {
            use sp_gateway_roles as t;
            let row =
                (t::sp_id.eq(id.get()), t::gateway_id.eq(gateway.get()), t::role.eq(role.as_str()));
            on_conn!(conn, |c| diesel::insert_into(t::table).values(row).execute(c).await)?;
        }
    }
    Ok(())
}

/// Changes a role that is still at `version`; answers whether it was.
pub async fn update(
    conn: &mut Conn,
    holder: Holder,
    gateway: GatewayId,
    role: Role,
    version: i64,
) -> Result<bool, Error> {
    let changed = match holder {
        Holder::User(id) => {
            use user_gateway_roles as t;
            let row = t::table.filter(
                t::user_id
                    .eq(id.get())
                    .and(t::gateway_id.eq(gateway.get()))
                    .and(t::version.eq(version)),
            );
            let set = (t::role.eq(role.as_str()), t::version.eq(version + 1));
            on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?
        }
        Holder::ServicePrincipal(id) => {
            use sp_gateway_roles as t;
            let row = t::table.filter(
                t::sp_id
                    .eq(id.get())
                    .and(t::gateway_id.eq(gateway.get()))
                    .and(t::version.eq(version)),
            );
            let set = (t::role.eq(role.as_str()), t::version.eq(version + 1));
            on_conn!(conn, |c| diesel::update(row).set(set).execute(c).await)?
        }
    };
    Ok(changed == 1)
}

/// Takes a role away that is still at `version`; answers whether it was.
pub async fn delete(
    conn: &mut Conn,
    holder: Holder,
    gateway: GatewayId,
    version: i64,
) -> Result<bool, Error> {
    let gone = match holder {
        Holder::User(id) => {
            use user_gateway_roles as t;
            let row = t::table.filter(
                t::user_id
                    .eq(id.get())
                    .and(t::gateway_id.eq(gateway.get()))
                    .and(t::version.eq(version)),
            );
            on_conn!(conn, |c| diesel::delete(row).execute(c).await)?
        }
        Holder::ServicePrincipal(id) => {
            use sp_gateway_roles as t;
            let row = t::table.filter(
                t::sp_id
                    .eq(id.get())
                    .and(t::gateway_id.eq(gateway.get()))
                    .and(t::version.eq(version)),
            );
            on_conn!(conn, |c| diesel::delete(row).execute(c).await)?
        }
    };
    Ok(gone == 1)
}

/// How many roles stand on a gateway.
pub async fn count_on(conn: &mut Conn, gateway: GatewayId) -> Result<i64, Error> {
    let of_users: i64 = on_conn!(conn, |c| user_gateway_roles::table
        .filter(user_gateway_roles::gateway_id.eq(gateway.get()))
        .count()
        .get_result(c)
        .await)?;
    let of_principals: i64 = on_conn!(conn, |c| sp_gateway_roles::table
        .filter(sp_gateway_roles::gateway_id.eq(gateway.get()))
        .count()
        .get_result(c)
        .await)?;
    Ok(of_users + of_principals)
}

/// Who has a role on a gateway of their own.
pub async fn holders_on(conn: &mut Conn, gateway: GatewayId) -> Result<Vec<Holder>, Error> {
    let users: Vec<i64> = on_conn!(conn, |c| user_gateway_roles::table
        .filter(user_gateway_roles::gateway_id.eq(gateway.get()))
        .select(user_gateway_roles::user_id)
        .load(c)
        .await)?;
    let principals: Vec<i64> = on_conn!(conn, |c| sp_gateway_roles::table
        .filter(sp_gateway_roles::gateway_id.eq(gateway.get()))
        .select(sp_gateway_roles::sp_id)
        .load(c)
        .await)?;
    let users = users.into_iter().map(|id| Holder::User(id.into()));
    Ok(users.chain(principals.into_iter().map(|id| Holder::ServicePrincipal(id.into()))).collect())
}

/// What a page of roles is cut by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// Only on this gateway.
    pub gateway: Option<GatewayId>,
    /// Only of this holder.
    pub holder: Option<Holder>,
}

type Row = (String, String, String, i64);

fn binding(make: fn(String) -> super::domain::Subject) -> impl Fn(Row) -> Result<Binding, Error> {
    move |(name, gateway, text, version)| {
        Ok(Binding { subject: make(name), gateway, role: role(&text)?, version })
    }
}

/// Roles of users, by gateway and e-mail, after a position.
pub async fn page_of_users(
    conn: &mut Conn,
    filter: Filter,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<Binding>, Error> {
    use user_gateway_roles as t;
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(users::table)
            .inner_join(gateways::table)
            .select((users::email, gateways::name, t::role, t::version))
            .order((gateways::name, users::email))
            .limit(limit)
            .into_boxed();
        if let Some(id) = filter.gateway {
            query = query.filter(t::gateway_id.eq(id.get()));
        }
        if let Some(Holder::User(id)) = filter.holder {
            query = query.filter(t::user_id.eq(id.get()));
        }
        if let Some((gateway, email)) = after {
            let later = gateways::name.eq(gateway).and(users::email.gt(email));
            query = query.filter(gateways::name.gt(gateway).or(later));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(binding(super::domain::Subject::User)).collect()
}

/// Roles of service principals, by gateway and name, after a position.
pub async fn page_of_service_principals(
    conn: &mut Conn,
    filter: Filter,
    after: Option<(&str, &str)>,
    limit: i64,
) -> Result<Vec<Binding>, Error> {
    use sp_gateway_roles as t;
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let mut query = t::table
            .inner_join(service_principals::table)
            .inner_join(gateways::table)
            .select((service_principals::name, gateways::name, t::role, t::version))
            .order((gateways::name, service_principals::name))
            .limit(limit)
            .into_boxed();
        if let Some(id) = filter.gateway {
            query = query.filter(t::gateway_id.eq(id.get()));
        }
        if let Some(Holder::ServicePrincipal(id)) = filter.holder {
            query = query.filter(t::sp_id.eq(id.get()));
        }
        if let Some((gateway, name)) = after {
            let later = gateways::name.eq(gateway).and(service_principals::name.gt(name));
            query = query.filter(gateways::name.gt(gateway).or(later));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(binding(super::domain::Subject::ServicePrincipal)).collect()
}
