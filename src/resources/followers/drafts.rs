//! The drafts of one sandbox: their rounds are opened, brought up to date and ended.

use std::collections::{HashMap, HashSet};

use futures_util::future::{BoxFuture, join_all};

use super::memory::Compared;
use super::notes::note;
use super::pass::Pass;
use super::rejected;
use super::settled::OpenRound;
use crate::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::openshell::drafts::{DraftChunk, DraftList, DraftStatus};
use crate::openshell::sandbox::Sandbox;
use crate::resources::approvals::drafts::open::OPEN_OF_SANDBOX_MAX;
use crate::resources::approvals::drafts::read::{self, DraftBase};
use crate::resources::approvals::drafts::{
    DraftContent, DraftFacts, DraftRound, Opening, SeenDraft, open_or_refresh_next, rejections,
    store,
};
use crate::resources::approvals::rounds::close::{Ending, close};
use crate::resources::approvals::rounds::open::supersede;
use crate::resources::approvals::rounds::{clocks, store as rounds};
use crate::resources::write_intents::domain as write_intents;

/// Sandboxes that are asked about at once. Their answers wake this process together.
const ASKED_AT_ONCE: usize = 4;
/// Bytes of drafts with which a sandbox is asked about together with others. A larger answer is read alone, so that not
/// several of them are in memory (T20).
const SMALL_BYTES_MAX: usize = 256 << 10;
/// Chunks whose content is computed in one pass, besides those with a round.
const COMPARED_MAX: usize = 200;
/// Chunks that one transaction opens or brings up to date.
const BATCH: usize = 20;

/// Why a round ends whose chunk is not pending any more.
const GONE: &str =
    "the gateway has no such pending proposal any more: it was decided there, replaced or deleted";
/// Why a round ends whose rule does not fit the policy any more.
const NOT_APPLICABLE: &str = "the proposed rule cannot be merged into the policy any more";

/// A chunk with what a review of it is about.
struct Computed {
    chunk: DraftChunk,
    content: DraftContent,
}

/// Findings about the chunks of a sandbox.
#[derive(Default)]
struct Found {
    computed: Vec<Computed>,
    /// Ids of chunks that cannot be reviewed.
    unreadable: HashSet<String>,
    /// Number of chunks that are not computed, since there are too many.
    rest: usize,
    /// The version of the policy on which they were computed.
    base_version: u32,
}

/// State of the drafts of a sandbox that was read.
pub(super) struct Asked {
    /// Its rounds that have not ended.
    before: Vec<OpenRound>,
    /// The drafts, and their bytes; `None` if they are too large to be read together with those of others.
    list: Option<(DraftList, usize)>,
}

/// Divides sandboxes, in their order, into those that are asked about at once. A sandbox with rejections is alone: they
/// may take long, and an answer is used soon.
pub(super) fn groups<'s>(pass: &Pass<'_>, sandboxes: &[&'s Sandbox]) -> Vec<Vec<&'s Sandbox>> {
    let is_quick = |sandbox: &Sandbox| {
        let memory = pass.memory.sandboxes.get(&sandbox.full_name);
        memory.is_none_or(|memory| memory.draft_bytes <= SMALL_BYTES_MAX)
            && !pass.rejections.contains_key(&sandbox.full_name)
    };
    let runs = sandboxes.chunk_by(|one, next| is_quick(one) && is_quick(next));
    runs.flat_map(|run| run.chunks(ASKED_AT_ONCE)).map(<[_]>::to_vec).collect()
}

/// Asks about the drafts of a group of sandboxes. The results are in their order.
pub(super) fn ask<'a>(
    pass: &'a mut Pass<'_>,
    sandboxes: &'a [&'a Sandbox],
) -> BoxFuture<'a, Vec<Result<Asked, Error>>> {
    Box::pin(async move {
        // Before the gateway is asked: a round that is opened meanwhile is not missing.
        let mut before = Vec::with_capacity(sandboxes.len());
        for sandbox in sandboxes {
            let place = pass.place(&sandbox.full_name);
            before.push(read_open(pass, &place).await);
        }
        pass.memory.pace.wait(sandboxes.len()).await;
        let bytes_max = if sandboxes.len() > 1 { SMALL_BYTES_MAX } else { usize::MAX };
        let gateway = &pass.gateway;
        let lists = join_all(sandboxes.iter().map(|sandbox| async move {
            let gateway = gateway.duplicate_for_read(bytes_max);
            let list = gateway.draft_chunks(&sandbox.full_name, DraftStatus::Pending).await;
            (list, gateway.take_usage())
        }));
        let lists = lists.await;
        let mut asked = Vec::with_capacity(lists.len());
        for (before, (list, usage)) in before.into_iter().zip(lists) {
            pass.memory.pace.spend(usage);
            let is_cut = sandboxes.len() > 1 && matches!(list, Ok(DraftList::Overflowing));
            asked.push(match (before, list) {
                (Ok(before), Ok(_)) if is_cut => Ok(Asked { before, list: None }),
                (Ok(before), Ok(list)) => Ok(Asked { before, list: Some((list, usage.bytes)) }),
                (Err(error), _) | (_, Err(error)) => Err(error),
            });
        }
        asked
    })
}

