//! Taking a gateway out of the registry, with what hangs on it.

use std::sync::Arc;

use serde_json::json;

use super::store;
use crate::ctx::Ctx;
use crate::db::types::GatewayId;
use crate::error::{Error, Kind};
use crate::etag;
use crate::resources::access_bindings::domain::changed;
use crate::resources::access_bindings::feed::{Subject, store::log_change};
use crate::resources::access_bindings::store as bindings;
use crate::resources::events::domain::{self as events, NewEvent};
use crate::resources::{boot_hooks::domain as boot_hooks, sboms::domain as sboms};

/// Takes a gateway out, with the roles on it; answers how many those were.
pub async fn unregister(ctx: &Ctx, name: &str, given_etag: &str) -> Result<u32, Error> {
    let now = ctx.now();
    let roles = ctx
        .db()
        .transaction(async |conn| {
            let missing = || Error::missing(Kind::Gateway, name);
            let row = store::by_name(conn, name).await?.ok_or_else(missing)?;
            let id = GatewayId(row.id);
            etag::check(given_etag, row.version, Kind::Gateway, name)?;
            let holders = bindings::holders_on(conn, id).await?;
            ctx.detail("boot_hooks_removed", boot_hooks::count_on(conn, name).await?);
            ctx.detail("sboms_removed", sboms::count_on(conn, name).await?);
            if !store::delete(conn, id, row.version).await? {
                return Err(Error::conflict(Kind::Gateway, name));
            }
            let payload = json!({ "gateway": name });
            let event = NewEvent::of(ctx, "gateway.unregistered", payload);
            events::enqueue(conn, event.on((id, Arc::from(name)))).await?;
            for holder in &holders {
                log_change(conn, holder.changed(), now).await?;
            }
            log_change(conn, Subject::Gateway(id), now).await?;
            Ok(u32::try_from(holders.len()).unwrap_or(u32::MAX))
        })
        .await?;
    ctx.detail("gateway_roles_removed", roles);
    changed(ctx).await?;
    Ok(roles)
}
