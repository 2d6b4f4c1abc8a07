//! Deletes old access changes. Every replica has read them by then; a replica that has not reloads the whole snapshot.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::feed::store;
use crate::workers::{Worked, Worker};

/// Retention of a change: replicas poll several times per second.
const KEPT: Duration = Duration::from_hours(1);
/// Changes deleted per transaction.
const FORGET_MAX: usize = 1_000;

/// Worker that deletes changes older than the retention.
pub const RETENTION: Worker = Worker {
    name: "access-change-retention",
    every: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(forget(ctx, lease)),
};

async fn forget(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let before = ctx.now().minus(KEPT);
    let limit = i64::try_from(FORGET_MAX).unwrap_or(i64::MAX);
    let done = ctx
        .db()
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            store::forget(conn, before, limit).await
        })
        .await?;
    Ok(Worked::batch(done, FORGET_MAX))
}
