//! Setup, login, and the identity of the caller.

use std::sync::Arc;

use serde_json::json;
use subtle::ConstantTimeEq;

use super::{setup, store};
use crate::access::authn::hash_turns::HashCaller;
use crate::access::authn::password::PasswordHasher;
use crate::access::principal::{Caller, PrincipalId};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{AnonymousCtx, Ctx};
use crate::db::types::{GatewayId, UserId};
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::sessions::budget::{self, LoginAttempt};
use crate::resources::sessions::{self, NewSession, RefreshToken, Session, SessionKind};
use crate::resources::users::domain::{Email, set_password};
use crate::resources::users::invite;
use crate::resources::users::store as users;
use crate::role::Role;
use crate::secret::Secret;

/// Creates the first admin with the token that the server printed. Works only once.
pub async fn set_up(
    anonymous: AnonymousCtx,
    token: Secret,
    email: &Email,
    password: Secret,
) -> Result<UserId, Error> {
    PasswordHasher::check("password", &password)?;
    let app = Arc::clone(anonymous.app());
    let given = setup::hash_token(token.expose());
    let mut conn = app.db.read().await?;
    let already = || Error::refused(Reason::AlreadySetUp, "the first admin exists already");
    let Some(expected) = store::setup_token_hash(&mut conn).await? else {
        return Err(already());
    };
    drop(conn);
    if !bool::from(given.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(Error::Unauthenticated { reason: Reason::CredentialInvalid });
    }
    let caller = HashCaller::familiar(anonymous.client_ip());
    let hash = app.passwords.hash(password, caller).await?;
    let ctx = anonymous.identify(email.as_str().into(), None, Role::Admin).await?;
    let now = ctx.now();
    let id = ctx
        .transaction(async |tx| {
            // Only one call can consume the token: a second one finds no row.
            if !store::take_setup_token(tx, &given).await? || users::has_any(tx).await? {
                return Err(already());
            }
            let id = users::insert(tx, email.as_str(), &hash, Role::Admin, now).await?;
            let payload = json!({ "user": email.as_str(), "role": Role::Admin.as_str() });
            tx.emit(ctx.new_event(event_types::USER_CREATED, payload)).await?;
            tx.log_access_addition(AccessSubject::User(id)).await?;
            Ok(id)
        })
        .await?;
    let _ = tokio::fs::remove_file(setup::token_file(&app)).await;
    Ok(id)
}

/// Exchanges an e-mail address and a password for a session. Takes the same time whether or not the account exists.
pub async fn login(
    anonymous: AnonymousCtx,
    email: &str,
    password: Secret,
) -> Result<Session, Error> {
    let app = Arc::clone(anonymous.app());
    let failed = || Error::Unauthenticated { reason: Reason::LoginFailed };
    // An invalid address is counted like the address of no account.
    let email = Email::parse("email", email).ok();
    let address = email.as_ref().map_or("", Email::as_str);
    let mut conn = app.db.read().await?;
    let found = users::account_by_email(&mut conn, address).await?;
    drop(conn);
    let user = found.as_ref().map(|account| account.id);
    let attempt = budget::admit(&app, address, user, anonymous.client_ip()).await?;
    let account = found.filter(|account| account.active);
    let hash = account.as_ref().and_then(|account| account.hashed_password.clone());
    let good = verify(&app, &attempt, password, hash).await?;
    let (Some(account), Some(email), true) = (account, email, good) else {
        return Err(failed());
    };
    budget::record_success(&app, &attempt, account.id).await?;
    let principal = PrincipalId::User(account.id);
    let role = app.snapshot.global_role(principal);
    let ctx = anonymous.identify(email.as_str().into(), Some(principal), role).await?;
    begin_session(&ctx, account.id, account.password_version).await
}

/// Sets the password of the account of an invitation or reset, and starts a session.
pub async fn accept_invite(
    anonymous: AnonymousCtx,
    token: &Secret,
    password: Secret,
) -> Result<Session, Error> {
    let joined = invite::accept(anonymous, token, password).await?;
    begin_session(&joined.ctx, joined.user, joined.password_version).await
}

/// Registers an account for the caller, and starts a session.
pub async fn register(
    anonymous: AnonymousCtx,
    email: &Email,
    password: Secret,
) -> Result<Session, Error> {
    let joined = invite::register(anonymous, email, password).await?;
    begin_session(&joined.ctx, joined.user, joined.password_version).await
}

/// Verifies a password. If the verification could not run, the attempt is not counted.
async fn verify(
    app: &App,
    attempt: &LoginAttempt,
    password: Secret,
    hash: Option<String>,
) -> Result<bool, Error> {
    let verified = app.passwords.verify(password, hash, attempt.hash_caller()).await;
    if verified.is_err() {
        budget::refund_attempt(app, attempt).await?;
    }
    verified
}

