//! Deletes expired codes, and wrong attempts that no longer count.

use std::time::Duration;

use super::domain::{KEPT, WINDOW};
use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Codes deleted per transaction.
const FORGET_MAX: usize = 1_000;

/// Worker that deletes expired codes.
pub const EXPIRY: Worker = Worker {
    name: "device-code-expiry",
    every: |_| Duration::from_mins(1),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(forget(ctx, lease)),
};

async fn forget(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let limit = i64::try_from(FORGET_MAX).unwrap_or(i64::MAX);
    let now = ctx.now();
    let done = ctx
        .db()
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            store::forget_tries(conn, now.minus(WINDOW)).await?;
            store::forget(conn, now.minus(KEPT), limit).await
        })
        .await?;
    Ok(Worked::batch(done, FORGET_MAX))
}
