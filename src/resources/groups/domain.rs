//! Groups: creation, lookup, updates, deletion and membership.
//!
//! Invariant: every change requires a global admin, checked again under the lock in the transaction. A group can be
//! bound as admin on any gateway, so each change of a membership or role and each deletion can add or remove admins
//! (T06).

use serde_json::json;

use super::store;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, ListKey};
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::{GroupId, UserId};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::names::Name;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::effect;
use crate::resources::users::admins;
use crate::resources::users::domain::{self as users, Email};
use crate::role::Role;
use crate::texts::check_line;

/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;
/// Maximum number of groups: far more than the teams of any company, and small enough to hold in memory.
pub const GROUPS_MAX: i64 = 10_000;
/// Maximum number of members of a group: the number of users that one server is designed for.
pub const GROUP_MEMBERS_MAX: i64 = 10_000;
/// Maximum number of groups of a user: each access check evaluates all of them.
pub const GROUPS_OF_A_USER_MAX: i64 = 100;

/// Users who share a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Permanent id.
    pub id: GroupId,
    /// Unique name.
    pub name: String,
    /// Description for people.
    pub description: Option<String>,
    /// Role that each member has globally.
    pub role: Role,
    /// Number of members.
    pub members: i64,
    /// When it was created.
    pub created_at: Timestamp,
    /// Version.
    pub version: i64,
}

/// A user in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Id of the user.
    pub id: UserId,
    /// E-mail address.
    pub email: String,
    /// Own global role.
    pub role: Role,
    /// Whether the account is active.
    pub active: bool,
}

/// A validated group to create.
#[derive(Debug)]
pub struct NewGroup {
    /// Unique name.
    pub name: Name,
    /// Description for people.
    pub description: Option<String>,
    /// Role that each member will have globally.
    pub role: Role,
}

/// A partial update of a group. `None` leaves the field unchanged.
#[derive(Debug, Default)]
pub struct GroupUpdate {
    /// New name.
    pub name: Option<Name>,
    /// New description; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// New role.
    pub role: Option<Role>,
}

/// Counts of what was deleted with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDependents {
    /// Memberships.
    pub members: i64,
    /// Roles on named gateways.
    pub gateway_roles: i64,
    /// Roles by selector.
    pub selector_bindings: i64,
}

/// Parses a description of one line; `None` if it is empty.
pub fn description(field: &str, text: &str) -> Result<Option<String>, Error> {
    check_line(field, text, DESCRIPTION_CHARACTERS_MAX)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn check_limit(count: i64, most: i64, what: &str) -> Result<(), Error> {
    if count <= most {
        return Ok(());
    }
    Err(Error::refused(Reason::LimitReached, format!("there may be at most {most} {what}")))
}

/// Returns the group of a name. The caller must have at least its role.
async fn find_for_change(ctx: &Ctx, conn: &mut Conn, name: &str) -> Result<Group, Error> {
    let group = store::by_name(conn, name).await?;
    let group = group.ok_or_else(|| Error::not_found(ResourceKind::Group, name))?;
    ctx.check_role_not_above(group.role)?;
    Ok(group)
}

/// Creates a group without members.
pub async fn create(ctx: &Ctx, new: NewGroup) -> Result<Group, Error> {
    ctx.check_role_not_above(new.role)?;
    ctx.add_audit_detail("role", new.role.as_str());
    let now = ctx.now();
    let created = ctx
        .transaction(async |tx| {
            let _locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let created = store::insert(tx, &new, now).await?;
            check_limit(store::count(tx).await?, GROUPS_MAX, "groups")?;
            let payload = json!({ "group": created.name, "role": created.role.as_str() });
            tx.emit(ctx.new_event(event_types::GROUP_CREATED, payload)).await?;
            tx.log_access_addition(AccessSubject::Group(created.id)).await?;
            Ok(created)
        })
        .await?;
    Ok(created)
}

/// Returns a group by name.
pub async fn get(ctx: &Ctx, name: &str) -> Result<Group, Error> {
    let found = store::by_name(&mut ctx.db().read().await?, name).await?;
    found.ok_or_else(|| Error::not_found(ResourceKind::Group, name))
}

/// Returns a page of groups, ordered by name.
pub async fn list(ctx: &Ctx, size: PageSize, token: &str) -> Result<(Vec<Group>, String), Error> {
    let list = ListKey { method: "ListGroups", filter: &[], order: "name" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let after = page.after().map(String::as_str);
    let mut conn = ctx.db().read().await?;
    let rows = store::page(&mut conn, after, page.limit()).await?;
    page.finish(rows, |last| last.name.clone())
}

/// Adds a change to the audit entry.
fn add_to_audit(ctx: &Ctx, change: &GroupUpdate) {
    if let Some(name) = &change.name {
        ctx.add_audit_detail("name", name.as_str());
    }
    if let Some(description) = &change.description {
        ctx.add_audit_detail("description", description.as_deref().unwrap_or_default());
    }
    if let Some(role) = change.role {
        ctx.add_audit_detail("role", role.as_str());
    }
}

/// Updates a group.
pub async fn update(
    ctx: &Ctx,
    name: &str,
    change: GroupUpdate,
    given_etag: &str,
) -> Result<Group, Error> {
    add_to_audit(ctx, &change);
    let updated = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let before = find_for_change(ctx, tx, name).await?;
            etag::check(given_etag, before.version, ResourceKind::Group, name)?;
            let mut group = before.clone();
            if let Some(name) = &change.name {
                name.as_str().clone_into(&mut group.name);
            }
            if let Some(description) = &change.description {
                group.description.clone_from(description);
            }
            group.role = change.role.unwrap_or(group.role);
            ctx.check_role_not_above(group.role)?;
            group.version += 1;
            if !store::update(tx, &group).await? {
                return Err(Error::conflict(ResourceKind::Group, name));
            }
            admins::require_remaining(tx, locked).await?;
            let payload = json!({
                "group": group.name,
                "name_before": before.name,
                "role": group.role.as_str(),
            });
            tx.emit(ctx.new_event(event_types::GROUP_UPDATED, payload)).await?;
            tx.log_access_change(AccessSubject::Group(group.id)).await?;
            Ok(group)
        })
        .await?;
    Ok(updated)
}

