//! The decision of a round, and what follows from it.
//!
//! Invariant: the decision is that of [`tally`], by the rules in force now and by the people of now. A change of a rule is
//! made in the transaction of its decision.

use serde_json::json;

use super::store;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::error::Error;
use crate::governance::{Action, Decision, Outcome, People, Tally, Vote, tally};
use crate::outbox::event_types;
use crate::resources::approvals::rounds;
use crate::resources::approvals::rounds::close::{Ending, close, save};
use crate::resources::approvals::rounds::{Round, RoundState, apply_window, events, reminders};
use crate::resources::approvals::rule_changes::outdated::end_outdated;
use crate::resources::approvals::rule_changes::{self, Execution};
use crate::resources::approvals::rules::{self, RulesInForce};

/// The state of a round by its votes.
#[derive(Debug)]
pub struct Standing {
    /// The rules in force.
    pub rules: RulesInForce,
    /// The votes that were not cleared.
    pub votes: Vec<Vote>,
    /// The decision.
    pub tally: Tally,
}

/// Number of approvals that count, and number that is required, of the rule that lacks the most.
#[must_use]
pub fn votes_and_needed(tally: &Tally) -> (u32, u32) {
    let counts = tally.rules.iter().map(|rule| {
        let chosen = rule.groups.iter().filter(|group| group.is_chosen);
        chosen.fold((0, 0), |(have, need), group| {
            let count = u32::try_from(group.counting.len()).unwrap_or(u32::MAX);
            (have + count, need + group.need)
        })
    });
    counts.max_by_key(|(have, need)| need.saturating_sub(*have)).unwrap_or_default()
}

/// Decides a round by its stored votes. The caller of this holds the lock of the gateway and has proved that `people` is
/// current.
///
/// # Errors
/// `GOVERNED` if a rule cannot be read by this version.
pub async fn standing(
    conn: &mut Conn,
    round: &Round,
    people: &People,
    now: Timestamp,
) -> Result<Standing, Error> {
    let rules = rules::in_force(conn, &round.place).await?.require_readable()?;
    let stored = store::current(conn, round).await?;
    let votes: Vec<Vote> = stored.iter().filter_map(store::StoredVote::to_vote).collect();
    let tally = tally(&rules.rules(), &round.facts(), &votes, people, now);
    Ok(Standing { rules, votes, tally })
}

/// Changes that a decision has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// Nothing.
    Unchanged,
    /// The change waits to be written.
    Approved,
    /// The change of a rule was made.
    Executed,
    /// The round needs votes again.
    Reopened,
    /// A voter rejected it.
    Rejected,
    /// The rule under review has changed, or the new one cannot be met any more.
    Superseded,
}

/// Changes a round in state `open` or `approved` by the decision of its votes.
///
/// # Errors
/// Those of the change of a rule, and of the database.
pub async fn follow(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    standing: &Standing,
    now: Timestamp,
) -> Result<Decided, Error> {
    match (&standing.tally.outcome, round.state) {
        (Outcome::Rejected { .. }, RoundState::Open | RoundState::Approved) => {
            reject(ctx, tx, round, now).await?;
            Ok(Decided::Rejected)
        }
        (Outcome::Approved, RoundState::Open) => approve(ctx, tx, round, standing, now).await,
        (Outcome::Open, RoundState::Approved) => {
            reopen(ctx, tx, round, standing, now).await?;
            Ok(Decided::Reopened)
        }
        (Outcome::Open | Outcome::Approved | Outcome::Rejected { .. }, _) => Ok(Decided::Unchanged),
    }
}

async fn reject(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    now: Timestamp,
) -> Result<(), Error> {
    let votes = store::current(tx, round).await?;
    let vote = votes.iter().find(|vote| vote.decision == Decision::Reject);
    let reason = vote.map_or_else(String::new, |vote| {
        let comment = vote.comment.as_deref().unwrap_or_default();
        format!("rejected by {}: {comment}", vote.actor)
    });
    close(ctx, tx, round, Ending::Rejected, &reason, now).await
}

async fn approve(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    standing: &Standing,
    now: Timestamp,
) -> Result<Decided, Error> {
    let rules = standing.rules.rules();
    let rules_json = serde_json::to_string(&rules).map_err(Error::internal)?;
    rounds::store::set_rules(tx, round.id, &rules_json).await?;
    round.progress.decided_at = Some(now);
    let (votes, needed) = votes_and_needed(&standing.tally);
    let more = json!({ "votes": votes, "votes_needed": needed });
    match round.action {
        Action::PolicyApply | Action::DraftApprove | Action::DraftUndo => {
            round.state = RoundState::Approved;
            round.progress.apply_by = Some(now.plus(apply_window(&rules)));
            save(tx, round).await?;
            events::emit(ctx, tx, event_types::APPROVAL_QUORUM_MET, round, more).await?;
            Ok(Decided::Approved)
        }
        Action::RuleChange | Action::OverrideReview => {
            if let Execution::NotMade(why) = rule_changes::execute(ctx, tx, round, now).await? {
                close(ctx, tx, round, Ending::Superseded, &why, now).await?;
                return Ok(Decided::Superseded);
            }
            events::emit(ctx, tx, event_types::APPROVAL_QUORUM_MET, round, more).await?;
            close(ctx, tx, round, Ending::Applied, "", now).await?;
            let event_type = event_types::APPROVAL_APPROVED;
            events::emit(ctx, tx, event_type, round, json!({})).await?;
            end_outdated(ctx, tx, &round.place).await?;
            Ok(Decided::Executed)
        }
    }
}

/// Asks for votes again: a voter has left or withdrawn, or a rule is tighter now. The votes stay, and voting ends not
/// before the time for the write would have.
///
/// # Errors
/// Those of the database.
pub async fn reopen(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    standing: &Standing,
    now: Timestamp,
) -> Result<(), Error> {
    round.state = RoundState::Open;
    round.progress.decided_at = None;
    let apply_by = round.progress.apply_by.take();
    if round.expires_at.is_some() && apply_by > round.expires_at {
        round.expires_at = apply_by;
        store::set_expiry(tx, round).await?;
    }
    save(tx, round).await?;
    let first_after = ctx.app().config.approvals.remind_after();
    reminders::store::set(tx, round.id, reminders::next(round, first_after, now)).await?;
    let (votes, needed) = votes_and_needed(&standing.tally);
    let more = json!({ "votes": votes, "needed": needed });
    events::emit(ctx, tx, event_types::APPROVAL_REOPENED, round, more).await
}
