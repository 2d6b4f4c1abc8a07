//! The clock of governance: ends what has expired. Only events and audit entries depend on when it runs.

use std::time::Duration;

use serde_json::json;

use super::domain::{self, Pin};
use super::store;
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::{Ctx, GatewayRef};
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::resources::write_intents::domain as write_intents;
use crate::workers::{TickResult, Worker};

/// Pins that one tick ends, and writes that it deletes.
const EXPIRED_MAX: usize = 200;

/// Worker that ends expired pins, and deletes writes whose deadline has passed.
pub const CLOCK: Worker = Worker {
    name: "governance-clock",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(tick(ctx, lease)),
};

async fn tick(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(EXPIRED_MAX).unwrap_or(i64::MAX);
    let ended = end_pins(ctx, lease, limit).await?;
    let db = ctx.db();
    let deleted = db
        .long_transaction(async |conn| {
            if let Some(lease) = lease {
                leases::check_held(conn, lease).await?;
            }
            let now = db.now(conn).await?;
            write_intents::delete_expired(conn, now, limit).await
        })
        .await?;
    let more = ended.max(deleted) >= EXPIRED_MAX;
    Ok(TickResult { done: ended + deleted, more })
}

/// Deletes expired pins, each with its event and audit entry. Returns their number.
async fn end_pins(ctx: &Ctx, lease: Option<&Lease>, limit: i64) -> Result<usize, Error> {
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
        let is_deleted = ctx
            .transaction(async |tx| {
                if let Some(lease) = lease {
                    leases::check_held(tx, lease).await?;
                }
                domain::end(ctx, tx, &gateway, pin).await
            })
            .await?;
        if is_deleted {
            ended += 1;
            record_end(&ctx.clone().with_gateway(gateway), pin).await?;
        }
    }
    Ok(ended)
}

async fn record_end(ctx: &Ctx, pin: &Pin) -> Result<(), Error> {
    let about = AuditSubject::new(Action::POLICY_PIN_EXPIRE, pin.sandbox.to_string());
    let detail = json!({
        "workspace": pin.sandbox.workspace,
        "pinned_by": pin.pinned_by,
        "reason": pin.reason,
        "expires_at": pin.expires_at.map(|at| at.to_string()),
    });
    let intent = Intent { detail: Some(detail), ..ctx.new_intent(about) };
    let outcome = Outcome::new(intent.at, Ending::Ok, 0);
    ctx.app().audit.record(intent, outcome).await
}
