//! Rows of users.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::changes::UserDependents;
use super::domain::{Filter, User, UserRef};
use crate::access::roles;
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{
    group_members, groups, selector_bindings, service_principals, sessions, user_gateway_roles,
    users,
};
use crate::db::types::UserId;
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::role::Role;

/// A row as admins see it: says whether there is a password and a token, but contains neither.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
struct Row {
    id: i64,
    email: String,
    role: String,
    is_active: bool,
    #[diesel(select_expression = users::hashed_password.is_not_null())]
    has_password: bool,
    #[diesel(select_expression = users::invite_token_hash.is_not_null())]
    pending_invite: bool,
    oidc_provider: Option<String>,
    created_at: Timestamp,
    invite_expires_at: Option<Timestamp>,
    version: i64,
}

/// Converts rows to users, with the roles of their groups.
async fn to_users(conn: &mut Conn, rows: Vec<Row>) -> Result<Vec<User>, Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let held: Vec<(i64, String)> = on_conn!(conn, |c| group_members::table
        .inner_join(groups::table)
        .filter(group_members::user_id.eq_any(&ids))
        .select((group_members::user_id, groups::role))
        .load(c)
        .await)?;
    let mut by_groups: HashMap<i64, Vec<Role>> = HashMap::new();
    for (user, text) in held {
        by_groups.entry(user).or_default().push(parse_role(&text)?);
    }
    let user = |row: Row| {
        let own = parse_role(&row.role)?;
        Ok(User {
            id: row.id.into(),
            email: row.email,
            role: own,
            effective_role: roles::global_role(own, by_groups.remove(&row.id).unwrap_or_default()),
            is_active: row.is_active,
            has_password: row.has_password,
            pending_invite: row.pending_invite,
            oidc_provider: row.oidc_provider,
            created_at: row.created_at,
            invite_expires_at: row.invite_expires_at,
            version: row.version,
        })
    };
    rows.into_iter().map(user).collect()
}

/// Returns the user of a request.
pub async fn find(conn: &mut Conn, named: &UserRef) -> Result<Option<User>, Error> {
    let row: Option<Row> = on_conn!(conn, |c| {
        let query = users::table.select(Row::as_select()).into_boxed();
        let query = match named {
            UserRef::Id(id) => query.filter(users::id.eq(id.get())),
            UserRef::Email(email) => query.filter(users::email.eq(email.as_str())),
        };
        query.first(c).await.optional()
    })?;
    Ok(to_users(conn, row.into_iter().collect()).await?.pop())
}

/// Returns a page of users, ordered by e-mail address, after a cursor.
pub async fn page(
    conn: &mut Conn,
    filter: Filter,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<User>, Error> {
    let words = |keep: fn(&Role, &Role) -> bool| -> Vec<&'static str> {
        let fits = |role: &Role| filter.role.is_some_and(|wanted| keep(role, &wanted));
        Role::ALL.into_iter().filter(fits).map(Role::as_str).collect()
    };
    let (wanted, above) =
        (words(|role, wanted| role == wanted), words(|role, wanted| role > wanted));
    let rows: Vec<Row> = on_conn!(conn, |c| {
        let by_group = |roles: Vec<&'static str>| {
            diesel::dsl::exists(
                group_members::table
                    .inner_join(groups::table)
                    .filter(group_members::user_id.eq(users::id).and(groups::role.eq_any(roles))),
            )
        };
        let mut query =
            users::table.select(Row::as_select()).order(users::email).limit(limit).into_boxed();
        if filter.role.is_some() {
            // The highest of the user's role and the group roles must equal the requested one.
            query = query
                .filter(users::role.eq_any(wanted.clone()).or(by_group(wanted.clone())))
                .filter(diesel::dsl::not(users::role.eq_any(above.clone())))
                .filter(diesel::dsl::not(by_group(above.clone())));
        }
        if let Some(active) = filter.is_active {
            query = query.filter(users::is_active.eq(active));
        }
        if let Some(pending) = filter.pending_invite {
            query = query.filter(users::invite_token_hash.is_not_null().eq(pending));
        }
        if let Some(email) = after {
            query = query.filter(users::email.gt(email));
        }
        query.load(c).await
    })?;
    to_users(conn, rows).await
}

/// Returns the number of users.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| users::table.count().get_result(c).await)?)
}

