//! Opens a round, in the transaction of the call that proposes the change.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::close::{Ending, close, save};
use super::content::{Bounds, SUMMARY_CHARACTERS_MAX, digest_again};
use super::store::{self, NewRow};
use super::{
    Clocks, Content, Progress, Round, RoundState, Summary, apply_window, events, minutes, reminders,
};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalRoundId, SandboxRef, UserId};
use crate::error::{Error, Reason};
use crate::governance::{Decision, People};
use crate::outbox::event_types;
use crate::resources::approvals::proposals::store::{self as proposals, NewProposal};
use crate::resources::approvals::rules::{self, RulesInForce};
use crate::resources::approvals::votes::store::{self as votes, NewVote};
use crate::resources::write_intents::domain as write_intents;
use crate::role::Role;

/// Maximum number of rounds that one principal can have proposed on one gateway and that have not ended.
pub const OPEN_PROPOSALS_MAX: i64 = 50;
/// Maximum number of rounds that one principal can propose on one gateway in a day. Each is stored with its policies
/// for `approvals.retention_days`.
pub const PROPOSED_A_DAY_MAX: i64 = 1_000;
const DAY: Duration = Duration::from_hours(24);
/// Maximum number of authors of a round.
const AUTHORS_MAX: usize = 1_000;

/// A round to open.
#[derive(Debug)]
pub struct NewRound<'a> {
    /// The place. For a change of a rule of a workspace or a gateway, the names below it are empty.
    pub place: &'a SandboxRef,
    /// The reviewed content.
    pub content: &'a Content,
    /// The other parts of the digest.
    pub bounds: Bounds<'a>,
    /// Newest version of the policy.
    pub base_version: Option<i64>,
    /// Who edited the content or a predecessor of it, besides the caller, who is the proposer.
    pub authors: &'a [PrincipalId],
    /// Owner of the sandbox; `None` if it is not known.
    pub owner: Option<PrincipalId>,
    /// Facts that lists show. At most 1,000 characters of the comment are stored.
    pub summary: Summary,
    /// The round that this one replaces.
    pub previous: Option<ApprovalRoundId>,
    /// The document, if the change came as one.
    pub proposal: Option<NewProposal<'a>>,
    /// Whether the caller decides by calling if no workflow applies.
    pub decides: bool,
}

/// The round of a change that a caller proposes.
#[derive(Debug)]
pub struct Opened {
    /// The round. Under the default rule it may be approved already.
    pub round: Round,
    /// Whether it was opened now. If the same content was under review or being written, that round is returned and
    /// nothing is voted.
    pub is_new: bool,
}

/// Opens a round, or returns the open round of the same content in the same place. Call
/// [`wake`](crate::resources::approvals::wake) after the commit if it is approved.
///
/// Takes the lock of the gateway as exclusive: the transaction must not hold it as shared.
///
/// # Errors
/// `GOVERNED` if a rule cannot be read by this version, `LIMIT_REACHED` if the caller has too many open proposals on the
/// gateway or has made too many in a day, `INVALID_FIELD` if the content is too large.
pub fn open<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    new: NewRound<'a>,
) -> BoxFuture<'a, Result<Opened, Error>> {
    Box::pin(async move { open_in(ctx, tx, &new, None).await })
}

/// Who has proposed a round that the server replaces by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposer {
    /// The proposer.
    pub principal: PrincipalId,
    /// Name and role with which the proposer has approved the replaced round by proposing it; `None` if others decide.
    pub approved_as: Option<(String, Role)>,
}

/// Does the same as [`open`] for a round that the server opens in place of one whose base has moved. Its proposer stays,
/// and approves it too if no workflow applies.
///
/// # Errors
/// Those of [`open`], except for `LIMIT_REACHED` by the proposals of the proposer.
pub fn open_successor<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    new: NewRound<'a>,
    proposer: &'a Proposer,
) -> BoxFuture<'a, Result<Opened, Error>> {
    Box::pin(async move { open_in(ctx, tx, &new, Some(proposer)).await })
}

