//! `last_used`: recorded in memory at each call, written at most once per minute and service principal across all
//! replicas.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;
use crate::workers::{TickResult, Worker};

/// Interval of the writes, and minimum age of a stored time that is overwritten.
const EVERY: Duration = Duration::from_mins(1);

/// Worker that writes which keys were used.
pub const LAST_USED: Worker = Worker {
    name: "service_principal.last_used",
    interval: |_| EVERY,
    lease: false,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<TickResult, Error> {
    let used = ctx.app().snapshot.take_used_keys();
    if used.is_empty() {
        return Ok(TickResult::IDLE);
    }
    let now = ctx.now();
    let stale_at = now.minus(EVERY);
    let touch = async |conn: &mut Conn| store::touch(conn, &used, now, stale_at).await;
    Ok(TickResult { done: ctx.db().transaction(touch).await?, more: false })
}
