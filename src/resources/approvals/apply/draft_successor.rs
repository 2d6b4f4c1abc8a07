//! The end of a round of a draft whose content is not what its gateway has now, and its successor.
//!
//! Invariants
//! - an undoing that may have been sent has no successor;
//! - the successor has the authors of its predecessor and none of its votes. Only an undoing that its proposer had
//!   decided without a workflow is approved at once, as long as none applies.

use futures_util::future::BoxFuture;
use serde_json::json;

use super::drafts::read_state;
use super::outcome::{self, Outcome};
use super::replace::{self, Computed, Successor};
use super::successor::proposer;
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
use crate::resources::approvals::rounds::open::open_successor;
use crate::resources::approvals::rounds::{Round, RoundState, events, store as rounds};
use crate::resources::approvals::{Bounds, Content, NewRound, Summary};
use crate::resources::operations::{Failure, RunningOperation};

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
    let next = compute(running.ctx(), gateway, round).await;
    replace::supersede(running, round, why, next).await
}

/// Content of the next review.
struct Next {
    sandbox_id: String,
    version: u32,
    what: What,
}

enum What {
    /// The rule that the draft asks for now.
    Approval(Box<DraftContent>, DraftFacts),
    /// What its undoing leads to now.
    Undoing(Content),
}

async fn compute(ctx: &Ctx, gateway: &Gateway, round: &Round) -> Computed {
    // The chunk of both actions is that of the round.
    let state = match read_state(gateway, &round.place, &round.chunk_id).await {
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
    Ok(Some(Box::new(Next { sandbox_id: state.live.sandbox_id, version, what })))
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
            match &self.what {
                What::Approval(content, facts) => {
                    if round.state == RoundState::Sending {
                        // Nothing was done, and only a round that is not being written is replaced.
                        outcome::apply(ctx, tx, round, &Outcome::NotDone, now).await?;
                    }
                    open_approval(ctx, tx, round, self, (content, facts)).await?;
                    Ok(false)
                }
                What::Undoing(content) => {
                    let proposer = proposer(tx, round).await?;
                    outcome::apply(ctx, tx, round, ended, now).await?;
                    let new = undoing(round, self, content);
                    let opened = open_successor(ctx, tx, new, &proposer).await?;
                    Ok(opened.round.state == RoundState::Approved)
                }
            }
        })
    }
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
