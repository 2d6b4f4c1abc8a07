//! Closes what dead replicas have left open, and forgets old entries.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::replicas::{self, DEAD_AFTER};
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Entries that are closed in one transaction.
const CLOSE_MAX: usize = 500;
/// Entries that are forgotten in one transaction.
const FORGET_MAX: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Closes entries as `unknown` whose replica is dead: nobody else can tell any more how they ended.
pub const ORPHANS: Worker = Worker {
    name: "audit-orphans",
    every: |_| Duration::from_secs(15),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(close_orphans(ctx, lease)),
};

/// Forgets entries that are older than they are kept.
pub const RETENTION: Worker = Worker {
    name: "audit-retention",
    every: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(forget(ctx, lease)),
};

async fn close_orphans(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let db = ctx.db();
    let done = db
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            let now = db.now(conn).await?;
            let alive_since = now.minus(DEAD_AFTER);
            let limit = i64::try_from(CLOSE_MAX).unwrap_or(i64::MAX);
            let done = store::close_orphans(conn, alive_since, ctx.now(), limit).await?;
            if done == 0 {
                replicas::forget_dead(conn, now).await?;
            }
            Ok(done)
        })
        .await?;
    if done > 0 {
        tracing::warn!(done, "calls of a replica that is gone were closed as `unknown`");
    }
    Ok(Worked::batch(done, CLOSE_MAX))
}

async fn forget(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let days = ctx.app().config.audit.retention_days;
    let cutoff = ctx.now().minus(DAY * days);
    let done = ctx
        .db()
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            let limit = i64::try_from(FORGET_MAX).unwrap_or(i64::MAX);
            store::delete_old(conn, cutoff, limit).await
        })
        .await?;
    Ok(Worked::batch(done, FORGET_MAX))
}
