//! Opens the round of a chunk, brings it up to date, or replaces it.

use std::collections::{BTreeSet, HashSet};

use futures_util::future::BoxFuture;

use super::content::{DraftContent, DraftFacts};
use super::opening::{Opening, Terms};
use super::rejections::store as rejections;
use super::store;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalRoundId, SandboxRef, UserId};
use crate::error::{Error, Reason};
use crate::governance::{Action, People};
use crate::resources::approvals::rounds::close::save;
use crate::resources::approvals::rounds::content::{Bounds, Content, Summary};
use crate::resources::approvals::rounds::open::supersede;
use crate::resources::approvals::rounds::store::{self as rounds, NewRow};
use crate::resources::approvals::rounds::{
    Progress, Round, RoundState, clocks, minutes, reminders,
};

/// Maximum number of rounds of drafts of a sandbox that have not ended. Those for which a person asks can be more.
pub const OPEN_OF_SANDBOX_MAX: i64 = 100;
/// The same for a gateway.
pub const OPEN_OF_GATEWAY_MAX: i64 = 10_000;
/// Maximum number of rounds of drafts of a sandbox that are opened in a day.
pub const OPENED_A_DAY_MAX: i64 = 1_000;
/// Maximum number of authors of a round.
const AUTHORS_MAX: usize = 1_000;

/// A chunk as it was read from its gateway.
#[derive(Debug, Clone, Copy)]
pub struct SeenDraft<'a> {
    /// The sandbox.
    pub place: &'a SandboxRef,
    /// The gateway's id of the sandbox.
    pub sandbox_id: &'a str,
    /// The gateway's id of the chunk.
    pub chunk_id: &'a str,
    /// The newest version of the policy.
    pub base_version: u32,
    /// The reviewed content.
    pub content: &'a DraftContent,
    /// Facts that lists show.
    pub facts: &'a DraftFacts,
    /// The chunks of the sandbox that are pending; `None` if they are not known. A round whose chunk is not among them
    /// can be that of a repeated ask.
    pub pending: Option<&'a HashSet<String>>,
    /// Whether a person asks for the round. The limits are for what agents ask for.
    pub is_asked_for: bool,
}

/// Why a chunk has no round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The sandbox has the maximum number of open rounds of drafts.
    SandboxFull,
    /// The gateway has.
    GatewayFull,
    /// The sandbox has had the maximum number of new ones today.
    DayFull,
    /// The chunk was rejected, and the gateway does not know it yet.
    Rejected,
}

/// The round of a chunk.
#[derive(Debug)]
pub enum DraftRound {
    /// It was opened now. It replaces another one if its progress names one.
    Opened(Round),
    /// It was open, or is being written.
    Kept(Round),
    /// It was that of another chunk with the same content. Its votes count.
    Moved(Round),
    /// It has none, and gets one later.
    Waiting(Waiting),
}

impl DraftRound {
    /// Returns the round.
    #[must_use]
    pub fn round(self) -> Option<Round> {
        match self {
            Self::Opened(round) | Self::Kept(round) | Self::Moved(round) => Some(round),
            Self::Waiting(_) => None,
        }
    }
}

/// Opens the round of a chunk, brings it up to date, or replaces it if the content is another one. No event is emitted
/// for a new round: new ones are announced together.
///
/// Takes the lock of the gateway as exclusive: the transaction must not hold it as shared.
///
/// # Errors
/// `GOVERNED` if a rule cannot be read by this version.
pub fn open_or_refresh<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    seen: &'a SeenDraft<'_>,
) -> BoxFuture<'a, Result<DraftRound, Error>> {
    Box::pin(async move {
        let mut opening = Opening::begin(ctx, tx, seen.place.gateway.id).await?;
        open_or_refresh_next(ctx, tx, seen, &mut opening).await
    })
}

