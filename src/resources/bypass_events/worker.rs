//! Deletes old bypass events, notices and refused connections, and those of a gateway with too many.

use std::time::Duration;

use parking_lot::Mutex;

use super::domain::{DELETED_AT_ONCE, STORED_OF_GATEWAY_MAX, TABLES};
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::rows_by_gateway::RowsByGateway;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Worker that deletes bypass events that were read more than 30 days ago, with their notices, refused connections
/// after 7 days, and the first rows of a gateway that has more than 100,000 in one of these tables.
pub const RETENTION: Worker = Worker {
    name: "bypass-event-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete(ctx, lease)),
};

/// Gateways whose rows one tick counts.
const GATEWAYS_AT_ONCE: usize = 32;

/// Where the next tick of this replica continues to look for gateways with too many rows.
#[derive(Debug, Default)]
pub struct ExcessSearch(Mutex<Position>);

/// A table, by its index, and the id of the gateway that was counted last; 0 for none.
#[derive(Debug, Default, Clone, Copy)]
struct Position {
    table: usize,
    after: i64,
}

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
        let mut deleted = 0;
        for (rows, stored_for) in TABLES {
            deleted = deleted.max((rows.delete_old)(conn, now.minus(stored_for), limit).await?);
        }
        Ok(deleted)
    })
    .await
}

/// Deletes the first rows of gateways that have too many. A tick counts a limited number of gateways, and ends after a
/// full batch. The next one continues there.
async fn delete_excess(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let search = ctx.app().part::<ExcessSearch>();
    let mut at = *search.0.lock();
    let mut done = 0;
    for _ in 0..GATEWAYS_AT_ONCE {
        let Some((rows, _)) = TABLES.get(at.table).copied() else {
            *search.0.lock() = Position::default();
            return Ok(TickResult { done, more: false });
        };
        let Some((gateway, excess)) = next_gateway(ctx, &rows, at.after).await? else {
            at = Position { table: at.table + 1, after: 0 };
            continue;
        };
        if let Some(last) = excess {
            let batch = delete_batch(ctx, held, DELETED_AT_ONCE, async |conn, limit| {
                (rows.delete_up_to)(conn, gateway, last, limit).await
            })
            .await?;
            done += batch.done;
            if batch.more {
                break;
            }
        }
        at.after = gateway.get();
    }
    *search.0.lock() = at;
    Ok(TickResult { done, more: true })
}

/// Returns the next gateway with rows, and the id of the last row that it has too many. Returns `None` if no gateway
/// follows, or if all gateways together have too few rows for an excess.
async fn next_gateway(
    ctx: &Ctx,
    rows: &RowsByGateway,
    after: i64,
) -> Result<Option<(GatewayId, Option<i64>)>, Error> {
    let keep = i64::try_from(STORED_OF_GATEWAY_MAX).unwrap_or(i64::MAX);
    // They are counted outside of the transaction, so that no writer waits for it.
    let mut conn = ctx.db().read().await?;
    if after == 0 && !(rows.has_more_than)(&mut conn, keep).await? {
        return Ok(None);
    }
    let Some(gateway) = (rows.next_gateway)(&mut conn, after).await? else { return Ok(None) };
    let excess = (rows.newest_beyond)(&mut conn, gateway, keep).await?;
    Ok(Some((gateway, excess)))
}
