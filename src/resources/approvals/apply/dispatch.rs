//! The dispatcher: starts an operation for each decided round that has no active one.
//!
//! Invariants
//! - one replica dispatches at a time. If two start an operation for a round, the key lets only one of them run;
//! - a round whose operation failed, or could not be started, gets the next one after a delay that doubles, from 5
//!   seconds to 5 minutes;
//! - a round that a rule or a lock stops gets no operation. It is checked again every few seconds;
//! - no gateway is called here, and few written rounds of a gateway are checked at once: a gateway that does not
//!   respond delays only its own rounds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;
use tracing::{Instrument, debug, info_span, warn};

use super::fail_points::{self, FailPoint};
use super::store::{self, DecidedRound};
use super::{begin, loading, operation_key, run};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::app::App;
use crate::audit::Ending;
use crate::ctx::Ctx;
use crate::db::leases::Lease;
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::error::Error;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::approvals::{Approvals, rules};
use crate::resources::operations::leases::OPERATIONS_OF_ONE_MAX;
use crate::resources::operations::{self, NewOperation, OperationKind};
use crate::workers::{TickResult, Worker};

/// Name of the server's own work in the audit log, after `system:`.
const JOB: &str = "governance";
/// Rounds per query.
const PAGE: usize = 500;
/// Delay after the first operation that failed.
const BACK_OFF_MIN: Duration = Duration::from_secs(5);
/// Longest delay between two operations.
const BACK_OFF_MAX: Duration = Duration::from_mins(5);
/// Interval at which a round is checked that a rule, a lock or a busy process stops.
const BLOCKED_FOR: Duration = Duration::from_secs(5);
/// Interval at which a written round is checked that no operation follows any more.
const FOLLOW_EVERY: Duration = Duration::from_secs(15);
/// Maximum number of such checks of one gateway at once.
const FOLLOWED_OF_ONE_MAX: usize = 4;
/// Maximum number of such checks at once.
const FOLLOWED_MAX: usize = 256;
/// gRPC code of ABORTED: the work was not begun.
const CODE_ABORTED: i32 = 10;

/// Worker that starts operations for decided rounds.
pub const DISPATCH: Worker = Worker {
    name: "governance-dispatch",
    interval: |_| Duration::from_secs(1),
    lease: true,
    wake: Some(|app| &app.part::<Approvals>().approved),
    tick: |ctx, lease| Box::pin(dispatch(ctx, lease)),
};

/// State of the dispatcher of this replica, in memory. A replica that takes over begins without it.
#[derive(Debug, Default)]
pub struct DispatchState {
    waits: Mutex<HashMap<ApprovalRoundId, Wait>>,
    /// Written rounds that are being checked, each with its gateway.
    followed: Mutex<HashMap<ApprovalRoundId, GatewayId>>,
}

/// When the next operation of a round is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wait {
    /// Operations that were started.
    starts: u32,
    /// Not before this time since boot; `None` if the end of the last operation was not seen.
    until: Option<Duration>,
}

impl DispatchState {
    /// Returns whether a round without an active operation is due.
    fn is_due(&self, id: ApprovalRoundId, now: Duration) -> bool {
        let mut waits = self.waits.lock();
        let wait = waits.entry(id).or_default();
        match wait.until {
            Some(until) => until <= now,
            None if wait.starts == 0 => true,
            // Its last operation has ended since the previous pass.
            None => {
                wait.until = Some(now + back_off(wait.starts));
                false
            }
        }
    }

    fn record_start(&self, id: ApprovalRoundId) {
        let mut waits = self.waits.lock();
        let wait = waits.entry(id).or_default();
        *wait = Wait { starts: wait.starts.saturating_add(1), until: None };
    }

    /// Records an operation that could not be started.
    fn record_failure(&self, id: ApprovalRoundId, now: Duration) {
        let mut waits = self.waits.lock();
        let wait = waits.entry(id).or_default();
        let starts = wait.starts.saturating_add(1);
        *wait = Wait { starts, until: Some(now + back_off(starts)) };
    }

    fn delay(&self, id: ApprovalRoundId, until: Duration) {
        self.waits.lock().entry(id).or_default().until = Some(until);
    }

    /// Forgets the rounds that have ended.
    fn retain(&self, decided: &HashSet<ApprovalRoundId>) {
        self.waits.lock().retain(|id, _| decided.contains(id));
    }

    /// Reserves the check of a written round. Returns false if it is being checked, or too many are.
    fn follow(&self, id: ApprovalRoundId, gateway: GatewayId) -> bool {
        let mut followed = self.followed.lock();
        let of_gateway = followed.values().filter(|of| **of == gateway).count();
        if followed.len() >= FOLLOWED_MAX
            || of_gateway >= FOLLOWED_OF_ONE_MAX
            || followed.contains_key(&id)
        {
            return false;
        }
        followed.insert(id, gateway).is_none()
    }
}

