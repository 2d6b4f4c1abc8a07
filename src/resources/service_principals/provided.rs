//! Service principals that the configuration makes: one for each rule that gives a role to tokens of an OIDC issuer.
//!
//! Their names begin as nobody else's may, and their key is one that nobody has seen.

use serde_json::json;

use super::domain::{add, new_key};
use super::store;
use crate::ctx::Ctx;
use crate::error::{Error, Kind};
use crate::feed;
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::role::Role;

/// What is shown of a key that nobody has.
const NO_KEY: &str = "none";

/// Makes the service principal of a rule, or gives it the rule's role.
pub async fn provide(ctx: &Ctx, name: &str, role: Role) -> Result<(), Error> {
    match provided(ctx, name, role).await {
        // Another call has just made it.
        Err(Error::Exists { .. }) => provided(ctx, name, role).await,
        provided => provided,
    }
}

async fn provided(ctx: &Ctx, name: &str, role: Role) -> Result<(), Error> {
    let now = ctx.now();
    let hash = new_key()?.hash;
    let new = store::New {
        name,
        key_hash: &hash,
        key_prefix: NO_KEY,
        role,
        created_by: None,
        created_at: now,
        expires_at: None,
    };
    let moved = ctx
        .transaction(async |tx| {
            let (id, what) = match store::by_name(tx, name).await? {
                None => (add(tx, &new).await?.id, event_types::SERVICE_PRINCIPAL_CREATED),
                Some(found) if found.role != role => {
                    let (id, version) = (found.id, found.version);
                    if !store::update(tx, id, version, role, found.expires_at).await? {
                        return Err(Error::conflict(Kind::ServicePrincipal, name));
                    }
                    (id, event_types::SERVICE_PRINCIPAL_UPDATED)
                }
                Some(_) => return Ok(false),
            };
            let payload = json!({ "service_principal": name, "role": role.as_str() });
            tx.emit(ctx.event(what, payload)).await?;
            tx.access_changed(Subject::ServicePrincipal(id)).await?;
            Ok(true)
        })
        .await?;
    // Another call may have made it and not told this replica yet.
    if !moved && ctx.app().snapshot.live_service_principal(name).is_none() {
        feed::refresh(ctx.app()).await?;
    }
    Ok(())
}