/// Returns whether there is an active user who can log in and is admin by its own role or by a group.
pub async fn has_active_admin(conn: &mut Conn) -> Result<bool, Error> {
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

/// Properties of an account that a login needs.
#[derive(Debug)]
pub struct Account {
    /// Id.
    pub id: UserId,
    /// bcrypt hash; `None` if no password is set.
    pub hashed_password: Option<String>,
    /// Whether the account is active.
    pub active: bool,
    /// Incremented at each change of the password.
    pub password_version: i64,
}

type AccountRow = (i64, Option<String>, bool, i64);

fn to_account((id, hashed_password, active, password_version): AccountRow) -> Account {
    Account { id: id.into(), hashed_password, active, password_version }
}

/// Returns the account of an e-mail address.
pub async fn account_by_email(conn: &mut Conn, email: &str) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = on_conn!(conn, |c| users::table
        .filter(users::email.eq(email))
        .select((users::id, users::hashed_password, users::is_active, users::password_version))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(to_account))
}

/// Returns the account of a user.
pub async fn account_by_id(conn: &mut Conn, id: UserId) -> Result<Option<Account>, Error> {
    let row: Option<AccountRow> = on_conn!(conn, |c| users::table
        .find(id.get())
        .select((users::id, users::hashed_password, users::is_active, users::password_version))
        .first(c)
        .await
        .optional())?;
    Ok(row.map(to_account))
}

/// Returns whether there is any user.
pub async fn has_any(conn: &mut Conn) -> Result<bool, Error> {
    let first: Option<i64> =
        on_conn!(conn, |c| users::table.select(users::id).first(c).await.optional())?;
    Ok(first.is_some())
}

/// Stores a new user with a password. Returns `Exists` if the address is in use.
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
    Ok(id.map_err(|error| crate::db::error::with_name(error.into(), email))?.into())
}

/// Replaces a password if its version is `instead_of`, and returns the new version; `None` if the version differs.
/// Invalidates all credentials made from the old password, and deletes a pending invitation.
pub async fn set_password(
    conn: &mut Conn,
    id: UserId,
    instead_of: i64,
    hashed_password: &str,
) -> Result<Option<i64>, Error> {
    let row =
        users::table.filter(users::id.eq(id.get()).and(users::password_version.eq(instead_of)));
    let set = (
        users::hashed_password.eq(hashed_password),
        users::password_version.eq(instead_of + 1),
        users::invite_token_hash.eq(None::<String>),
        users::invite_expires_at.eq(None::<Timestamp>),
        users::version.eq(users::version + 1),
    );
    let version: Option<i64> = on_conn!(conn, |c| {
        let update = diesel::update(row).set(set).returning(users::password_version);
        cached(update).get_result(c).await.optional()
    })?;
    Ok(version)
}

/// Updates role and state of a user if its version is still `version`. Returns whether it was updated.
pub async fn update(
    conn: &mut Conn,
    id: UserId,
    version: i64,
    role: Role,
    is_active: bool,
) -> Result<bool, Error> {
    let row = users::table.filter(users::id.eq(id.get()).and(users::version.eq(version)));
    let set = (
        users::role.eq(role.as_str()),
        users::is_active.eq(is_active),
        users::version.eq(version + 1),
    );
    Ok(on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await)? == 1)
}

/// Deletes a user with its dependent rows if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: UserId, version: i64) -> Result<bool, Error> {
    let row = users::table.filter(users::id.eq(id.get()).and(users::version.eq(version)));
    Ok(on_conn!(conn, |c| diesel::delete(row).execute(c).await)? == 1)
}

/// Counts the dependent rows of a user.
pub async fn count_dependents(conn: &mut Conn, id: UserId) -> Result<UserDependents, Error> {
    let id = id.get();
    on_conn!(conn, |c| {
        let of_groups = group_members::table.filter(group_members::user_id.eq(id)).count();
        let named = user_gateway_roles::table.filter(user_gateway_roles::user_id.eq(id)).count();
        let selected = selector_bindings::table.filter(selector_bindings::user_id.eq(id)).count();
        let logins = sessions::table.filter(sessions::user_id.eq(id)).count();
        let made = service_principals::table.filter(service_principals::created_by.eq(id)).count();
        Ok(UserDependents {
            memberships: of_groups.get_result(c).await?,
            gateway_roles: named.get_result(c).await?,
            selector_bindings: selected.get_result(c).await?,
            sessions: logins.get_result(c).await?,
            service_principals: made.get_result(c).await?,
        })
    })
}