/// Brings the rounds of the drafts of a sandbox up to date.
///
/// # Errors
/// Those of the gateway and of the database.
pub(super) fn follow<'a>(
    pass: &'a mut Pass<'_>,
    sandbox: &'a Sandbox,
    asked: Asked,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let Asked { before, list } = asked;
        let name = &sandbox.full_name;
        let place = pass.place(name);
        let (list, bytes) = if let Some(read) = list {
            read
        } else {
            pass.wait().await;
            let list = pass.gateway.draft_chunks(name, DraftStatus::Pending).await;
            let bytes = pass.spend();
            (list?, bytes)
        };
        let memory = pass.memory.sandboxes.entry(name.clone()).or_default();
        memory.note_read(bytes, matches!(list, DraftList::Overflowing));
        let mut chunks = match list {
            DraftList::Complete(chunks) => chunks,
            // Their rounds stay as they are: nothing is known about them.
            DraftList::Overflowing => return note(pass, &place, (0, 0, true)).await,
        };
        if let Some(rejections) = pass.rejections.remove(name) {
            let changed = rejected::send(pass, sandbox, &chunks, rejections).await?;
            chunks.retain(|chunk| !changed.contains(&chunk.id));
        }
        let pending: HashSet<String> = chunks.iter().map(|chunk| chunk.id.clone()).collect();
        let found = compute(pass, sandbox, chunks, &before).await?;
        let waiting = open_all(pass, &place, sandbox, &found, &pending).await?;
        end_missing(pass, &place, &before, &pending, &found.unreadable).await?;
        let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        let counts = (count(waiting + found.rest), count(found.unreadable.len()), false);
        note(pass, &place, counts).await?;
        if !before.is_empty() {
            pass.stored.rounds.insert(place.name, before);
        }
        Ok(())
    })
}

/// Returns the rounds of a sandbox that have not ended. They are read only if they may have changed since another pass.
async fn read_open(pass: &mut Pass<'_>, place: &SandboxRef) -> Result<Vec<OpenRound>, Error> {
    if !pass.stored.open.contains_key(&place.name) {
        return Ok(Vec::new());
    }
    // It is stored again when the drafts were followed.
    if let Some(known) = pass.stored.rounds.remove(&place.name) {
        return Ok(known);
    }
    let mut conn = pass.ctx.db().read().await?;
    let open = store::open_of(&mut conn, place, OPEN_OF_SANDBOX_MAX * 2).await?;
    Ok(open.into_iter().map(OpenRound::from).collect())
}

