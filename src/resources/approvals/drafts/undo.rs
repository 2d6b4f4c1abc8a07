//! The removal of an approved draft: what it leads to, and the round that decides it.

use futures_util::future::BoxFuture;

use super::content::{DraftContent, UndoContent};
use super::current::{CurrentDrafts, has_global_policy};
use crate::ctx::Ctx;
use crate::db::types::SandboxRef;
use crate::error::Error;
use crate::governance::{Origin, Verdict};
use crate::openshell::Gateway;
use crate::openshell::drafts::DraftChunk;
use crate::policy::{Edit, Policy};
use crate::resources::approvals::gate::write::{WriteFacts, judge_write};
use crate::resources::approvals::proposals::store as proposals;
use crate::resources::approvals::{Bounds, Content, NewRound, Opened, Summary, open};
use crate::resources::write_intents::domain as write_intents;

/// An approved draft, and the policy of which its rule is a part.
#[derive(Debug, Clone)]
pub struct Undoing<'a> {
    /// The sandbox.
    pub place: &'a SandboxRef,
    /// The gateway's id of the sandbox.
    pub sandbox_id: &'a str,
    /// The newest version of the policy.
    pub base_version: u32,
    /// The reviewed content.
    pub content: UndoContent,
    /// Whether the gateway has a policy for all sandboxes.
    pub is_global: bool,
    /// Why; empty without a comment.
    pub comment: &'a str,
    /// The API.
    pub origin: Origin,
}

impl<'a> Undoing<'a> {
    /// Computes the removal of a chunk, and asks the gateway for its policy for all sandboxes.
    ///
    /// # Errors
    /// Those of [`content`] and of the call.
    pub async fn of(
        gateway: &Gateway,
        place: &'a SandboxRef,
        (current, chunk): (&'a CurrentDrafts, &DraftChunk),
        (origin, comment): (Origin, &'a str),
    ) -> Result<Self, Error> {
        let content = content(&current.base.policy, chunk)?;
        Ok(Self {
            place,
            sandbox_id: &current.base.sandbox_id,
            base_version: current.base.version,
            content,
            is_global: has_global_policy(gateway, place).await?,
            comment,
            origin,
        })
    }
}

/// Returns what is reviewed of the removal of a chunk: its binary leaves the rule of its name, and the rule leaves the
/// policy if it has no other.
///
/// # Errors
/// `Invalid` if rule or binary of the chunk are not known, or the binary cannot leave the rule.
pub fn content(policy: &Policy, chunk: &DraftChunk) -> Result<UndoContent, Error> {
    // As gateways read the names of rules when they merge them.
    let name = chunk.rule_name.trim();
    let edit = Edit::remove_binary("chunk_id", name, &chunk.binary)?;
    Ok(UndoContent {
        chunk_id: chunk.id.clone(),
        rule_name: name.to_owned(),
        before: policy.only_rule(name)?,
        after: policy.edited(&[edit])?.only_rule(name)?,
    })
}

/// Returns whether the approval of a chunk leads to these rules, by the policy that its gateway has shown to reviewers.
#[must_use]
pub fn leads_to(chunk: &DraftChunk, content: &DraftContent) -> bool {
    let Some(shown) = &chunk.candidate_effective_policy else { return false };
    let shown = Policy::decode(content.result.generation(), shown);
    let missing = shown.and_then(|shown| content.result.rules_changed_from(&shown));
    missing.is_ok_and(|missing| !missing.has_rules())
}

/// Opens the round of the removal of an approved draft. Without a workflow it is approved at once: the caller decides by
/// calling. Returns `None` for a proxied call to which no rule applies any more.
///
/// # Errors
/// `POLICY_PINNED` or `GOVERNED` if the gate refuses the change, `LIMIT_REACHED` if the caller has too many open
/// proposals.
pub fn submit<'a>(
    ctx: &'a Ctx,
    undoing: Undoing<'a>,
) -> BoxFuture<'a, Result<Option<Opened>, Error>> {
    Box::pin(async move {
        let Undoing { place, sandbox_id, base_version, content, comment, .. } = undoing;
        let facts = WriteFacts {
            origin: undoing.origin,
            sandbox_id,
            restores: None,
            is_global: undoing.is_global,
        };
        let reviewed = Content::Undo(Box::new(content));
        let opened = ctx
            .transaction(async |tx| {
                write_intents::lock_exclusive(tx, place.gateway.id).await?;
                match judge_write(ctx, tx, place, facts).await? {
                    Verdict::Refuse(refusal) => return Err(refusal.into()),
                    Verdict::Pass | Verdict::PassWithInitialPolicy => return Ok(None),
                    Verdict::Round(_) => {}
                }
                let new = NewRound {
                    place,
                    content: &reviewed,
                    bounds: Bounds { sandbox_id: Some(sandbox_id), ..Bounds::default() },
                    base_version: Some(i64::from(base_version)),
                    authors: &[],
                    owner: proposals::owner(tx, place, sandbox_id).await?,
                    summary: Summary {
                        comment: comment.to_owned(),
                        removed: 1,
                        ..Summary::default()
                    },
                    previous: None,
                    proposal: None,
                    decides: true,
                };
                open(ctx, tx, new).await.map(Some)
            })
            .await?;
        if let Some(opened) = &opened {
            ctx.add_audit_detail("approval", opened.round.id.get());
        }
        Ok(opened)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::approvals::drafts::samples;
    use crate::upstream::generation::Generation;

    #[test]
    fn t20_an_undoing_shows_the_rule_also_if_its_name_has_spaces_at_its_ends() {
        for generation in Generation::ALL {
            let asked = samples::chunk("c", "a.example");
            let chunk = DraftChunk { rule_name: " allow_it ".to_owned(), ..asked };
            let (name, rule) = (&chunk.rule_name, &chunk.proposed_rule);
            let edit = Edit::add_proposed_rule(generation, name, rule).unwrap();
            let policy = Policy::decode(generation, &[]).unwrap().edited(&[edit]).unwrap();
            let content = content(&policy, &chunk).unwrap();
            assert!(content.before.has_rules() && !content.after.has_rules(), "{content:?}");
        }
    }
}
