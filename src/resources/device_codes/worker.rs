//! Deletes expired codes, and wrong attempts that no longer count.

use std::time::Duration;

use super::decide::ATTEMPT_WINDOW;
use super::domain::KEEP_EXPIRED_FOR;
use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{TickResult, Worker};

/// Codes deleted per transaction.
const DELETE_MAX: usize = 1_000;

/// Worker that deletes expired codes.
pub const EXPIRY: Worker = Worker {
    name: "device-code-expiry",
    interval: |_| Duration::from_mins(1),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_expired(ctx, lease)),
};

async fn delete_expired(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(DELETE_MAX).unwrap_or(i64::MAX);
    let now = ctx.now();
    let done = ctx
        .db()
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            store::delete_old_attempts(conn, now.minus(ATTEMPT_WINDOW)).await?;
            store::delete_expired(conn, now.minus(KEEP_EXPIRED_FOR), limit).await
        })
        .await?;
    Ok(TickResult::batch(done, DELETE_MAX))
}