/// Computes what the reviews of the chunks are about that have changed since the last pass, or have no round.
async fn compute(
    pass: &mut Pass<'_>,
    sandbox: &Sandbox,
    mut chunks: Vec<DraftChunk>,
    before: &[OpenRound],
) -> Result<Found, Error> {
    let mut found = Found::default();
    let reviewed: HashSet<&str> = before.iter().map(|round| round.chunk_id.as_str()).collect();
    let is_new_possible = has_place(before, &chunks);
    let position = (sandbox.id.clone(), sandbox.resource_version);
    let memory = pass.memory.sandboxes.entry(sandbox.full_name.clone()).or_default();
    let mut compared = std::mem::take(&mut memory.chunks);
    if memory.compared != position {
        compared.clear();
    }
    memory.compared = position;
    // Those that have asked first get their round first.
    chunks.sort_by_key(|chunk| chunk.created_at);
    let mut kept: HashMap<String, Compared> = HashMap::new();
    let (mut rest, mut new) = (Vec::new(), 0);
    for chunk in chunks {
        let seen = Compared::of(&chunk);
        let is_reviewed = reviewed.contains(chunk.id.as_str());
        let before = compared.remove(&chunk.id).filter(|before| !before.is_outdated_by(&seen));
        if let (true, Some(before)) = (is_reviewed, before) {
            kept.insert(chunk.id, before);
        } else if is_reviewed || (is_new_possible && new < COMPARED_MAX) {
            new += usize::from(!is_reviewed);
            kept.insert(chunk.id.clone(), seen);
            rest.push(chunk);
        } else {
            found.rest += 1;
        }
    }
    memory.chunks = kept;
    if rest.is_empty() {
        return Ok(found);
    }
    pass.wait().await;
    let base = read::base(&pass.gateway, &sandbox.full_name).await;
    pass.spend();
    let computed = match base {
        Ok(base) => compute_on(&base, sandbox, rest, &mut found).await,
        Err(error) => Err(error),
    };
    if computed.is_err()
        && let Some(memory) = pass.memory.sandboxes.get_mut(&sandbox.full_name)
    {
        memory.chunks.clear();
    }
    computed?;
    Ok(found)
}

/// Returns whether a chunk without a round may get one: there is room, or it may be the repeated ask of a round whose
/// chunk is not pending any more. Otherwise, further proposals cost nothing.
fn has_place(before: &[OpenRound], pending: &[DraftChunk]) -> bool {
    if i64::try_from(before.len()).is_ok_and(|open| open < OPEN_OF_SANDBOX_MAX) {
        return true;
    }
    let pending: HashSet<&str> = pending.iter().map(|chunk| chunk.id.as_str()).collect();
    before.iter().any(|round| !pending.contains(round.chunk_id.as_str()))
}