/// Deletes a group with its memberships and its roles on gateways.
pub async fn delete(ctx: &Ctx, name: &str, given_etag: &str) -> Result<GroupDependents, Error> {
    let removed = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let group = find_for_change(ctx, tx, name).await?;
            etag::check(given_etag, group.version, ResourceKind::Group, name)?;
            let removed = store::count_dependents(tx, group.id).await?;
            if !store::delete(tx, group.id, group.version).await? {
                return Err(Error::conflict(ResourceKind::Group, name));
            }
            admins::require_remaining(tx, locked).await?;
            let payload = json!({ "group": group.name, "members": removed.members });
            tx.emit(ctx.new_event(event_types::GROUP_DELETED, payload)).await?;
            tx.log_access_change(AccessSubject::Group(group.id)).await?;
            Ok(removed)
        })
        .await?;
    ctx.add_audit_detail("members_removed", removed.members);
    ctx.add_audit_detail("gateway_roles_removed", removed.gateway_roles);
    ctx.add_audit_detail("selector_bindings_removed", removed.selector_bindings);
    Ok(removed)
}

/// Adds a user to a group.
pub async fn add_member(ctx: &Ctx, name: &str, email: &Email) -> Result<Member, Error> {
    ctx.add_audit_detail("user", email.as_str());
    let added = ctx
        .transaction(async |tx| {
            let _locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let group = find_for_change(ctx, tx, name).await?;
            let user = users::id_by_email(tx, email).await?;
            // The time of the database: approval rounds compare it with the time at which they were opened.
            let now = ctx.db().now(tx).await?;
            let added = store::insert_member(tx, group.id, user, email.as_str(), now).await?;
            check_limit(group.members + 1, GROUP_MEMBERS_MAX, "members in a group")?;
            let groups = store::count_groups_of_user(tx, user).await?;
            check_limit(groups, GROUPS_OF_A_USER_MAX, "groups that a user is in")?;
            let payload = json!({ "group": group.name, "user": added.email });
            tx.emit(ctx.new_event(event_types::GROUP_MEMBER_ADDED, payload)).await?;
            tx.log_access_change(AccessSubject::User(user)).await?;
            Ok(added)
        })
        .await?;
    ctx.add_audit_detail("user_id", added.id.get());
    Ok(added)
}

/// Removes a user from a group.
pub async fn remove_member(ctx: &Ctx, name: &str, email: &Email) -> Result<(), Error> {
    ctx.add_audit_detail("user", email.as_str());
    let user = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let group = find_for_change(ctx, tx, name).await?;
            let user = users::id_by_email(tx, email).await?;
            if !store::delete_member(tx, group.id, user).await? {
                return Err(Error::not_found(ResourceKind::GroupMember, email.as_str()));
            }
            admins::require_remaining(tx, locked).await?;
            let payload = json!({ "group": group.name, "user": email.as_str() });
            tx.emit(ctx.new_event(event_types::GROUP_MEMBER_REMOVED, payload)).await?;
            tx.log_access_change(AccessSubject::User(user)).await?;
            Ok(user)
        })
        .await?;
    ctx.add_audit_detail("user_id", user.get());
    Ok(())
}

/// Returns a page of members, ordered by e-mail address.
pub async fn list_members(
    ctx: &Ctx,
    name: &str,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Member>, String), Error> {
    let group = get(ctx, name).await?.id;
    let filter = group.to_string();
    let list = ListKey { method: "ListGroupMembers", filter: filter.as_bytes(), order: "email" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let after = page.after().map(String::as_str);
    let mut conn = ctx.db().read().await?;
    let rows = store::page_of_members(&mut conn, group, after, page.limit()).await?;
    page.finish(rows, |last| last.email.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_one_line_of_limited_length() {
        let most = "\u{e4}".repeat(DESCRIPTION_CHARACTERS_MAX);
        assert_eq!(description("description", &most).unwrap(), Some(most.clone()));
        assert_eq!(description("description", "").unwrap(), None);
        for bad in ["a\nb", "a\0b", "\u{1b}[2J", "safe \u{202e}live", &format!("{most}a")] {
            assert!(description("description", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_count_over_the_limit_is_refused() {
        assert!(check_limit(GROUPS_MAX, GROUPS_MAX, "groups").is_ok());
        let refused = check_limit(GROUPS_MAX + 1, GROUPS_MAX, "groups");
        assert!(matches!(refused, Err(Error::Refused { reason: Reason::LimitReached, .. })));
    }
}
