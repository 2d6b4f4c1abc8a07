//! Votes: approve, reject and withdraw, one or many.
//!
//! Invariants
//! - a vote names the digest of what its voter has seen, and counts for nothing else;
//! - a vote that cannot count is refused, with the reason, and not stored;
//! - the votes of one call are all stored or none;
//! - a decision uses access data that is current in its transaction: a voter who was removed does not count.

pub mod decide;
pub mod store;

use futures_util::future::BoxFuture;
use serde_json::json;

use self::decide::{Decided, Standing, follow, standing, votes_and_needed};
use self::store::NewVote;
use super::apply::fail_points::{self, FailPoint};
use super::rounds::{Round, RoundState, clocks, events};
use super::{rounds, rules, wake};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalRoundId, GatewayId};
use crate::error::{Error, Reason, ResourceKind};
use crate::feed;
use crate::governance::{Decision, Outcome, People, Why};
use crate::outbox::event_types;
use crate::resources::write_intents::domain as write_intents;

/// Maximum number of votes in one call.
pub const VOTES_MAX: usize = 100;
/// Maximum number of times that a principal can vote in a round: the first vote and 20 changes.
const CHANGES_MAX: i64 = 21;
/// Maximum length of a comment, in characters.
pub const COMMENT_CHARACTERS_MAX: usize = 1_000;

/// Decision of a voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BallotDecision {
    /// Casts or changes a vote.
    Cast(Decision),
    /// Withdraws the vote.
    Withdraw,
}

impl BallotDecision {
    /// Returns its name in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cast(decision) => decision.as_str(),
            Self::Withdraw => "withdraw",
        }
    }
}

/// A vote as a caller sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot {
    /// The round.
    pub approval: ApprovalRoundId,
    /// Digest of what the voter has seen; empty to withdraw.
    pub digest: String,
    /// The decision.
    pub decision: BallotDecision,
    /// Comment.
    pub comment: Option<String>,
}

/// Votes in rounds on the gateway of the call. All votes are stored, or none. Returns the rounds afterwards.
///
/// # Errors
/// `NOT_FOUND`, `ROUND_CLOSED`, `REVIEW_STALE`, `NOT_A_VOTER`, `OWN_CHANGE`, `POLICY_PINNED`, `LIMIT_REACHED`, `GOVERNED`
/// and `ACCESS_STALE`, each for the first vote that cannot be stored.
pub fn cast<'a>(ctx: &'a Ctx, ballots: &'a [Ballot]) -> BoxFuture<'a, Result<Vec<Round>, Error>> {
    Box::pin(async move {
        let gateway = ctx.required_gateway()?.id;
        let rounds = feed::until_current(ctx.app(), move |position| {
            Box::pin(async move {
                let people = People::on_gateway(&ctx.app().snapshot, gateway);
                ctx.transaction(async |tx| {
                    write_intents::lock_exclusive(tx, gateway).await?;
                    // Before the access data are compared: a rotation that comes first is among them.
                    if let Some(PrincipalId::ServicePrincipal(voter)) = ctx.principal() {
                        store::lock_voter(tx, voter).await?;
                    }
                    if !feed::is_current(tx, &position).await? {
                        return Ok(None);
                    }
                    let now = ctx.db().now(tx).await?;
                    cast_all(ctx, tx, ballots, &people, now).await.map(Some)
                })
                .await
            })
        })
        .await?;
        fail_points::reached(FailPoint::VoteStored);
        if rounds.iter().any(|round| round.state == RoundState::Approved) {
            wake(ctx.app());
        }
        Ok(rounds)
    })
}

async fn cast_all(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    ballots: &[Ballot],
    people: &People,
    now: Timestamp,
) -> Result<Vec<Round>, Error> {
    let mut rounds = Vec::with_capacity(ballots.len());
    for ballot in ballots {
        rounds.push(cast_one(ctx, tx, ballot, people, now).await?);
    }
    Ok(rounds)
}

