//! Sweep that notices sandboxes created or deleted outside Shoreguard, and deletes what is stored under the names of
//! deleted sandboxes.
//!
//! Invariants
//! - a sandbox counts as deleted only if its gateway has returned complete lists without it for a grace period: a
//!   gateway that restarts with half of its state causes no deletion;
//! - a sandbox with the same name and another id is a new one, and inherits nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{debug, warn};

use super::leftovers;
use super::store::{self, SandboxMeta};
use crate::app::App;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::Conn;
use crate::db::leases::{self, Lease};
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::labels::Selector;
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::workers::{TickResult, Worker};

/// Gateways that are listed concurrently.
const AT_ONCE: usize = 16;
/// Timeout of listing the sandboxes of one gateway.
const LIST_TIME: Duration = Duration::from_secs(30);
/// SSH sessions that are deleted in one transaction.
const DELETE_MAX: usize = 1_000;

/// Compares the stored metadata with the sandboxes of every gateway that responds.
pub const SWEEP: Worker = Worker {
    name: "sandbox-sweep",
    interval: |config| config.sandboxes.sweep_interval(),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(sweep(ctx, lease)),
};

/// Deletes SSH sessions that have expired.
pub const SSH_RETENTION: Worker = Worker {
    name: "ssh-session-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(delete_expired_ssh(ctx)),
};

async fn delete_expired_ssh(ctx: &Ctx) -> Result<TickResult, Error> {
    let (now, limit) = (ctx.now(), i64::try_from(DELETE_MAX).unwrap_or(i64::MAX));
    let done = ctx
        .db()
        .long_transaction(async |conn| store::delete_expired_ssh(conn, now, limit).await)
        .await?;
    Ok(TickResult::batch(done, DELETE_MAX))
}

async fn sweep(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let gateways = ctx.app().fleet.targets.all();
    // Each gateway is compared within its own future. If the loop below waited for the database, the other futures
    // would not be polled while they hold connections.
    let is_lost = AtomicBool::new(false);
    let looks = gateways.into_iter().map(|target| {
        let (on, is_lost) = (target.gateway(), &is_lost);
        async move {
            let gateway = Arc::clone(&on.name);
            if is_lost.load(Ordering::Relaxed) {
                return (gateway, Ok(0));
            }
            let swept = match read_gateway(ctx.app(), on).await {
                Ok(Some(GatewayState { gateway, before, live })) => {
                    compare_all(&ctx.clone().with_gateway(gateway), lease, &before, &live).await
                }
                Ok(None) => Ok(0),
                Err(error) => Err(error),
            };
            (gateway, swept)
        }
    });
    let (mut done, mut lost) = (0, None);
    let mut looks = stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some((gateway, swept)) = looks.next().await {
        match swept {
            Ok(gone) => done += gone,
            // After the lease is lost, no further gateway is compared. Comparisons in progress end normally, with their
            // audit entries.
            Err(error @ Error::Conflict { kind: ResourceKind::Lease, .. }) => {
                is_lost.store(true, Ordering::Relaxed);
                lost = Some(error);
            }
            // An error of one gateway must not stop the sweep of the others (T20).
            Err(error) => {
                warn!(%gateway, error = &error as &dyn std::error::Error, "not swept");
            }
        }
    }
    lost.map_or(Ok(TickResult { done, more: false }), Err)
}

/// Stored metadata of a gateway's sandboxes, and the sandboxes that it lists.
struct GatewayState {
    gateway: GatewayRef,
    before: Vec<SandboxMeta>,
    live: Vec<Sandbox>,
}

/// Reads the metadata and the sandboxes of one gateway. Returns `None` if the gateway did not return a complete list.
async fn read_gateway(app: &Arc<App>, on: GatewayRef) -> Result<Option<GatewayState>, Error> {
    // The metadata is read first, so that a sandbox that is created in between is not taken for a deleted one.
    let before = read_metas(&mut app.db.read().await?, &on).await?;
    match tokio::time::timeout(LIST_TIME, list_live(app, &on)).await {
        Ok(Ok(live)) => Ok(Some(GatewayState { gateway: on, before, live })),
        Err(_) => Ok(None),
        // An incomplete list proves no deletion.
        Ok(Err(error)) => {
            debug!(gateway = %on.name, %error, "its sandboxes were not listed");
            Ok(None)
        }
    }
}

