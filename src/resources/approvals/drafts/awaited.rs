//! Waits for the write of approved changes, for the stock client that has decided it or asks for it again.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::store;
use crate::ctx::Ctx;
use crate::error::{Error, Reason};
use crate::resources::approvals::proposals::required::{required, voted};
use crate::resources::approvals::rounds::{Round, RoundState};
use crate::resources::approvals::wake;

/// How long a call waits for the write that it has decided.
const WRITE_TIME: Duration = Duration::from_secs(20);
/// Time before the deadline of the caller in which the answer reaches it.
const ANSWER_TIME: Duration = Duration::from_millis(250);
/// Interval at which a round is read that is being written.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// Result of an approval of chunks.
#[derive(Debug)]
pub struct Written {
    /// The newest version that was written; 0 if nothing was.
    pub version: u64,
    /// The gateway's hash of that version.
    pub policy_hash: String,
    /// Number of approved chunks.
    pub approved: u64,
    /// Number of chunks that were left out.
    pub skipped: u64,
}

/// Returns until when a call waits, as a time of the clock that includes sleep.
pub(super) fn until(ctx: &Ctx, deadline: Option<Instant>) -> Duration {
    let left = deadline.map_or(WRITE_TIME, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        left.saturating_sub(ANSWER_TIME).min(WRITE_TIME)
    });
    ctx.app().clock.since_boot() + left
}

/// Waits until all rounds are written.
///
/// # Errors
/// `APPROVAL_REQUIRED` if votes are missing or the time is over, `ROUND_CLOSED` if a round has ended otherwise,
/// `DRAINING`.
pub(super) async fn wait(
    ctx: &Ctx,
    mut open: Vec<Round>,
    until: Duration,
) -> Result<Vec<Round>, Error> {
    if let Some(round) = open.iter().find(|round| round.state == RoundState::Open) {
        return Err(voted(ctx, round).await?);
    }
    wake(ctx.app());
    let clock = &ctx.app().clock;
    loop {
        read_again(ctx, &mut open).await?;
        let left = open.iter().find(|round| !is_written(round));
        let Some(round) = left else { return Ok(open) };
        if round.state.is_closed() {
            return Err(closed(round));
        }
        if ctx.app().stop.is_cancelled() {
            // Another replica makes the write: this one does not make its callers wait for it, and delays no drain.
            let why = "the server is stopping, and the write continues: repeat the call";
            return Err(Error::unavailable(Reason::Draining, why));
        }
        // A voter has left, or a rule became stricter.
        if round.state == RoundState::Open || clock.since_boot() >= until {
            return Err(required(ctx, round).await?);
        }
        clock.sleep(POLL_EVERY).await;
    }
}

/// Reads those that are not written yet, by one query.
async fn read_again(ctx: &Ctx, open: &mut [Round]) -> Result<(), Error> {
    let left = open.iter().filter(|round| !is_written(round));
    let ids: Vec<i64> = left.map(|round| round.id.get()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let found = store::by_ids(&mut ctx.db().read().await?, &ids).await?;
    for round in open.iter_mut().filter(|round| !is_written(round)) {
        let now = found.iter().find(|found| found.id == round.id);
        let missing = || Error::internal("a round was deleted while its write was awaited");
        round.clone_from(now.ok_or_else(missing)?);
    }
    Ok(())
}

/// Waits until the change of a round that was decided before is written, and not after the deadline of the caller.
/// Returns version and hash of the policy.
///
/// # Errors
/// `APPROVAL_REQUIRED` if the round needs votes again or the time is over, `ROUND_CLOSED` if it has ended otherwise,
/// `DRAINING`.
pub fn wait_for_one(
    ctx: &Ctx,
    round: Round,
    deadline: Option<Instant>,
) -> BoxFuture<'_, Result<Written, Error>> {
    Box::pin(async move {
        let until = until(ctx, deadline);
        Ok(to_written(&wait(ctx, vec![round], until).await?, 0))
    })
}

/// Returns whether a round was written. Its sandbox may not have loaded it, or not be able to.
fn is_written(round: &Round) -> bool {
    round.progress.written_version.is_some()
}

/// Returns the error of a call whose round has ended otherwise, or is about an earlier decision.
pub(super) fn closed(round: &Round) -> Error {
    let facts = [("approval", round.id.to_string()), ("state", round.state.to_string())];
    let reason = round.progress.close_reason.as_deref().unwrap_or_default();
    let why = format!("approval {} is {}: {reason}", round.id, round.state);
    Error::explained(Reason::RoundClosed, why, facts)
}

/// Returns what the approval of chunks has led to.
pub(super) fn to_written(rounds: &[Round], skipped: usize) -> Written {
    let version = |round: &Round| {
        round.progress.written_version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0)
    };
    let newest = rounds.iter().max_by_key(|round| version(round));
    let count = |of: usize| u64::try_from(of).unwrap_or(u64::MAX);
    Written {
        version: newest.map_or(0, version),
        policy_hash: newest
            .and_then(|round| round.progress.written_hash.clone())
            .unwrap_or_default(),
        approved: count(rounds.len()),
        skipped: count(skipped),
    }
}
