//! Stores the outcome of a write and its consequences in one transaction.

use serde_json::json;

use super::found::Written;
use super::lost_marks;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::db::types::ApprovalRoundId;
use crate::error::Error;
use crate::outbox::event_types;
use crate::policy::LostMarks;
use crate::resources::approvals::rounds::close::{self, Ending};
use crate::resources::approvals::rounds::{Round, RoundState, events, store as rounds};
use crate::resources::operations::RunningOperation;
use crate::resources::operations::retry::with_retries;
use crate::resources::write_intents::domain as write_intents;

/// Outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway has it, in this revision.
    Written(Written),
    /// It is certainly not done, and is tried again.
    NotDone,
    /// The sandbox has loaded it, or a later revision.
    Loaded,
    /// The sandbox could not load it, for this reason of the gateway.
    LoadFailed(String),
    /// It ends, for this reason.
    Ended(Ending, String),
}

impl Outcome {
    /// Returns the outcome of a write that is done, with all its marks.
    #[must_use]
    pub fn written(version: u32, policy_hash: &str) -> Self {
        let policy_hash = policy_hash.to_owned();
        Self::Written(Written { version, policy_hash, lost_marks: LostMarks::default() })
    }

    /// Returns whether a round in this state can have this outcome.
    fn is_possible_in(&self, state: RoundState) -> bool {
        match self {
            Self::Written(_) => matches!(state, RoundState::Approved | RoundState::Sending),
            Self::NotDone => state == RoundState::Sending,
            Self::Loaded | Self::LoadFailed(_) => state == RoundState::Written,
            Self::Ended(..) => !state.is_closed() && state != RoundState::Open,
        }
    }
}

/// Stores the outcome of a round in the state `from`, as its operation. Tries for a minute: what has happened on the
/// gateway must not be forgotten. Nothing is stored if the round has left the state.
///
/// # Errors
/// `Conflict` if the lease of the operation was lost; those of the database.
pub async fn store(
    running: &RunningOperation,
    (id, from): (ApprovalRoundId, RoundState),
    outcome: &Outcome,
) -> Result<(), Error> {
    with_retries(running, || store_once(running, (id, from), outcome)).await
}

async fn store_once(
    running: &RunningOperation,
    expected: (ApprovalRoundId, RoundState),
    outcome: &Outcome,
) -> Result<(), Error> {
    let ctx = running.ctx();
    let operation = ctx
        .record_change(async |tx| {
            let operation = running.step_in(tx, None).await?;
            store_in(ctx, tx, expected, outcome).await?;
            Ok(operation)
        })
        .await?;
    running.notify_committed(operation);
    Ok(())
}

/// Does the same as [`store`] in a transaction. Returns whether the round was in the state `from`.
///
/// # Errors
/// Those of the database.
pub async fn store_in(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    (id, from): (ApprovalRoundId, RoundState),
    outcome: &Outcome,
) -> Result<bool, Error> {
    write_intents::lock_exclusive(tx, ctx.required_gateway()?.id).await?;
    let now = ctx.db().now(tx).await?;
    let Some(mut round) = rounds::by_id(tx, id).await? else { return Ok(false) };
    if round.state != from {
        if round.state.is_closed() {
            delete_intent(tx, &round).await?;
        }
        return Ok(false);
    }
    apply(ctx, tx, &mut round, outcome, now).await?;
    Ok(true)
}

async fn delete_intent(conn: &mut Conn, round: &Round) -> Result<(), Error> {
    let intent = write_intents::of_round(conn, round.place.gateway.id, round.id).await?;
    if let Some(intent) = intent {
        write_intents::delete(conn, intent.id).await?;
    }
    Ok(())
}

/// Applies an outcome to a round that was read in the transaction.
pub(super) async fn apply(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), Error> {
    if !outcome.is_possible_in(round.state) {
        return Err(Error::internal(format!(
            "a round that is {} cannot be {outcome:?}",
            round.state
        )));
    }
    delete_intent(tx, round).await?;
    match outcome {
        Outcome::Written(written) => {
            let hash = Some(written.policy_hash.clone()).filter(|hash| !hash.is_empty());
            round.state = RoundState::Written;
            round.progress.written_version = Some(i64::from(written.version));
            round.progress.written_hash = hash;
            close::save(tx, round).await?;
            close::clear(tx, round, now).await?;
            let more = json!({ "version": written.version });
            events::emit(ctx, tx, event_types::APPROVAL_APPROVED, round, more).await?;
            if written.lost_marks.is_empty() {
                return Ok(());
            }
            Box::pin(lost_marks::report(ctx, tx, round, written, now)).await
        }
        Outcome::NotDone => {
            round.state = RoundState::Approved;
            close::save(tx, round).await
        }
        Outcome::Loaded => {
            close::close(ctx, tx, round, Ending::Applied, "", now).await?;
            let summary = &round.summary;
            let more = json!({
                "applied_version": round.progress.written_version,
                "diff_summary": {
                    "added": summary.added,
                    "removed": summary.removed,
                    "changed": summary.changed,
                },
            });
            events::emit(ctx, tx, event_types::POLICY_APPLIED, round, more).await
        }
        Outcome::LoadFailed(why) => {
            let reason = load_failure(round, why);
            close::close(ctx, tx, round, Ending::Failed, &reason, now).await?;
            let more = json!({ "version": round.progress.written_version });
            events::emit(ctx, tx, event_types::POLICY_LOAD_FAILED, round, more).await
        }
        Outcome::Ended(ending, reason) => close::close(ctx, tx, round, *ending, reason, now).await,
    }
}

/// Returns the sentence about a policy that a sandbox could not load. The gateway's words are quoted.
#[must_use]
pub fn load_failure(round: &Round, why: &str) -> String {
    let version = round.progress.written_version.unwrap_or_default();
    format!("the sandbox could not load revision {version}, and its gateway reports: `{why}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_belongs_to_a_state_of_the_write() {
        let written = Outcome::written(4, "hash");
        let ended = Outcome::Ended(Ending::Failed, String::new());
        for state in RoundState::ALL {
            let is_open =
                matches!(state, RoundState::Approved | RoundState::Sending | RoundState::Written);
            assert_eq!(ended.is_possible_in(*state), is_open, "{state}");
            let is_before = matches!(state, RoundState::Approved | RoundState::Sending);
            assert_eq!(written.is_possible_in(*state), is_before, "{state}");
            let is_loading = *state == RoundState::Written;
            assert_eq!(Outcome::Loaded.is_possible_in(*state), is_loading, "{state}");
            assert_eq!(Outcome::NotDone.is_possible_in(*state), *state == RoundState::Sending);
        }
    }
}
