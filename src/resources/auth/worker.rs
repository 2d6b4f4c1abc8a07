//! Deletes old data of logins: ended sessions, decayed failure counts, and addresses that are no longer used.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::error::Error;
use crate::feed::REMEMBERED;
use crate::resources::sessions::{self, budget};
use crate::workers::{TickResult, Worker};

/// Rows of each kind deleted per transaction.
const DELETE_MAX: usize = 1_000;

/// Worker that deletes old data, on one replica at a time, only to avoid duplicate work.
pub const RETENTION: Worker = Worker {
    name: "auth-retention",
    interval: |_| Duration::from_mins(5),
    lease: true,
    wake: None,
    tick: |ctx, _| Box::pin(delete_old(ctx)),
};

async fn delete_old(ctx: &Ctx) -> Result<TickResult, Error> {
    let limit = i64::try_from(DELETE_MAX).unwrap_or(i64::MAX);
    let now = ctx.now();
    let (sessions, failures, addresses) = ctx
        .db()
        .long_transaction(async |conn| {
            let ended = now.minus(REMEMBERED);
            let unused = now.minus(budget::ADDRESS_KNOWN);
            Ok((
                sessions::store::delete_ended(conn, ended, limit).await?,
                budget::store::delete_decayed(conn, now, limit).await?,
                budget::store::delete_old_addresses(conn, unused, limit).await?,
            ))
        })
        .await?;
    let more = [sessions, failures, addresses].iter().any(|done| *done >= DELETE_MAX);
    Ok(TickResult { done: sessions + failures + addresses, more })
}
