//! Decisions about drafts that stock clients make while an approval workflow applies: votes, and proposals to undo.
//!
//! Invariants
//! - g01: below quorum no call that could approve is sent, not even one with a token that the gateway would refuse: an
//!   approval that renews a token approves if nothing has changed;
//! - a vote counts only if the client was shown what the vote decides about: its token is that of the chunk, and the
//!   policy that its gateway has shown has the rules to which the approval leads now;
//! - a client gets the words of the gateway where the gateway would refuse the request.

use std::time::Instant;

use futures_util::future::BoxFuture;
use tracing::warn;

pub use super::awaited::Written;
use super::awaited::{closed, to_written, until, wait};
use super::content::{DraftContent, is_chunk_id};
use super::current::{CurrentDrafts, require_no_global_policy};
use super::edit::{not_reviewable, status_word};
use super::hints::hint;
use super::rejections;
use super::undo::{self, Undoing};
use crate::characters::plain_text;
use crate::ctx::Ctx;
use crate::db::types::SandboxRef;
use crate::error::{Error, Reason};
use crate::governance::{Action, Decision, Origin};
use crate::openshell::Gateway;
use crate::openshell::draft_requests::ChunkToken;
use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use crate::resources::approvals::proposals::required::required;
use crate::resources::approvals::rounds::{Round, RoundState, store as rounds};
use crate::resources::approvals::votes::{self, Ballot, BallotDecision, VOTES_MAX};
use crate::resources::write_intents::domain as write_intents;

/// Maximum length of a reason, in characters: that of a comment.
const REASON_CHARACTERS_MAX: usize = votes::COMMENT_CHARACTERS_MAX;

const TOKEN_MISMATCH: &str =
    "review token does not match the fetched proposal; refetch and review again";

/// An approval of chunks by a client.
#[derive(Debug, Clone, Copy)]
pub struct ListedApproval<'a> {
    /// The chunks.
    pub listed: &'a [ChunkToken],
    /// Whether chunks with security notes are left out, as by the approval of several.
    pub skips_flagged: bool,
    /// Deadline of the caller.
    pub deadline: Option<Instant>,
}

/// Result of a rejection by a stock client.
#[derive(Debug)]
pub enum Rejected {
    /// The chunk is rejected.
    Done,
    /// No rule applies any more.
    NoRule,
}

/// Returns a refusal with the words of a gateway.
fn as_gateway(why: impl Into<String>) -> Error {
    Error::refused(Reason::GatewayRefused, why)
}

fn wrong_status(chunk: &DraftChunk, expected: &str) -> Error {
    let status = status_word(chunk.status);
    as_gateway(format!("chunk status is '{status}', expected {expected}"))
}

/// Returns the error for a draft whose id is not possible for a review.
fn bad_id() -> Error {
    not_reviewable("the id of the draft cannot be that of a review, and a rule requires one")
}

/// Votes for chunks, and waits until they are written if the votes decide that.
///
/// # Errors
/// `APPROVAL_REQUIRED` unless all of them are written in time, `REVIEW_STALE` if a client was shown another result,
/// `GATEWAY_REFUSED` with the words of the gateway where it would refuse the request, `GOVERNED` if a chunk can have no
/// review; those of [`votes::cast`].
pub fn approve<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    approval: ListedApproval<'a>,
) -> BoxFuture<'a, Result<Written, Error>> {
    Box::pin(async move {
        let until = until(ctx, approval.deadline);
        check_list(approval.listed)?;
        let current = CurrentDrafts::read(gateway, place).await?;
        // Last: a policy for all sandboxes that is set meanwhile counts, and some gateways write the first revision when
        // this is read.
        require_no_global_policy(gateway, place).await?;
        let mut wanted = Vec::new();
        for asked in approval.listed {
            let chunk = current.chunk(&asked.chunk)?;
            if approval.skips_flagged && !chunk.security_notes.is_empty() {
                continue;
            }
            wanted.push((chunk, check_approval(&current, chunk, &asked.token)?));
        }
        let skipped = approval.listed.len() - wanted.len();
        let opened = open_all(ctx, place, &current, &wanted).await?;
        check_written(gateway, place, &opened).await?;
        for ((chunk, content), round) in wanted.iter().zip(&opened) {
            if !undo::leads_to(chunk, content) {
                return Err(stale(round));
            }
        }
        let voted = vote(ctx, opened, Decision::Approve, None).await?;
        let written = wait(ctx, voted, until).await?;
        Ok(to_written(&written, skipped))
    })
}

