//! Deletes old bypass events.

use std::time::Duration;

use super::domain::{ANNOUNCE_EVERY, STORED_FOR};
use super::store;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{TickResult, Worker};

/// Rows deleted per transaction.
const DELETE_MAX: usize = 1_000;

/// Worker that deletes bypass events that were read more than 30 days ago.
pub const RETENTION: Worker = Worker {
    name: "bypass-event-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(DELETE_MAX).unwrap_or(i64::MAX);
    let done = ctx
        .db()
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            let now = ctx.db().now(conn).await?;
            store::delete_old_notices(conn, now.minus(STORED_FOR + ANNOUNCE_EVERY), limit).await?;
            store::delete_old(conn, now.minus(STORED_FOR), limit).await
        })
        .await?;
    Ok(TickResult::batch(done, DELETE_MAX))
}
