//! Reviews of changes, as callers and other resources use them.

use futures_util::future::BoxFuture;
use tracing::warn;

use super::apply::live::connect;
use super::drafts::{edit, own};
use super::inbox::detail::{self, Detail};
use super::inbox::view::{self, Item};
use super::rounds::close::{Ending, close};
use super::rounds::{Round, clocks, effective_state, store};
use super::votes::store::{self as vote_store, StoredVote};
use super::votes::{self, Ballot};
use crate::ctx::{Ctx, ListKey, PendingCtx, Tx};
use crate::db::page::PageSize;
use crate::db::types::{ApprovalRoundId, GatewayId, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::governance::Action;
use crate::resources::write_intents::domain as write_intents;
use crate::role::Role;

/// Rounds that one step of [`withdraw_all`] ends.
const WITHDRAW_BATCH: i64 = 500;

fn missing(id: ApprovalRoundId) -> Error {
    Error::not_found(ResourceKind::Approval, id)
}

/// Loads a round and authorizes the caller in one step, so that no round is used unchecked. A round of an unregistered
/// gateway is visible to global admins only.
async fn load(
    pending: &PendingCtx,
    id: ApprovalRoundId,
    role: Role,
) -> Result<(Ctx, Round), Error> {
    let mut conn = pending.app().db.read().await?;
    let round = store::by_id(&mut conn, id).await?.ok_or_else(|| missing(id))?;
    drop(conn);
    match pending.authorize_for_owner(None, round.place.gateway.clone(), role).await {
        Ok(ctx) => Ok((ctx, round)),
        Err(Error::NotFound { .. }) => Err(missing(id)),
        Err(error) => Err(error),
    }
}

/// Returns a round with its content and its progress.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get(pending: &PendingCtx, id: ApprovalRoundId) -> Result<Detail, Error> {
    let (ctx, round) = load(pending, id, Role::Viewer).await?;
    detail::get(&ctx, round).await
}

/// Returns a page of the votes of a round, in the order in which they were cast.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn list_votes(
    pending: &PendingCtx,
    id: ApprovalRoundId,
    size: PageSize,
    token: &str,
) -> Result<(Vec<StoredVote>, String), Error> {
    let (ctx, round) = load(pending, id, Role::Viewer).await?;
    let key = id.get().to_be_bytes();
    let list = ListKey { method: "ListApprovalDecisions", filter: &key, order: "id" };
    let page = ctx.page_request::<i64>(list, size, token)?;
    let after = page.after().copied().unwrap_or(0);
    let mut conn = ctx.db().read().await?;
    let votes = vote_store::page(&mut conn, &round, after, page.limit()).await?;
    page.finish(votes, |vote| vote.id)
}

/// Votes in one round.
///
/// # Errors
/// Those of [`votes::cast`].
pub async fn vote(pending: &PendingCtx, ballot: Ballot) -> Result<Item, Error> {
    let (ctx, round) = load(pending, ballot.approval, Role::Viewer).await?;
    note(&ctx, &round);
    ctx.add_audit_detail("decision", ballot.decision.as_str());
    ctx.add_audit_detail("comment", ballot.comment.as_deref());
    let cast = votes::cast(&ctx, std::slice::from_ref(&ballot)).await?;
    let item = first(to_items(&ctx, cast).await)?;
    ctx.add_audit_detail("state", item.state.as_str());
    Ok(item)
}

/// Votes in rounds on the gateway of the call: all votes are stored, or none.
///
/// # Errors
/// Those of [`votes::cast`].
pub async fn vote_many(ctx: &Ctx, ballots: &[Ballot]) -> Result<Vec<Item>, Error> {
    let named = ballots.iter().map(|ballot| {
        let (id, decision) = (ballot.approval.get(), ballot.decision.as_str());
        serde_json::json!({ "approval": id, "decision": decision, "digest": ballot.digest })
    });
    ctx.add_audit_detail("votes", named.collect::<Vec<_>>());
    let cast = votes::cast(ctx, ballots).await?;
    Ok(to_items(ctx, cast).await)
}

/// Records in the audit entry of the call which round it is about.
fn note(ctx: &Ctx, round: &Round) {
    ctx.set_audit_target(round.place.name.to_string());
    ctx.add_audit_detail("approval", round.id.get());
    ctx.add_audit_detail("approval_action", round.action.as_str());
    ctx.add_audit_detail("workspace", round.place.workspace());
    ctx.add_audit_detail("digest", round.digest.as_str());
}

/// Returns rounds after a change as items. A failure of the database does not turn the stored change into an error.
async fn to_items(ctx: &Ctx, rounds: Vec<Round>) -> Vec<Item> {
    match read_items(ctx, rounds.clone()).await {
        Ok(items) => items,
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "a vote is stored, but not counted");
            rounds.into_iter().map(view::uncounted_item).collect()
        }
    }
}

async fn read_items(ctx: &Ctx, rounds: Vec<Round>) -> Result<Vec<Item>, Error> {
    let mut conn = ctx.db().read().await?;
    let now = ctx.db().now(&mut conn).await?;
    view::items(&mut conn, ctx.app(), ctx.principal(), rounds, now).await
}

