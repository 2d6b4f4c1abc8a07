//! Assigns sequence numbers to events, and deletes old events.

use std::time::Duration;

use super::store::{self, Kept};
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Events sequenced per transaction.
const NUMBER_MAX: usize = 500;
/// Events deleted per transaction.
const FORGET_MAX: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Worker that assigns sequence numbers. It runs on all replicas: the row of the last sequence is the lock. The replica
/// that wrote an event is woken; the others check periodically for events of crashed replicas.
pub const SEQUENCER: Worker = Worker {
    name: "event-sequencer",
    every: |_| Duration::from_secs(1),
    lease: false,
    wake: Some(|app| app.feed.to_number()),
    tick: |ctx, _| Box::pin(number(ctx)),
};

/// Worker that deletes events older than the retention.
pub const RETENTION: Worker = Worker {
    name: "event-retention",
    every: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(forget(ctx, lease)),
};

async fn number(ctx: &Ctx) -> Result<Worked, Error> {
    if !store::any_unnumbered(&mut ctx.db().read().await?).await? {
        return Ok(Worked::NOTHING);
    }
    let (done, head) = ctx
        .db()
        .transaction(async |conn| {
            let Kept { head, oldest } = store::kept_locked(conn).await?;
            let done = store::number(conn, head, limit(NUMBER_MAX)).await?;
            let head = head + limit(done);
            store::set_kept(conn, Kept { head, oldest }).await?;
            Ok((done, head))
        })
        .await?;
    ctx.app().feed.moved_to(head);
    Ok(Worked::batch(done, NUMBER_MAX))
}

/// Deletes in the order of the sequence, so that the stored events have no gap.
async fn forget(ctx: &Ctx, held: Option<&Lease>) -> Result<Worked, Error> {
    let days = ctx.app().config.events.retention_days;
    let cutoff = ctx.now().minus(DAY * days);
    let done = ctx
        .db()
        .transaction(async |conn| {
            if let Some(held) = held {
                leases::still_held(conn, held).await?;
            }
            let kept = store::kept_locked(conn).await?;
            let first = store::first(conn, kept.oldest, limit(FORGET_MAX)).await?;
            let last = first.iter().take_while(|(_, at)| *at < cutoff).last();
            let Some((last, _)) = last else { return Ok(0) };
            store::set_kept(conn, Kept { oldest: last + 1, ..kept }).await?;
            store::delete_to(conn, *last).await
        })
        .await?;
    Ok(Worked::batch(done, FORGET_MAX))
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