async fn open_in(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    new: &NewRound<'_>,
    of_server: Option<&Proposer>,
) -> Result<Opened, Error> {
    let place = new.place;
    write_intents::lock_exclusive(tx, place.gateway.id).await?;
    let now = ctx.db().now(tx).await?;
    let rules = rules::in_force(tx, place).await?.require_readable()?;
    let digest = new.content.digest(&new.bounds)?;
    let action = new.content.action();
    let mut chunk_id = format!("{action}:{digest}");
    if let Some(chunk) = new.content.chunk_id() {
        chunk.clone_into(&mut chunk_id);
        if let Some(round) = open_of_chunk(ctx, tx, new, &digest, now).await? {
            return Ok(Opened { round, is_new: false });
        }
    } else if let Some(round) = open_of_content(ctx, tx, new, &digest, &mut chunk_id, now).await? {
        return Ok(Opened { round, is_new: false });
    }
    let (proposer, approves) = if let Some(of) = of_server {
        (of.principal, of.approved_as.clone())
    } else {
        let proposer = require_proposer(ctx, tx, new, now).await?;
        let approves = new.decides && ctx.role() >= Role::Operator;
        (proposer, approves.then(|| (ctx.stored_actor(), ctx.role())))
    };
    let mut round = to_round(new, proposer, &rules, digest, chunk_id, now)?;
    round.summary.roots = roots_behind(ctx, tx, &round).await?;
    let content = new.content.encode()?;
    let remind_at = reminders::next(&round, ctx.app().config.approvals.remind_after(), now);
    let row = NewRow { round: &round, content: &content, proposer: Some(proposer), remind_at };
    round.id = store::insert(tx, &row).await?;
    if let Some(proposal) = &new.proposal {
        proposals::insert(tx, &round, proposal).await?;
    }
    if let (true, Some((actor, role))) = (rules.workflows.is_empty(), approves) {
        approve_by_proposing(tx, &mut round, (proposer, &actor, role), now).await?;
    } else {
        let more = json!({ "new_chunks": 1, "summary": round.summary.comment });
        events::emit(ctx, tx, event_types::APPROVAL_PENDING, &round, more).await?;
    }
    Ok(Opened { round, is_new: true })
}

/// Returns the open round of the same content. If that has been written and undone, `chunk_id` becomes that of the
/// content that is written again.
async fn open_of_content(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    new: &NewRound<'_>,
    digest: &str,
    chunk_id: &mut String,
    now: Timestamp,
) -> Result<Option<Round>, Error> {
    let action = new.content.action();
    while let Some(mut round) = store::find_open(tx, new.place, action, chunk_id).await? {
        super::clocks::end_if_due(ctx, tx, &mut round, now).await?;
        if round.state.is_closed() {
            break;
        }
        let again = format!("{action}:{}", digest_again(digest, new.base_version));
        if again == *chunk_id || !was_undone(&round, new.base_version) {
            return Ok(Some(round));
        }
        *chunk_id = again;
    }
    Ok(None)
}

/// Returns the open round of the chunk of a content, if it has the same content or is being written. Another one is
/// superseded.
///
/// # Errors
/// `WRITE_IN_FLIGHT` if the open round is an earlier decision about the chunk, which another one has followed.
async fn open_of_chunk(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    new: &NewRound<'_>,
    digest: &str,
    now: Timestamp,
) -> Result<Option<Round>, Error> {
    let (action, chunk) = (new.content.action(), new.content.chunk_id().unwrap_or_default());
    let Some(mut round) = store::find_open(tx, new.place, action, chunk).await? else {
        return Ok(None);
    };
    super::clocks::end_if_due(ctx, tx, &mut round, now).await?;
    if round.state.is_closed() {
        return Ok(None);
    }
    if was_undone(&round, new.base_version) {
        let why =
            "an earlier removal of the rule was written, and its sandbox has not loaded that yet";
        return Err(Error::explained(Reason::WriteInFlight, why, []));
    }
    if round.digest == digest || !round.state.is_voting() {
        return Ok(Some(round));
    }
    supersede(ctx, tx, &mut round, "the result of the removal has changed", now).await?;
    Ok(None)
}

/// Returns whether a round was written, and a later revision has what it replaced: the same content must be written
/// again, although the round has not ended.
fn was_undone(round: &Round, base_version: Option<i64>) -> bool {
    let versions = round.progress.written_version.zip(base_version);
    round.state == RoundState::Written && versions.is_some_and(|(written, base)| base > written)
}

