//! The end of a round of a draft whose content is not what its gateway has now, and its successor.
//!
//! Invariants
//! - an undoing that may have been sent has no successor;
//! - the successor has the authors of its predecessor and none of its votes. Only an undoing that its proposer had
//!   decided without a workflow is approved at once, as long as none applies;
//! - the predecessor ends and its successor begins in one transaction.

use futures_util::future::BoxFuture;
use serde_json::json;

use super::drafts::read_state;
use super::outcome::{self, Outcome};
use super::successor::approved_as;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::error::Error;
use crate::governance::Action;
use crate::openshell::Gateway;
use crate::openshell::drafts::ChunkStatus;
use crate::outbox::event_types;
use crate::resources::approvals::drafts::content::{DraftContent, DraftFacts};
use crate::resources::approvals::drafts::open::{DraftRound, SeenDraft, open_or_refresh};
use crate::resources::approvals::drafts::undo;
use crate::resources::approvals::rounds::close::Ending;
use crate::resources::approvals::rounds::open::{Proposer, open_successor};
use crate::resources::approvals::rounds::{Round, RoundState, events, store as rounds};
use crate::resources::approvals::{Bounds, Content, NewRound, Summary, wake};
use crate::resources::operations::retry::with_retries;
use crate::resources::operations::{Failure, RunningOperation};
use crate::resources::write_intents::domain as write_intents;

/// Ends a round whose content is not what its gateway has now, with this reason. If the draft is still pending, the
/// round of its present rule follows; if it is still approved and nothing was sent, the round of what its undoing leads
/// to now.
///
/// # Errors
/// A failure that ends the operation: the gateway cannot be asked, and the round waits.
pub(super) async fn supersede(
    running: &RunningOperation,
    gateway: &Gateway,
    round: &Round,
    why: &str,
) -> Result<(), Failure> {
    let next = match next(running.ctx(), gateway, round).await {
        Ok(next) => next,
        // A write that began must not wait for its successor.
        Err(_) if round.state == RoundState::Sending => None,
        Err(error) => return Err(error.into()),
    };
    if next.is_some() {
        match with_retries(running, || replace(running, round, next.as_ref(), why)).await {
            // Such as a rule that this version cannot read: there is no successor then.
            Err(error) if error.is_refusal() && !matches!(error, Error::Conflict { .. }) => {}
            replaced => return Ok(replaced?),
        }
    }
    Ok(with_retries(running, || replace(running, round, None, why)).await?)
}

/// What is reviewed next.
struct Next {
    sandbox_id: String,
    version: u32,
    what: What,
}

enum What {
    /// What the draft asks for now.
    Approval(Box<DraftContent>, DraftFacts),
    /// What its undoing leads to now.
    Undoing(Content),
}

