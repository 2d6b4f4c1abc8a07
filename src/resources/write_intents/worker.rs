//! Deletes writes whose deadline has passed. They are over before.

use std::time::Duration;

use super::domain::delete_expired;
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{TickResult, Worker};

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
    let (db, limit) = (ctx.db(), i64::try_from(EXPIRED_MAX).unwrap_or(i64::MAX));
    let deleted = db
        .long_transaction(async |conn| {
            if let Some(lease) = lease {
                leases::check_held(conn, lease).await?;
            }
            let now = db.now(conn).await?;
            delete_expired(conn, now, limit).await
        })
        .await?;
    Ok(TickResult::batch(deleted, EXPIRED_MAX))
}
