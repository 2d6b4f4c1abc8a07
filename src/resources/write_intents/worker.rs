//! Deletes writes whose deadline has passed. They are over before.

use std::time::Duration;

use super::domain::delete_expired;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Writes that one tick deletes.
const EXPIRED_MAX: usize = 200;

/// Worker that deletes writes without a round whose deadline has passed.
pub const EXPIRY: Worker = Worker {
    name: "write-intents",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    delete_batch(ctx, lease, EXPIRED_MAX, async |conn, limit| {
        let now = ctx.db().now(conn).await?;
        delete_expired(conn, now, limit).await
    })
    .await
}
