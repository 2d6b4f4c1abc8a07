//! The end of a round whose base has moved, and its successor.
//!
//! Invariants
//! - an edit is computed again on the policy that the gateway has now; a complete policy is not, since it would undo
//!   what others have changed;
//! - the successor has the authors of its predecessor and none of its votes. Who moved the base is no author. Only if no
//!   workflow applies, and the proposer had decided by proposing, is it approved at once: the proposer wanted the edit.

use futures_util::future::BoxFuture;

use super::outcome::{self, Outcome};
use super::replace::{self, Computed, Successor};
use super::send;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::governance::Decision;
use crate::openshell::Gateway;
use crate::resources::approvals::NewProposal;
use crate::resources::approvals::proposals::candidate::{self, Candidate};
use crate::resources::approvals::proposals::change::PolicyChange;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::proposals::submit;
use crate::resources::approvals::rounds::open::{Proposer, open_successor};
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::approvals::votes::store as votes;
use crate::resources::operations::{Failure, RunningOperation};
use crate::role::Role;

/// Rules of a round that was decided without a workflow, as they are stored.
const NO_RULES: &str = "[]";

/// The change of a round, computed again.
struct Next {
    change: PolicyChange,
    stored: String,
    candidate: Candidate,
    proposed_by: String,
}

/// Ends a round whose base has moved, with this reason, and opens its successor if the change still applies and differs.
///
/// # Errors
/// A failure that ends the operation: the gateway cannot be asked, and the round waits.
pub async fn supersede(
    running: &RunningOperation,
    gateway: &Gateway,
    round: &Round,
    why: &str,
) -> Result<(), Failure> {
    let next = compute(running.ctx(), gateway, round).await;
    replace::supersede(running, round, why, next).await
}

/// Computes the change of a round again. `None` for a complete policy, and for a change that no longer applies or
/// changes nothing.
async fn compute(ctx: &Ctx, gateway: &Gateway, round: &Round) -> Computed {
    let proposal = proposals::of_round(&mut ctx.db().read().await?, round).await?;
    let Some(proposal) = proposal else { return Ok(None) };
    let Some(stored) = proposal.change_json else { return Ok(None) };
    let change = PolicyChange::from_stored(&stored)?;
    if !change.is_computed_again() {
        return Ok(None);
    }
    // Without a holder: the limits of the proposer must not end the round.
    let computed = candidate::compute(ctx, None, gateway, &round.place.name, &change, "").await;
    let candidate = match computed {
        Ok(candidate) => candidate,
        Err(error) if error.is_refusal() => return Ok(None),
        Err(error) => return Err(error),
    };
    if candidate.is_global {
        // The policy was set after the comparison.
        return Err(send::global_policy());
    }
    let is_same = round.sandbox_id.as_ref().is_none_or(|id| *id == candidate.sandbox_id);
    if !is_same || candidate.is_up_to_date() {
        return Ok(None);
    }
    let proposed_by = proposal.proposed_by;
    Ok(Some(Box::new(Next { change, stored, candidate, proposed_by })))
}

impl Successor for Next {
    fn open<'a>(
        &'a self,
        ctx: &'a Ctx,
        tx: &'a mut Tx<'_>,
        round: &'a mut Round,
        ended: &'a Outcome,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let proposer = proposer(tx, round).await?;
            outcome::apply(ctx, tx, round, ended, now).await?;
            let Self { change, stored, candidate, proposed_by } = self;
            let content = submit::content(candidate);
            let document = change.document(&candidate.policy);
            let comment = &round.summary.comment;
            let mut new = submit::new_round(&round.place, candidate, &content, comment);
            new.authors = &round.authors;
            new.owner = round.owner;
            new.previous = Some(round.id);
            new.proposal = Some(NewProposal {
                yaml: &document,
                mode: change.mode(),
                expected_hash: submit::stored_hash(candidate),
                actor: proposed_by,
                principal: Some(proposer.principal),
            });
            let opened = open_successor(ctx, tx, new, &proposer).await?;
            if opened.is_new {
                proposals::set_change(tx, &opened.round, stored).await?;
            }
            Ok(opened.round.state == RoundState::Approved)
        })
    }
}

/// Returns who has proposed a round, and whether the proposer has approved it. It is read before the votes are cleared.
///
/// # Errors
/// Those of the database.
pub(super) async fn proposer(conn: &mut Conn, round: &Round) -> Result<Proposer, Error> {
    let Some(principal) = round.authors.first().copied() else {
        return Err(Error::internal("a round without an author"));
    };
    let approved_as = approved_as(conn, round, principal).await?;
    Ok(Proposer { principal, approved_as })
}

/// Returns the name and the role with which the proposer has approved a round that no workflow decided.
async fn approved_as(
    conn: &mut Conn,
    round: &Round,
    proposer: PrincipalId,
) -> Result<Option<(String, Role)>, Error> {
    if rounds::rules(conn, round.id).await?.as_deref() != Some(NO_RULES) {
        return Ok(None);
    }
    let own = proposer.to_string();
    let votes = votes::current(conn, round).await?;
    let vote = votes.into_iter().find(|vote| {
        vote.principal.as_deref() == Some(own.as_str()) && vote.decision == Decision::Approve
    });
    vote.map(|vote| Ok((vote.actor, parse_role(&vote.role)?))).transpose()
}
