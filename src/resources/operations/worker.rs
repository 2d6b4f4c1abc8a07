//! Deletes operations that ended before the retention period.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Most operations that one transaction deletes.
const FORGET_MAX: usize = 500;
const DAY: Duration = Duration::from_hours(24);

/// Worker that deletes operations whose retention period is over.
pub const RETENTION: Worker = Worker {
    name: "operation-retention",
    every: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(forget(ctx, lease)),
};

async fn forget(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let cutoff = ctx.now().minus(DAY * ctx.app().config.operations.retention_days);
    let done = ctx
        .db()
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            store::delete_old(conn, cutoff, i64::try_from(FORGET_MAX).unwrap_or(i64::MAX)).await
        })
        .await?;
    Ok(Worked::batch(done, FORGET_MAX))
}
