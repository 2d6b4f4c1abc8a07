//! The end of a round whose base has moved, and its successor.
//!
//! Invariants
//! - an edit is computed again on the policy that the gateway has now; a complete policy is not, since it would undo
//!   what others have changed;
//! - the successor has the authors of its predecessor and none of its votes. Who moved the base is no author. Only if no
//!   workflow applies, and the proposer had decided by proposing, is it approved at once: the proposer wanted the edit;
//! - the predecessor ends and its successor begins in one transaction.

use super::outcome::{self, Outcome};
use super::send;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::Conn;
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::governance::Decision;
use crate::openshell::Gateway;
use crate::policy::Presets;
use crate::resources::approvals::proposals::candidate::{self, Candidate};
use crate::resources::approvals::proposals::change::PolicyChange;
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::proposals::submit;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::open::{Proposer, open_successor};
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::approvals::votes::store as votes;
use crate::resources::approvals::{NewProposal, wake};
use crate::resources::operations::retry::with_retries;
use crate::resources::operations::{Failure, RunningOperation};
use crate::resources::write_intents::domain as write_intents;
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
    let next = match compute(running.ctx(), gateway, round).await {
        Ok(next) => next,
        // A write that began must not wait for its successor.
        Err(_) if round.state == RoundState::Sending => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(next) = &next {
        match with_retries(running, || replace(running, round, next, why)).await {
            // Such as a rule that this version cannot read: there is no successor then.
            Err(error) if error.is_refusal() && !matches!(error, Error::Conflict { .. }) => {}
            replaced => return Ok(replaced?),
        }
    }
    let ended = Outcome::Ended(Ending::Superseded, why.to_owned());
    Ok(outcome::store(running, (round.id, round.state), &ended).await?)
}

/// Computes the change of a round again. `None` for a complete policy, and for a change that no longer applies or
/// changes nothing.
async fn compute(ctx: &Ctx, gateway: &Gateway, round: &Round) -> Result<Option<Next>, Error> {
    let proposal = proposals::of_round(&mut ctx.db().read().await?, round).await?;
    let Some(proposal) = proposal else { return Ok(None) };
    let Some(stored) = proposal.change_json else { return Ok(None) };
    let change = PolicyChange::from_stored(&stored)?;
    if !change.is_computed_again() {
        return Ok(None);
    }
    let (presets, sandbox) = (ctx.app().part::<Presets>(), &round.place.name);
    let candidate = match candidate::compute(gateway, presets, sandbox, &change, "").await {
        Ok(candidate) => candidate,
        Err(error) if error.is_refusal() => return Ok(None),
        Err(error) => return Err(error),
    };
    if candidate.is_global {
        // The policy was set after the comparison.
        return Err(send::global_policy());
    }
    let is_same = round.sandbox_id.as_ref().is_none_or(|id| *id == candidate.sandbox_id);
    let differs = is_same && !candidate.is_up_to_date();
    let proposed_by = proposal.proposed_by;
    Ok(differs.then_some(Next { change, stored, candidate, proposed_by }))
}

async fn replace(
    running: &RunningOperation,
    round: &Round,
    next: &Next,
    why: &str,
) -> Result<(), Error> {
    let ctx = running.ctx();
    let (operation, is_approved) = ctx
        .record_change(async |tx| {
            let operation = running.step_in(tx, None).await?;
            write_intents::lock_exclusive(tx, round.place.gateway.id).await?;
            let now = ctx.db().now(tx).await?;
            let stored = rounds::by_id(tx, round.id).await?;
            let Some(mut stored) = stored.filter(|stored| stored.state == round.state) else {
                return Ok((operation, false));
            };
            let is_approved = replace_in(ctx, tx, &mut stored, next, why, now).await?;
            Ok((operation, is_approved))
        })
        .await?;
    running.notify_committed(operation);
    if is_approved {
        wake(ctx.app());
    }
    Ok(())
}

/// Ends a round and opens its successor. Returns whether the successor is approved.
async fn replace_in(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    next: &Next,
    why: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(principal) = round.authors.first().copied() else {
        return Err(Error::internal("a round without an author"));
    };
    // Before the votes are cleared.
    let approved_as = approved_as(tx, round, principal).await?;
    let proposer = Proposer { principal, approved_as };
    let ended = Outcome::Ended(Ending::Superseded, why.to_owned());
    outcome::apply(ctx, tx, round, &ended, now).await?;
    let Next { change, stored, candidate, proposed_by } = next;
    let (content, document) = (submit::content(candidate), change.document(&candidate.policy));
    let mut new = submit::new_round(&round.place, candidate, &content, &round.summary.comment);
    new.authors = &round.authors;
    new.owner = round.owner;
    new.previous = Some(round.id);
    new.proposal = Some(NewProposal {
        yaml: &document,
        mode: change.mode(),
        expected_hash: submit::stored_hash(candidate),
        actor: proposed_by,
        principal: Some(principal),
    });
    let opened = open_successor(ctx, tx, new, &proposer).await?;
    if opened.is_new {
        proposals::set_change(tx, &opened.round, stored).await?;
    }
    Ok(opened.round.state == RoundState::Approved)
}

/// Returns the name and the role with which the proposer has approved a round that no workflow decided.
///
/// # Errors
/// Those of the database.
pub(super) async fn approved_as(
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
