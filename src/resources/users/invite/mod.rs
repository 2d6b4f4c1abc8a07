//! Accounts and passwords of people: invitation by an admin, reset by an admin, or self-registration.
//!
//! Invariants
//! - a token is `sgi_` and 43 characters of 32 random bytes; only its SHA-256 is stored, and it is shown once;
//! - a token is valid once, until it expires, and only for an active account; an invalid token stores nothing (T16);
//! - only the person ever knows their password.

pub mod store;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use self::store::PendingToken;
use super::domain::{self, Email, USERS_MAX, User, UserRef};
use super::{admins, store as users};
use crate::access::authn::hash_turns::HashCaller;
use crate::access::authn::password::PasswordHasher;
use crate::access::principal::PrincipalId;
use crate::ctx::{AnonymousCtx, Ctx};
use crate::db::types::UserId;
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::effect;
use crate::resources::sessions::{self, budget};
use crate::role::Role;
use crate::seal::{fill_random, hex};
use crate::secret::Secret;

/// Password version of a new account. Each password and each reset increments it.
const FIRST_PASSWORD_VERSION: i64 = 1;
/// Number of users from which self-registration is rejected, so that a flood of registrations leaves room for invited
/// users.
pub const USERS_TO_REGISTER_MAX: i64 = USERS_MAX / 2;

const PREFIX: &str = "sgi_";
const TOKEN_BYTES: usize = 32;

/// Lifetime of the token of a reset. Short, since an admin is in contact with the person.
pub const RESET_LIFETIME: Duration = Duration::from_hours(24);

/// A new token.
pub(super) struct NewToken {
    /// Token, shown once.
    pub(super) token: Secret,
    /// Stored hash.
    pub(super) hash: String,
}

/// Generates a token: `sgi_` and 43 characters of base64url, from 32 random bytes.
pub(super) fn new_token() -> Result<NewToken, Error> {
    let mut bytes = [0; TOKEN_BYTES];
    fill_random(&mut bytes)?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let hash = hex(&Sha256::digest(token.as_bytes()));
    Ok(NewToken { token: Secret::new(token), hash })
}

/// Returns the stored hash of a token; `None` if the text is not a token.
fn hash_token(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
    (bytes.len() == TOKEN_BYTES).then(|| hex(&Sha256::digest(token.as_bytes())))
}

/// Creates an account and an invitation for it.
pub async fn invite(ctx: &Ctx, email: &Email, role: Role) -> Result<(User, Secret), Error> {
    ctx.add_audit_detail("role", role.as_str());
    ctx.check_role_not_above(role)?;
    ctx.admit_credential()?;
    let now = ctx.now();
    let made = new_token()?;
    let expires_at = now.plus(ctx.app().config.auth.invite());
    let token = PendingToken { token_hash: &made.hash, expires_at };
    let user = ctx
        .transaction(async |tx| {
            let _locked = admins::lock(tx).await?;
            effect::require_global_admin(ctx, tx).await?;
            let id = store::insert_invited(tx, email.as_str(), role, token, now).await?;
            domain::check_count(tx, USERS_MAX).await?;
            let payload = json!({ "user": email.as_str(), "role": role.as_str() });
            tx.emit(ctx.new_event(event_types::USER_INVITED, payload)).await?;
            let user = domain::find(tx, &UserRef::Id(id)).await?;
            tx.log_access_addition(AccessSubject::User(id)).await?;
            Ok(user)
        })
        .await?;
    Ok((user, made.token))
}

/// Replaces the pending invitation by a new one.
///
/// # Errors
/// `NO_INVITE` if the account is not invited, even if a reset of its password is pending: a new invitation would be
/// valid for longer than [`RESET_LIFETIME`].
pub async fn resend(ctx: &Ctx, named: &UserRef) -> Result<(User, Secret), Error> {
    ctx.admit_credential()?;
    let now = ctx.now();
    let made = new_token()?;
    let expires_at = now.plus(ctx.app().config.auth.invite());
    let token = PendingToken { token_hash: &made.hash, expires_at };
    let user = ctx
        .transaction(async |tx| {
            effect::lock_as_global_admin(ctx, tx).await?;
            let found = domain::find(tx, named).await?;
            ctx.check_role_not_above(found.effective_role)?;
            if !store::is_invited(tx, found.id, FIRST_PASSWORD_VERSION).await? {
                let instead = if found.pending_invite { ": reset the password again" } else { "" };
                let why = format!("user `{}` has no pending invitation{instead}", found.email);
                return Err(Error::refused(Reason::NoInvite, why));
            }
            if !store::set_pending_token(tx, found.id, found.version, token).await? {
                return Err(Error::conflict(ResourceKind::User, named));
            }
            let payload = json!({ "user": found.email });
            tx.emit(ctx.new_event(event_types::USER_INVITE_RESENT, payload)).await?;
            domain::find(tx, &UserRef::Id(found.id)).await
        })
        .await?;
    Ok((user, made.token))
}

