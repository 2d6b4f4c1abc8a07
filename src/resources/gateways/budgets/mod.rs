//! Gateways that exceed their budgets: the excess is stored, reported by an event, and shown as status degraded (T20).
//!
//! Invariants
//! - each process meters what it reads; an excess is stored, so that every replica shows it;
//! - an excess is reported once, and ends when there was none for a while ([`DEGRADED_FOR`]).

pub mod store;

use std::time::Duration;

use serde_json::json;

use self::store::ExcessRow;
use super::health::{self, store::HealthState};
use super::store::{self as gateways, ProbeResult};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;
use crate::outbox::event_types;
use crate::upstream::budget::Quantity;
use crate::upstream::row::GatewayStatus;
use crate::upstream::targets::Target;
use crate::workers::{TickResult, Worker};

/// How long a gateway stays degraded after its last excess; longer than the pause between two sweeps.
pub const DEGRADED_FOR: Duration = Duration::from_mins(15);

/// Worker that stores the excesses metered by this process; runs on each replica.
pub const EXCESSES: Worker = Worker {
    name: "gateway.budgets",
    interval: |_| Duration::from_secs(5),
    lease: false,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<TickResult, Error> {
    let mut done = 0;
    for target in ctx.app().fleet.targets.all() {
        if let Some(sent) = target.budget.exceeded() {
            record_excess(ctx, &target, sent).await?;
            target.budget.clear_exceeded(sent);
            done += 1;
        }
    }
    Ok(TickResult { done, more: false })
}

async fn record_excess(ctx: &Ctx, target: &Target, sent: Quantity) -> Result<(), Error> {
    let now = ctx.now();
    let limit = target.budget.limit(sent);
    let told = ctx
        .transaction(async |tx| {
            let Some(gateway) = gateways::lock(tx, target.id).await? else { return Ok(false) };
            let row = ExcessRow {
                gateway_id: gateway.id,
                sent: sent.as_str().to_owned(),
                most: i64::try_from(limit).unwrap_or(i64::MAX),
                until_at: now.plus(DEGRADED_FOR),
            };
            if !store::put(tx, &row, now).await? {
                return Ok(false);
            }
            let on = || target.gateway();
            let payload =
                json!({ "gateway": &*target.name, "sent": sent.as_str(), "limit": limit });
            tx.emit(ctx.new_event(event_types::GATEWAY_OVER_BUDGET, payload).with_gateway(on()))
                .await?;
            if degrades(gateway.observed.last_status) {
                let why = describe(&row);
                gateways::degrade(tx, target.id, &why).await?;
                let state = HealthState {
                    gateway_id: gateway.id,
                    began_at: now,
                    status: GatewayStatus::Degraded,
                    gateway_version: gateway.observed.gateway_version.clone(),
                    error: Some(why),
                };
                health::record_state(tx, state).await?;
                let payload = json!({
                    "gateway": &*target.name,
                    "status": "degraded",
                    "version": gateway.observed.gateway_version,
                });
                let event =
                    ctx.new_event(event_types::GATEWAY_STATUS_CHANGED, payload).with_gateway(on());
                tx.emit(event).await?;
            }
            Ok(true)
        })
        .await?;
    if told {
        tracing::warn!(gateway = %target.name, sent = sent.as_str(), limit, "a gateway is over its budget");
    }
    Ok(())
}

/// Returns whether an excess lowers this status to degraded; a worse status stays.
fn degrades(status: GatewayStatus) -> bool {
    matches!(status, GatewayStatus::Healthy | GatewayStatus::Unspecified)
}

fn describe(row: &ExcessRow) -> String {
    if row.sent == Quantity::Sandboxes.as_str() {
        return format!("it lists more than {} sandboxes", row.most);
    }
    format!("it sends more than {} {} a minute", row.most, row.sent)
}

/// Lowers the status of a probe result to degraded if the gateway is over its budget, and returns the reason, if any.
pub(super) async fn apply_budget(
    conn: &mut Conn,
    gateway: i64,
    mut probed: ProbeResult,
) -> Result<(ProbeResult, Option<String>), Error> {
    let row = store::last(conn, gateway).await?;
    match row.filter(|row| row.until_at > probed.probed_at && degrades(probed.last_status)) {
        None => Ok((probed, None)),
        Some(row) => {
            probed.last_status = GatewayStatus::Degraded;
            Ok((probed, Some(describe(&row))))
        }
    }
}
