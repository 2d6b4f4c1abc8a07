//! Sends rejections of drafts to their gateway.
//!
//! Invariant: only a pending chunk that asks for what was rejected is rejected on its gateway: the rejection of an
//! approved chunk would change the policy, and another rule was not rejected.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::content::DraftContent;
use super::store::{self, Rejection};
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::{Error, ResourceKind};
use crate::governance::Action;
use crate::openshell::Gateway;
use crate::openshell::drafts::{ChunkStatus, DraftChunk, DraftList, DraftStatus};
use crate::policy::Policy;
use crate::resources::approvals::rounds::{Content, store as rounds};

/// Time for the call.
const CALL_TIME: Duration = Duration::from_secs(20);

/// Rejects a chunk on its gateway, if it is pending and still asks for what was rejected. Afterwards the gateway knows
/// the rejection, or needs not to know it.
///
/// # Errors
/// Those of the calls and of the database: the rejection is sent later.
pub fn send<'a>(
    ctx: &'a Ctx,
    gateway: &'a Gateway,
    rejection: &'a Rejection,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        if let Some(chunk) = find(gateway, rejection).await?
            && is_about(ctx, gateway, rejection, &chunk).await?
        {
            let until = ctx.app().clock.since_boot() + CALL_TIME;
            let name = name(rejection);
            gateway.reject_draft(&name, &chunk.id, &rejection.reason, until).await?;
        }
        ctx.record_change(async |tx| store::set_told(tx, rejection.round_id).await).await
    })
}

fn name(rejection: &Rejection) -> SandboxName {
    SandboxName { workspace: rejection.workspace.clone(), name: rejection.sandbox_name.clone() }
}

/// Returns the chunk of a rejection if it is pending.
async fn find(gateway: &Gateway, rejection: &Rejection) -> Result<Option<DraftChunk>, Error> {
    let name = name(rejection);
    let found = match gateway.get_sandbox(&name).await {
        Ok(found) => found,
        Err(Error::NotFound { kind: ResourceKind::Sandbox, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if rejection.sandbox_id.as_ref().is_some_and(|id| *id != found.id) {
        return Ok(None);
    }
    let chunks = match gateway.draft_chunks(&name, DraftStatus::Pending).await? {
        DraftList::Complete(chunks) => chunks,
        DraftList::Overflowing => return Err(super::read::overflowing(&name)),
    };
    let mut chunks = chunks.into_iter();
    Ok(chunks.find(|chunk| chunk.id == rejection.chunk_id && chunk.status == ChunkStatus::Pending))
}

/// Returns whether a chunk asks for the rule that was rejected. What the rule would lead to may have changed.
///
/// # Errors
/// Those of the database.
pub async fn is_about(
    ctx: &Ctx,
    gateway: &Gateway,
    rejection: &Rejection,
    chunk: &DraftChunk,
) -> Result<bool, Error> {
    let stored = rounds::content(&mut ctx.db().read().await?, rejection.round_id).await?;
    let generation = gateway.generation();
    let rejected = Content::decode(Action::DraftApprove, Some(generation), &stored);
    let Ok(Content::Draft(rejected)) = rejected else { return Ok(false) };
    let DraftContent { rule_name, proposed, .. } = *rejected;
    let asked = Policy::of_rule(generation, &chunk.rule_name, &chunk.proposed_rule);
    let is_same = asked.is_ok_and(|asked| asked.encoded() == proposed.encoded());
    Ok(is_same && chunk.rule_name == rule_name)
}
