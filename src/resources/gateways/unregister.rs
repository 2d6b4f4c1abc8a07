//! Taking a gateway out of the registry, with what hangs on it.
//!
//! Invariants
//! - everything goes in one transaction, and the answer says what went;
//! - while work on the gateway is going on, anywhere in the fleet of replicas, it takes a word more.

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

/// What goes with a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gone {
    /// Roles on it.
    pub roles: i64,
    /// Sandboxes that something was kept about.
    pub sandboxes: i64,
    /// SSH sessions that were opened here.
    pub ssh_sessions: i64,
    /// Boot hooks.
    pub boot_hooks: i64,
    /// SBOMs.
    pub sboms: i64,
    /// Operations that were going on.
    pub operations: i64,
    /// Streams through this replica that were going on.
    pub streams: i64,
}

/// Takes a gateway out. What is going on there is ended by `force` alone.
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
            // Held from here on: what a probe finds meanwhile comes before, or finds nothing to be stored at.
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

/// A stream through another replica is seen by its open record: a conversation has one from its beginning to its end.
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
        "gateway `{name}` is in use: {operations} operations, {streams} streams and {calls} recorded calls are going \
         on; say `force` to end them"
    );
    Err(Error::refused(Reason::GatewayInUse, why))
}
