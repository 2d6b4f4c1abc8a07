//! Removes a gateway from the registry, with all data that belongs to it.
//!
//! Invariants
//! - everything is deleted in one transaction, and the response has the counts; only log lines, if there are many, are
//!   deleted in batches before it, once it is certain that the gateway may be removed;
//! - a gateway with a pin or an approval workflow is not removed: a gateway that is registered again under its name
//!   would be without them (T01);
//! - a gateway with running operations, open streams or open audit entries, on any replica, is removed only with
//!   `force`.

use std::sync::Arc;

use serde_json::json;

use super::store;
use crate::access::action::Action;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::governance::WideKind;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::resources::access_bindings::store as bindings;
use crate::resources::approvals::domain as approvals;
use crate::resources::approvals::gate::{self, Asked, GateCall};
use crate::resources::audit::domain as audit;
use crate::resources::bypass_events::domain as bypass_events;
use crate::resources::operations::of_gateway as operations;
use crate::resources::sandboxes::domain as sandboxes;
use crate::resources::{boot_hooks::domain as boot_hooks, sboms::domain as sboms};

/// Counts of what is removed with a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayDependents {
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
) -> Result<GatewayDependents, Error> {
    delete_lines(ctx, name, given_etag, force).await?;
    let (dependents, stopped) = ctx
        .long_transaction(async |tx| {
            let id = check_gate(ctx, tx, name).await?;
            approvals::withdraw_all(ctx, tx, id, None, "the gateway was unregistered").await?;
            let (version, dependents) = lock(ctx, tx, (id, name), given_etag, force).await?;
            let stopped = operations::mark_cancelling(ctx, tx, id).await?;
            let holders = bindings::holders_on_gateway(tx, id).await?;
            sboms::delete_on_gateway(tx, name).await?;
            if !store::delete(tx, id, version).await? {
                return Err(Error::conflict(ResourceKind::Gateway, name));
            }
            let payload = json!({ "gateway": name, "forced": force });
            let event = ctx.new_event(event_types::GATEWAY_UNREGISTERED, payload);
            tx.emit(event.with_gateway(GatewayRef { id, name: Arc::from(name) })).await?;
            for holder in &holders {
                tx.log_access_change(holder.access_subject()).await?;
            }
            tx.log_access_change(AccessSubject::Gateway(id)).await?;
            let roles = i64::try_from(holders.len()).unwrap_or(i64::MAX);
            Ok((GatewayDependents { roles, ..dependents }, stopped))
        })
        .await?;
    ctx.add_audit_detail("forced", force);
    for (what, count) in [
        ("gateway_roles_removed", dependents.roles),
        ("sandbox_metadata_removed", dependents.sandboxes),
        ("ssh_sessions_removed", dependents.ssh_sessions),
        ("boot_hooks_removed", dependents.boot_hooks),
        ("sboms_removed", dependents.sboms),
        ("operations_canceled", dependents.operations),
        ("streams_ended", dependents.streams),
    ] {
        ctx.add_audit_detail(what, count);
    }
    operations::stop(ctx.app(), &stopped);
    Ok(dependents)
}

/// Deletes the log lines of a gateway if there are many, so that no writer waits for all of them. They are evidence: a
/// gateway that is not removed keeps them.
async fn delete_lines(ctx: &Ctx, name: &str, given_etag: &str, force: bool) -> Result<(), Error> {
    let id = {
        let mut conn = ctx.db().read().await?;
        // The transaction that follows reports a missing gateway.
        let Some(row) = store::by_name(&mut conn, name).await? else { return Ok(()) };
        let id = GatewayId(row.id);
        if !bypass_events::has_many(&mut conn, id).await? {
            return Ok(());
        }
        id
    };
    ctx.transaction(async |tx| {
        let id = check_gate(ctx, tx, name).await?;
        lock(ctx, tx, (id, name), given_etag, force).await?;
        Ok(())
    })
    .await?;
    while ctx.long_transaction(async |tx| bypass_events::delete_some_of(tx, id).await).await? {}
    Ok(())
}

/// Returns the id of a gateway that no pin or workflow keeps. Call it before the lock of the row, as in every
/// transaction that takes both.
async fn check_gate(ctx: &Ctx, tx: &mut Tx<'_>, name: &str) -> Result<GatewayId, Error> {
    let missing = || Error::not_found(ResourceKind::Gateway, name);
    let id = GatewayId(store::by_name(tx, name).await?.ok_or_else(missing)?.id);
    let call = GateCall::new(Asked::Wide(WideKind::Unregister, None), Action::GATEWAY_UNREGISTER);
    gate::check_in(ctx, tx, (id, name), &call).await?;
    Ok(id)
}

/// Locks the row of a gateway that may be removed: a concurrent probe stores its result before this point or finds no
/// row to update. Returns its version, and what is removed with it.
async fn lock(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    (id, name): (GatewayId, &str),
    given_etag: &str,
    force: bool,
) -> Result<(i64, GatewayDependents), Error> {
    let missing = || Error::not_found(ResourceKind::Gateway, name);
    let row = store::lock(tx, id).await?.ok_or_else(missing)?;
    etag::check(given_etag, row.version, ResourceKind::Gateway, name)?;
    let dependents = count_dependents(ctx, tx, id, name).await?;
    if !force {
        check_not_in_use(tx, id, name, dependents).await?;
    }
    Ok((row.version, dependents))
}

async fn count_dependents(
    ctx: &Ctx,
    conn: &mut Conn,
    id: GatewayId,
    name: &str,
) -> Result<GatewayDependents, Error> {
    let (sandboxes, ssh_sessions) = sandboxes::count_on_gateway(conn, name).await?;
    Ok(GatewayDependents {
        roles: 0,
        sandboxes,
        ssh_sessions,
        boot_hooks: boot_hooks::count_on_gateway(conn, name).await?,
        sboms: sboms::count_on_gateway(conn, name).await?,
        operations: operations::count_open(conn, id).await?,
        streams: i64::try_from(ctx.app().live.count_on(id)).unwrap_or(i64::MAX),
    })
}

/// Rejects the removal of a gateway that is in use. A stream through another replica is detected by its audit entry,
/// which is open for as long as the stream is.
async fn check_not_in_use(
    conn: &mut Conn,
    id: GatewayId,
    name: &str,
    dependents: GatewayDependents,
) -> Result<(), Error> {
    let calls = audit::count_open_on_gateway(conn, id).await?;
    let (operations, streams) = (dependents.operations, dependents.streams);
    if operations == 0 && streams == 0 && calls == 0 {
        return Ok(());
    }
    let why = format!(
        "gateway `{name}` is in use: {operations} operations, {streams} streams and {calls} recorded calls in \
         progress; set `force` to end them"
    );
    Err(Error::refused(Reason::GatewayInUse, why))
}