/// The check of a written round. When it is dropped, the check has ended, also by a panic.
struct Followed {
    app: Arc<App>,
    id: ApprovalRoundId,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let state = self.app.part::<DispatchState>();
        // First, so that the round is not due in between.
        state.delay(self.id, self.app.clock.since_boot() + FOLLOW_EVERY);
        state.followed.lock().remove(&self.id);
    }
}

/// Returns the delay after a number of operations.
fn back_off(starts: u32) -> Duration {
    let doublings = starts.saturating_sub(1).min(10);
    BACK_OFF_MIN.saturating_mul(1 << doublings).min(BACK_OFF_MAX)
}

async fn dispatch(ctx: &Ctx, _lease: Option<&Lease>) -> Result<TickResult, Error> {
    let state = ctx.app().part::<DispatchState>();
    let (mut after, mut seen, mut done) = (ApprovalRoundId::from(0), HashSet::new(), 0);
    // Active operations of each gateway, whose share of a process is limited.
    let mut running: HashMap<GatewayId, usize> = HashMap::new();
    loop {
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let mut conn = ctx.db().read().await?;
        let page = store::decided(&mut conn, after, limit).await?;
        let keys: Vec<String> = page.iter().map(|round| operation_key(round.id)).collect();
        let active = if keys.is_empty() {
            HashSet::new()
        } else {
            operations::domain::active_keys(&mut conn, OperationKind::Policy, &keys).await?
        };
        drop(conn);
        let count = page.len();
        after = page.last().map_or(after, |last| last.id);
        let is_active = |round: &DecidedRound| active.contains(&operation_key(round.id));
        for round in &page {
            *running.entry(round.place.gateway.id).or_default() += usize::from(is_active(round));
        }
        for round in &page {
            seen.insert(round.id);
            let of_gateway = running.entry(round.place.gateway.id).or_default();
            if is_active(round) || *of_gateway >= OPERATIONS_OF_ONE_MAX {
                continue;
            }
            match dispatch_one(ctx, state, round).await {
                Ok(is_started) => {
                    *of_gateway += usize::from(is_started);
                    done += usize::from(is_started);
                }
                Err(error) => {
                    let approval = round.id.get();
                    warn!(approval, error = &error as &dyn std::error::Error, "not dispatched");
                }
            }
        }
        if count < PAGE {
            break;
        }
    }
    state.retain(&seen);
    Ok(TickResult { done, more: false })
}

/// Starts an operation for a round without an active one, if it is due. Returns whether one was started.
async fn dispatch_one(
    ctx: &Ctx,
    state: &DispatchState,
    round: &DecidedRound,
) -> Result<bool, Error> {
    let now = ctx.app().clock.since_boot();
    if round.state == RoundState::Written {
        follow(ctx, state, round, now);
        return Ok(false);
    }
    if !state.is_due(round.id, now) {
        return Ok(false);
    }
    if round.state == RoundState::Approved && is_blocked(ctx, round).await? {
        state.delay(round.id, now + BLOCKED_FOR);
        return Ok(false);
    }
    if let Err(error) = start(ctx.app(), round).await {
        if matches!(error, Error::Exhausted { .. }) {
            state.delay(round.id, now + BLOCKED_FOR);
        } else {
            state.record_failure(round.id, now);
        }
        return Err(error);
    }
    fail_points::reached(FailPoint::DispatchStarted);
    Ok(true)
}

/// Returns whether a rule or a lock stops a round. The transaction of its write asks again.
async fn is_blocked(ctx: &Ctx, round: &DecidedRound) -> Result<bool, Error> {
    let mut conn = ctx.db().read().await?;
    let in_force = begin::in_force(&mut conn, &round.place, false).await?;
    let now = ctx.db().now(&mut conn).await?;
    if in_force.is_empty(now) && in_force.doubt.is_none() {
        return Ok(false);
    }
    let Some(round) = rounds::by_id(&mut conn, round.id).await? else { return Ok(true) };
    let to_pinned = rules::restores_pinned(&mut conn, &round).await?;
    Ok(begin::refusal(&round, &in_force, to_pinned, now).is_some())
}

/// Starts the operation of a round that was just approved, so that its caller gets the operation. Returns the id of the
/// operation that writes it; `None` if the dispatcher will start one.
#[must_use]
pub fn start_now<'a>(app: &'a Arc<App>, round: &'a Round) -> BoxFuture<'a, Option<String>> {
    Box::pin(async move {
        let decided = DecidedRound { id: round.id, place: round.place.clone(), state: round.state };
        let started = if round.state == RoundState::Approved {
            start(app, &decided).await
        } else {
            find_operation(app, round.id).await
        };
        match started {
            Ok(id) => id,
            Err(error) => {
                let approval = round.id.get();
                // Such as a gateway with many writes, or a replica that was faster.
                debug!(approval, error = &error as &dyn std::error::Error, "not started here");
                find_operation(app, round.id).await.ok().flatten()
            }
        }
    })
}

