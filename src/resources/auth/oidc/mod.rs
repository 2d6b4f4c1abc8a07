//! Users and programs of an OIDC issuer: login, linking and token exchange.
//!
//! Invariants
//! - an identity is an issuer and a subject; an e-mail address finds an account only by the rules of `account` (T11);
//! - the state of a login in progress exists only in its sealed token; apart from the audit entry of its beginning,
//!   nothing is stored until the issuer has authenticated a user who is allowed to log in (T16);
//! - all failures get the same response; the log has the details;
//! - no issuer is called inside a transaction.

pub mod account;
pub mod exchange;
pub mod link;
pub mod store;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tracing::warn;

use self::account::{IdentityLookup, LoginDecision, RoleMapping};
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::{AnonymousCtx, Ctx, Tx};
use crate::db::Conn;
use crate::db::types::UserId;
use crate::error::{Error, Reason, ResourceKind};
use crate::oidc::Provider;
use crate::oidc::claims::Claims;
use crate::oidc::flow::{LoginCallback, PendingLogin};
use crate::oidc::provider::ProviderError;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::sessions::{self, NewSession, Session, SessionKind};
use crate::resources::users::admins;
use crate::resources::users::domain::{self as users, Email};
use crate::resources::users::invite::USERS_TO_REGISTER_MAX;
use crate::role::Role;
use crate::seal::SealKey;
use crate::secret::Secret;

/// Key that seals logins in progress; the same on every replica.
#[derive(Debug)]
pub struct LoginKey(pub SealKey);

/// Context that the sealed token of a login is bound to.
const SEALED_FOR: &[u8] = b"oidc login";
/// Upper bound for the size of a login token: it contains a redirect URI and little more.
const LOGIN_TOKEN_BYTES_MAX: usize = 4 * 1024;