/// Does the same as [`open_or_refresh`] for the next of several chunks of a sandbox, all in one transaction.
///
/// # Errors
/// Those of [`open_or_refresh`].
pub fn open_or_refresh_next<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    seen: &'a SeenDraft<'_>,
    opening: &'a mut Opening,
) -> BoxFuture<'a, Result<DraftRound, Error>> {
    Box::pin(async move {
        let (place, now) = (seen.place, opening.now());
        let found = rounds::find_open(tx, place, Action::DraftApprove, seen.chunk_id).await?;
        let mut previous = None;
        if let Some(mut round) = found {
            if clocks::end_if_due(ctx, tx, &mut round, now).await? {
                opening.forget_numbers();
            }
            if !round.state.is_closed() {
                if is_current(tx, &round, seen).await? {
                    refresh(tx, &mut round, seen).await?;
                    return Ok(DraftRound::Kept(round));
                }
                supersede(ctx, tx, &mut round, "the proposed rule has changed", now).await?;
                opening.forget_numbers();
                previous = Some(round);
            }
        }
        if rejections::of_chunk(tx, place, seen.chunk_id).await?.is_some() {
            return Ok(DraftRound::Waiting(Waiting::Rejected));
        }
        let digest = digest(seen)?;
        let editors = store::editors(tx, place, seen.chunk_id).await?;
        if previous.is_none() {
            // The votes of a round without this editor may be those of the editor.
            if editors.is_empty()
                && let Some(round) = repeated(tx, seen, &digest, now).await?
            {
                return Ok(DraftRound::Moved(round));
            }
            if let Some(waiting) = opening.limit(tx, seen).await? {
                return Ok(DraftRound::Waiting(waiting));
            }
        }
        let terms = opening.terms(tx, seen).await?;
        let round = insert(ctx, tx, seen, digest, (previous, editors), (terms, now)).await?;
        opening.count_opened();
        Ok(DraftRound::Opened(round))
    })
}

/// Returns the digest of what is reviewed of a chunk.
///
/// # Errors
/// `Internal` if it cannot be encoded.
pub fn digest(seen: &SeenDraft<'_>) -> Result<String, Error> {
    let content = Content::Draft(Box::new(seen.content.clone()));
    content.digest(&Bounds { sandbox_id: Some(seen.sandbox_id), ..Bounds::default() })
}

/// Returns the content of a round of a draft.
///
/// # Errors
/// `Internal` for a round of another action.
pub async fn content(tx: &mut Tx<'_>, round: &Round) -> Result<DraftContent, Error> {
    let stored = rounds::content(tx, round.id).await?;
    match Content::decode(round.action, round.generation, &stored)? {
        Content::Draft(content) => Ok(*content),
        Content::Policy(_) | Content::Rule(_) | Content::Undo(_) => {
            Err(Error::internal("a round of a draft with another content"))
        }
    }
}

/// Returns whether a round is about the draft that was read. A round that is being written counts as current: its write
/// determines how it ends.
async fn is_current(tx: &mut Tx<'_>, round: &Round, seen: &SeenDraft<'_>) -> Result<bool, Error> {
    if !round.state.is_voting() {
        return Ok(true);
    }
    let same_sandbox = round.sandbox_id.as_deref() == Some(seen.sandbox_id)
        && round.generation == Some(seen.content.result.generation());
    Ok(same_sandbox && content(tx, round).await?.covers(seen.content))
}

async fn refresh(tx: &mut Tx<'_>, round: &mut Round, seen: &SeenDraft<'_>) -> Result<(), Error> {
    let shown = round.summary.draft.as_ref();
    if shown.is_some_and(|shown| !shown.is_outdated_by(seen.facts)) {
        return Ok(());
    }
    round.summary.draft = Some(seen.facts.clone());
    store::set_summary(tx, round.id, &round.summary).await
}

/// Returns the round of another chunk that is not pending any more and proposed exactly the same, after it has become
/// the round of this one.
async fn repeated(
    tx: &mut Tx<'_>,
    seen: &SeenDraft<'_>,
    digest: &str,
    now: Timestamp,
) -> Result<Option<Round>, Error> {
    let Some(pending) = seen.pending else { return Ok(None) };
    let open = store::open_with(tx, seen.place, digest).await?;
    let found = open.into_iter().find(|round| {
        round.state.is_voting()
            && clocks::due(round, now).is_none()
            && !pending.contains(&round.chunk_id)
    });
    let Some(mut round) = found else { return Ok(None) };
    seen.chunk_id.clone_into(&mut round.chunk_id);
    round.summary.draft = Some(seen.facts.clone());
    store::set_chunk(tx, &round).await?;
    save(tx, &mut round).await?;
    Ok(Some(round))
}

