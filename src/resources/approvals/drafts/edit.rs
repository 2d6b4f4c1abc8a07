//! Edits of drafts: their editor becomes an author before the edit is sent, and the round of the new rule follows.
//!
//! Invariants
//! - an editor is an author of the new content on every path, even if the process dies after the edit was sent, and if no
//!   rule was in force and the chunk could not be reviewed then (g04);
//! - nothing is cleared before the gateway has answered.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracing::warn;

use super::content::{DraftContent, is_chunk_id};
use super::current::{CurrentDrafts, close_of_chunk};
use super::open::add_author;
use super::store;
use crate::access::principal::PrincipalId;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalRoundId, SandboxRef};
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::governance::{Action, Governed, GovernedBy, Instead, Refusal};
use crate::openshell::Gateway;
use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use crate::policy::{Edit, Policy};
use crate::resources::approvals::rounds::close::save;
use crate::resources::approvals::rounds::{Round, RoundState, clocks, store as rounds};
use crate::resources::approvals::{rules, votes};
use crate::resources::operations::retry::is_final;
use crate::resources::stored_rules::domain::caller_facts;
use crate::resources::write_intents::domain as write_intents;

/// Time for the call.
const CALL_TIME: Duration = Duration::from_secs(20);
/// Maximum size of a rule as YAML, in bytes.
pub const RULE_BYTES_MAX: usize = 64 << 10;
/// Field of the rule in the request.
const FIELD: &str = "rule";

/// An edit that may be on its way: its editor is an author of the round.
#[derive(Debug)]
pub struct BegunEdit {
    round: ApprovalRoundId,
    added: Option<Added>,
}

/// An author that an edit has added, and those before.
#[derive(Debug)]
struct Added {
    authors: Vec<PrincipalId>,
    roots: Vec<i64>,
    /// Version of the round afterwards.
    version: i64,
}

/// Returns the error for a chunk that has not the status that a call requires.
#[must_use]
pub fn wrong_status(chunk: &DraftChunk, required: &str) -> Error {
    let status = status_word(chunk.status);
    let why =
        format!("the draft is {status}, and this changes only a draft with the status {required}");
    Error::refused(Reason::ChunkStatus, why)
}

/// Returns the status as gateways name it. Statuses that this build does not know count as approved.
#[must_use]
pub fn status_word(status: ChunkStatus) -> &'static str {
    match status {
        ChunkStatus::Pending => "pending",
        ChunkStatus::Rejected => "rejected",
        ChunkStatus::MaybeApproved => "approved",
    }
}

/// Returns the error for a draft that a rule requires to be reviewed, and that cannot be.
pub(super) fn not_reviewable(why: &str) -> Error {
    let instead = "reject the draft";
    let facts = [("rule", "approval workflow of the sandbox"), ("instead", instead)];
    let facts = facts.map(|(key, fact)| (key, fact.to_owned()));
    Error::explained(Reason::Governed, format!("{why}: {instead}"), facts)
}

