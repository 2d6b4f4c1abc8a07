//! Deletes expired codes, and wrong attempts that no longer count.

use std::time::Duration;

use super::decide::ATTEMPT_WINDOW;
use super::domain::KEEP_EXPIRED_FOR;
use super::store;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

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
    let now = ctx.now();
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        store::delete_old_attempts(conn, now.minus(ATTEMPT_WINDOW)).await?;
        store::delete_expired(conn, now.minus(KEEP_EXPIRED_FOR), limit).await
    })
    .await
}