async fn next(ctx: &Ctx, gateway: &Gateway, round: &Round) -> Result<Option<Next>, Error> {
    // The chunk of both actions is that of the round.
    let state = match read_state(gateway, &round.place.name, &round.chunk_id).await {
        Ok(state) => state,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(chunk) = state.chunk else { return Ok(None) };
    let what = match (round.action, chunk.status) {
        (Action::DraftApprove, ChunkStatus::Pending) => {
            let Ok(content) = DraftContent::of(&state.policy, &chunk) else { return Ok(None) };
            What::Approval(Box::new(content), DraftFacts::of(&chunk))
        }
        // An undoing that was sent may have been done, and followed by another approval: it is not repeated (g02).
        (Action::DraftUndo, ChunkStatus::MaybeApproved) if round.state != RoundState::Sending => {
            let Ok(content) = undo::content(&state.policy, &chunk) else { return Ok(None) };
            let stored = rounds::content(&mut ctx.db().read().await?, round.id).await?;
            let is_other_sandbox =
                round.sandbox_id.as_ref().is_some_and(|id| *id != state.live.sandbox_id);
            let content = Content::Undo(Box::new(content));
            // What has moved is back, or is not that of this sandbox.
            if is_other_sandbox || content.encode()? == stored {
                return Ok(None);
            }
            What::Undoing(content)
        }
        (
            Action::DraftApprove
            | Action::DraftUndo
            | Action::PolicyApply
            | Action::RuleChange
            | Action::OverrideReview,
            ChunkStatus::Pending | ChunkStatus::Rejected | ChunkStatus::MaybeApproved,
        ) => return Ok(None),
    };
    let version = state.live.version();
    Ok(Some(Next { sandbox_id: state.live.sandbox_id, version, what }))
}

async fn replace(
    running: &RunningOperation,
    round: &Round,
    next: Option<&Next>,
    why: &str,
) -> Result<(), Error> {
    let ctx: &Ctx = running.ctx();
    let (operation, is_approved) = ctx
        .record_change(async |tx| {
            let operation = running.step_in(tx, None).await?;
            write_intents::lock_exclusive(tx, round.place.gateway.id).await?;
            let now = ctx.db().now(tx).await?;
            let stored = rounds::by_id(tx, round.id).await?;
            let Some(mut stored) = stored.filter(|stored| stored.state == round.state) else {
                return Ok((operation, false));
            };
            let is_approved = replace_in(ctx, tx, &mut stored, (next, why), now).await?;
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
fn replace_in<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    round: &'a mut Round,
    (next, why): (Option<&'a Next>, &'a str),
    now: Timestamp,
) -> BoxFuture<'a, Result<bool, Error>> {
    Box::pin(async move {
        let ended = Outcome::Ended(Ending::Superseded, why.to_owned());
        let Some(next) = next else {
            outcome::apply(ctx, tx, round, &ended, now).await?;
            return Ok(false);
        };
        match &next.what {
            What::Approval(content, facts) => {
                if round.state == RoundState::Sending {
                    // Nothing was done, and only a round that is not being written is replaced.
                    outcome::apply(ctx, tx, round, &Outcome::NotDone, now).await?;
                }
                open_approval(ctx, tx, round, next, (content, facts)).await?;
                Ok(false)
            }
            What::Undoing(content) => {
                let Some(principal) = round.authors.first().copied() else {
                    return Err(Error::internal("a round without an author"));
                };
                // Before the votes are cleared.
                let approved_as = approved_as(tx, round, principal).await?;
                outcome::apply(ctx, tx, round, &ended, now).await?;
                let new = undoing(round, next, content);
                let proposer = Proposer { principal, approved_as };
                let opened = open_successor(ctx, tx, new, &proposer).await?;
                Ok(opened.round.state == RoundState::Approved)
            }
        }
    })
}

async fn open_approval(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    next: &Next,
    (content, facts): (&DraftContent, &DraftFacts),
) -> Result<(), Error> {
    let seen = SeenDraft {
        place: &round.place,
        sandbox_id: &next.sandbox_id,
        chunk_id: &round.chunk_id,
        base_version: next.version,
        content,
        facts,
        pending: None,
        is_asked_for: true,
    };
    if let DraftRound::Opened(next) = open_or_refresh(ctx, tx, &seen).await? {
        let more = json!({ "new_chunks": 1 });
        events::emit(ctx, tx, event_types::APPROVAL_PENDING, &next, more).await?;
    }
    Ok(())
}

/// Returns the round of what an undoing leads to now.
fn undoing<'a>(round: &'a Round, next: &'a Next, content: &'a Content) -> NewRound<'a> {
    let comment = round.summary.comment.clone();
    NewRound {
        place: &round.place,
        content,
        bounds: Bounds { sandbox_id: Some(&next.sandbox_id), ..Bounds::default() },
        base_version: Some(i64::from(next.version)),
        authors: &round.authors,
        owner: round.owner,
        summary: Summary { comment, removed: 1, ..Summary::default() },
        previous: Some(round.id),
        proposal: None,
        decides: false,
    }
}