async fn find_operation(app: &App, id: ApprovalRoundId) -> Result<Option<String>, Error> {
    let mut conn = app.db.read().await?;
    operations::domain::find_active(&mut conn, OperationKind::Policy, &operation_key(id)).await
}

async fn start(app: &Arc<App>, round: &DecidedRound) -> Result<Option<String>, Error> {
    let (id, place) = (round.id, &round.place);
    // Before the entry, which would be one more for each attempt.
    operations::check_room(app, place.gateway.id)?;
    let about = AuditSubject::new(Action::APPROVAL_APPLY, place.name.to_string());
    let detail = json!({ "approval": id.get(), "workspace": place.workspace() });
    let ctx = Ctx::for_own_work(app, JOB, place.gateway.clone(), about, detail).await?;
    let key = operation_key(id);
    let new = NewOperation {
        kind: OperationKind::Policy,
        workspace: place.workspace(),
        sandbox: place.sandbox(),
        exclusive: false,
        key: Some(key.as_str()),
        keeps_output: false,
        input: Some(run::input(id)),
    };
    let started = operations::start(&ctx, new, move |running| run::run(running, id)).await;
    if started.is_err()
        && let Some(entry) = ctx.defer_audit_entry()
    {
        let outcome = ctx.deferred_outcome(Ending::Failed, CODE_ABORTED);
        app.audit.close(entry, outcome).await?;
    }
    let operation = started?;
    app.part::<DispatchState>().record_start(id);
    Ok(Some(operation.id))
}

/// Checks a written round that no operation follows, in a task of its own.
fn follow(ctx: &Ctx, state: &DispatchState, round: &DecidedRound, now: Duration) {
    let id = round.id;
    let is_first = !state.waits.lock().contains_key(&id);
    if is_first || !state.is_due(id, now) || !state.follow(id, round.place.gateway.id) {
        if is_first {
            // Its operation may just have ended.
            state.delay(id, now + FOLLOW_EVERY);
        }
        return;
    }
    let followed = Followed { app: Arc::clone(ctx.app()), id };
    let app = Arc::clone(ctx.app());
    let ctx = Ctx::system(&app, JOB).with_gateway(round.place.gateway.clone());
    let task = async move {
        if let Err(error) = loading::close_if_loaded(&ctx, id).await {
            debug!(error = &error as &dyn std::error::Error, "not known whether it was loaded");
        }
        drop(followed);
    };
    app.spawn(task.instrument(info_span!("written", approval = id.get())));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_next_operation_of_a_round_waits_longer_each_time() {
        let (state, id) = (DispatchState::default(), ApprovalRoundId(7));
        assert!(state.is_due(id, SECOND));
        state.record_start(id);
        // The operation has ended.
        assert!(!state.is_due(id, SECOND));
        assert!(!state.is_due(id, SECOND * 5));
        assert!(state.is_due(id, SECOND * 6));
        state.record_start(id);
        assert!(!state.is_due(id, SECOND * 10));
        assert!(!state.is_due(id, SECOND * 19));
        assert!(state.is_due(id, SECOND * 20));
        for (starts, expected) in [(1, 5), (2, 10), (3, 20), (7, 300), (u32::MAX, 300)] {
            assert_eq!(back_off(starts), SECOND * expected, "{starts}");
        }
    }

    #[test]
    fn a_blocked_round_is_checked_again_without_a_longer_delay() {
        let (state, id) = (DispatchState::default(), ApprovalRoundId(7));
        state.delay(id, SECOND * 5);
        assert!(!state.is_due(id, SECOND * 4));
        assert!(state.is_due(id, SECOND * 5));
        state.retain(&HashSet::new());
        assert!(state.is_due(id, Duration::ZERO));
    }

    #[test]
    fn the_next_start_waits_after_one_that_failed() {
        let (state, id) = (DispatchState::default(), ApprovalRoundId(7));
        state.record_failure(id, SECOND);
        assert!(!state.is_due(id, SECOND * 5));
        assert!(state.is_due(id, SECOND * 6));
        state.record_failure(id, SECOND * 6);
        assert!(!state.is_due(id, SECOND * 15));
        assert!(state.is_due(id, SECOND * 16));
    }

    #[test]
    fn few_written_rounds_of_a_gateway_are_checked_at_once() {
        let (state, edge, other) = (DispatchState::default(), GatewayId(1), GatewayId(2));
        for id in 0..i64::try_from(FOLLOWED_OF_ONE_MAX).unwrap() {
            assert!(state.follow(ApprovalRoundId(id), edge));
        }
        assert!(!state.follow(ApprovalRoundId(99), edge));
        assert!(state.follow(ApprovalRoundId(98), other));
        state.followed.lock().remove(&ApprovalRoundId(3));
        let follow = || state.follow(ApprovalRoundId(99), edge);
        assert!(follow() && !follow());
    }
}