/// Starts a session of a user who has just proven the password.
async fn begin_session(ctx: &Ctx, user: UserId, password_version: i64) -> Result<Session, Error> {
    let new = NewSession {
        user,
        password_version,
        kind: SessionKind::Password,
        gateway: None,
        authenticated_at: ctx.now(),
    };
    sessions::begin(ctx, &new).await
}

/// Exchanges a refresh token for the next one and a session token.
pub async fn refresh(anonymous: AnonymousCtx, given: Secret) -> Result<Session, Error> {
    let invalid = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let app = Arc::clone(anonymous.app());
    let token = RefreshToken::parse(given.expose()).ok_or_else(invalid)?;
    let family = sessions::find_family(&app, &token).await?.ok_or_else(invalid)?;
    if family.gateway().is_some() {
        // A session for one gateway can be refreshed only at the token service of that gateway (T03).
        return Err(invalid());
    }
    let principal = PrincipalId::User(family.user());
    let role = app.snapshot.global_role(principal);
    let ctx = anonymous.identify(family.email().into(), Some(principal), role).await?;
    sessions::rotate(&ctx, &family, &token).await
}

/// Ends the session of this call.
pub async fn logout(ctx: &Ctx) -> Result<(), Error> {
    let user = ctx.user()?;
    let session = ctx.caller().and_then(Caller::session);
    let session = session
        .ok_or_else(|| Error::refused(Reason::NoSession, "the call was made without a session"))?;
    sessions::revoke(ctx, user, session).await
}

/// Changes the caller's own password, and ends all their sessions.
pub async fn change_password(ctx: &Ctx, current: Secret, new: Secret) -> Result<Session, Error> {
    let user = ctx.user()?;
    PasswordHasher::check("new_password", &new)?;
    let app = ctx.app();
    let mut conn = app.db.read().await?;
    let account = users::account_by_id(&mut conn, user).await?;
    drop(conn);
    let account = account.ok_or_else(|| Error::not_found(ResourceKind::User, user))?;
    // Counted as a login attempt: a stolen session token must not allow guessing the password.
    let attempt = budget::admit(app, &ctx.actor(), Some(user), ctx.client_ip()).await?;
    if !verify(app, &attempt, current, account.hashed_password).await? {
        return Err(Error::Unauthenticated { reason: Reason::LoginFailed });
    }
    budget::record_success(app, &attempt, user).await?;
    let version = set_password(ctx, user, account.password_version, new).await?;
    begin_session(ctx, user, version).await
}

/// Maximum number of gateways listed in an identity.
const GATEWAYS_SHOWN_MAX: usize = 100;

/// Identity of a caller.
#[derive(Debug)]
pub struct Identity {
    /// Name of the caller.
    pub actor: Arc<str>,
    /// Permanent identifier.
    pub principal: String,
    /// Global role.
    pub role: Role,
    /// Gateways that the caller can see, with the role there.
    pub gateways: Vec<(Arc<str>, Role)>,
    /// Whether the list is truncated.
    pub truncated: bool,
    /// When the credential expires.
    pub expires_at: Option<Timestamp>,
    /// The only gateway that the credential is valid for, if it is restricted to one.
    pub bound_gateway: Option<Arc<str>>,
}

/// Returns the identity of the caller, from the snapshot.
pub fn identity(ctx: &Ctx) -> Result<Identity, Error> {
    let missing = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let caller = ctx.caller().ok_or_else(missing)?;
    let snapshot = &ctx.app().snapshot;
    if let Some(gateway) = caller.bound_gateway() {
        return bound_identity(ctx, caller, gateway);
    }
    let (gateways, cut) = snapshot.gateway_roles(caller.principal(), GATEWAYS_SHOWN_MAX);
    Ok(Identity {
        actor: Arc::clone(caller.actor()),
        principal: caller.principal().to_string(),
        role: snapshot.global_role(caller.principal()),
        gateways,
        truncated: cut,
        expires_at: caller.expires_at(),
        bound_gateway: None,
    })
}

/// Returns the identity of a caller whose credential is valid for one gateway only. It contains nothing about other
/// gateways or the global role (T02).
fn bound_identity(ctx: &Ctx, caller: &Caller, gateway: GatewayId) -> Result<Identity, Error> {
    let snapshot = &ctx.app().snapshot;
    let gone = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let name = snapshot.gateway_name(gateway).ok_or_else(gone)?;
    let role = snapshot.role_on(caller.principal(), gateway);
    let seen = Some((Arc::clone(&name), role)).filter(|(_, role)| *role > Role::None);
    Ok(Identity {
        actor: Arc::clone(caller.actor()),
        principal: caller.principal().to_string(),
        role: Role::None,
        gateways: seen.into_iter().collect(),
        truncated: false,
        expires_at: caller.expires_at(),
        bound_gateway: Some(name),
    })
}
