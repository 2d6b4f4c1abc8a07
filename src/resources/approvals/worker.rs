//! Ends and escalates rounds whose clocks are due, and deletes rounds that ended before the retention period.
//!
//! Nothing depends on when the clock runs, apart from events and audit entries: a round whose time is over has expired on
//! every path.

use std::time::Duration;

use serde_json::json;

use super::rounds::clocks::{self, Due};
use super::rounds::{Round, store};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::ctx::Ctx;
use crate::db::leases::{self, Lease};
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::error::Error;
use crate::resources::write_intents::domain as write_intents;
use crate::workers::{TickResult, Worker};

/// Rounds that one tick ends or escalates.
const DUE_MAX: usize = 200;
/// Rounds that one transaction deletes.
const DELETE_MAX: usize = 200;
const DAY: Duration = Duration::from_hours(24);

/// Worker that applies the clocks of rounds.
pub const CLOCK: Worker = Worker {
    name: "approval-clock",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(apply_clocks(ctx, lease)),
};

/// Worker that deletes rounds, with their votes and proposals, whose retention period is over.
pub const RETENTION: Worker = Worker {
    name: "approval-retention",
    interval: |_| Duration::from_mins(10),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(delete_old(ctx, lease)),
};

async fn apply_clocks(ctx: &Ctx, lease: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(DUE_MAX).unwrap_or(i64::MAX);
    let due = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        store::due(&mut conn, now, limit).await?
    };
    for (id, gateway) in &due {
        if let Some(round) = apply_clock(ctx, lease, *id, *gateway).await? {
            record_expiry(ctx, &round).await?;
        }
    }
    Ok(TickResult::batch(due.len(), DUE_MAX))
}

/// Applies the clock of one round. Returns the round if it has expired.
async fn apply_clock(
    ctx: &Ctx,
    lease: Option<&Lease>,
    id: ApprovalRoundId,
    gateway: GatewayId,
) -> Result<Option<Round>, Error> {
    ctx.transaction(async |tx| {
        if let Some(lease) = lease {
            leases::check_held(tx, lease).await?;
        }
        write_intents::lock_exclusive(tx, gateway).await?;
        let Some(mut round) = store::by_id(tx, id).await? else { return Ok(None) };
        let now = ctx.db().now(tx).await?;
        let applied = clocks::apply(ctx, tx, &mut round, now).await?;
        Ok(match applied {
            Some(Due::Expiry | Due::ApplyWindow) => Some(round),
            Some(Due::Escalation) | None => None,
        })
    })
    .await
}

async fn record_expiry(ctx: &Ctx, round: &Round) -> Result<(), Error> {
    let ctx = ctx.clone().with_gateway(round.place.gateway.clone());
    let about = AuditSubject::new(Action::APPROVAL_EXPIRE, round.place.name.to_string());
    let detail = json!({
        "approval": round.id.get(),
        "action": round.action.as_str(),
        "workspace": round.place.workspace(),
        "digest": round.digest,
        "reason": round.progress.close_reason,
    });
    let intent = Intent { detail: Some(detail), ..ctx.new_intent(about) };
    let outcome = Outcome::new(intent.at, Ending::Ok, 0);
    ctx.app().audit.record(intent, outcome).await
}

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let cutoff = ctx.now().minus(DAY * ctx.app().config.approvals.retention_days);
    let limit = i64::try_from(DELETE_MAX).unwrap_or(i64::MAX);
    let done = ctx
        .db()
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            store::delete_ended(conn, cutoff, limit).await
        })
        .await?;
    Ok(TickResult::batch(done, DELETE_MAX))
}
