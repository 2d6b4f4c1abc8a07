//! Service principals that the configuration makes: one for each rule that gives a role to tokens of an OIDC issuer.
//!
//! Their names begin as nobody else's may, and their key is one that nobody has seen.

use serde_json::json;

use super::domain::new_key;
use super::store;
use crate::access::roles::Role;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::resources::access_bindings::domain::changed;
use crate::resources::access_bindings::feed::{Subject, store::log_change};
use crate::resources::events::domain::{self as events, NewEvent};

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
        .db()
        .transaction(async |conn| {
            let (id, what) = match store::by_name(conn, name).await? {
                None => (store::insert(conn, &new).await?.id, "service_principal.created"),
                Some(found) if found.role != role => {
                    store::set_role(conn, found.id, role).await?;
                    (found.id, "service_principal.updated")
                }
                Some(_) => return Ok(false),
            };
            let payload = json!({ "service_principal": name, "role": role.as_str() });
            events::enqueue(conn, NewEvent::of(ctx, what, payload)).await?;
            log_change(conn, Subject::ServicePrincipal(id), now).await?;
            Ok(true)
        })
        .await?;
    // Another call may have made it and not told this replica yet.
    if moved || ctx.app().snapshot.service_principal(name).is_none() {
        changed(ctx).await?;
    }
    Ok(())
}
