//! The clock of pins: ends what has expired, and completes pins whose gateway did not report in time. Only events,
//! audit entries and what a pin shows depend on when it runs.

use std::time::Duration;

use super::{complete, expiry, store};
use crate::ctx::{Ctx, GatewayRef};
use crate::db::leases::Lease;
use crate::error::Error;
use crate::workers::{TickResult, Worker};

/// Pins that one tick ends.
const EXPIRED_MAX: usize = 200;

/// Worker that ends expired pins, and completes others.
pub const CLOCK: Worker = Worker {
    name: "governance-clock",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let ended = end_expired(ctx, lease).await?;
    let completed = complete::complete_later(ctx, lease).await?;
    Ok(TickResult { done: ended + completed, more: ended >= EXPIRED_MAX })
}

/// Ends expired pins. Returns their number.
async fn end_expired(ctx: &Ctx, lease: Option<&Lease>) -> Result<usize, Error> {
    let limit = i64::try_from(EXPIRED_MAX).unwrap_or(i64::MAX);
    let expired = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        store::expired(&mut conn, now, limit).await?
    };
    let mut ended = 0;
    for pin in &expired {
        // Pins are deleted with their gateway.
        let Some(id) = ctx.app().snapshot.gateway_id(&pin.gateway) else { continue };
        let gateway = GatewayRef { id, name: pin.gateway.as_str().into() };
        ended += usize::from(expiry::end(ctx, lease, &gateway, pin).await?);
    }
    Ok(ended)
}