async fn cast_one(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    ballot: &Ballot,
    people: &People,
    now: Timestamp,
) -> Result<Round, Error> {
    let unknown = || Error::Denied { why: "only a known caller votes".to_owned() };
    let voter = ctx.principal().ok_or_else(unknown)?;
    let mut round = load(tx, ctx.required_gateway()?.id, ballot.approval).await?;
    require_voting(tx, &round, now).await?;
    let is_stored = match ballot.decision {
        BallotDecision::Withdraw => {
            if !store::clear(tx, &round, voter, now).await? {
                return Ok(round);
            }
            true
        }
        BallotDecision::Cast(decision) => {
            if !ballot.digest.eq_ignore_ascii_case(&round.digest) {
                return Err(stale(&round));
            }
            if decision == Decision::Approve && round.action.writes_policy() {
                rules::require_unpinned(tx, &round, now).await?;
            }
            store_vote(ctx, tx, &round, voter, decision, ballot, now).await?
        }
    };
    // Its time is not over, so this is an escalation at most, and the votes decide with it.
    clocks::apply(ctx, tx, &mut round, now).await?;
    let standing = standing(tx, &round, people, now).await?;
    if let BallotDecision::Cast(decision) = ballot.decision {
        check_counts(&round, &standing, voter, decision)?;
        check_key(ctx, &round, &standing, decision)?;
    }
    let decided = follow(ctx, tx, &mut round, &standing, now).await?;
    // The same vote again is not reported.
    if is_stored || decided != Decided::Unchanged {
        report(ctx, tx, &round, ballot, &standing, decided).await?;
    }
    Ok(round)
}

/// Loads a round of a gateway.
///
/// # Errors
/// `NOT_FOUND` if it does not exist or belongs to another gateway.
pub async fn load(
    tx: &mut Tx<'_>,
    gateway: GatewayId,
    id: ApprovalRoundId,
) -> Result<Round, Error> {
    let found = rounds::store::by_id(tx, id).await?;
    let found = found.filter(|round| round.place.gateway.id == gateway);
    found.ok_or_else(|| Error::not_found(ResourceKind::Approval, id))
}

/// Refuses a change of votes in a round that has ended, whose time is over, or whose change is being written.
///
/// # Errors
/// `ROUND_CLOSED`.
pub async fn require_voting(tx: &mut Tx<'_>, round: &Round, now: Timestamp) -> Result<(), Error> {
    let state = rounds::effective_state(round, now);
    if state.is_voting() {
        return Ok(());
    }
    let successor = rounds::store::successor(tx, round).await?;
    let mut facts = vec![("approval", round.id.to_string()), ("state", state.to_string())];
    facts.extend(successor.map(|id| ("successor", id.to_string())));
    let why = match successor {
        Some(id) => format!("the review is {state}; approval {id} replaces it"),
        None => format!("the review is {state}: its votes cannot change"),
    };
    Err(Error::explained(Reason::RoundClosed, why, facts))
}

fn stale(round: &Round) -> Error {
    let facts = [("approval", round.id.to_string()), ("digest", round.digest.clone())];
    let why = format!(
        "approval {} is about another content than the digest in the request: read it again",
        round.id
    );
    Error::explained(Reason::ReviewStale, why, facts)
}

/// Stores a vote. The same vote again is stored once. Returns whether it was stored now.
async fn store_vote(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    voter: PrincipalId,
    decision: Decision,
    ballot: &Ballot,
    now: Timestamp,
) -> Result<bool, Error> {
    let current = store::current(tx, round).await?;
    let own = voter.to_string();
    let is_same = current.iter().any(|vote| {
        vote.principal.as_deref() == Some(own.as_str())
            && vote.decision == decision
            && vote.comment == ballot.comment
    });
    if is_same {
        return Ok(false);
    }
    if store::count_by(tx, round, voter).await? >= CHANGES_MAX {
        let why = format!("a vote can be changed at most {} times", CHANGES_MAX - 1);
        return Err(Error::refused(Reason::LimitReached, why));
    }
    store::clear(tx, round, voter, now).await?;
    let workflow = rules::in_force(tx, &round.place).await?.narrowest();
    let actor = ctx.stored_actor();
    let (role, comment) = (ctx.role(), ballot.comment.as_deref());
    let (principal, actor) = (voter, actor.as_str());
    let new = NewVote { workflow, principal, actor, role, decision, comment, at: now };
    store::insert(tx, round, &new).await?;
    Ok(true)
}