fn check_list(listed: &[ChunkToken]) -> Result<(), Error> {
    if listed.len() > VOTES_MAX {
        let why = format!("must have at most {VOTES_MAX} drafts under an approval workflow");
        return Err(Error::invalid("approvals", why));
    }
    for (at, asked) in listed.iter().enumerate() {
        if !is_chunk_id(&asked.chunk) {
            return Err(bad_id());
        }
        if listed[..at].iter().any(|other| other.chunk == asked.chunk) {
            return Err(Error::invalid("approvals", "must name each draft once"));
        }
    }
    Ok(())
}

/// Checks that a client may vote for a chunk. Returns what is reviewed.
fn check_approval(
    current: &CurrentDrafts,
    chunk: &DraftChunk,
    token: &str,
) -> Result<DraftContent, Error> {
    if chunk.status == ChunkStatus::MaybeApproved {
        return Err(wrong_status(chunk, "'pending' or 'rejected'"));
    }
    if token != chunk.review_token {
        return Err(as_gateway(TOKEN_MISMATCH));
    }
    match current.base.content(chunk) {
        Err(Error::Invalid { why, .. }) => {
            Err(as_gateway(format!("proposal is not applicable: {why}")))
        }
        content => content,
    }
}

/// Opens the rounds of chunks that have none, and brings the others up to date.
async fn open_all(
    ctx: &Ctx,
    place: &SandboxRef,
    current: &CurrentDrafts,
    wanted: &[(&DraftChunk, DraftContent)],
) -> Result<Vec<Round>, Error> {
    ctx.transaction(async |tx| {
        write_intents::lock_exclusive(tx, place.gateway.id).await?;
        let mut opened = Vec::with_capacity(wanted.len());
        for (chunk, content) in wanted {
            opened.push(current.open(ctx, tx, place, (*chunk, content)).await?);
        }
        Ok(opened)
    })
    .await
}

/// Refuses to answer with an earlier write of a chunk that is pending again. Another vote may have led to the write
/// after the chunks were read: then they are approved now.
async fn check_written(
    gateway: &Gateway,
    place: &SandboxRef,
    opened: &[Round],
) -> Result<(), Error> {
    for round in opened.iter().filter(|round| round.state == RoundState::Written) {
        let status = gateway.chunk_status(&place.name, &round.chunk_id).await?;
        if status != Some(ChunkStatus::MaybeApproved) {
            return Err(closed(round));
        }
    }
    Ok(())
}

fn stale(round: &Round) -> Error {
    let facts = [("approval", round.id.to_string()), ("digest", round.digest.clone())];
    let why = format!(
        "the policy has changed since the draft was evaluated, and leads to another rule than the client was shown: \
         vote through ApprovalService, in approval {}",
        round.id
    );
    Error::explained(Reason::ReviewStale, why, facts)
}

/// Votes in those rounds whose votes can change. Returns all of them.
async fn vote(
    ctx: &Ctx,
    opened: Vec<Round>,
    decision: Decision,
    comment: Option<&str>,
) -> Result<Vec<Round>, Error> {
    let mut ballots = Vec::new();
    for round in opened.iter().filter(|round| round.state.is_voting()) {
        ballots.push(Ballot {
            approval: round.id,
            digest: round.digest.clone(),
            decision: BallotDecision::Cast(decision),
            comment: comment.map(str::to_owned),
        });
    }
    let ids: Vec<i64> = opened.iter().map(|round| round.id.get()).collect();
    ctx.add_audit_detail("approvals", ids);
    let voted = votes::cast(ctx, &ballots).await?;
    let newest = |round: Round| {
        let voted = voted.iter().find(|voted| voted.id == round.id);
        voted.cloned().unwrap_or(round)
    };
    Ok(opened.into_iter().map(newest).collect())
}

