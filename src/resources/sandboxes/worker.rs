//! Sandboxes that came or went without us are noticed, and what hung on the names of those that went is forgotten.
//!
//! Invariants
//! - only a gateway that has listed all its sandboxes says that one is gone, and it must have said so for a while: one that
//!   restarts with half its state takes nothing away;
//! - one that has the same name and another id is a new one, and inherits nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tracing::{debug, warn};

use super::former;
use super::store::{self, Meta};
use crate::app::App;
use crate::ctx::{Ctx, GatewayRef};
use crate::db::leases::{self, Lease};
use crate::db::types::SandboxName;
use crate::error::{Error, Kind};
use crate::labels::Selector;
use crate::openshell::Gateway;
use crate::openshell::sandbox::{Phase, Sandbox};
use crate::workers::{Worked, Worker};

/// Gateways that are asked at once.
const AT_ONCE: usize = 16;
/// How long a gateway may take to list its sandboxes.
const LIST_TIME: Duration = Duration::from_secs(30);
/// SSH sessions that are forgotten in one transaction.
const FORGET_MAX: usize = 1_000;

/// Looks at every gateway that answers.
pub const SWEEP: Worker = Worker {
    name: "sandbox-sweep",
    every: |config| config.sandboxes.sweep_interval(),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(sweep(ctx, lease)),
};

/// Forgets SSH sessions that have ended.
pub const SSH_RETENTION: Worker = Worker {
    name: "ssh-session-retention",
    every: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(forget_ssh(ctx)),
};

async fn forget_ssh(ctx: &Ctx) -> Result<Worked, Error> {
    let (now, limit) = (ctx.now(), i64::try_from(FORGET_MAX).unwrap_or(i64::MAX));
    let done = ctx.db().transaction(async |conn| store::forget_ssh(conn, now, limit).await).await?;
    Ok(Worked::batch(done, FORGET_MAX))
}

async fn sweep(ctx: &Ctx, lease: Option<&Lease>) -> Result<Worked, Error> {
    let gateways = ctx.app().fleet.targets.all();
    // Each is compared where it was looked at: nothing here waits for the database while others that hold a connection
    // are not driven on.
    let is_lost = AtomicBool::new(false);
    let looks = gateways.into_iter().map(|target| {
        let (on, is_lost) = (target.gateway(), &is_lost);
        async move {
            let gateway = Arc::clone(&on.name);
            if is_lost.load(Ordering::Relaxed) {
                return (gateway, Ok(0));
            }
            let swept = match look(ctx.app(), on).await {
                Ok(Some(found)) => compare_all(ctx, lease, found).await,
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
            // Whoever has lost the lease begins with none more; those that run are ended in order, with their records.
            Err(error @ Error::Conflict { kind: Kind::Lease, .. }) => {
                is_lost.store(true, Ordering::Relaxed);
                lost = Some(error);
            }
            // What one gateway says must not keep the others from being looked at (T20).
            Err(error) => {
                warn!(%gateway, error = &error as &dyn std::error::Error, "not swept");
            }
        }
    }
    lost.map_or(Ok(Worked { done, more: false }), Err)
}

/// What is kept of a gateway's sandboxes, and what it lists.
struct Found {
    on: GatewayRef,
    before: Vec<Meta>,
    live: BTreeMap<SandboxName, Sandbox>,
}

/// Looks at one gateway. One that does not answer is left as it was.
async fn look(app: &Arc<App>, on: GatewayRef) -> Result<Option<Found>, Error> {
    // What is kept is read first: what is made in between is then no surprise.
    let before = {
        let mut conn = app.db.read().await?;
        store::picked(&mut conn, &on.name, &Selector::default()).await?
    };
    match tokio::time::timeout(LIST_TIME, listed(app, &on)).await {
        Ok(Ok(live)) => Ok(Some(Found { on, before, live })),
        Err(_) => Ok(None),
        // Where not all were listed, none is known to be gone.
        Ok(Err(error)) => {
            debug!(gateway = %on.name, %error, "its sandboxes were not listed");
            Ok(None)
        }
    }
}

async fn listed(app: &Arc<App>, on: &GatewayRef) -> Result<BTreeMap<SandboxName, Sandbox>, Error> {
    let live = Gateway::reach(app, on.id).await?.list_sandboxes(None).await?;
    Ok(live.into_iter().map(|sandbox| (sandbox.place.clone(), sandbox)).collect())
}

/// Answers how many sandboxes are gone.
async fn compare_all(ctx: &Ctx, lease: Option<&Lease>, found: Found) -> Result<usize, Error> {
    let Found { on, before, mut live } = found;
    let ctx = &ctx.clone().about(on);
    let mut gone = 0;
    for meta in &before {
        gone += usize::from(compare(ctx, lease, meta, live.remove(&meta.place())).await?);
    }
    for sandbox in live.values().filter(|sandbox| sandbox.phase != Phase::Deleting) {
        note(ctx, lease, Noticed::New(sandbox)).await?;
    }
    Ok(gone)
}

/// Compares what is kept of a sandbox with what its gateway lists; answers whether it is gone.
async fn compare(
    ctx: &Ctx,
    lease: Option<&Lease>,
    meta: &Meta,
    live: Option<Sandbox>,
) -> Result<bool, Error> {
    match (live, meta.sandbox_id.as_deref(), meta.missing_since) {
        // Of one that was never seen nothing can be said.
        (None, None, _) => Ok(false),
        (None, Some(_), None) => {
            note(ctx, lease, Noticed::Missing(meta.id)).await?;
            Ok(false)
        }
        (None, Some(_), Some(since)) => {
            let grace = ctx.app().config.sandboxes.missing_grace();
            if ctx.now().since(since) < grace {
                Ok(false)
            } else {
                // What was written since is for one to come.
                former::forget(ctx, lease, meta, since).await
            }
        }
        (Some(live), Some(id), None) if live.id == id => Ok(false),
        (Some(live), Some(id), Some(_)) if live.id == id => {
            note(ctx, lease, Noticed::There(meta.id, &live)).await?;
            Ok(false)
        }
        (Some(live), Some(_), _) => {
            let written_by = former::last_seen(ctx, meta);
            let gone = former::forget(ctx, lease, meta, written_by).await?;
            note(ctx, lease, Noticed::New(&live)).await?;
            Ok(gone)
        }
        (Some(live), None, _) => {
            note(ctx, lease, Noticed::There(meta.id, &live)).await?;
            Ok(false)
        }
    }
}

/// What the sweep notes of a sandbox.
#[derive(Debug, Clone, Copy)]
enum Noticed<'a> {
    /// Its gateway does not list it.
    Missing(i64),
    /// Its gateway lists it.
    There(i64, &'a Sandbox),
    /// Its gateway lists it, and nothing was known of it.
    New(&'a Sandbox),
}

async fn note(ctx: &Ctx, lease: Option<&Lease>, noticed: Noticed<'_>) -> Result<(), Error> {
    let gateway = &ctx.on_gateway()?.name;
    let now = ctx.now();
    ctx.db()
        .transaction(async |conn| {
            if let Some(lease) = lease {
                leases::still_held(conn, lease).await?;
            }
            match noticed {
                Noticed::Missing(id) => store::missed(conn, id, now).await,
                Noticed::There(id, sandbox) => store::seen_as(conn, id, &sandbox.id).await,
                Noticed::New(sandbox) => {
                    let Sandbox { place, id, .. } = sandbox;
                    store::see(conn, gateway, place, id, now).await.map(|_| ())
                }
            }
        })
        .await
}