/// Replaces the rule of a draft under review. Returns the round of the new rule; the former one if the gateway does not
/// show the draft any more.
///
/// # Errors
/// `CHUNK_STATUS` if the round is not about a pending draft, `CONCURRENT_CHANGE` if the etag is stale, `ROUND_CLOSED`,
/// `Invalid` for the rule; those of the gateway.
pub fn edit<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    round: &'a Round,
    (yaml, given_etag): (&'a str, &'a str),
) -> BoxFuture<'a, Result<Round, Error>> {
    Box::pin(async move {
        check_size(yaml)?;
        if round.action != Action::DraftApprove {
            let why = "the approval is not about a draft";
            return Err(Error::refused(Reason::ChunkStatus, why));
        }
        etag::check(given_etag, round.version, ResourceKind::Approval, round.id)?;
        let place = &round.place;
        let current = CurrentDrafts::read(gateway, place).await?;
        let chunk = current.chunk(&round.chunk_id)?;
        if chunk.status != ChunkStatus::Pending {
            return Err(wrong_status(chunk, "pending"));
        }
        let is_same = round.sandbox_id.as_ref() == Some(&current.base.sandbox_id);
        if !is_same || round.generation != Some(gateway.generation()) {
            return Err(Error::conflict(ResourceKind::Approval, round.id));
        }
        let base = &current.base.policy;
        let turn = ctx.long_work(base.encoded().len() + yaml.len()).await?;
        let rule = turn.run(|| edited_rule(base, chunk, yaml))?;
        let begun = ctx
            .transaction(async |tx| {
                write_intents::lock_exclusive(tx, place.gateway.id).await?;
                let now = ctx.db().now(tx).await?;
                let mut stored = votes::load(tx, place.gateway.id, round.id).await?;
                votes::require_voting(tx, &stored, now).await?;
                etag::check(given_etag, stored.version, ResourceKind::Approval, stored.id)?;
                clocks::end_if_due(ctx, tx, &mut stored, now).await?;
                begin_in(ctx, tx, &mut stored).await
            })
            .await?;
        let until = ctx.app().clock.since_boot() + CALL_TIME;
        let sent = gateway.edit_draft(&place.name, &chunk.id, &rule, until).await;
        if let Err(error) = sent {
            if is_final(&error) || !gateway.may_have_processed() {
                cancel(ctx, &begun).await;
            }
            return Err(error);
        }
        finish(ctx, gateway, place, &chunk.id).await;
        let mut conn = ctx.db().read().await?;
        let next = rounds::find_open(&mut conn, place, Action::DraftApprove, &chunk.id).await?;
        let next = match next {
            None => rounds::by_id(&mut conn, round.id).await?,
            next => next,
        };
        next.ok_or_else(|| Error::not_found(ResourceKind::Approval, round.id))
    })
}

/// Checks the size of a rule, before anything is read for it.
fn check_size(yaml: &str) -> Result<(), Error> {
    if yaml.trim().is_empty() || yaml.len() > RULE_BYTES_MAX {
        let why = format!("is required, and must have at most {RULE_BYTES_MAX} bytes");
        return Err(Error::invalid(FIELD, why));
    }
    Ok(())
}

/// Returns the rule of a document, encoded, with the marks of the chunk's own rule, if a gateway can merge it.
fn edited_rule(base: &Policy, chunk: &DraftChunk, yaml: &str) -> Result<Vec<u8>, Error> {
    // The parser names the part of the request that it reads.
    let of_rule = |error: Error| {
        if let Error::Invalid { why, .. } = error { Error::invalid(FIELD, why) } else { error }
    };
    let (generation, name) = (base.generation(), chunk.rule_name.as_str());
    let edit = Edit::add_rule(generation, FIELD, name, yaml).map_err(of_rule)?;
    let rule = Policy::decode(generation, &[])?.edited(&[edit]).map_err(of_rule)?;
    let before = Policy::of_rule(generation, name, &chunk.proposed_rule)?;
    let rule = rule.with_marks_of(&before)?;
    let missing = || Error::internal("an edited rule without its content");
    let encoded = rule.encoded_rule().ok_or_else(missing)?.to_vec();
    let proposed_rule = Bytes::from(encoded.clone());
    DraftContent::of(base, &DraftChunk { proposed_rule, ..chunk.clone() }).map_err(of_rule)?;
    Ok(encoded)
}

/// Makes the caller an author of a round, before the edit of its chunk is sent.
async fn begin_in(ctx: &Ctx, tx: &mut Tx<'_>, round: &mut Round) -> Result<BegunEdit, Error> {
    let unknown = || Error::Denied { why: "only a known caller edits drafts".to_owned() };
    let editor = ctx.principal().ok_or_else(unknown)?;
    require_known_holder(ctx, tx, &round.place).await?;
    let (authors, roots) = (round.authors.clone(), round.summary.roots.clone());
    let is_known = round.is_author(editor);
    add_author(ctx, tx, round, editor).await?;
    if is_known {
        // An earlier edit of the same editor may be on its way. If the gateway refuses that one, the editor remains an
        // author by this one, since the round has another version.
        save(tx, round).await?;
    }
    let added = (!is_known).then_some(Added { authors, roots, version: round.version });
    Ok(BegunEdit { round: round.id, added })
}

