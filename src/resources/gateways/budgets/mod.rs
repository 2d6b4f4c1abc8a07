//! Gateways that exceed their budgets: the excess is stored, reported by an event, and shown as status degraded (T20).
//!
//! Invariants
//! - each process meters what it reads; an excess is stored, so that every replica shows it;
//! - an excess is reported once, and ends when there was none for a while ([`HELD`]).

pub mod store;

use std::time::Duration;

use serde_json::json;

use self::store::Row;
use super::health::{self, store::State};
use super::store::{self as gateways, Probed};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;
use crate::outbox::event_types;
use crate::upstream::budget::Sent;
use crate::upstream::row::Status;
use crate::upstream::targets::Target;
use crate::workers::{Worked, Worker};

/// How long a gateway stays degraded after its last excess; longer than the pause between two sweeps.
pub const HELD: Duration = Duration::from_mins(15);

/// Worker that stores the excesses metered by this process; runs on each replica.
pub const EXCESSES: Worker = Worker {
    name: "gateway.budgets",
    every: |_| Duration::from_secs(5),
    lease: false,
    wake: None,
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<Worked, Error> {
    let mut done = 0;
    for target in ctx.app().fleet.targets.all() {
        if let Some(sent) = target.budget.exceeded() {
            exceeded(ctx, &target, sent).await?;
            target.budget.told(sent);
            done += 1;
        }
    }
    Ok(Worked { done, more: false })
}

async fn exceeded(ctx: &Ctx, target: &Target, sent: Sent) -> Result<(), Error> {
    let now = ctx.now();
    let limit = target.budget.limit(sent);
    let told = ctx
        .transaction(async |tx| {
            let Some(gateway) = gateways::lock(tx, target.id).await? else { return Ok(false) };
            let row = Row {
                gateway_id: gateway.id,
                sent: sent.as_str().to_owned(),
                most: i64::try_from(limit).unwrap_or(i64::MAX),
                until_at: now.plus(HELD),
            };
            if !store::put(tx, &row, now).await? {
                return Ok(false);
            }
            let on = || target.gateway();
            let payload =
                json!({ "gateway": &*target.name, "sent": sent.as_str(), "limit": limit });
            tx.emit(ctx.event(event_types::GATEWAY_OVER_BUDGET, payload).on(on())).await?;
            if lowered(gateway.found.last_status) {
                let why = words(&row);
                gateways::degrade(tx, target.id, &why).await?;
                let state = State {
                    gateway_id: gateway.id,
                    began_at: now,
                    status: Status::Degraded,
                    gateway_version: gateway.found.gateway_version.clone(),
                    error: Some(why),
                };
                health::change(tx, state).await?;
                let payload = json!({
                    "gateway": &*target.name,
                    "status": "degraded",
                    "version": gateway.found.gateway_version,
                });
                let event = ctx.event(event_types::GATEWAY_STATUS_CHANGED, payload).on(on());
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
fn lowered(status: Status) -> bool {
    matches!(status, Status::Healthy | Status::Unspecified)
}

fn words(row: &Row) -> String {
    if row.sent == Sent::Sandboxes.as_str() {
        return format!("it lists more than {} sandboxes", row.most);
    }
    format!("it sends more than {} {} a minute", row.most, row.sent)
}

/// Lowers the status of a probe result to degraded if the gateway is over its budget, and returns the reason, if any.
pub(super) async fn judged(
    conn: &mut Conn,
    gateway: i64,
    mut probed: Probed,
) -> Result<(Probed, Option<String>), Error> {
    let row = store::of(conn, gateway).await?;
    match row.filter(|row| row.until_at > probed.probed_at && lowered(probed.last_status)) {
        None => Ok((probed, None)),
        Some(row) => {
            probed.last_status = Status::Degraded;
            Ok((probed, Some(words(&row))))
        }
    }
}
