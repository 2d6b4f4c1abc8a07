//! Forgets old changes of access. Every replica has read them long ago; one that has not reads everything anew.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::feed::store;
use crate::workers::{Worked, Worker};

/// How long a change is kept: replicas ask several times a second.
const KEPT: Duration = Duration::from_hours(1);
/// Changes that are forgotten in one transaction.
const FORGET_MAX: usize = 1_000;

/// Forgets changes that are older than they are kept.
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
