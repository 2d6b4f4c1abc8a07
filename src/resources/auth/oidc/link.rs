//! Linking the caller's own account to an identity, and removing the link, while logged in (T11).

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{LoginCompletion, authenticate, link_account, store};
use crate::access::principal::Caller;
use crate::ctx::Ctx;
use crate::error::{Error, Reason, ResourceKind};
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::sessions;

/// Maximum age of the login of the session: a session that was left open must not be usable to link an attacker's
/// identity.
pub const LOGIN_AGE_MAX: Duration = Duration::from_mins(10);

/// Links the caller's own account to the identity authenticated by the issuer, and returns the name of the provider.
/// Does nothing if they are already linked.
pub async fn link(ctx: &Ctx, completion: &LoginCompletion) -> Result<String, Error> {
    let user = ctx.user()?;
    let shown_at = ctx.caller().and_then(Caller::authenticated_at);
    if shown_at.is_none_or(|at| at.plus(LOGIN_AGE_MAX) < ctx.now()) {
        let minutes = LOGIN_AGE_MAX.as_secs() / 60;
        let why = format!(
            "log in again first: the login of the session must be at most {minutes} minutes old"
        );
        return Err(Error::refused(Reason::LoginStale, why));
    }
    let app = Arc::clone(ctx.app());
    let (provider, claims) = authenticate(&app, completion).await?;
    let (name, issuer) = (&provider.config.name, &provider.config.issuer);
    ctx.add_audit_detail("provider", name.as_str());
    let identity = store::OidcIdentity { provider: name, issuer, subject: claims.subject() };
    let taken = || Error::already_exists(ResourceKind::Identity, name);
    ctx.transaction(async |tx| {
        let owner = store::by_identity(tx, issuer, name, claims.subject()).await?;
        if let Some(owner) = owner {
            return if owner.id == user { Ok(()) } else { Err(taken()) };
        }
        let own = store::by_id(tx, user).await?;
        let own = own.ok_or_else(|| Error::not_found(ResourceKind::User, user))?;
        if let Some(at) = own.linked_provider {
            return Err(Error::already_exists(ResourceKind::Identity, at));
        }
        link_account(ctx, tx, user, &identity, &own.email).await?;
        tx.log_access_change(AccessSubject::User(user)).await
    })
    .await?;
    Ok(name.clone())
}

/// Removes the link of the caller's own account. Ends all sessions of the account and invalidates all tokens made from
/// them.
pub async fn unlink(ctx: &Ctx) -> Result<(), Error> {
    let (user, now) = (ctx.user()?, ctx.now());
    ctx.transaction(async |tx| {
        let own = store::by_id(tx, user).await?;
        let own = own.ok_or_else(|| Error::not_found(ResourceKind::User, user))?;
        let missing = || Error::not_found(ResourceKind::Identity, &own.email);
        let provider = own.linked_provider.ok_or_else(missing)?;
        if !store::unlink(tx, user).await? {
            let why = "the account has no password, so that no login would be left";
            return Err(Error::refused(Reason::NoOtherLogin, why));
        }
        sessions::end_all(tx, user, now).await?;
        ctx.add_audit_detail("provider", provider.as_str());
        let payload = json!({ "user": own.email, "provider": provider });
        tx.emit(ctx.new_event(event_types::USER_UNLINKED, payload)).await?;
        tx.log_access_change(AccessSubject::User(user)).await
    })
    .await?;
    Ok(())
}
