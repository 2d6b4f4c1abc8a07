//! Sends rejections of drafts to their gateway.
//!
//! Invariants
//! - only a pending chunk that asks for what was rejected is rejected on its gateway: the rejection of an approved chunk
//!   would change the policy, and another rule was not rejected. The chunk is read right before the call;
//! - a gateway rejects an approved chunk all the same, and removes its rule. If a chunk was approved there between the
//!   read and the call, the revisions show it: it is stored in the round and is an event, even if the answer to the
//!   call was lost.

pub mod store;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use self::store::Rejection;
use super::content::DraftContent;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalRoundId, SandboxName};
use crate::error::{Error, ResourceKind};
use crate::governance::Action;
use crate::openshell::Gateway;
use crate::openshell::drafts::{ChunkStatus, DraftChunk, DraftList, DraftStatus};
use crate::openshell::policies::Revision;
use crate::outbox::event_types;
use crate::policy::{Edit, Policy};
use crate::resources::approvals::rounds::{Content, events, store as rounds};
use crate::upstream::generation::Generation;

/// Time for the call.
const CALL_TIME: Duration = Duration::from_secs(20);
/// Revisions that are looked through for what a rejection has removed.
const REVISIONS_MAX: u32 = 20;

/// A rejection with the content that was rejected.
#[derive(Debug)]
pub struct Outgoing {
    /// The rejection.
    pub rejection: Rejection,
    /// `None` if it cannot be read.
    content: Option<DraftContent>,
    generation: Generation,
}

/// The rejection of a round that has removed a rule from the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// The round.
    pub round: ApprovalRoundId,
    /// The first version of the policy without the rule.
    pub version: u32,
}

/// The pending chunks of a sandbox, by their ids.
#[derive(Debug)]
pub struct Pending<'a> {
    sandbox_id: &'a str,
    chunks: HashMap<&'a str, &'a DraftChunk>,
}

/// Rejects a chunk on its gateway, if it is pending and still asks for what was rejected. Afterwards the gateway knows
/// the rejection, or needs not to know it.
///
/// # Errors
/// Those of the calls and of the database: the rejection is sent later.
pub fn send<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    rejection: Rejection,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let name = rejection.sandbox();
        let is_there = match gateway.get_sandbox(&name).await {
            Ok(found) => rejection.is_of(&found.id),
            Err(Error::NotFound { kind: ResourceKind::Sandbox, .. }) => false,
            Err(error) => return Err(error),
        };
        let mut removal = None;
        let outgoing = Outgoing::read(ctx, gateway, rejection).await?;
        if is_there {
            let version = newest_version(gateway, &name).await?;
            let round = outgoing.rejection.round_id;
            ctx.record_change(async |tx| store::set_sent(tx, round, version.into()).await).await?;
            let before = outgoing.sent_before();
            if outgoing.reject(ctx, gateway).await? || before.is_some() {
                let sent = [(&outgoing, before.unwrap_or(version))];
                removal = removals(gateway, &name, &sent).await?.pop();
            }
        }
        let round = outgoing.rejection.round_id;
        ctx.record_change(async |tx| end(ctx, tx, round, removal).await).await
    })
}

