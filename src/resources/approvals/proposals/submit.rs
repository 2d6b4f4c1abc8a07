//! Opens the round of a proposed policy.

use futures_util::future::BoxFuture;

use super::candidate::Candidate;
use super::change::PolicyChange;
use super::store;
use crate::ctx::{Ctx, Tx};
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Origin, Verdict};
use crate::policy::diff::DifferenceKind;
use crate::resources::approvals::gate::write::{WriteFacts, judge_write};
use crate::resources::approvals::rounds::RoundState;
use crate::resources::approvals::{
    Bounds, Content, NewProposal, NewRound, Opened, PolicyContent, Summary, open,
};
use crate::resources::write_intents::domain as write_intents;

/// Longest hash that is stored with a proposal, in bytes. It is for readers.
const HASH_BYTES_MAX: usize = 1_024;

/// A proposed policy.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The sandbox.
    pub place: &'a SandboxRef,
    /// The change.
    pub change: &'a PolicyChange,
    /// The policy that it leads to.
    pub candidate: &'a Candidate,
    /// Why; empty without a comment.
    pub comment: &'a str,
    /// The API.
    pub origin: Origin,
}

impl Submission<'_> {
    /// Returns what the gate must know.
    #[must_use]
    pub fn facts(&self) -> WriteFacts<'_> {
        WriteFacts {
            origin: self.origin,
            sandbox_id: &self.candidate.sandbox_id,
            restores: self.change.restored_version(),
            is_global: self.candidate.is_global,
        }
    }
}

/// Opens the round of a policy. Without a workflow it is approved at once: the caller decides by calling. Returns `None`
/// for a proxied call to which no rule applies any more. Start the write of an approved round, or
/// [`wake`](crate::resources::approvals::wake) the job.
///
/// # Errors
/// `POLICY_PINNED` or `GOVERNED` if the gate refuses the change, `LIMIT_REACHED` if the caller has too many open
/// proposals, `INVALID_FIELD` if the change is too large.
pub fn submit<'a>(
    ctx: &'a Ctx,
    submission: Submission<'a>,
) -> BoxFuture<'a, Result<Option<Opened>, Error>> {
    Box::pin(async move {
        let opened = ctx.transaction(async |tx| open_in(ctx, tx, &submission).await).await?;
        if let Some(opened) = &opened {
            ctx.add_audit_detail("approval", opened.round.id.get());
            let outcome =
                if opened.round.state == RoundState::Open { "proposed" } else { "applying" };
            ctx.add_audit_detail("outcome", outcome);
        }
        Ok(opened)
    })
}

async fn open_in(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    submission: &Submission<'_>,
) -> Result<Option<Opened>, Error> {
    let Submission { place, change, candidate, .. } = submission;
    write_intents::lock_exclusive(tx, place.gateway.id).await?;
    match judge_write(ctx, tx, place, submission.facts()).await? {
        Verdict::Refuse(refusal) => return Err(refusal.into()),
        Verdict::Pass | Verdict::PassWithInitialPolicy => return Ok(None),
        Verdict::Round(_) => {}
    }
    let stored = change.to_stored()?;
    let (content, document) = (content(candidate), change.document(&candidate.policy));
    let actor = ctx.stored_actor();
    let mut new = new_round(place, candidate, &content, submission.comment);
    new.owner = store::owner(tx, place, &candidate.sandbox_id).await?;
    new.decides = true;
    new.proposal = Some(NewProposal {
        yaml: &document,
        mode: change.mode(),
        expected_hash: stored_hash(candidate),
        actor: &actor,
        principal: ctx.principal(),
    });
    let opened = open(ctx, tx, new).await?;
    if let (true, Some(stored)) = (opened.is_new, &stored) {
        store::set_change(tx, &opened.round, stored).await?;
    }
    Ok(Some(opened))
}

/// Returns what is reviewed of a candidate.
#[must_use]
pub fn content(candidate: &Candidate) -> Content {
    let (base, policy) = (candidate.base_policy.clone(), candidate.policy.clone());
    Content::Policy(Box::new(PolicyContent { base, candidate: policy }))
}

/// Returns the hash that is stored with a proposal.
#[must_use]
pub fn stored_hash(candidate: &Candidate) -> Option<&str> {
    let hash = candidate.etag();
    (1..=HASH_BYTES_MAX).contains(&hash.len()).then_some(hash)
}

/// Returns the round of a candidate, without authors besides the proposer, and without a proposal. `content` is that of
/// the candidate.
#[must_use]
pub fn new_round<'a>(
    place: &'a SandboxRef,
    candidate: &'a Candidate,
    content: &'a Content,
    comment: &str,
) -> NewRound<'a> {
    let mut summary = Summary { comment: comment.to_owned(), ..Summary::default() };
    for difference in &candidate.differences {
        match difference.kind {
            DifferenceKind::Added => summary.added += 1,
            DifferenceKind::Removed => summary.removed += 1,
            DifferenceKind::Changed => summary.changed += 1,
        }
    }
    NewRound {
        place,
        content,
        bounds: Bounds {
            sandbox_id: Some(&candidate.sandbox_id),
            effective_hash: Some(&candidate.effective_hash),
            grant_minutes: None,
        },
        base_version: Some(i64::from(candidate.base.version)),
        authors: &[],
        owner: None,
        summary,
        previous: None,
        proposal: None,
        decides: false,
    }
}
