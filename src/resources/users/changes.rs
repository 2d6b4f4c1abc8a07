//! What an admin does to users and their sessions.
//!
//! Invariants
//! - what is taken away is gone before it is answered, and live streams within a second.

use serde_json::json;

use super::domain::{self, Named};
use crate::ctx::Ctx;
use crate::db::page::PageSize;
use crate::db::types::SessionId;
use crate::error::{Error, Kind};
use crate::resources::access_bindings::domain::changed;
use crate::resources::access_bindings::feed::{Subject, store::log_change};
use crate::resources::auth::sessions::{self, Shown};
use crate::resources::events::domain::{self as events, NewEvent};

/// A page of a user's live sessions, the newest first.
pub async fn list_sessions(
    ctx: &Ctx,
    named: &Named,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Shown>, String), Error> {
    let user = domain::get(ctx, named).await?;
    sessions::list(ctx, user.id, size, token).await
}

/// Ends one session of a user, or every one; answers how many.
pub async fn revoke_sessions(
    ctx: &Ctx,
    named: &Named,
    only: Option<SessionId>,
) -> Result<usize, Error> {
    let now = ctx.now();
    let ended = ctx
        .db()
        .transaction(async |conn| {
            let user = domain::find(conn, named).await?;
            ctx.not_above(user.effective_role)?;
            let ended = match only {
                None => sessions::end_all(conn, user.id, now).await?,
                Some(id) if sessions::end_one(conn, user.id, id, now).await? => 1,
                Some(id) => return Err(Error::missing(Kind::Session, id)),
            };
            let payload = json!({ "user": user.email, "sessions": ended });
            events::enqueue(conn, NewEvent::of(ctx, "user.sessions_revoked", payload)).await?;
            log_change(conn, Subject::User(user.id), now).await?;
            Ok(ended)
        })
        .await?;
    ctx.detail("sessions", ended);
    changed(ctx).await?;
    Ok(ended)
}
