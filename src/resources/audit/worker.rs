//! Closes entries that crashed replicas left open, and deletes old entries.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::replicas::{self, DEAD_AFTER};
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Entries closed per transaction.
const CLOSE_MAX: usize = 500;
/// Entries deleted per transaction.
const DELETE_MAX: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Worker that closes entries of crashed replicas as `unknown`, since their outcome cannot be determined any more.
pub const ORPHANS: Worker = Worker {
    name: "audit-orphans",
    interval: |_| Duration::from_secs(15),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(close_orphans(ctx, lease)),
};

/// Worker that deletes entries older than the retention.
pub const RETENTION: Worker = Worker {
    name: "audit-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn close_orphans(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let db = ctx.db();
    let done = db
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            let now = db.now(conn).await?;
            let alive_since = now.minus(DEAD_AFTER);
            let limit = i64::try_from(CLOSE_MAX).unwrap_or(i64::MAX);
            let done = store::close_orphans(conn, alive_since, ctx.now(), limit).await?;
            if done == 0 {
                replicas::delete_dead(conn, now).await?;
            }
            Ok(done)
        })
        .await?;
    if done > 0 {
        tracing::warn!(done, "open calls of a stopped replica were closed as `unknown`");
    }
    Ok(TickResult::batch(done, CLOSE_MAX))
}

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let days = ctx.app().config.audit.retention_days;
    let cutoff = ctx.now().minus(DAY * days);
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        store::delete_old(conn, cutoff, limit).await
    })
    .await
}
