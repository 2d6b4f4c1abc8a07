//! Forgets operations that ended long ago.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Operations that are forgotten in one transaction.
const FORGET_MAX: usize = 500;
const DAY: Duration = Duration::from_hours(24);

/// Forgets operations that ended longer ago than they are kept.
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
