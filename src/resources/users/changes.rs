//! Management of users by admins: role and state, deletion, password reset, unlocking, sessions.
//!
//! Invariants
//! - a caller cannot grant a role above their own, nor change a user who has one;
//! - a change of access requires a global admin, checked again under the lock in the transaction (T06);
//! - a caller cannot delete or deactivate their own account, nor reset its password, which requires the current
//!   password;
//! - the last active admin stays: see `admins`;
//! - a removal of access takes effect before the response is sent, and on open streams within one second.

use serde_json::json;

use super::admins;
use super::domain::{self, User, UserRef};
use super::invite::{self, RESET_LIFETIME, store::PendingToken};
use super::store;
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::SessionId;
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::effect;
use crate::resources::sessions::budget;
use crate::resources::sessions::{self, SessionInfo};
use crate::role::Role;
use crate::secret::Secret;

/// A partial update of a user. `None` leaves the field unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserUpdate {
    /// New global role.
    pub role: Option<Role>,
    /// Whether the account is active.
    pub is_active: Option<bool>,
}

/// Counts of what was deleted with a user, and of what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserDependents {
    /// Memberships in groups.
    pub memberships: i64,
    /// Roles on named gateways.
    pub gateway_roles: i64,
    /// Roles by selector.
    pub selector_bindings: i64,
    /// Sessions, including ended sessions that are still stored.
    pub sessions: i64,
    /// Service principals that the user created; they are not deleted.
    pub service_principals: i64,
}

/// Returns the user of the request. The caller must have at least its role.
async fn find_for_change(ctx: &Ctx, conn: &mut Conn, named: &UserRef) -> Result<User, Error> {
    let user = domain::find(conn, named).await?;
    ctx.add_audit_detail("user_id", user.id.get());
    ctx.add_audit_detail("email", user.email.as_str());
    ctx.check_role_not_above(user.effective_role)?;
    Ok(user)
}

/// Rejects the change if the user is the caller.
fn check_not_self(ctx: &Ctx, user: &User, what: &str) -> Result<(), Error> {
    if ctx.principal() != Some(PrincipalId::User(user.id)) {
        return Ok(());
    }
    Err(Error::refused(Reason::OwnAccount, format!("you cannot {what} your own account")))
}

fn check_applied(is_so: bool, named: &UserRef) -> Result<(), Error> {
    if is_so { Ok(()) } else { Err(Error::conflict(ResourceKind::User, named)) }
}

/// Updates role or state. Deactivating an account ends its sessions; reactivating does not restore them.
pub async fn update(
    ctx: &Ctx,
    named: &UserRef,
    change: UserUpdate,
    given_etag: &str,
) -> Result<User, Error> {
    if let Some(role) = change.role {
        ctx.add_audit_detail("role", role.as_str());
        ctx.check_role_not_above(role)?;
    }
    if let Some(is_active) = change.is_active {
        ctx.add_audit_detail("is_active", is_active);
    }
    let now = ctx.now();
    let updated = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = find_for_change(ctx, tx, named).await?;
            if change.is_active == Some(false) {
                check_not_self(ctx, &user, "deactivate")?;
            }
            etag::check(given_etag, user.version, ResourceKind::User, named)?;
            let role = change.role.unwrap_or(user.role);
            let is_active = change.is_active.unwrap_or(user.is_active);
            let version = user.version;
            check_applied(store::update(tx, user.id, version, role, is_active).await?, named)?;
            admins::require_remaining(tx, locked).await?;
            if !is_active {
                sessions::end_all(tx, user.id, now).await?;
            }
            let payload =
                json!({ "user": user.email, "role": role.as_str(), "is_active": is_active });
            tx.emit(ctx.new_event(event_types::USER_UPDATED, payload)).await?;
            let updated = domain::find(tx, &UserRef::Id(user.id)).await?;
            tx.log_access_change(AccessSubject::User(user.id)).await?;
            Ok(updated)
        })
        .await?;
    Ok(updated)
}

