//! Deletes old bypass events and refused connections, and those of a gateway with too many.

use std::time::Duration;

use super::domain::{ANNOUNCE_EVERY, DELETED_AT_ONCE, STORED_FOR, STORED_OF_GATEWAY_MAX};
use super::{refused, store};
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Worker that deletes bypass events that were read more than 30 days ago, refused connections after 7 days, and the
/// first ones of a gateway that has more than 100,000.
pub const RETENTION: Worker = Worker {
    name: "bypass-event-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete(ctx, lease)),
};

async fn delete(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let old = delete_old(ctx, held).await?;
    if old.more {
        return Ok(old);
    }
    let excess = delete_excess(ctx, held).await?;
    Ok(TickResult { done: old.done + excess.done, more: excess.more })
}

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    delete_batch(ctx, held, DELETED_AT_ONCE, async |conn, limit| {
        let now = ctx.db().now(conn).await?;
        store::delete_old_notices(conn, now.minus(STORED_FOR + ANNOUNCE_EVERY), limit).await?;
        let connections = refused::delete_old(conn, now.minus(refused::STORED_FOR), limit).await?;
        let events = store::delete_old(conn, now.minus(STORED_FOR), limit).await?;
        Ok(connections.max(events))
    })
    .await
}

/// Deletes the first lines of the gateway with the most, if there are too many.
async fn delete_excess(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    // They are counted outside of the transaction, so that no writer waits for it.
    let (events, connections) = {
        let mut conn = ctx.db().read().await?;
        (excess(store::largest(&mut conn).await?), excess(refused::largest(&mut conn).await?))
    };
    if events.is_none() && connections.is_none() {
        return Ok(TickResult::IDLE);
    }
    delete_batch(ctx, held, DELETED_AT_ONCE, async |conn, limit| {
        let mut deleted = 0;
        if let Some((gateway, count)) = events {
            deleted = store::delete_oldest(conn, gateway, count.min(limit)).await?;
        }
        if let Some((gateway, count)) = connections {
            deleted = deleted.max(refused::delete_oldest(conn, gateway, count.min(limit)).await?);
        }
        Ok(deleted)
    })
    .await
}

/// Returns how many lines a gateway has too many.
fn excess(largest: Option<(GatewayId, i64)>) -> Option<(GatewayId, i64)> {
    let max = i64::try_from(STORED_OF_GATEWAY_MAX).unwrap_or(i64::MAX);
    let (gateway, count) = largest?;
    (count > max).then(|| (gateway, count - max))
}
