//! The drafts of a sandbox as its gateway has them now, and the rounds that no longer are about them.

use std::collections::HashSet;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::content::{DraftContent, DraftFacts};
use super::open::{self, DraftRound, OPEN_OF_SANDBOX_MAX, SeenDraft, Waiting, open_or_refresh};
use super::read::{self, DraftBase};
use super::store;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::SandboxRef;
use crate::error::{Error, Reason, ResourceKind};
use crate::governance::{Action, Governed, GovernedBy, Instead, Refusal};
use crate::openshell::Gateway;
use crate::openshell::drafts::{ChunkStatus, DraftChunk, DraftList, DraftStatus};
use crate::openshell::policies::PolicySource;
use crate::outbox::event_types;
use crate::resources::approvals::rounds::open::supersede;
use crate::resources::approvals::rounds::{Round, clocks, events, store as rounds};
use crate::resources::write_intents::domain as write_intents;

/// The drafts of a sandbox, and the policy that they would change.
#[derive(Debug)]
pub struct CurrentDrafts {
    /// The policy.
    pub base: DraftBase,
    /// All chunks.
    pub chunks: Vec<DraftChunk>,
}

impl CurrentDrafts {
    /// Reads them. The chunks are read first, so that no token is newer than the policy.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist, `DRAFTS_OVERFLOW` if its drafts are too large; those of the calls.
    pub fn read<'a>(
        gateway: &'a Gateway,
        place: &'a SandboxRef,
    ) -> BoxFuture<'a, Result<Self, Error>> {
        Box::pin(async move {
            let chunks = gateway.draft_chunks(&place.name, DraftStatus::Any).await?;
            let DraftList::Complete(chunks) = chunks else {
                return Err(read::overflowing(&place.name));
            };
            Ok(Self { base: read::base(gateway, &place.name).await?, chunks })
        })
    }

    /// Returns a chunk.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn chunk(&self, id: &str) -> Result<&DraftChunk, Error> {
        let found = self.chunks.iter().find(|chunk| chunk.id == id);
        found.ok_or_else(|| Error::not_found(ResourceKind::DraftChunk, id))
    }

    fn pending(&self) -> HashSet<String> {
        let pending = self.chunks.iter().filter(|chunk| chunk.status == ChunkStatus::Pending);
        pending.map(|chunk| chunk.id.clone()).collect()
    }

    /// Opens the round of a chunk for a person, or brings it up to date.
    ///
    /// # Errors
    /// `ROUND_CLOSED` if the chunk was rejected, and its gateway does not know it yet; those of [`open_or_refresh`].
    pub async fn open(
        &self,
        ctx: &Ctx,
        tx: &mut Tx<'_>,
        place: &SandboxRef,
        (chunk, content): (&DraftChunk, &DraftContent),
    ) -> Result<Round, Error> {
        let (facts, pending) = (DraftFacts::of(chunk), self.pending());
        let seen = SeenDraft {
            place,
            sandbox_id: &self.base.sandbox_id,
            chunk_id: &chunk.id,
            base_version: self.base.version,
            content,
            facts: &facts,
            pending: Some(&pending),
            is_asked_for: true,
        };
        match open_or_refresh(ctx, tx, &seen).await? {
            DraftRound::Opened(round) => {
                // The rounds of what agents ask for are announced together, and this one by itself.
                let more = json!({ "new_chunks": 1 });
                events::emit(ctx, tx, event_types::APPROVAL_PENDING, &round, more).await?;
                Ok(round)
            }
            DraftRound::Kept(round) | DraftRound::Moved(round) => Ok(round),
            DraftRound::Waiting(Waiting::Rejected) => {
                let why = "the draft was rejected, and its gateway does not know it yet";
                Err(Error::refused(Reason::RoundClosed, why))
            }
            // The limits are for what agents ask for.
            DraftRound::Waiting(Waiting::SandboxFull | Waiting::GatewayFull | Waiting::DayFull) => {
                Err(Error::internal("a round that a person asks for has no limit"))
            }
        }
    }
}

/// Refuses a decision about a draft while the gateway has a policy for all sandboxes, with which it would refuse it.
///
/// # Errors
/// `GOVERNED`; those of the call.
pub async fn require_no_global_policy(gateway: &Gateway, place: &SandboxRef) -> Result<(), Error> {
    if !has_global_policy(gateway, place).await? {
        return Ok(());
    }
    let (by, instead) = (GovernedBy::GlobalPolicy, Instead::DeleteGlobalPolicy);
    Err(Refusal::Governed(Governed { by, sandboxes: Vec::new(), instead }).into())
}

/// Returns whether the gateway has a policy for all sandboxes.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist; those of the call.
pub async fn has_global_policy(gateway: &Gateway, place: &SandboxRef) -> Result<bool, Error> {
    Ok(gateway.effective_policy(&place.name).await?.source == PolicySource::Gateway)
}