impl Outgoing {
    /// Reads what was rejected.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn read(ctx: &Ctx, gateway: &Gateway, rejection: Rejection) -> Result<Self, Error> {
        let stored = rounds::content(&mut ctx.db().read().await?, rejection.round_id).await?;
        let generation = gateway.generation();
        let decoded = Content::decode(Action::DraftApprove, Some(generation), &stored);
        let content = if let Ok(Content::Draft(content)) = decoded { Some(*content) } else { None };
        Ok(Self { rejection, content, generation })
    }

    /// Rejects the chunk on its gateway if it is pending and asks for what was rejected. It is read right before. Returns
    /// whether it was rejected.
    ///
    /// # Errors
    /// Those of the calls; `DRAFTS_OVERFLOW` if the chunks are too large to be read.
    pub async fn reject(&self, ctx: &Ctx, gateway: &Gateway) -> Result<bool, Error> {
        let Rejection { chunk_id, reason, .. } = &self.rejection;
        let asks = |chunk: &DraftChunk| self.is_about(chunk);
        reject_pending(ctx, gateway, &self.rejection.sandbox(), (chunk_id, reason), asks).await
    }

    /// Returns the newest version of the policy before it was sent first; `None` if it was not sent before. The answer to
    /// it can have been lost.
    #[must_use]
    pub fn sent_before(&self) -> Option<u32> {
        self.rejection.sent_version.and_then(|version| u32::try_from(version).ok())
    }

    /// Returns whether a chunk asks for the rule that was rejected. What the rule would lead to may have changed.
    fn is_about(&self, chunk: &DraftChunk) -> bool {
        let Some(content) = &self.content else { return false };
        let asked = Policy::of_rule(self.generation, &chunk.rule_name, &chunk.proposed_rule);
        let is_same = asked.is_ok_and(|asked| asked.encoded() == content.proposed.encoded());
        is_same && chunk.rule_name == content.rule_name
    }

    /// Returns whether a policy has the rule that was rejected: as it was reviewed, or so that an approval would change
    /// nothing.
    fn is_in(&self, policy: &Policy) -> bool {
        let Some(content) = &self.content else { return false };
        let missing = content.result.rules_changed_from(policy);
        if content.result.has_rules() && missing.is_ok_and(|missing| !missing.has_rules()) {
            return true;
        }
        let Some(rule) = content.proposed.encoded_rule() else { return false };
        let edit = Edit::add_proposed_rule(self.generation, &content.rule_name, rule);
        let merged = edit.and_then(|edit| policy.edited(&[edit]));
        let missing = merged.and_then(|merged| merged.rules_changed_from(policy));
        missing.is_ok_and(|missing| !missing.has_rules())
    }
}

/// Rejects a chunk on its gateway if it is pending and `is_wanted` holds for it. It is read right before: a gateway that
/// rejects an approved chunk removes its rule from the policy. Returns whether it was rejected.
///
/// # Errors
/// Those of the calls; `DRAFTS_OVERFLOW` if the chunks are too large to be read.
pub async fn reject_pending(
    ctx: &Ctx,
    gateway: &Gateway,
    sandbox: &SandboxName,
    (id, reason): (&str, &str),
    is_wanted: impl Fn(&DraftChunk) -> bool + Send,
) -> Result<bool, Error> {
    let DraftList::Complete(chunks) = gateway.draft_chunks(sandbox, DraftStatus::Pending).await?
    else {
        return Err(super::read::overflowing(sandbox));
    };
    let mut pending = chunks.iter().filter(|chunk| chunk.status == ChunkStatus::Pending);
    if !pending.any(|chunk| chunk.id == id && is_wanted(chunk)) {
        return Ok(false);
    }
    let until = ctx.app().clock.since_boot() + CALL_TIME;
    gateway.reject_draft(sandbox, id, reason, until).await?;
    Ok(true)
}

