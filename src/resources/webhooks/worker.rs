//! Background jobs of webhooks: queues events, disables receivers that are too far behind, deletes what has expired.

use std::time::Duration;

use super::deliveries::store as deliveries;
use super::delivery::schedule::PENDING_MAX;
use super::disabling::{self, Condition};
use super::{fanout, store};
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Rows deleted per transaction.
const DELETE_MAX: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Worker that queues events as messages. The process that numbers events wakes it.
pub const FANOUT: Worker = Worker {
    name: "webhook-fanout",
    interval: |_| Duration::from_millis(250),
    lease: true,
    wake: Some(|app| app.feed.queuer_wakeup()),
    tick: |ctx, lease| Box::pin(fanout::queue_events(ctx, lease)),
};

/// Worker that disables webhooks with too many pending messages, and deletes expired secrets.
pub const BACKLOG: Worker = Worker {
    name: "webhook-backlog",
    interval: |_| Duration::from_secs(30),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(check_backlog(ctx, lease)),
};

/// Worker that deletes finished messages.
pub const RETENTION: Worker = Worker {
    name: "webhook-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_finished(ctx, lease)),
};

async fn check_backlog(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let mut overfull = Vec::new();
    {
        let mut conn = ctx.db().read().await?;
        // Those that were kept while it was inactive do not count: otherwise it could not be switched on again.
        for (webhook, kept) in store::active(&mut conn).await? {
            if deliveries::has_pending(&mut conn, webhook, kept, PENDING_MAX).await? {
                overfull.push(webhook);
            }
        }
    }
    let Some(lease) = held else { return Ok(TickResult::IDLE) };
    let reason = format!("{PENDING_MAX} messages are pending");
    for webhook in &overfull {
        disabling::disable(ctx, lease, (*webhook, Condition::Active), &reason).await?;
    }
    let forgotten = ctx
        .db()
        .transaction(async |conn| {
            leases::check_held(conn, lease).await?;
            let now = ctx.db().now(conn).await?;
            store::forget_expired_secrets(conn, now).await
        })
        .await?;
    Ok(TickResult { done: overfull.len() + forgotten, more: false })
}

async fn delete_finished(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let days = ctx.app().config.webhooks.retention_days;
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        let cutoff = ctx.db().now(conn).await?.minus(DAY * days);
        deliveries::delete_finished(conn, cutoff, limit).await
    })
    .await
}
