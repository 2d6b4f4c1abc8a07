//! Removes a gateway from the registry, with all data that belongs to it.
//!
//! Invariants
//! - everything is deleted in one transaction, and the response has the counts;
//! - a gateway with running operations, open streams or open audit entries, on any replica, is removed only with
//!   `force`.

use std::sync::Arc;

use serde_json::json;

use super::store;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::{Error, Kind, Reason};
use crate::etag;
use crate::outbox::Subject;
use crate::outbox::event_types;
use crate::resources::access_bindings::store as bindings;
use crate::resources::audit::domain as audit;
use crate::resources::operations::of_gateway as operations;
use crate::resources::sandboxes::domain as sandboxes;
use crate::resources::{boot_hooks::domain as boot_hooks, sboms::domain as sboms};

/// Counts of what is removed with a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Roles on the gateway.
    pub roles: i64,
    /// Sandboxes with stored data.
    pub sandboxes: i64,
    /// SSH sessions opened through Shoreguard.
    pub ssh_sessions: i64,
    /// Boot hooks.
    pub boot_hooks: i64,
    /// SBOMs.
    pub sboms: i64,
    /// Running operations.
    pub operations: i64,
    /// Open streams through this replica.
    pub streams: i64,
}

/// Removes a gateway. Running operations and open streams are ended only with `force`.
pub async fn unregister(
    ctx: &Ctx,
    name: &str,
    given_etag: &str,
    force: bool,
) -> Result<Gone, Error> {
    let (gone, stopped) = ctx
        .transaction(async |tx| {
            let missing = || Error::missing(Kind::Gateway, name);
            let id = GatewayId(store::by_name(tx, name).await?.ok_or_else(missing)?.id);
            // Locks the row: a concurrent probe stores its result before this point or finds no row to update.
            let row = store::lock(tx, id).await?.ok_or_else(missing)?;
            etag::check(given_etag, row.version, Kind::Gateway, name)?;
            let gone = counted(ctx, tx, id, name).await?;
            if !force {
                refuse_in_use(tx, id, name, gone).await?;
            }
            let stopped = operations::cancel(ctx, tx, id).await?;
            let holders = bindings::holders_on(tx, id).await?;
            sboms::delete_on(tx, name).await?;
            if !store::delete(tx, id, row.version).await? {
                return Err(Error::conflict(Kind::Gateway, name));
            }
            let payload = json!({ "gateway": name, "forced": force });
            let event = ctx.event(event_types::GATEWAY_UNREGISTERED, payload);
            tx.emit(event.on(GatewayRef { id, name: Arc::from(name) })).await?;
            for holder in &holders {
                tx.access_changed(holder.changed()).await?;
            }
            tx.access_changed(Subject::Gateway(id)).await?;
            let roles = i64::try_from(holders.len()).unwrap_or(i64::MAX);
            Ok((Gone { roles, ..gone }, stopped))
        })
        .await?;
    ctx.detail("forced", force);
    for (what, count) in [
        ("gateway_roles_removed", gone.roles),
        ("sandbox_metadata_removed", gone.sandboxes),
        ("ssh_sessions_removed", gone.ssh_sessions),
        ("boot_hooks_removed", gone.boot_hooks),
        ("sboms_removed", gone.sboms),
        ("operations_cut", gone.operations),
        ("streams_ended", gone.streams),
    ] {
        ctx.detail(what, count);
    }
    operations::stop(ctx.app(), &stopped);
    Ok(gone)
}

async fn counted(ctx: &Ctx, conn: &mut Conn, id: GatewayId, name: &str) -> Result<Gone, Error> {
    let (sandboxes, ssh_sessions) = sandboxes::count_on(conn, name).await?;
    Ok(Gone {
        roles: 0,
        sandboxes,
        ssh_sessions,
        boot_hooks: boot_hooks::count_on(conn, name).await?,
        sboms: sboms::count_on(conn, name).await?,
        operations: operations::count_open(conn, id).await?,
        streams: i64::try_from(ctx.app().live.count_on(id)).unwrap_or(i64::MAX),
    })
}

/// Rejects the removal of a gateway that is in use. A stream through another replica is detected by its audit entry,
/// which is open for as long as the stream is.
async fn refuse_in_use(
    conn: &mut Conn,
    id: GatewayId,
    name: &str,
    gone: Gone,
) -> Result<(), Error> {
    let calls = audit::count_open_on(conn, id).await?;
    let (operations, streams) = (gone.operations, gone.streams);
    if operations == 0 && streams == 0 && calls == 0 {
        return Ok(());
    }
    let why = format!(
        "gateway `{name}` is in use: {operations} operations, {streams} streams and {calls} recorded calls in \
         progress; set `force` to end them"
    );
    Err(Error::refused(Reason::GatewayInUse, why))
}
