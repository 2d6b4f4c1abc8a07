//! Rows of groups and of their members.

use diesel::dsl::auto_type;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::domain::{Group, GroupDependents, Member, NewGroup};
use crate::clock::Timestamp;
use crate::db::cached::cached;
use crate::db::schema::{group_gateway_roles, group_members, groups, selector_bindings, users};
use crate::db::types::{GroupId, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;

type Row = (i64, String, Option<String>, String, Timestamp, i64);

fn to_group(row: Row, members: Option<i64>) -> Result<Group, Error> {
    let (id, name, description, text, created_at, version) = row;
    let (id, role, members) = (id.into(), parse_role(&text)?, members.unwrap_or(0));
    Ok(Group { id, name, description, role, members, created_at, version })
}

#[auto_type]
fn columns() -> _ {
    (
        groups::id,
        groups::name,
        groups::description,
        groups::role,
        groups::created_at,
        groups::version,
    )
}

/// Counts the members of each group.
#[auto_type]
fn count_members() -> _ {
    group_members::table.filter(group_members::group_id.eq(groups::id)).count().single_value()
}

/// Stores a new group. Returns `Exists` if the name is in use.
pub async fn insert(conn: &mut Conn, new: &NewGroup, at: Timestamp) -> Result<Group, Error> {
    use groups as t;
    let row = (
        t::name.eq(new.name.as_str()),
        t::description.eq(new.description.as_deref()),
        t::role.eq(new.role.as_str()),
        t::created_at.eq(at),
    );
    let stored: Result<Row, _> = on_conn!(conn, |c| diesel::insert_into(t::table)
        .values(row)
        .returning(columns())
        .get_result(c)
        .await);
    to_group(
        stored.map_err(|error| crate::db::error::with_name(error.into(), new.name.as_str()))?,
        None,
    )
}

/// Returns the number of groups.
pub async fn count(conn: &mut Conn) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| groups::table.count().get_result(c).await)?)
}

/// Returns a group by name.
pub async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Group>, Error> {
    let found: Option<(Row, Option<i64>)> = on_conn!(conn, |c| groups::table
        .filter(groups::name.eq(name))
        .select((columns(), count_members()))
        .first(c)
        .await
        .optional())?;
    found.map(|(row, members)| to_group(row, members)).transpose()
}

/// Returns a page of groups, ordered by name, after a cursor.
pub async fn page(conn: &mut Conn, after: Option<&str>, limit: i64) -> Result<Vec<Group>, Error> {
    let rows: Vec<(Row, Option<i64>)> = on_conn!(conn, |c| {
        let mut query = groups::table
            .select((columns(), count_members()))
            .order(groups::name)
            .limit(limit)
            .into_boxed();
        if let Some(name) = after {
            query = query.filter(groups::name.gt(name));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(|(row, members)| to_group(row, members)).collect()
}

/// Updates a group if its stored version is `group.version - 1`. Returns whether it was updated. Returns `Exists` if
/// the name is in use.
pub async fn update(conn: &mut Conn, group: &Group) -> Result<bool, Error> {
    use groups as t;
    let row = t::table.filter(t::id.eq(group.id.get()).and(t::version.eq(group.version - 1)));
    let set = (
        t::name.eq(&group.name),
        t::description.eq(group.description.as_deref()),
        t::role.eq(group.role.as_str()),
        t::version.eq(group.version),
    );
    let changed: Result<usize, _> =
        on_conn!(conn, |c| cached(diesel::update(row).set(set)).execute(c).await);
    let changed =
        changed.map_err(|error| crate::db::error::with_name(error.into(), &group.name))?;
    Ok(changed == 1)
}

/// Deletes a group with its dependent rows if its version is still `version`. Returns whether it was deleted.
pub async fn delete(conn: &mut Conn, id: GroupId, version: i64) -> Result<bool, Error> {
    use groups as t;
    let row = t::table.filter(t::id.eq(id.get()).and(t::version.eq(version)));
    let gone = on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    Ok(gone == 1)
}

/// Counts the dependent rows of a group.
pub async fn count_dependents(conn: &mut Conn, id: GroupId) -> Result<GroupDependents, Error> {
    let members = on_conn!(conn, |c| group_members::table
        .filter(group_members::group_id.eq(id.get()))
        .count()
        .get_result(c)
        .await)?;
    let gateway_roles = on_conn!(conn, |c| group_gateway_roles::table
        .filter(group_gateway_roles::group_id.eq(id.get()))
        .count()
        .get_result(c)
        .await)?;
    let selector_bindings = on_conn!(conn, |c| selector_bindings::table
        .filter(selector_bindings::group_id.eq(id.get()))
        .count()
        .get_result(c)
        .await)?;
    Ok(GroupDependents { members, gateway_roles, selector_bindings })
}

/// Returns the number of groups of a user.
pub async fn count_groups_of_user(conn: &mut Conn, user: UserId) -> Result<i64, Error> {
    Ok(on_conn!(conn, |c| group_members::table
        .filter(group_members::user_id.eq(user.get()))
        .count()
        .get_result(c)
        .await)?)
}

type MemberRow = (i64, String, String, bool);

fn to_member((id, email, text, active): MemberRow) -> Result<Member, Error> {
    Ok(Member { id: id.into(), email, role: parse_role(&text)?, active })
}

/// Adds a user to a group. Returns `Exists` if the user is a member already.
pub async fn insert_member(
    conn: &mut Conn,
    group: GroupId,
    user: UserId,
    email: &str,
    at: Timestamp,
) -> Result<Member, Error> {
    let row = (
        group_members::group_id.eq(group.get()),
        group_members::user_id.eq(user.get()),
        group_members::joined_at.eq(at),
    );
    let stored: Result<usize, _> =
        on_conn!(conn, |c| diesel::insert_into(group_members::table).values(row).execute(c).await);
    stored.map_err(|error| crate::db::error::with_name(error.into(), email))?;
    let row: MemberRow = on_conn!(conn, |c| users::table
        .find(user.get())
        .select((users::id, users::email, users::role, users::is_active))
        .first(c)
        .await)?;
    to_member(row)
}

/// Removes a member. Returns whether the user was a member.
pub async fn delete_member(conn: &mut Conn, group: GroupId, user: UserId) -> Result<bool, Error> {
    use group_members as t;
    let row = t::table.filter(t::group_id.eq(group.get()).and(t::user_id.eq(user.get())));
    let gone = on_conn!(conn, |c| diesel::delete(row).execute(c).await)?;
    Ok(gone == 1)
}

/// Returns a page of members, ordered by e-mail address, after a cursor.
pub async fn page_of_members(
    conn: &mut Conn,
    group: GroupId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let rows: Vec<MemberRow> = on_conn!(conn, |c| {
        let mut query = group_members::table
            .inner_join(users::table)
            .filter(group_members::group_id.eq(group.get()))
            .select((users::id, users::email, users::role, users::is_active))
            .order(users::email)
            .limit(limit)
            .into_boxed();
        if let Some(email) = after {
            query = query.filter(users::email.gt(email));
        }
        query.load(c).await
    })?;
    rows.into_iter().map(to_member).collect()
}