/// Refuses an edit of a service principal under a workflow if it is not known who holds its key: that person would not
/// be excluded.
async fn require_known_holder(ctx: &Ctx, tx: &mut Tx<'_>, place: &SandboxRef) -> Result<(), Error> {
    let workflows = rules::in_force(tx, place).await?.workflows;
    let is_known = caller_facts(ctx, place.gateway.id, &workflows)?.is_maker_known;
    let Some(workflow) = workflows.last().filter(|_| !is_known) else { return Ok(()) };
    let (by, instead) = (GovernedBy::Workflow(workflow.scope.clone()), Instead::RotateKey);
    Err(Refusal::Governed(Governed { by, sandboxes: Vec::new(), instead }).into())
}

/// Makes the caller of a proxied edit an author, before it is sent. A chunk without a round gets one first. Returns
/// `None` if the gateway has no such chunk, or if that is not possible and no rule is in force: then the caller becomes an
/// author of later rounds of the chunk. Under a rule, such an edit is not sent, since its rule could not be reviewed.
///
/// # Errors
/// `ROUND_CLOSED` if its approval is on its way to the gateway. Under a rule, also those of the calls to the gateway,
/// `GATEWAY_REFUSED` for a chunk that is not pending, `GOVERNED` if it cannot be reviewed or it is not known who holds
/// the key of the calling service principal, and `CONCURRENT_CHANGE` if its review has ended meanwhile.
pub fn begin<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    chunk: &'a str,
    is_governed: bool,
) -> BoxFuture<'a, Result<Option<BegunEdit>, Error>> {
    Box::pin(async move {
        let mut conn = ctx.db().read().await?;
        let known = rounds::find_open(&mut conn, place, Action::DraftApprove, chunk).await?;
        drop(conn);
        let current = match known {
            Some(_) => None,
            None => match CurrentDrafts::read(gateway, place).await {
                Ok(current) => Some(current),
                Err(error) if is_governed => return Err(error),
                Err(Error::NotFound { .. }) => return Ok(None),
                // Without a rule, the gateway gets the edit all the same.
                Err(_) => None,
            },
        };
        let begun = ctx
            .transaction(async |tx| {
                write_intents::lock_exclusive(tx, place.gateway.id).await?;
                let mut round = match find_or_open(ctx, tx, place, chunk, current.as_ref()).await? {
                    Ok(round) => round,
                    Err(why @ Error::NotFound { .. }) => return Ok(Err(why)),
                    Err(why) => {
                        note_editor(ctx, tx, place, chunk, is_governed).await?;
                        return Ok(Err(why));
                    }
                };
                let now = ctx.db().now(tx).await?;
                clocks::end_if_due(ctx, tx, &mut round, now).await?;
                if round.state.is_closed() || round.state == RoundState::Written {
                    note_editor(ctx, tx, place, chunk, is_governed).await?;
                    let why = format!("the review of the draft is {}", round.state);
                    let (approval, state) = (round.id.to_string(), round.state.to_string());
                    let facts = [("approval", approval), ("state", state)];
                    return Ok(Err(Error::explained(Reason::RoundClosed, why, facts)));
                }
                begin_in(ctx, tx, &mut round).await.map(Ok)
            })
            .await?;
        match begun {
            Ok(begun) => Ok(Some(begun)),
            // The gateway refuses an edit of what it does not have.
            Err(Error::NotFound { .. }) => Ok(None),
            Err(why) if is_governed => Err(why),
            Err(_) => Ok(None),
        }
    })
}

/// Stores that the caller edits a chunk that has no round now, and can have one later, unless a rule prevents the edit.
async fn note_editor(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    chunk: &str,
    is_governed: bool,
) -> Result<(), Error> {
    let Some(editor) = ctx.principal().filter(|_| !is_governed && is_chunk_id(chunk)) else {
        return Ok(());
    };
    let now = ctx.db().now(tx).await?;
    store::insert_editor(tx, place, chunk, editor, now).await
}