async fn compute_on(
    base: &DraftBase,
    sandbox: &Sandbox,
    chunks: Vec<DraftChunk>,
    found: &mut Found,
) -> Result<(), Error> {
    if base.sandbox_id != sandbox.id {
        // Another sandbox has the name now, and the list is that of an earlier one.
        return Err(Error::not_found(ResourceKind::Sandbox, &sandbox.full_name));
    }
    found.base_version = base.version;
    for chunk in chunks {
        match base.content(&chunk) {
            Ok(content) => found.computed.push(Computed { chunk, content }),
            Err(error) if error.is_refusal() => {
                found.unreadable.insert(chunk.id);
            }
            Err(error) => return Err(error),
        }
        // Each takes time in proportion to the policy.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Opens rounds, or brings them up to date. Returns the number of chunks that get one later.
async fn open_all(
    pass: &mut Pass<'_>,
    place: &SandboxRef,
    sandbox: &Sandbox,
    found: &Found,
    pending: &HashSet<String>,
) -> Result<usize, Error> {
    let (mut waiting, mut opened) = (0, false);
    for batch in found.computed.chunks(BATCH) {
        let ctx = pass.ctx;
        let outcome = ctx
            .transaction(async |tx| {
                pass.check_held(tx).await?;
                let mut opening = Opening::begin(ctx, tx, place.gateway.id).await?;
                let (mut waiting, mut opened) = (Vec::new(), false);
                for Computed { chunk, content } in batch {
                    let facts = DraftFacts::of(chunk);
                    let seen = SeenDraft {
                        place,
                        sandbox_id: &sandbox.id,
                        chunk_id: &chunk.id,
                        base_version: found.base_version,
                        content,
                        facts: &facts,
                        pending: Some(pending),
                        is_asked_for: false,
                    };
                    match open_or_refresh_next(ctx, tx, &seen, &mut opening).await? {
                        DraftRound::Opened(_) => opened = true,
                        DraftRound::Kept(_) | DraftRound::Moved(_) => {}
                        DraftRound::Waiting(_) => waiting.push(chunk.id.clone()),
                    }
                }
                Ok((waiting, opened))
            })
            .await;
        let memory = pass.memory.sandboxes.entry(place.name.clone()).or_default();
        match outcome {
            Ok((later, any)) => {
                waiting += later.len();
                opened |= any;
            }
            Err(error) => {
                memory.chunks.clear();
                return Err(error);
            }
        }
    }
    let memory = pass.memory.sandboxes.entry(place.name.clone()).or_default();
    memory.is_unannounced |= opened;
    Ok(waiting)
}

/// Ends the rounds whose chunk is not pending any more, or cannot be merged any more.
async fn end_missing(
    pass: &mut Pass<'_>,
    place: &SandboxRef,
    before: &[OpenRound],
    pending: &HashSet<String>,
    unreadable: &HashSet<String>,
) -> Result<(), Error> {
    let mut missing: Vec<(ApprovalRoundId, i64, &'static str)> = Vec::new();
    for round in before.iter().filter(|round| round.is_voting) {
        if unreadable.contains(&round.chunk_id) {
            missing.push((round.id, round.version, NOT_APPLICABLE));
        // A round that was opened for a chunk that the gateway had rejected needs no pending chunk.
        } else if !pending.contains(&round.chunk_id) && !round.was_rejected {
            missing.push((round.id, round.version, GONE));
        }
    }
    for batch in missing.chunks(BATCH) {
        let ctx = pass.ctx;
        ctx.transaction(async |tx| {
            pass.check_held(tx).await?;
            write_intents::lock_exclusive(tx, place.gateway.id).await?;
            let now = ctx.db().now(tx).await?;
            for (id, version, why) in batch {
                let Some(mut round) = rounds::by_id(tx, *id).await? else { continue };
                // It has become the round of a repeated ask, or has changed in another way.
                if round.version != *version {
                    continue;
                }
                clocks::end_if_due(ctx, tx, &mut round, now).await?;
                if round.state.is_voting() {
                    supersede(ctx, tx, &mut round, why, now).await?;
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Ends all rounds of drafts of a sandbox that was removed, and drops the state of its drafts.
pub(super) async fn end_all(pass: &mut Pass<'_>, name: &SandboxName) -> Result<(), Error> {
    let (ctx, place) = (pass.ctx, pass.place(name));
    let rejections = pass.rejections.remove(name).unwrap_or_default();
    ctx.transaction(async |tx| {
        pass.check_held(tx).await?;
        write_intents::lock_exclusive(tx, place.gateway.id).await?;
        let now = ctx.db().now(tx).await?;
        for mut round in store::open_of(tx, &place, OPEN_OF_SANDBOX_MAX * 2).await? {
            if clocks::end_if_due(ctx, tx, &mut round, now).await? {
                // No gateway needs to know.
                rejections::end(ctx, tx, round.id, None).await?;
            } else if round.state.is_voting() {
                let why = "the sandbox was removed";
                close(ctx, tx, &mut round, Ending::Withdrawn, why, now).await?;
            }
        }
        for rejection in &rejections {
            rejections::end(ctx, tx, rejection.round_id, None).await?;
        }
        store::delete_state(tx, &place).await
    })
    .await
}
