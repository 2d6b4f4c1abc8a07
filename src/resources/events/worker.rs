//! Assigns sequence numbers to events, and deletes old events.

use std::time::Duration;

use super::store::{self, SequenceRange};
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Engine;
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker, delete_batch};

/// Events sequenced per transaction.
const SEQUENCE_MAX: usize = 500;
/// Events deleted per transaction.
const DELETE_MAX: usize = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// Worker that assigns sequence numbers. It runs on all replicas: the row of the last sequence is the lock. The replica
/// that wrote an event is woken; the others check periodically for events of crashed replicas. On SQLite, the commit of
/// an event has usually assigned its number, and only its readers are woken.
pub const SEQUENCER: Worker = Worker {
    name: "event-sequencer",
    interval: |_| Duration::from_secs(1),
    lease: false,
    wake: Some(|app| app.feed.sequencer_wakeup()),
    tick: |ctx, _| Box::pin(sequence_events(ctx)),
};

/// Worker that deletes events older than the retention. Events that are not yet queued for webhooks are kept.
pub const RETENTION: Worker = Worker {
    name: "event-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn sequence_events(ctx: &Ctx) -> Result<TickResult, Error> {
    {
        let mut conn = ctx.db().read().await?;
        if !store::has_unnumbered(&mut conn).await? {
            if conn.engine() == Engine::Sqlite {
                ctx.app().feed.advance_head(store::sequence_range(&mut conn).await?.head);
            }
            return Ok(TickResult::IDLE);
        }
    }
    let (done, head) = ctx
        .db()
        .transaction(async |conn| {
            let SequenceRange { head, oldest } = store::lock_sequence_range(conn).await?;
            let done = store::assign_sequences(conn, head, limit(SEQUENCE_MAX)).await?;
            let head = head + limit(done);
            store::set_sequence_range(conn, SequenceRange { head, oldest }).await?;
            Ok((done, head))
        })
        .await?;
    ctx.app().feed.advance_head(head);
    Ok(TickResult::batch(done, SEQUENCE_MAX))
}

/// Deletes in the order of the sequence, so that the stored events have no gap.
async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let days = ctx.app().config.events.retention_days;
    let cutoff = ctx.now().minus(DAY * days);
    delete_batch(ctx, held, DELETE_MAX, async |conn, limit| {
        let range = store::lock_sequence_range(conn).await?;
        let first = store::first(conn, range.oldest, limit).await?;
        let queued = store::queued_sequence(conn).await?;
        let old = |(sequence, at): &&(i64, Timestamp)| *at < cutoff && *sequence <= queued;
        let last = first.iter().take_while(old).last();
        let Some((last, _)) = last else { return Ok(0) };
        store::set_sequence_range(conn, SequenceRange { oldest: last + 1, ..range }).await?;
        store::delete_up_to(conn, *last).await
    })
    .await
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