async fn insert(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    seen: &SeenDraft<'_>,
    digest: String,
    (previous, editors): (Option<Round>, Vec<PrincipalId>),
    (terms, now): (Terms, Timestamp),
) -> Result<Round, Error> {
    let Terms { clocks, is_governed, owner } = terms;
    // Under the default rule, drafts do not expire.
    let expires_at = is_governed.then(|| now.plus(minutes(clocks.expiry)));
    let (mut authors, mut roots) = (Vec::new(), BTreeSet::new());
    // A chunk whose round has ended can get another one: it was rejected and is approved all the same, its approval was
    // undone, or it can be merged again. Its editors do not approve that one, either.
    let edited = match &previous {
        Some(previous) => Some(previous.clone()),
        None => store::last_edited(tx, seen.place, (seen.sandbox_id, seen.chunk_id)).await?,
    };
    if let Some(edited) = edited {
        authors = edited.authors;
        roots.extend(edited.summary.roots);
    }
    for editor in editors {
        if !authors.contains(&editor) {
            authors.push(editor);
        }
    }
    let people = People::on_gateway(&ctx.app().snapshot, seen.place.gateway.id);
    let known = authors.iter().chain(&owner).flat_map(|principal| people.known_roots(*principal));
    roots.extend(known.map(UserId::get));
    let content = Content::Draft(Box::new(seen.content.clone()));
    let mut round = Round {
        id: ApprovalRoundId(0),
        action: Action::DraftApprove,
        place: seen.place.clone(),
        sandbox_id: Some(seen.sandbox_id.to_owned()),
        chunk_id: seen.chunk_id.to_owned(),
        state: RoundState::Open,
        digest,
        generation: content.generation(),
        base_version: Some(i64::from(seen.base_version)),
        base_digest: None,
        effective_hash: None,
        authors,
        owner,
        summary: Summary {
            roots: roots.into_iter().collect(),
            draft: Some(seen.facts.clone()),
            ..Summary::default()
        },
        grant_minutes: None,
        opened_at: now,
        escalates_at: clocks.escalation.map(|after| now.plus(minutes(after))),
        escalated_at: None,
        expires_at,
        due_at: None,
        closed_at: None,
        version: 1,
        progress: Progress {
            previous_id: previous.map(|previous| previous.id),
            ..Progress::default()
        },
    };
    let content = content.encode()?;
    let remind_at = reminders::next(&round, ctx.app().config.approvals.remind_after(), now);
    let row = NewRow { round: &round, content: &content, proposer: None, remind_at };
    round.id = rounds::insert(tx, &row).await?;
    Ok(round)
}

/// Makes a principal an author of a round and of every round that replaces it. Call it before an edit of the chunk is
/// sent, in the transaction that stores its write intent: the new content can be seen before the edit is answered.
///
/// # Errors
/// `ROUND_CLOSED` if the round has ended or is being written, `LIMIT_REACHED` if it has too many authors.
pub async fn add_author(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    author: PrincipalId,
) -> Result<(), Error> {
    if !round.state.is_voting() {
        let why = format!("the review is {}", round.state);
        let facts = [("approval", round.id.to_string()), ("state", round.state.to_string())];
        return Err(Error::explained(Reason::RoundClosed, why, facts));
    }
    if round.is_author(author) {
        return Ok(());
    }
    // Dropping one would let that author vote.
    if round.authors.len() >= AUTHORS_MAX {
        let why = format!("a change can have at most {AUTHORS_MAX} authors");
        return Err(Error::refused(Reason::LimitReached, why));
    }
    round.authors.push(author);
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    let mut roots: BTreeSet<i64> = round.summary.roots.iter().copied().collect();
    roots.extend(people.known_roots(author).into_iter().map(UserId::get));
    round.summary.roots = roots.into_iter().collect();
    store::set_authors(tx, round.id, &round.authors, &round.summary).await?;
    save(tx, round).await
}
