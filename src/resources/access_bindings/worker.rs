//! Deletes old access changes. Every replica has read them by then; a replica that has not reloads the whole snapshot.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::feed::store;
use crate::workers::{TickResult, Worker, delete_batch};

/// Retention of a change: replicas poll several times per second.
const KEEP_FOR: Duration = Duration::from_hours(1);
/// Changes deleted per transaction.
const DELETE_MAX: usize = 1_000;

/// Worker that deletes changes older than the retention.
pub const RETENTION: Worker = Worker {
    name: "access-change-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let before = ctx.now().minus(KEEP_FOR);
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        store::delete_before(conn, before, limit).await
    })
    .await
}
