//! `last_used`: noted in memory at each call, written once a minute, by each replica for the calls that it took.

use std::time::Duration;

use super::store;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::workers::{Worked, Worker};

/// Writes which keys were used.
pub const LAST_USED: Worker = Worker {
    name: "service_principal.last_used",
    every: |_| Duration::from_mins(1),
    lease: false,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<Worked, Error> {
    let used = ctx.app().snapshot.take_used();
    if used.is_empty() {
        return Ok(Worked::NOTHING);
    }
    let now = ctx.now();
    ctx.db().transaction(async |conn| store::touch(conn, &used, now).await).await?;
    Ok(Worked { done: used.len(), more: false })
}