/// Ends a round whose change is no longer wanted.
///
/// # Errors
/// `ROUND_CLOSED` if it has ended or is being written, `ROLE_TOO_LOW` if the caller is neither an author nor an admin.
pub async fn withdraw(
    pending: &PendingCtx,
    id: ApprovalRoundId,
    comment: Option<&str>,
) -> Result<Item, Error> {
    let (ctx, round) = load(pending, id, Role::Operator).await?;
    note(&ctx, &round);
    ctx.add_audit_detail("comment", comment);
    if round.action == Action::DraftApprove {
        let why = "is about a draft, which its agent still wants: reject it, or clear the drafts";
        return Err(Error::invalid("approval_id", why));
    }
    let is_author = ctx.principal().is_some_and(|caller| round.is_author(caller));
    if !is_author && ctx.role() < Role::Admin {
        let why = "only an author of the change or an admin of the gateway can withdraw it";
        return Err(Error::Denied { why: why.to_owned() });
    }
    let gateway = round.place.gateway.id;
    let withdrawn = ctx
        .transaction(async |tx| {
            write_intents::lock_exclusive(tx, gateway).await?;
            let mut round = votes::load(tx, gateway, id).await?;
            let now = ctx.db().now(tx).await?;
            votes::require_voting(tx, &round, now).await?;
            clocks::end_if_due(&ctx, tx, &mut round, now).await?;
            let reason = match comment {
                Some(comment) => format!("withdrawn by {}: {comment}", ctx.actor()),
                None => format!("withdrawn by {}", ctx.actor()),
            };
            close(&ctx, tx, &mut round, Ending::Withdrawn, &reason, now).await?;
            Ok(round)
        })
        .await?;
    first(to_items(&ctx, vec![withdrawn]).await)
}

/// Replaces the rule of a draft under review. Returns the round of the new rule.
///
/// # Errors
/// `NOT_FOUND`; those of [`edit::edit`].
pub async fn edit_chunk(
    pending: &PendingCtx,
    id: ApprovalRoundId,
    rule: &str,
    etag: &str,
) -> Result<Item, Error> {
    let (ctx, round) = load(pending, id, Role::Operator).await?;
    note(&ctx, &round);
    ctx.add_audit_detail("chunk_id", round.chunk_id.as_str());
    let gateway = connect(&ctx).await?;
    let next = edit::edit(&ctx, &gateway, &round, (rule, etag)).await?;
    ctx.add_audit_detail("successor", next.id.get());
    first(to_items(&ctx, vec![next]).await)
}

/// Removes an approved draft from the policy of a sandbox, by a review if a workflow applies. Returns the round, and the
/// operation that writes it.
///
/// # Errors
/// Those of [`own::undo`].
pub async fn undo_chunk(
    ctx: &Ctx,
    place: &SandboxRef,
    chunk: &str,
    comment: Option<&str>,
) -> Result<(Item, Option<String>), Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    ctx.add_audit_detail("chunk_id", chunk);
    ctx.add_audit_detail("comment", comment);
    let gateway = connect(ctx).await?;
    let comment = comment.unwrap_or_default();
    let (round, operation) = own::undo(ctx, &gateway, place, (chunk, comment)).await?;
    Ok((first(to_items(ctx, vec![round]).await)?, operation))
}

/// Deletes the pending drafts of a sandbox. Returns their number, and that of the rounds that have ended.
///
/// # Errors
/// Those of [`own::clear`].
pub async fn clear_chunks(ctx: &Ctx, place: &SandboxRef) -> Result<(u32, u32), Error> {
    ctx.add_audit_detail("workspace", place.workspace());
    let gateway = connect(ctx).await?;
    ctx.recheck()?;
    let (cleared, superseded) = own::clear(ctx, &gateway, place).await?;
    ctx.add_audit_detail("cleared", cleared);
    Ok((cleared, superseded))
}

fn first(mut items: Vec<Item>) -> Result<Item, Error> {
    items.pop().ok_or_else(|| Error::internal("a review that was changed is missing"))
}

/// Ends the open rounds of a gateway or a sandbox that is deleted, in that transaction, before it locks rows. A round
/// that may be on its way to the gateway is left to the job that writes it, and one whose time is over expires. Returns
/// the number of the others.
///
/// # Errors
/// Those of the database.
pub fn withdraw_all<'a>(
    ctx: &'a Ctx,
    tx: &'a mut Tx<'_>,
    gateway: GatewayId,
    sandbox: Option<&'a SandboxName>,
    why: &'a str,
) -> BoxFuture<'a, Result<usize, Error>> {
    Box::pin(async move {
        // Most sandboxes have none, and their deletions do not exclude each other.
        if store::voting_on(tx, gateway, sandbox, 1).await?.is_empty() {
            return Ok(0);
        }
        write_intents::lock_exclusive(tx, gateway).await?;
        let now = ctx.db().now(tx).await?;
        let mut ended = 0;
        loop {
            let rounds = store::voting_on(tx, gateway, sandbox, WITHDRAW_BATCH).await?;
            let count = rounds.len();
            for mut round in rounds {
                // A round whose time is over has expired, even if no worker has stored that yet.
                if effective_state(&round, now).is_closed() {
                    clocks::end_if_due(ctx, tx, &mut round, now).await?;
                } else {
                    close(ctx, tx, &mut round, Ending::Withdrawn, why, now).await?;
                    ended += 1;
                }
            }
            if i64::try_from(count).is_ok_and(|count| count < WITHDRAW_BATCH) {
                return Ok(ended);
            }
        }
    })
}
