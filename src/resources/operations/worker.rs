//! Deletes operations that ended before the retention period.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Most operations that one transaction deletes.
const DELETE_MAX: usize = 500;
const DAY: Duration = Duration::from_hours(24);

/// Worker that deletes operations whose retention period is over.
pub const RETENTION: Worker = Worker {
    name: "operation-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let cutoff = ctx.now().minus(DAY * ctx.app().config.operations.retention_days);
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        store::delete_old(conn, cutoff, limit).await
    })
    .await
}
