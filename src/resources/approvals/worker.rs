//! Ends and escalates rounds whose clocks are due, reminds their voters, and deletes rounds that ended before the
//! retention period.
//!
//! Nothing depends on when the clock runs, apart from events and audit entries: a round whose time is over has expired on
//! every path.

use std::time::Duration;

use serde_json::json;
use tracing::warn;

use super::apply::fail_points::{self, FailPoint};
use super::drafts::store as drafts;
use super::inbox::detail::NAMES_MAX;
use super::inbox::view::name;
use super::rounds::clocks::{self, Due};
use super::rounds::{Round, RoundState, events, reminders, store};
use super::votes::decide;
use super::wake;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::leases::{self, Lease};
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::error::{Error, ResourceKind};
use crate::feed;
use crate::governance::People;
use crate::outbox::event_types;
use crate::resources::write_intents::domain as write_intents;
use crate::workers::{TickResult, Worker};

/// Rounds of which one tick applies the clocks, and as many of which it sends reminders.
const DUE_MAX: usize = 200;
/// Rounds that one transaction deletes.
const DELETE_MAX: usize = 200;
const DAY: Duration = Duration::from_hours(24);
/// Days for which the round of a draft is stored that ended without a vote.
const UNVOTED_DRAFT_DAYS: u32 = 7;

/// Worker that applies the clocks of rounds.
pub const CLOCK: Worker = Worker {
    name: "approval-clock",
    interval: |_| Duration::from_secs(5),
    lease: true,
    wake: None,
    tick: |ctx, lease| Box::pin(apply_clocks(ctx, lease)),
};

/// Worker that deletes rounds, with their votes and proposals, and editors of chunks without a round, whose retention
/// period is over.
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
    let mut done = 0;
    for (id, gateway) in &due {
        match apply_clock(ctx, lease, *id, *gateway).await {
            Ok(()) => done += 1,
            Err(error) => {
                // Another replica has the lease, and does the rest.
                if matches!(error, Error::Conflict { kind: ResourceKind::Lease, .. }) {
                    return Err(error);
                }
                let error = &error as &dyn std::error::Error;
                warn!(error, approval = id.get(), "the clock of an approval was not applied");
            }
        }
    }
    Ok(TickResult::batch(done, DUE_MAX))
}

/// Applies the clocks of one round.
async fn apply_clock(
    ctx: &Ctx,
    lease: Option<&Lease>,
    id: ApprovalRoundId,
    gateway: GatewayId,
) -> Result<(), Error> {
    let state = feed::until_current(ctx.app(), move |position| {
        Box::pin(async move {
            ctx.transaction(async |tx| {
                if let Some(lease) = lease {
                    leases::check_held(tx, lease).await?;
                }
                write_intents::lock_exclusive(tx, gateway).await?;
                let Some(mut round) = store::by_id(tx, id).await? else {
                    return Ok(Some(RoundState::Withdrawn));
                };
                let now = ctx.db().now(tx).await?;
                // A round whose time is over has expired, even if its escalation was not reported before (g14).
                if clocks::due(&round, now) == Some(Due::Escalation) {
                    // Nothing is stored before this.
                    if !feed::is_current(tx, &position).await? {
                        return Ok(None);
                    }
                    escalate(ctx, tx, &mut round, now).await?;
                }
                clocks::end_if_due(ctx, tx, &mut round, now).await?;
                remind(ctx, tx, &round, now).await?;
                Ok(Some(round.state))
            })
            .await
        })
    })
    .await?;
    fail_points::reached(FailPoint::ClockCommitted);
    if state == RoundState::Approved {
        wake(ctx.app());
    }
    Ok(())
}

/// Adds the voters of an escalation, and decides the round by the votes that count then.
async fn escalate(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    now: Timestamp,
) -> Result<(), Error> {
    clocks::apply(ctx, tx, round, now).await?;
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    match decide::standing(tx, round, &people, now).await {
        Ok(standing) => {
            decide::follow(ctx, tx, round, &standing, now).await?;
            Ok(())
        }
        // A rule that this version cannot read decides nothing, and stops no clock.
        Err(error) if error.is_refusal() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reminds the voters of an open round if that is due, and stores when they are reminded next.
async fn remind(ctx: &Ctx, tx: &mut Tx<'_>, round: &Round, now: Timestamp) -> Result<(), Error> {
    if round.state != RoundState::Open {
        return Ok(());
    }
    let remind_at = reminders::store::remind_at(tx, round.id).await?;
    if remind_at.is_none_or(|at| at > now) {
        return Ok(());
    }
    let next = reminders::next(round, ctx.app().config.approvals.remind_after(), now);
    reminders::store::set(tx, round.id, next).await?;
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    let more = match decide::standing(tx, round, &people, now).await {
        Ok(standing) => {
            let could = &standing.tally.could;
            let names: Vec<String> =
                could.iter().take(NAMES_MAX).map(|voter| name(&people, *voter)).collect();
            let (votes, needed) = decide::votes_and_needed(&standing.tally);
            json!({
                "votes": votes,
                "needed": needed,
                "voters": names,
                "voters_total": could.len(),
                "expires_at": round.expires_at.map(|at| at.to_string()),
            })
        }
        // A rule that this version cannot read names no voter.
        Err(error) if error.is_refusal() => json!({}),
        Err(error) => return Err(error),
    };
    events::emit(ctx, tx, event_types::APPROVAL_REMINDER, round, more).await?;
    fail_points::reached(FailPoint::ReminderWritten);
    Ok(())
}

async fn delete_old(ctx: &Ctx, held: Option<&Lease>) -> Result<TickResult, Error> {
    let limit = i64::try_from(DELETE_MAX).unwrap_or(i64::MAX);
    // A round that has ended does not change, so it is not looked for in the transaction.
    let (ended, editors_before) = {
        let mut conn = ctx.db().read().await?;
        let now = ctx.db().now(&mut conn).await?;
        let cutoff = now.minus(DAY * ctx.app().config.approvals.retention_days);
        let has_editors = drafts::has_editors_before(&mut conn, cutoff).await?;
        let mut ended = store::ended(&mut conn, cutoff, limit).await?;
        if ended.is_empty() {
            let cutoff = now.minus(DAY * UNVOTED_DRAFT_DAYS);
            ended = drafts::ended_without_vote(&mut conn, cutoff, limit).await?;
        }
        (ended, has_editors.then_some(cutoff))
    };
    if ended.is_empty() && editors_before.is_none() {
        return Ok(TickResult::batch(0, DELETE_MAX));
    }
    let done = ctx
        .db()
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            if let Some(before) = editors_before {
                drafts::delete_editors(conn, before).await?;
            }
            store::delete(conn, &ended).await
        })
        .await?;
    Ok(TickResult::batch(done, DELETE_MAX))
}