/// Deletes a user with its memberships, roles and sessions, but not the service principals that it created.
pub async fn delete(ctx: &Ctx, named: &UserRef, given_etag: &str) -> Result<(), Error> {
    let removed = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = find_for_change(ctx, tx, named).await?;
            check_not_self(ctx, &user, "delete")?;
            etag::check(given_etag, user.version, ResourceKind::User, named)?;
            let removed = store::count_dependents(tx, user.id).await?;
            check_applied(store::delete(tx, user.id, user.version).await?, named)?;
            admins::require_remaining(tx, locked).await?;
            let payload = json!({ "user": user.email, "id": user.id.get() });
            tx.emit(ctx.new_event(event_types::USER_DELETED, payload)).await?;
            tx.log_access_change(AccessSubject::User(user.id)).await?;
            Ok(removed)
        })
        .await?;
    for (what, count) in [
        ("memberships", removed.memberships),
        ("gateway_roles", removed.gateway_roles),
        ("selector_bindings", removed.selector_bindings),
        ("sessions", removed.sessions),
        ("service_principals_kept", removed.service_principals),
    ] {
        ctx.add_audit_detail(what, count);
    }
    Ok(())
}

/// Removes a user's password, ends its sessions, and creates a token for setting a new password.
pub async fn reset_password(
    ctx: &Ctx,
    named: &UserRef,
    given_etag: &str,
) -> Result<(User, Secret), Error> {
    ctx.admit_credential()?;
    let now = ctx.now();
    let made = invite::new_token()?;
    let waiting = PendingToken { token_hash: &made.hash, expires_at: now.plus(RESET_LIFETIME) };
    let reset = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = find_for_change(ctx, tx, named).await?;
            // Otherwise a stolen session could replace the password without the current one, which ChangePassword
            // requires.
            check_not_self(ctx, &user, "reset the password of")?;
            etag::check(given_etag, user.version, ResourceKind::User, named)?;
            // Without an etag, newer versions are accepted, too: an attacker who keeps changing the password must not
            // prevent an admin from taking the account back.
            let most = if given_etag.is_empty() { i64::MAX } else { user.version };
            let versions = user.version..=most;
            check_applied(invite::store::reset(tx, user.id, versions, waiting).await?, named)?;
            admins::require_remaining(tx, locked).await?;
            sessions::end_all(tx, user.id, now).await?;
            let payload = json!({ "user": user.email });
            tx.emit(ctx.new_event(event_types::USER_PASSWORD_RESET, payload)).await?;
            let reset = domain::find(tx, &UserRef::Id(user.id)).await?;
            tx.log_access_change(AccessSubject::User(user.id)).await?;
            Ok(reset)
        })
        .await?;
    Ok((reset, made.token))
}

/// Deletes the failed logins of a user's account, from all addresses.
pub async fn unlock(ctx: &Ctx, named: &UserRef) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        effect::lock_as_global_admin(ctx, tx).await?;
        let user = find_for_change(ctx, tx, named).await?;
        budget::clear_account(ctx.app(), tx, &user.email).await?;
        let payload = json!({ "user": user.email });
        tx.emit(ctx.new_event(event_types::USER_UNLOCKED, payload)).await
    })
    .await?;
    Ok(())
}

/// Returns a page of a user's live sessions, newest first.
pub async fn list_sessions(
    ctx: &Ctx,
    named: &UserRef,
    size: PageSize,
    token: &str,
) -> Result<(Vec<SessionInfo>, String), Error> {
    let user = domain::get(ctx, named).await?;
    sessions::list(ctx, user.id, size, token).await
}

/// Ends one session of a user, or all if `only` is `None`. Returns the number of ended sessions.
pub async fn revoke_sessions(
    ctx: &Ctx,
    named: &UserRef,
    only: Option<SessionId>,
) -> Result<usize, Error> {
    let now = ctx.now();
    let ended = ctx
        .transaction(async |tx| {
            effect::lock_as_global_admin(ctx, tx).await?;
            let user = find_for_change(ctx, tx, named).await?;
            let ended = match only {
                None => sessions::end_all(tx, user.id, now).await?,
                Some(id) if sessions::end_one(tx, user.id, id, now).await? => 1,
                Some(id) => return Err(Error::not_found(ResourceKind::Session, id)),
            };
            let payload = json!({ "user": user.email, "sessions": ended });
            tx.emit(ctx.new_event(event_types::USER_SESSIONS_REVOKED, payload)).await?;
            tx.log_access_change(AccessSubject::User(user.id)).await?;
            Ok(ended)
        })
        .await?;
    ctx.add_audit_detail("sessions", ended);
    Ok(ended)
}