/// A person who has just set a password and can get a session.
pub struct ActivatedUser {
    /// Context of the call, now as this user.
    pub ctx: Ctx,
    /// Id of the user.
    pub user: UserId,
    /// Version of the password.
    pub password_version: i64,
}

/// Sets the password of the account of a token.
///
/// # Errors
/// `CREDENTIAL_INVALID` if the token is unknown, used or expired, or if its account is not active.
pub async fn accept(
    anonymous: AnonymousCtx,
    token: &Secret,
    password: Secret,
) -> Result<ActivatedUser, Error> {
    let invalid = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    PasswordHasher::check("password", &password)?;
    let app = Arc::clone(anonymous.app());
    let token_hash = hash_token(token.expose()).ok_or_else(invalid)?;
    let mut conn = app.db.read().await?;
    let found = store::find_by_token(&mut conn, &token_hash, app.clock.now()).await?;
    drop(conn);
    let (user, email) = found.ok_or_else(invalid)?;
    let caller = HashCaller::familiar(anonymous.client_ip());
    let hash = app.passwords.hash(password, caller).await?;
    let principal = PrincipalId::User(user);
    let role = app.snapshot.global_role(principal);
    let ctx = anonymous.identify(email.as_str().into(), Some(principal), role).await?;
    let now = ctx.now();
    let password_version = ctx
        .transaction(async |tx| {
            // Only one call can consume the token: a second one finds no row.
            let accepted = store::accept(tx, &token_hash, &hash, now).await?;
            let (user, password_version) = accepted.ok_or_else(invalid)?;
            sessions::end_all(tx, user, now).await?;
            let payload = json!({ "user": email });
            tx.emit(ctx.new_event(event_types::USER_INVITE_ACCEPTED, payload)).await?;
            tx.log_access_change(AccessSubject::User(user)).await?;
            Ok(password_version)
        })
        .await?;
    Ok(ActivatedUser { ctx, user, password_version })
}

/// Registers an account for the caller, if the configuration allows it.
///
/// That an address is in use cannot be hidden without a proof that the address is the caller's: an unused one gets a
/// session, and a used one must not. Probing is therefore slowed down and recorded instead: an attempt with a used
/// address counts as a failed login of the caller, with growing waits, and an unused address that was tried becomes an
/// account, in the audit log with the client address.
pub async fn register(
    anonymous: AnonymousCtx,
    email: &Email,
    password: Secret,
) -> Result<ActivatedUser, Error> {
    let app = Arc::clone(anonymous.app());
    let auth = &app.config.auth;
    if !auth.self_registration {
        let why = "self-registration is disabled: ask an admin for an invitation";
        return Err(Error::refused(Reason::FeatureDisabled, why));
    }
    if !users::has_any(&mut app.db.read().await?).await? {
        let why = "the first admin does not exist yet";
        return Err(Error::refused(Reason::FeatureDisabled, why));
    }
    let role =
        auth.registration_role_value().ok_or_else(|| Error::internal("no role to register"))?;
    PasswordHasher::check("password", &password)?;
    let tried = budget::admit(&app, email.as_str(), None, anonymous.client_ip()).await?;
    let hashed = app.passwords.hash(password, tried.hash_caller()).await;
    let found = users::account_by_email(&mut app.db.read().await?, email.as_str()).await?;
    if found.is_none() || hashed.is_err() {
        budget::refund_attempt(&app, &tried).await?;
    }
    let hash = hashed?;
    if found.is_some() {
        return Err(Error::already_exists(ResourceKind::User, email.as_str()));
    }
    let ctx = anonymous.identify(email.as_str().into(), None, role).await?;
    let now = ctx.now();
    let user = ctx
        .transaction(async |tx| {
            let _locked = admins::lock(tx).await?;
            let user = users::insert(tx, email.as_str(), &hash, role, now).await?;
            domain::check_count(tx, USERS_TO_REGISTER_MAX).await?;
            let payload = json!({ "user": email.as_str(), "role": role.as_str() });
            tx.emit(ctx.new_event(event_types::USER_REGISTERED, payload)).await?;
            tx.log_access_addition(AccessSubject::User(user)).await?;
            Ok(user)
        })
        .await?;
    Ok(ActivatedUser { ctx, user, password_version: FIRST_PASSWORD_VERSION })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_invite_token_of_the_documented_format_is_hashed() {
        let made = new_token().unwrap();
        let token = made.token.expose();
        assert_eq!((token.len(), &token[..4]), (47, PREFIX));
        assert_eq!(hash_token(token), Some(made.hash));
        assert_ne!(new_token().unwrap().token.expose(), token);
        let bad = ["", PREFIX, &token[1..], &token[..46], &format!("{token}A"), &token[4..]];
        for bad in bad {
            assert_eq!(hash_token(bad), None, "{bad:?}");
        }
        let setup = URL_SAFE_NO_PAD.encode([7; TOKEN_BYTES]);
        assert!(hash_token(&format!("sgr_{setup}")).is_none());
    }
}