/// Returns the newest version of the policy of a sandbox; 0 without one.
///
/// # Errors
/// `NOT_FOUND` if the sandbox does not exist; those of the call.
pub async fn newest_version(gateway: &Gateway, sandbox: &SandboxName) -> Result<u32, Error> {
    match gateway.policy_revision(sandbox, 0).await {
        Ok((newest, _)) => Ok(newest.version),
        Err(Error::NotFound { kind: ResourceKind::PolicyRevision, .. }) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Returns which rejections that were sent have removed their rule: it was in a version of the policy, and then not any
/// more. Each has the newest version before it was sent first.
///
/// # Errors
/// Those of the calls.
pub async fn removals(
    gateway: &Gateway,
    sandbox: &SandboxName,
    sent: &[(&Outgoing, u32)],
) -> Result<Vec<Removal>, Error> {
    let Some(first) = sent.iter().map(|(_, version)| *version).min() else {
        return Ok(Vec::new());
    };
    if newest_version(gateway, sandbox).await? <= first {
        return Ok(Vec::new());
    }
    let (mut page, _) = gateway.policy_revisions(sandbox, REVISIONS_MAX, "").await?;
    page.retain(|revision| revision.version >= first);
    page.sort_by_key(|revision| revision.version);
    let mut versions: Vec<Vec<(u32, bool)>> = vec![Vec::new(); sent.len()];
    // One at a time: together they could be large.
    for revision in page {
        let version = revision.version;
        let Some(policy) = policy_of(gateway, sandbox, revision).await? else { continue };
        for ((outgoing, since), seen) in sent.iter().zip(&mut versions) {
            if version >= *since {
                seen.push((version, outgoing.is_in(&policy)));
            }
            // Each takes time in proportion to the policy.
            tokio::task::yield_now().await;
        }
    }
    let removed = sent.iter().zip(versions).filter_map(|((outgoing, _), seen)| {
        let version = removed_at(seen)?;
        Some(Removal { round: outgoing.rejection.round_id, version })
    });
    Ok(removed.collect())
}

/// Returns the policy of a revision; `None` if it cannot be read. Lists do not contain the policies of all gateways.
async fn policy_of(
    gateway: &Gateway,
    sandbox: &SandboxName,
    revision: Revision,
) -> Result<Option<Policy>, Error> {
    let sent = match revision.policy {
        Some(sent) => Some(sent),
        None => gateway.policy_revision(sandbox, revision.version).await?.0.policy,
    };
    Ok(sent.and_then(|sent| Policy::decode(gateway.generation(), &sent).ok()))
}

/// Returns the first version without the rule that follows a version with it. The versions are in their order.
fn removed_at(versions: impl IntoIterator<Item = (u32, bool)>) -> Option<u32> {
    let mut had = false;
    for (version, has) in versions {
        if had && !has {
            return Some(version);
        }
        had = has;
    }
    None
}

/// Stores that the gateway knows the rejection of a round, or needs not to know it, and what it has removed.
///
/// # Errors
/// Those of the database.
pub async fn end(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: ApprovalRoundId,
    removal: Option<Removal>,
) -> Result<(), Error> {
    // A call and a follower may have sent it both.
    let is_first = store::set_told(tx, round).await?;
    let (Some(Removal { version, .. }), true) = (removal, is_first) else { return Ok(()) };
    store::set_removed(tx, round, version.into()).await?;
    let Some(round) = rounds::by_id(tx, round).await? else { return Ok(()) };
    let more = json!({ "version": version });
    events::emit(ctx, tx, event_types::APPROVAL_RULE_REMOVED, &round, more).await
}

impl<'a> Pending<'a> {
    /// Selects those of the chunks of a sandbox that are pending.
    #[must_use]
    pub fn new(sandbox_id: &'a str, chunks: &'a [DraftChunk]) -> Self {
        let pending = chunks.iter().filter(|chunk| chunk.status == ChunkStatus::Pending);
        let chunks = pending.map(|chunk| (chunk.id.as_str(), chunk)).collect();
        Self { sandbox_id, chunks }
    }

    /// Returns whether a rejection is about this sandbox.
    #[must_use]
    pub fn is_of(&self, rejection: &Rejection) -> bool {
        rejection.is_of(self.sandbox_id)
    }

    /// Returns whether the chunk of a rejection is one of them, and asks for the rule that was rejected.
    #[must_use]
    pub fn has(&self, outgoing: &Outgoing) -> bool {
        let chunk = self.chunks.get(outgoing.rejection.chunk_id.as_str());
        self.is_of(&outgoing.rejection) && chunk.is_some_and(|chunk| outgoing.is_about(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_was_removed_if_a_version_without_it_follows_one_with_it() {
        let at = |versions: &[(u32, bool)]| removed_at(versions.iter().copied());
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[(3, false), (4, true)]), None);
        assert_eq!(at(&[(3, false), (4, true), (5, false)]), Some(5));
        assert_eq!(at(&[(3, true), (4, true), (6, false), (7, true)]), Some(6));
        assert_eq!(at(&[(3, false), (4, false)]), None);
    }
}