async fn list_live(app: &Arc<App>, on: &GatewayRef) -> Result<Vec<Sandbox>, Error> {
    Gateway::connect(app, on).await?.list_sandboxes(None).await
}

/// Reads the metadata of the sandboxes of a gateway, for [`compare_all`].
///
/// # Errors
/// Those of the database.
pub async fn read_metas(conn: &mut Conn, on: &GatewayRef) -> Result<Vec<SandboxMeta>, Error> {
    store::list_matching(conn, &on.name, &Selector::default()).await
}

/// Compares the metadata of all sandboxes of the gateway of `ctx`, which was read before, with a complete list of
/// them. Returns how many were deleted.
///
/// # Errors
/// Those of the database.
pub async fn compare_all(
    ctx: &Ctx,
    lease: Option<&Lease>,
    before: &[SandboxMeta],
    live: &[Sandbox],
) -> Result<usize, Error> {
    let mut live: BTreeMap<&SandboxName, &Sandbox> =
        live.iter().map(|sandbox| (&sandbox.full_name, sandbox)).collect();
    let mut gone = 0;
    for meta in before {
        gone += usize::from(compare(ctx, lease, meta, live.remove(&meta.full_name())).await?);
    }
    for sandbox in live.into_values().filter(|sandbox| sandbox.phase != Phase::Deleting) {
        store_change(ctx, lease, SweepChange::New(sandbox)).await?;
    }
    Ok(gone)
}

/// Compares the metadata of a sandbox with what its gateway lists. Returns whether the sandbox was deleted.
async fn compare(
    ctx: &Ctx,
    lease: Option<&Lease>,
    meta: &SandboxMeta,
    live: Option<&Sandbox>,
) -> Result<bool, Error> {
    match (live, meta.sandbox_id.as_deref(), meta.missing_since) {
        // A sandbox that was never seen cannot be missing.
        (None, None, _) => Ok(false),
        (None, Some(_), None) => {
            store_change(ctx, lease, SweepChange::Missing(meta.id)).await?;
            Ok(false)
        }
        (None, Some(_), Some(since)) => {
            let grace = ctx.app().config.sandboxes.missing_grace();
            if ctx.now().since(since) < grace {
                Ok(false)
            } else {
                // Hooks and an SBOM written since then are for the next sandbox.
                leftovers::delete_leftovers(ctx, lease, meta, since).await
            }
        }
        (Some(live), Some(id), None) if live.id == id => Ok(false),
        (Some(live), Some(id), Some(_)) if live.id == id => {
            store_change(ctx, lease, SweepChange::Present(meta.id, live)).await?;
            Ok(false)
        }
        (Some(live), Some(_), _) => {
            let written_by = leftovers::last_seen(ctx, meta);
            let gone = leftovers::delete_leftovers(ctx, lease, meta, written_by).await?;
            store_change(ctx, lease, SweepChange::New(live)).await?;
            Ok(gone)
        }
        (Some(live), None, _) => {
            store_change(ctx, lease, SweepChange::Present(meta.id, live)).await?;
            Ok(false)
        }
    }
}

/// Change that the sweep stores.
#[derive(Debug, Clone, Copy)]
enum SweepChange<'a> {
    /// The gateway does not list this row's sandbox.
    Missing(i64),
    /// The gateway lists this row's sandbox.
    Present(i64, &'a Sandbox),
    /// The gateway lists a sandbox that has no row.
    New(&'a Sandbox),
}

async fn store_change(
    ctx: &Ctx,
    lease: Option<&Lease>,
    change: SweepChange<'_>,
) -> Result<(), Error> {
    let gateway = &ctx.required_gateway()?.name;
    let now = ctx.now();
    ctx.db()
        .transaction(async |conn| {
            if let Some(lease) = lease {
                leases::check_held(conn, lease).await?;
            }
            match change {
                SweepChange::Missing(id) => store::set_missing_since(conn, id, now).await,
                SweepChange::Present(id, sandbox) => {
                    store::set_sandbox_id(conn, id, &sandbox.id).await
                }
                SweepChange::New(sandbox) => {
                    let Sandbox { full_name: place, id, .. } = sandbox;
                    store::insert_seen(conn, gateway, place, id, now).await.map(|_| ())
                }
            }
        })
        .await
}
