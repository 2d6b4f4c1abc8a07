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
use super::domain::{self, Named, User};
use super::invite::{self, RESET, store::Waiting};
use super::store;
use crate::access::principal::PrincipalId;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::page::PageSize;
use crate::db::types::SessionId;
use crate::error::{Error, Kind, Reason};
use crate::etag;
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::resources::access_bindings::effect;
use crate::resources::sessions::budget;
use crate::resources::sessions::{self, Shown};
use crate::role::Role;
use crate::secret::Secret;

/// A partial update of a user. `None` leaves the field unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// New global role.
    pub role: Option<Role>,
    /// Whether the account is active.
    pub is_active: Option<bool>,
}

/// Counts of what was deleted with a user, and of what was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
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
async fn found(ctx: &Ctx, conn: &mut Conn, named: &Named) -> Result<User, Error> {
    let user = domain::find(conn, named).await?;
    ctx.detail("user_id", user.id.get());
    ctx.detail("email", user.email.as_str());
    ctx.not_above(user.effective_role)?;
    Ok(user)
}

/// Rejects the change if the user is the caller.
fn not_own(ctx: &Ctx, user: &User, what: &str) -> Result<(), Error> {
    if ctx.principal() != Some(PrincipalId::User(user.id)) {
        return Ok(());
    }
    Err(Error::refused(Reason::OwnAccount, format!("you cannot {what} your own account")))
}

fn taken(is_so: bool, named: &Named) -> Result<(), Error> {
    if is_so { Ok(()) } else { Err(Error::conflict(Kind::User, named)) }
}

/// Updates role or state. Deactivating an account ends its sessions; reactivating does not restore them.
pub async fn update(
    ctx: &Ctx,
    named: &Named,
    change: Change,
    given_etag: &str,
) -> Result<User, Error> {
    if let Some(role) = change.role {
        ctx.detail("role", role.as_str());
        ctx.not_above(role)?;
    }
    if let Some(is_active) = change.is_active {
        ctx.detail("is_active", is_active);
    }
    let now = ctx.now();
    let updated = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = found(ctx, tx, named).await?;
            if change.is_active == Some(false) {
                not_own(ctx, &user, "deactivate")?;
            }
            etag::check(given_etag, user.version, Kind::User, named)?;
            let role = change.role.unwrap_or(user.role);
            let is_active = change.is_active.unwrap_or(user.is_active);
            let version = user.version;
            taken(store::update(tx, user.id, version, role, is_active).await?, named)?;
            admins::must_remain(tx, locked).await?;
            if !is_active {
                sessions::end_all(tx, user.id, now).await?;
            }
            let payload =
                json!({ "user": user.email, "role": role.as_str(), "is_active": is_active });
            tx.emit(ctx.event(event_types::USER_UPDATED, payload)).await?;
            let updated = domain::find(tx, &Named::Id(user.id)).await?;
            tx.access_changed(Subject::User(user.id)).await?;
            Ok(updated)
        })
        .await?;
    Ok(updated)
}

/// Deletes a user with its memberships, roles and sessions, but not the service principals that it created.
pub async fn delete(ctx: &Ctx, named: &Named, given_etag: &str) -> Result<(), Error> {
    let removed = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = found(ctx, tx, named).await?;
            not_own(ctx, &user, "delete")?;
            etag::check(given_etag, user.version, Kind::User, named)?;
            let removed = store::belongings(tx, user.id).await?;
            taken(store::delete(tx, user.id, user.version).await?, named)?;
            admins::must_remain(tx, locked).await?;
            let payload = json!({ "user": user.email, "id": user.id.get() });
            tx.emit(ctx.event(event_types::USER_DELETED, payload)).await?;
            tx.access_changed(Subject::User(user.id)).await?;
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
        ctx.detail(what, count);
    }
    Ok(())
}

/// Removes a user's password, ends its sessions, and creates a token for setting a new password.
pub async fn reset_password(
    ctx: &Ctx,
    named: &Named,
    given_etag: &str,
) -> Result<(User, Secret), Error> {
    ctx.admit_credential()?;
    let now = ctx.now();
    let made = invite::new_token()?;
    let waiting = Waiting { token_hash: &made.hash, expires_at: now.plus(RESET) };
    let reset = ctx
        .transaction(async |tx| {
            let locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let user = found(ctx, tx, named).await?;
            // Otherwise a stolen session could replace the password without the current one, which ChangePassword
            // requires.
            not_own(ctx, &user, "reset the password of")?;
            etag::check(given_etag, user.version, Kind::User, named)?;
            // Without an etag, newer versions are accepted, too: an attacker who keeps changing the password must not
            // prevent an admin from taking the account back.
            let most = if given_etag.is_empty() { i64::MAX } else { user.version };
            let versions = user.version..=most;
            taken(invite::store::reset(tx, user.id, versions, waiting).await?, named)?;
            admins::must_remain(tx, locked).await?;
            sessions::end_all(tx, user.id, now).await?;
            let payload = json!({ "user": user.email });
            tx.emit(ctx.event(event_types::USER_PASSWORD_RESET, payload)).await?;
            let reset = domain::find(tx, &Named::Id(user.id)).await?;
            tx.access_changed(Subject::User(user.id)).await?;
            Ok(reset)
        })
        .await?;
    Ok((reset, made.token))
}

/// Deletes the failed logins of a user's account, from all addresses.
pub async fn unlock(ctx: &Ctx, named: &Named) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        effect::turn_of_global_admin(ctx, tx).await?;
        let user = found(ctx, tx, named).await?;
        budget::forgive(ctx.app(), tx, &user.email).await?;
        let payload = json!({ "user": user.email });
        tx.emit(ctx.event(event_types::USER_UNLOCKED, payload)).await
    })
    .await?;
    Ok(())
}

/// Returns a page of a user's live sessions, newest first.
pub async fn list_sessions(
    ctx: &Ctx,
    named: &Named,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Shown>, String), Error> {
    let user = domain::get(ctx, named).await?;
    sessions::list(ctx, user.id, size, token).await
}

/// Ends one session of a user, or all if `only` is `None`. Returns the number of ended sessions.
pub async fn revoke_sessions(
    ctx: &Ctx,
    named: &Named,
    only: Option<SessionId>,
) -> Result<usize, Error> {
    let now = ctx.now();
    let ended = ctx
        .transaction(async |tx| {
            effect::turn_of_global_admin(ctx, tx).await?;
            let user = found(ctx, tx, named).await?;
            let ended = match only {
                None => sessions::end_all(tx, user.id, now).await?,
                Some(id) if sessions::end_one(tx, user.id, id, now).await? => 1,
                Some(id) => return Err(Error::missing(Kind::Session, id)),
            };
            let payload = json!({ "user": user.email, "sessions": ended });
            tx.emit(ctx.event(event_types::USER_SESSIONS_REVOKED, payload)).await?;
            tx.access_changed(Subject::User(user.id)).await?;
            Ok(ended)
        })
        .await?;
    ctx.detail("sessions", ended);
    Ok(ended)
}