/// Returns the users behind authors and owner, and those of the round that this one replaces. They are stored: a service
/// principal that is deleted afterwards leads to no one, and its maker would not be excluded any more.
async fn roots_behind(ctx: &Ctx, tx: &mut Tx<'_>, round: &Round) -> Result<Vec<i64>, Error> {
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    let concerned = round.authors.iter().chain(&round.owner);
    let users = concerned.flat_map(|principal| people.known_roots(*principal));
    let mut roots: BTreeSet<i64> = users.map(UserId::get).collect();
    if let Some(previous) = round.progress.previous_id {
        let previous = store::by_id(tx, previous).await?;
        roots.extend(previous.into_iter().flat_map(|round| round.summary.roots));
    }
    Ok(roots.into_iter().collect())
}

/// Returns the proposer, if it can open another round.
async fn require_proposer(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    new: &NewRound<'_>,
    now: Timestamp,
) -> Result<PrincipalId, Error> {
    let unknown = || Error::Denied { why: "only a known caller proposes changes".to_owned() };
    let proposer = ctx.principal().ok_or_else(unknown)?;
    if store::count_open_by(tx, new.place.gateway.id, proposer).await? >= OPEN_PROPOSALS_MAX {
        let why = format!(
            "the caller has {OPEN_PROPOSALS_MAX} open proposals on the gateway, the most that are possible: withdraw some"
        );
        return Err(Error::refused(Reason::LimitReached, why));
    }
    let of_day = proposals::count_since(tx, new.place.gateway.id, proposer, now.minus(DAY)).await?;
    if of_day >= PROPOSED_A_DAY_MAX {
        let why = format!(
            "the caller has proposed {PROPOSED_A_DAY_MAX} changes on the gateway in 24 hours, which is the limit"
        );
        return Err(Error::refused(Reason::LimitReached, why));
    }
    Ok(proposer)
}

fn to_round(
    new: &NewRound<'_>,
    proposer: PrincipalId,
    rules: &RulesInForce,
    digest: String,
    chunk_id: String,
    now: Timestamp,
) -> Result<Round, Error> {
    let mut authors = vec![proposer];
    for author in new.authors {
        if !authors.contains(author) {
            authors.push(*author);
        }
    }
    // Dropping one would let that author vote.
    if authors.len() > AUTHORS_MAX {
        let why = format!("a change can have at most {AUTHORS_MAX} authors");
        return Err(Error::refused(Reason::LimitReached, why));
    }
    let clocks = Clocks::of(&rules.rules());
    let comment = new.summary.comment.chars().take(SUMMARY_CHARACTERS_MAX).collect();
    let previous_id = new.previous;
    Ok(Round {
        id: ApprovalRoundId(0),
        action: new.content.action(),
        place: new.place.clone(),
        sandbox_id: new.bounds.sandbox_id.map(str::to_owned),
        chunk_id,
        state: RoundState::Open,
        digest,
        generation: new.content.generation(),
        base_version: new.base_version,
        base_digest: new.content.base_digest(),
        effective_hash: new.bounds.effective_hash.map(str::to_owned),
        authors,
        owner: new.owner,
        summary: Summary { comment, ..new.summary.clone() },
        grant_minutes: new.bounds.grant_minutes,
        opened_at: now,
        escalates_at: clocks.escalation.map(|after| now.plus(minutes(after))),
        escalated_at: None,
        expires_at: Some(now.plus(minutes(clocks.expiry))),
        due_at: None,
        closed_at: None,
        version: 1,
        progress: Progress { previous_id, ..Progress::default() },
    })
}

/// Decides a round under the default rule: the proposer approves by calling. Events report only what is written.
async fn approve_by_proposing(
    tx: &mut Tx<'_>,
    round: &mut Round,
    (principal, actor, role): (PrincipalId, &str, Role),
    now: Timestamp,
) -> Result<(), Error> {
    let new = NewVote {
        workflow: None,
        principal,
        actor,
        role,
        decision: Decision::Approve,
        comment: None,
        at: now,
    };
    votes::insert(tx, round, &new).await?;
    store::set_rules(tx, round.id, "[]").await?;
    round.state = RoundState::Approved;
    round.progress.decided_at = Some(now);
    round.progress.apply_by = Some(now.plus(apply_window(&[])));
    save(tx, round).await
}

/// Ends a round whose change is replaced by another one. Its votes do not count for the successor.
///
/// # Errors
/// Those of [`close`].
pub async fn supersede(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &mut Round,
    why: &str,
    now: Timestamp,
) -> Result<(), Error> {
    close(ctx, tx, round, Ending::Superseded, why, now).await
}
