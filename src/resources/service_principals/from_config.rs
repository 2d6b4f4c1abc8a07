//! Service principals created by the configuration: one for each rule that gives a role to tokens of an OIDC issuer.
//!
//! Their names have a reserved prefix, and their key is never disclosed.

use serde_json::json;

use super::domain::{add, new_key};
use super::store;
use crate::ctx::Ctx;
use crate::error::{Error, ResourceKind};
use crate::feed;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::role::Role;

/// Displayed prefix of a key that was never disclosed.
const NO_KEY: &str = "none";

/// Creates the service principal of a rule, or updates its role to that of the rule.
pub async fn ensure(ctx: &Ctx, name: &str, role: Role) -> Result<(), Error> {
    match ensure_once(ctx, name, role).await {
        // A concurrent call has just created it.
        Err(Error::AlreadyExists { .. }) => ensure_once(ctx, name, role).await,
        provided => provided,
    }
}

async fn ensure_once(ctx: &Ctx, name: &str, role: Role) -> Result<(), Error> {
    let now = ctx.now();
    let hash = new_key()?.hash;
    let new = store::NewServicePrincipal {
        name,
        key_hash: &hash,
        key_prefix: NO_KEY,
        role,
        created_by: None,
        maker: None,
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
                        return Err(Error::conflict(ResourceKind::ServicePrincipal, name));
                    }
                    (id, event_types::SERVICE_PRINCIPAL_UPDATED)
                }
                Some(_) => return Ok(false),
            };
            let payload = json!({ "service_principal": name, "role": role.as_str() });
            tx.emit(ctx.new_event(what, payload)).await?;
            tx.log_access_change(AccessSubject::ServicePrincipal(id)).await?;
            Ok(true)
        })
        .await?;
    // A concurrent call may have created it, and the snapshot of this replica may not have it yet.
    if !moved && ctx.app().snapshot.live_service_principal(name).is_none() {
        feed::refresh(ctx.app()).await?;
    }
    Ok(())
}