/// Rejects a pending chunk by a vote, and then on its gateway. The removal of an approved one is proposed.
///
/// # Errors
/// `APPROVAL_REQUIRED` for an approved chunk, `GATEWAY_REFUSED` with the words of the gateway for a rejected one; those
/// of [`votes::cast`].
pub fn reject<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    (chunk, reason): (&'a str, &'a str),
) -> BoxFuture<'a, Result<Rejected, Error>> {
    Box::pin(async move {
        let current = CurrentDrafts::read(gateway, place).await?;
        let found = current.chunk(chunk)?;
        match found.status {
            ChunkStatus::Rejected => return Err(wrong_status(found, "'pending' or 'approved'")),
            ChunkStatus::MaybeApproved => {
                let undone = propose_undo(ctx, gateway, place, (&current, found)).await?;
                return undone.map_or(Ok(Rejected::NoRule), Err);
            }
            ChunkStatus::Pending => {}
        }
        match current.base.content(found) {
            Ok(content) => {
                let opened = open_all(ctx, place, &current, &[(found, content)]).await?;
                vote_against(ctx, opened, reason).await?;
                send_rejection(ctx, gateway, place, chunk).await;
            }
            Err(error) if error.is_refusal() => {
                reject_unreviewable(ctx, gateway, place, (chunk, reason)).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(Rejected::Done)
    })
}

/// Rejects by a vote in these rounds, all of them.
///
/// # Errors
/// `ROUND_CLOSED` if one is being written; those of [`votes::cast`].
async fn vote_against(ctx: &Ctx, rounds: Vec<Round>, reason: &str) -> Result<(), Error> {
    let comment = comment_of(reason);
    let voted = vote(ctx, rounds, Decision::Reject, Some(&comment)).await?;
    match voted.iter().find(|round| round.state != RoundState::Rejected) {
        Some(round) => Err(closed(round)),
        None => Ok(()),
    }
}

/// Returns the comment of a vote for the reason of a client. No reason is refused: it is cut, and read as it is stored.
fn comment_of(reason: &str) -> String {
    let comment: String = plain_text(reason, "\n").take(REASON_CHARACTERS_MAX).collect();
    if comment.trim().is_empty() {
        return "rejected through the OpenShell API".to_owned();
    }
    comment
}

/// Rejects a pending chunk that cannot be reviewed any more, or never could: because it is too large, cannot be merged, or
/// has a part that this build does not know. If it has a round from before, a vote in that decides. Without one, there is
/// nothing to vote on: the rejection changes no policy, as the clearing of all drafts does.
///
/// # Errors
/// `GATEWAY_REFUSED` if it is not pending any more; those of [`vote_against`] and of the calls.
async fn reject_unreviewable(
    ctx: &Ctx,
    gateway: &Gateway,
    place: &SandboxRef,
    (chunk, reason): (&str, &str),
) -> Result<(), Error> {
    let mut conn = ctx.db().read().await?;
    let round = rounds::find_open(&mut conn, place, Action::DraftApprove, chunk).await?;
    drop(conn);
    ctx.add_audit_detail("reviewed", round.is_some());
    if let Some(round) = round {
        vote_against(ctx, vec![round], reason).await?;
    }
    hint(ctx.app(), place.gateway.id, &place.name);
    let call = (chunk, reason);
    if rejections::reject_pending(ctx, gateway, &place.name, call, |_| true).await? {
        return Ok(());
    }
    let why = "the draft is not pending any more: it was decided or deleted meanwhile";
    Err(as_gateway(why))
}

/// Sends a rejection at once. If that fails, it is sent later.
async fn send_rejection(ctx: &Ctx, gateway: &Gateway, place: &SandboxRef, chunk: &str) {
    let sent = async {
        let found = rejections::store::of_chunk(&mut ctx.db().read().await?, place, chunk).await?;
        match found {
            Some(rejection) => rejections::send(ctx, gateway, rejection).await,
            None => Ok(()),
        }
    };
    if let Err(error) = sent.await {
        let error = &error as &dyn std::error::Error;
        warn!(error, "the rejection of a draft is sent later");
    }
}

/// Proposes to undo an approved chunk. Returns `None` if no rule applies any more, otherwise the error that names the
/// review.
///
/// # Errors
/// `GATEWAY_REFUSED` with the words of the gateway if the chunk is not approved; those of [`undo::submit`].
pub fn undo<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    chunk: &'a str,
) -> BoxFuture<'a, Result<Option<Error>, Error>> {
    Box::pin(async move {
        let current = CurrentDrafts::read(gateway, place).await?;
        let found = current.chunk(chunk)?;
        if found.status != ChunkStatus::MaybeApproved {
            return Err(wrong_status(found, "'approved'"));
        }
        propose_undo(ctx, gateway, place, (&current, found)).await
    })
}

async fn propose_undo(
    ctx: &Ctx,
    gateway: &Gateway,
    place: &SandboxRef,
    (current, chunk): (&CurrentDrafts, &DraftChunk),
) -> Result<Option<Error>, Error> {
    if !is_chunk_id(&chunk.id) {
        return Err(bad_id());
    }
    let undoing = Undoing::of(gateway, place, (current, chunk), (Origin::Proxied, "")).await?;
    match undo::submit(ctx, undoing).await? {
        Some(opened) => required(ctx, &opened.round).await.map(Some),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_the_reason_of_a_rejection_is_read_as_it_is_stored() {
        for (reason, comment) in [
            ("not needed", "not needed"),
            ("safe\u{202e}\nlive\t\u{1b}[2J", "safe \nlive  [2J"),
            ("\u{2066}\n", "rejected through the OpenShell API"),
        ] {
            assert_eq!(comment_of(reason), comment, "{reason:?}");
        }
        let most = "\u{e4}".repeat(REASON_CHARACTERS_MAX);
        assert_eq!(comment_of(&format!("{most}a")), most);
    }
}
