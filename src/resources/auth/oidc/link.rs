//! Linking the caller's own account to an identity, and removing the link, while logged in (T11).

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Ended, link_to, store, vouched};
use crate::access::principal::Caller;
use crate::ctx::Ctx;
use crate::error::{Error, Kind, Reason};
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::resources::sessions;

/// Maximum age of the login of the session: a session that was left open must not be usable to link an attacker's
/// identity.
pub const SHOWN_WITHIN: Duration = Duration::from_mins(10);

/// Links the caller's own account to the identity authenticated by the issuer, and returns the name of the provider.
/// Does nothing if they are already linked.
pub async fn link(ctx: &Ctx, ended: &Ended) -> Result<String, Error> {
    let user = ctx.user()?;
    let shown_at = ctx.caller().and_then(Caller::authenticated_at);
    if shown_at.is_none_or(|at| at.plus(SHOWN_WITHIN) < ctx.now()) {
        let minutes = SHOWN_WITHIN.as_secs() / 60;
        let why = format!(
            "log in again first: the login of the session must be at most {minutes} minutes old"
        );
        return Err(Error::refused(Reason::LoginStale, why));
    }
    let app = Arc::clone(ctx.app());
    let (provider, claims) = vouched(&app, ended).await?;
    let (name, issuer) = (&provider.config.name, &provider.config.issuer);
    ctx.detail("provider", name.as_str());
    let identity = store::Identity { provider: name, issuer, subject: claims.subject() };
    let taken = || Error::exists(Kind::Identity, name);
    ctx.transaction(async |tx| {
        let owner = store::by_identity(tx, issuer, name, claims.subject()).await?;
        if let Some(owner) = owner {
            return if owner.id == user { Ok(()) } else { Err(taken()) };
        }
        let own = store::by_id(tx, user).await?;
        let own = own.ok_or_else(|| Error::missing(Kind::User, user))?;
        if let Some(at) = own.linked_at {
            return Err(Error::exists(Kind::Identity, at));
        }
        link_to(ctx, tx, user, &identity, &own.email).await?;
        tx.access_changed(Subject::User(user)).await
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
        let own = own.ok_or_else(|| Error::missing(Kind::User, user))?;
        let missing = || Error::missing(Kind::Identity, &own.email);
        let provider = own.linked_at.ok_or_else(missing)?;
        if !store::unlink(tx, user).await? {
            let why = "the account has no password, so that no login would be left";
            return Err(Error::refused(Reason::NoOtherLogin, why));
        }
        sessions::end_all(tx, user, now).await?;
        ctx.detail("provider", provider.as_str());
        let payload = json!({ "user": own.email, "provider": provider });
        tx.emit(ctx.event(event_types::USER_UNLINKED, payload)).await?;
        tx.access_changed(Subject::User(user)).await
    })
    .await?;
    Ok(())
}