/// Returns the round of a chunk, which is opened if the chunk has none, or why it has none.
async fn find_or_open(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    place: &SandboxRef,
    chunk: &str,
    current: Option<&CurrentDrafts>,
) -> Result<Result<Round, Error>, Error> {
    if let Some(round) = rounds::find_open(tx, place, Action::DraftApprove, chunk).await? {
        return Ok(Ok(round));
    }
    // It had one when the gateway was not asked.
    let Some(current) = current else {
        return Ok(Err(Error::conflict(ResourceKind::DraftChunk, chunk)));
    };
    let found = match current.chunk(chunk) {
        Ok(found) => found,
        Err(missing) => return Ok(Err(missing)),
    };
    if found.status != ChunkStatus::Pending {
        let status = status_word(found.status);
        let why = format!("chunk status is '{status}', expected 'pending'");
        return Ok(Err(Error::refused(Reason::GatewayRefused, why)));
    }
    let Ok(content) = current.base.content(found) else {
        let why = "the draft cannot be reviewed, and a rule requires that its editor is known";
        return Ok(Err(not_reviewable(why)));
    };
    match current.open(ctx, tx, place, (found, &content)).await {
        // Such as a rejection that the gateway does not know yet.
        Err(refused @ Error::Refused { .. }) => Ok(Err(refused)),
        opened => opened.map(Ok),
    }
}

/// Undoes [`begin`] for an edit that the gateway certainly has not made. A failure is only logged: then the caller
/// remains an author.
#[must_use]
pub fn cancel<'a>(ctx: &'a Ctx, begun: &'a BegunEdit) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let Some(added) = &begun.added else { return };
        let done = ctx.record_change(async |tx| restore(ctx, tx, begun.round, added).await).await;
        if let Err(error) = done {
            warn!(error = &error as &dyn std::error::Error, "an editor remains an author");
        }
    })
}

async fn restore(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    id: ApprovalRoundId,
    added: &Added,
) -> Result<(), Error> {
    write_intents::lock_exclusive(tx, ctx.required_gateway()?.id).await?;
    let stored = rounds::by_id(tx, id).await?;
    // Another edit may have followed.
    let Some(mut round) = stored.filter(|round| round.version == added.version) else {
        return Ok(());
    };
    round.authors.clone_from(&added.authors);
    round.summary.roots.clone_from(&added.roots);
    store::set_authors(tx, id, &round.authors, &round.summary).await?;
    save(tx, &mut round).await
}

/// Opens the round of the new rule after an edit. A failure is only logged: it is opened later.
#[must_use]
pub fn finish<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    place: &'a SandboxRef,
    chunk: &'a str,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        if let Err(error) = open_next(ctx, gateway, place, chunk).await {
            warn!(error = &error as &dyn std::error::Error, "an edited draft has no review yet");
        }
    })
}

async fn open_next(
    ctx: &Ctx,
    gateway: &Gateway,
    place: &SandboxRef,
    chunk: &str,
) -> Result<(), Error> {
    let current = CurrentDrafts::read(gateway, place).await?;
    let Ok(found) = current.chunk(chunk) else {
        let why = "the draft was edited, and its gateway does not show it any more";
        return close_of_chunk(ctx, place, chunk, why).await;
    };
    let content = current.base.content(found)?;
    ctx.record_change(async |tx| current.open(ctx, tx, place, (found, &content)).await.map(drop))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edited_rule_has_at_most_64_kib() {
        assert!(check_size(&"x".repeat(RULE_BYTES_MAX)).is_ok());
        for bad in [String::new(), " \n".to_owned(), "x".repeat(RULE_BYTES_MAX + 1)] {
            assert!(matches!(check_size(&bad), Err(Error::Invalid { .. })), "{} bytes", bad.len());
        }
    }
}
