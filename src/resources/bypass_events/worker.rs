//! Deletes old bypass events and refused connections.

use std::time::Duration;

use super::domain::{ANNOUNCE_EVERY, STORED_FOR};
use super::{refused, store};
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Rows deleted per transaction.
const DELETE_MAX: usize = 1_000;

/// Worker that deletes bypass events that were read more than 30 days ago, and refused connections after 7 days.
pub const RETENTION: Worker = Worker {
    name: "bypass-event-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        let now = ctx.db().now(conn).await?;
        store::delete_old_notices(conn, now.minus(STORED_FOR + ANNOUNCE_EVERY), limit).await?;
        let connections = refused::delete_old(conn, now.minus(refused::STORED_FOR), limit).await?;
        let events = store::delete_old(conn, now.minus(STORED_FOR), limit).await?;
        Ok(connections.max(events))
    })
    .await
}