/// Refuses a vote that cannot count.
fn check_counts(
    round: &Round,
    standing: &Standing,
    voter: PrincipalId,
    decision: Decision,
) -> Result<(), Error> {
    match decision {
        Decision::Approve => {
            let mut uncounted = standing.tally.uncounted.iter();
            match uncounted.find(|(principal, _)| *principal == voter) {
                None => Ok(()),
                Some((_, why)) => Err(cannot_count(round, *why)),
            }
        }
        Decision::Reject => match standing.tally.outcome {
            Outcome::Rejected { .. } => Ok(()),
            Outcome::Open | Outcome::Approved => Err(cannot_count(round, Why::NotNamed)),
        },
    }
}

/// Refuses an approval under a workflow with a key of which it is not known who holds it: that person could approve
/// beside it.
fn check_key(
    ctx: &Ctx,
    round: &Round,
    standing: &Standing,
    decision: Decision,
) -> Result<(), Error> {
    let is_governed = !standing.rules.workflows.is_empty();
    if decision == Decision::Approve && is_governed && !ctx.is_key_holder_known() {
        return Err(cannot_count(round, Why::MakerUnknown));
    }
    Ok(())
}

/// Returns the error of an approval that does not count.
#[must_use]
pub fn cannot_count(round: &Round, why: Why) -> Error {
    let facts = [("approval", round.id.to_string()), ("why", why_name(why).to_owned())];
    Error::explained(why_reason(why), format!("the vote cannot count: {}", why_text(why)), facts)
}

fn why_reason(why: Why) -> Reason {
    match why {
        Why::Author | Why::Owner | Why::Maker => Reason::OwnChange,
        Why::NotNamed
        | Why::JoinedLater
        | Why::RoleTooLow
        | Why::BesideMaker
        | Why::MakerUnknown
        | Why::Left => Reason::NotAVoter,
    }
}

/// Returns the name of a reason in errors.
#[must_use]
pub fn why_name(why: Why) -> &'static str {
    match why {
        Why::NotNamed => "not_named",
        Why::JoinedLater => "joined_later",
        Why::RoleTooLow => "role_too_low",
        Why::BesideMaker => "beside_maker",
        Why::MakerUnknown => "maker_unknown",
        Why::Maker => "maker",
        Why::Owner => "owner",
        Why::Author => "author",
        Why::Left => "left",
    }
}

fn why_text(why: Why) -> &'static str {
    match why {
        Why::NotNamed => "no rule names the voter",
        Why::JoinedLater => "the voter joined the group after the review was opened",
        Why::RoleTooLow => "the role of the voter on the gateway is too low",
        Why::BesideMaker => "a person behind the service principal has voted already",
        Why::MakerUnknown => {
            "it is not known who holds the key of the service principal: rotate it, or use its newest key"
        }
        Why::Maker => {
            "the voter made a service principal among authors and owner, or one of them made the voter"
        }
        Why::Owner => "the voter owns the sandbox",
        Why::Author => "the voter is an author of the change",
        Why::Left => "the voter was deleted or deactivated",
    }
}

/// Reports a vote that has not decided the round. A decision has an event of its own.
async fn report(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    ballot: &Ballot,
    standing: &Standing,
    decided: Decided,
) -> Result<(), Error> {
    match decided {
        Decided::Approved | Decided::Executed | Decided::Rejected | Decided::Superseded => Ok(()),
        Decided::Unchanged | Decided::Reopened => {
            let (votes, needed) = votes_and_needed(&standing.tally);
            let decision = ballot.decision.as_str();
            let more = json!({ "decision": decision, "votes": votes, "needed": needed });
            events::emit(ctx, tx, event_types::APPROVAL_VOTE_CAST, round, more).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHYS: [Why; 9] = [
        Why::NotNamed,
        Why::JoinedLater,
        Why::RoleTooLow,
        Why::BesideMaker,
        Why::MakerUnknown,
        Why::Maker,
        Why::Owner,
        Why::Author,
        Why::Left,
    ];

    #[test]
    fn every_reason_of_a_vote_that_does_not_count_has_a_name_and_an_error() {
        let mut names: Vec<&str> = WHYS.iter().map(|why| why_name(*why)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WHYS.len());
        let own = WHYS.iter().filter(|why| why_reason(**why) == Reason::OwnChange);
        assert_eq!(own.count(), 3);
    }
}