/// A started login.
#[derive(Debug)]
pub struct StartedLogin {
    /// URL to open in the browser.
    pub authorization_url: String,
    /// Token to complete the login with.
    pub login_token: Secret,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// Request to complete a login.
#[derive(Debug)]
pub struct LoginCompletion {
    /// Token from the start of the login.
    pub login_token: Secret,
    /// Parameters of the redirect from the issuer.
    pub answer: LoginCallback,
}

/// Returns the error of all failures.
fn login_failed() -> Error {
    Error::Unauthenticated { reason: Reason::LoginFailed }
}

fn reject(provider: &str, why: &str) -> Error {
    warn!(provider, why, "an OIDC login was refused");
    login_failed()
}

/// Starts a login. Stores only the audit entry.
pub async fn begin_login(
    anonymous: AnonymousCtx,
    provider: &str,
    redirect_uri: &str,
) -> Result<StartedLogin, Error> {
    let app = Arc::clone(anonymous.app());
    let shown: String = provider.chars().take(80).collect();
    let found = app.authn.oidc.by_name(provider).filter(|found| found.has_login());
    let found = found.ok_or_else(|| Error::not_found(ResourceKind::OidcProvider, shown))?;
    let (authorization_url, pending) = found.begin_login(redirect_uri).await?;
    let plain = serde_json::to_vec(&pending).map_err(Error::internal)?;
    let sealed = URL_SAFE_NO_PAD.encode(app.part::<LoginKey>().0.seal(SEALED_FOR, &plain)?);
    anonymous.identify("anonymous".into(), None, Role::None).await?;
    Ok(StartedLogin {
        authorization_url,
        login_token: Secret::new(sealed),
        expires_at: Timestamp::from_unix_seconds(pending.expires_at),
    })
}

/// Completes a login at the issuer and returns the identity that it authenticates.
async fn authenticate(
    app: &App,
    completion: &LoginCompletion,
) -> Result<(Arc<Provider>, Claims), Error> {
    let token = completion.login_token.expose();
    let pending: Option<PendingLogin> = Some(token)
        .filter(|token| token.len() <= LOGIN_TOKEN_BYTES_MAX)
        .and_then(|token| URL_SAFE_NO_PAD.decode(token).ok())
        .and_then(|sealed| app.part::<LoginKey>().0.open(SEALED_FOR, &sealed))
        .and_then(|plain| serde_json::from_slice(&plain).ok());
    let pending = pending.ok_or_else(login_failed)?;
    // The provider may have been removed from the configuration since.
    let provider = app.authn.oidc.by_name(&pending.provider).ok_or_else(login_failed)?;
    match provider.complete_login(&pending, &completion.answer).await {
        Ok(claims) => Ok((Arc::clone(provider), claims)),
        Err(ProviderError::Refused(why)) => Err(reject(&pending.provider, why)),
        Err(ProviderError::Unavailable(error)) => Err(error),
    }
}

/// Completes a login: finds, links or creates the account, assigns the role from the issuer, and starts a session.
pub async fn complete_login(
    anonymous: AnonymousCtx,
    completion: &LoginCompletion,
) -> Result<Session, Error> {
    let app = Arc::clone(anonymous.app());
    let (provider, claims) = authenticate(&app, completion).await?;
    let mut conn = app.db.read().await?;
    let seen = look_up(&mut conn, &app, &provider, &claims).await?;
    drop(conn);
    let name = &provider.config.name;
    let mapping = RoleMapping::from_claims(&provider.config, &claims);
    if let LoginDecision::Refuse(why) = account::decide(&seen, mapping) {
        return Err(reject(name, why));
    }
    // Decided before the audit entry is stored, so that a rejected login stores nothing, and again below under the
    // lock.
    let principal = seen.user().map(PrincipalId::User);
    let role = principal.map_or(Role::None, |principal| app.snapshot.global_role(principal));
    let ctx = anonymous.identify(seen.address().into(), principal, role).await?;
    ctx.add_audit_detail("provider", name.as_str());
    let settled = match decide_and_apply(&ctx, &provider, &claims, mapping).await {
        // The last active admin stays admin, even if the issuer assigns another role.
        Err(Error::Refused { reason: Reason::LastAdmin, .. }) => {
            warn!(provider = name, "an issuer would demote the last active admin, who stays");
            decide_and_apply(&ctx, &provider, &claims, RoleMapping::NotConfigured).await
        }
        // A concurrent login has created an account with the same address.
        Err(Error::AlreadyExists { .. }) => {
            Err(reject(name, "another account has its e-mail address or identity"))
        }
        Err(Error::Refused { reason: Reason::LimitReached, .. }) => {
            Err(reject(name, "there are too many users"))
        }
        settled => settled,
    }?;
    let session = sessions::begin(&ctx, &settled).await?;
    ctx.add_audit_detail("role", session.role.as_str());
    Ok(session)
}

async fn look_up(
    conn: &mut Conn,
    app: &App,
    provider: &Provider,
    claims: &Claims,
) -> Result<IdentityLookup, Error> {
    let config = &provider.config;
    let (issuer, subject) = (&config.issuer, claims.subject());
    let address = claims.verified_email(config).and_then(|text| {
        Email::parse("email", text).map_err(|_| "its address is not an e-mail address")
    });
    // The address first: an account that is linked between both queries is then found by its identity, and is not
    // mistaken for another user's account with the same address.
    let of_address = match &address {
        Ok(address) => store::by_email(conn, address.as_str()).await?,
        Err(_) => None,
    };
    let linked = store::by_identity(conn, issuer, &config.name, subject).await?;
    let domain = address.as_ref().ok().and_then(|address| address.as_str().rsplit('@').next());
    let speaks_for = |provider: &Provider| {
        domain.is_some_and(|domain| provider.config.email_domains.iter().any(|d| d == domain))
    };
    let mut others = app.authn.oidc.all().iter().filter(|other| other.config.name != config.name);
    Ok(IdentityLookup {
        by_address: of_address.filter(|_| linked.is_none()),
        linked,
        may_link: speaks_for(provider),
        claimed_by_other: others.any(|other| speaks_for(other)),
        address,
    })
}

/// Repeats the decision under the lock and applies it, in one transaction.
async fn decide_and_apply(
    ctx: &Ctx,
    provider: &Provider,
    claims: &Claims,
    mapping: RoleMapping,
) -> Result<NewSession, Error> {
    let now = ctx.now();
    let name = &provider.config.name;
    let identity = store::OidcIdentity {
        provider: name,
        issuer: &provider.config.issuer,
        subject: claims.subject(),
    };
    ctx.transaction(async |tx| {
        let locked = admins::lock(tx).await?;
        let seen = look_up(tx, ctx.app(), provider, claims).await?;
        let (user, password_version, moved) = match account::decide(&seen, mapping) {
            LoginDecision::Refuse(why) => return Err(reject(name, why)),
            LoginDecision::Create { address, role } => {
                let (user, version) = store::insert(tx, &address, role, &identity, now).await?;
                // Lower limit than for invitations, so that self-created accounts leave room for invited users.
                users::check_count(tx, USERS_TO_REGISTER_MAX).await?;
                ctx.add_audit_detail("created", true);
                let payload = json!({ "user": address, "role": role.as_str(), "provider": name });
                tx.emit(ctx.new_event(event_types::USER_CREATED, payload)).await?;
                (user, version, true)
            }
            LoginDecision::LogIn { user, password_version, link, role } => {
                if link {
                    ctx.add_audit_detail("linked", true);
                    link_account(ctx, tx, user, &identity, &seen.address()).await?;
                }
                // For accounts that were linked before the issuer was stored.
                let named = store::update_issuer(tx, user, &identity).await?;
                set_role(ctx, tx, user, role, &seen.address()).await?;
                (user, password_version, link || named || role.is_some())
            }
        };
        admins::require_remaining(tx, locked).await?;
        if moved {
            tx.log_access_change(AccessSubject::User(user)).await?;
        }
        Ok(NewSession {
            user,
            password_version,
            kind: SessionKind::Oidc,
            gateway: None,
            authenticated_at: now,
        })
    })
    .await
}

/// Links an account without a link, and deletes its invitation, since the user has logged in.
async fn link_account(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    user: UserId,
    identity: &store::OidcIdentity<'_>,
    address: &str,
) -> Result<(), Error> {
    if !store::link(tx, user, identity).await? {
        return Err(Error::already_exists(ResourceKind::Identity, identity.provider));
    }
    let payload = json!({ "user": address, "provider": identity.provider });
    tx.emit(ctx.new_event(event_types::USER_LINKED, payload)).await
}

async fn set_role(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    user: UserId,
    role: Option<Role>,
    address: &str,
) -> Result<(), Error> {
    let Some(role) = role else { return Ok(()) };
    store::set_role(tx, user, role).await?;
    let payload = json!({ "user": address, "role": role.as_str(), "is_active": true });
    tx.emit(ctx.new_event(event_types::USER_UPDATED, payload)).await
}