/// Ends the rounds of a sandbox whose chunk was deleted or decided, with this reason, and replaces those whose chunk asks for
/// another rule now. Nothing is asked if the sandbox has no open round. Returns the number of rounds that have ended.
///
/// # Errors
/// Those of [`CurrentDrafts::read`] and of the database.
pub fn refresh<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    why: &'a str,
) -> BoxFuture<'a, Result<u32, Error>> {
    Box::pin(async move {
        let found = store::open_of(&mut ctx.db().read().await?, place, 1).await?;
        if found.is_empty() {
            return Ok(0);
        }
        let current = CurrentDrafts::read(gateway, place).await?;
        ctx.record_change(async |tx| refresh_in(ctx, tx, place, &current, why).await).await
    })
}

async fn refresh_in(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    current: &CurrentDrafts,
    why: &str,
) -> Result<u32, Error> {
    write_intents::lock_exclusive(tx, place.gateway.id).await?;
    let now = ctx.db().now(tx).await?;
    let (mut ended, mut after) = (0, 0);
    keep_repeated(ctx, tx, place, current).await?;
    // Successors have greater ids: they are read too, and stay.
    loop {
        let page = store::open_after(tx, place, after, OPEN_OF_SANDBOX_MAX).await?;
        let Some(last) = page.last() else { return Ok(ended) };
        after = last.id.get();
        for round in page {
            ended += u32::from(refresh_round(ctx, tx, (round, current), why, now).await?);
        }
    }
}

/// Ends or replaces a round if its chunk is not what it is about any more. Returns whether it did.
async fn refresh_round(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    (mut round, current): (Round, &CurrentDrafts),
    why: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    clocks::end_if_due(ctx, tx, &mut round, now).await?;
    if !round.state.is_voting() {
        return Ok(false);
    }
    let was_rejected = round.summary.draft.as_ref().is_some_and(|draft| draft.was_rejected);
    let chunk = current.chunks.iter().find(|chunk| chunk.id == round.chunk_id);
    let is_open = |chunk: &&DraftChunk| match chunk.status {
        ChunkStatus::Pending => true,
        ChunkStatus::Rejected => was_rejected,
        ChunkStatus::MaybeApproved => false,
    };
    // What cannot be reviewed has no successor.
    let content = |chunk| current.base.content(chunk).ok().map(|content| (chunk, content));
    let Some((chunk, content)) = chunk.filter(is_open).and_then(content) else {
        supersede(ctx, tx, &mut round, why, now).await?;
        return Ok(true);
    };
    let next = current.open(ctx, tx, &round.place, (chunk, &content)).await?;
    Ok(next.id != round.id)
}

/// Lets repeated asks keep their rounds: those of the same content whose chunk is not pending any more.
async fn keep_repeated(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    current: &CurrentDrafts,
) -> Result<(), Error> {
    let rounds = store::open_digests(tx, place).await?;
    let pending = current.pending();
    let known: HashSet<&str> = rounds.iter().map(|(chunk, _)| chunk.as_str()).collect();
    let left = rounds.iter().filter(|(chunk, _)| !pending.contains(chunk));
    let left: HashSet<&str> = left.map(|(_, digest)| digest.as_str()).collect();
    for chunk in &current.chunks {
        if left.is_empty() || !pending.contains(&chunk.id) || known.contains(chunk.id.as_str()) {
            continue;
        }
        let Ok(content) = current.base.content(chunk) else { continue };
        let facts = DraftFacts::of(chunk);
        let seen = SeenDraft {
            place,
            sandbox_id: &current.base.sandbox_id,
            chunk_id: &chunk.id,
            base_version: current.base.version,
            content: &content,
            facts: &facts,
            pending: Some(&pending),
            is_asked_for: false,
        };
        if left.contains(open::digest(&seen)?.as_str()) {
            open_or_refresh(ctx, tx, &seen).await?;
        }
    }
    Ok(())
}

/// Ends the open rounds of a chunk that was decided on its gateway.
///
/// # Errors
/// Those of the database.
pub fn close_of_chunk<'a>(
    ctx: &'a Ctx,
    place: &'a SandboxRef,
    chunk: &'a str,
    why: &'a str,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let mut conn = ctx.db().read().await?;
        let mut is_open = false;
        for action in [Action::DraftApprove, Action::DraftUndo] {
            is_open |= rounds::find_open(&mut conn, place, action, chunk).await?.is_some();
        }
        drop(conn);
        if !is_open {
            return Ok(());
        }
        ctx.record_change(async |tx| {
            write_intents::lock_exclusive(tx, place.gateway.id).await?;
            let now = ctx.db().now(tx).await?;
            for action in [Action::DraftApprove, Action::DraftUndo] {
                let found = rounds::find_open(tx, place, action, chunk).await?;
                let Some(mut round) = found else { continue };
                clocks::end_if_due(ctx, tx, &mut round, now).await?;
                // A write itself determines how its round ends.
                if round.state.is_voting() {
                    supersede(ctx, tx, &mut round, why, now).await?;
                }
            }
            Ok(())
        })
        .await
    })
}
