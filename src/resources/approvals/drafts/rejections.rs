//! Sends rejections of drafts to their gateway.
//!
//! Invariant: only a pending chunk that asks for what was rejected is rejected on its gateway: the rejection of an
//! approved chunk would change the policy, and another rule was not rejected.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::content::DraftContent;
use super::store::{self, Rejection};
use crate::ctx::Ctx;
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
        if let Some((sandbox_id, chunks)) = read(gateway, rejection).await?
            && Pending::new(&sandbox_id, &chunks).has(ctx, gateway, rejection).await?
        {
            reject(ctx, gateway, rejection).await?;
        }
        ctx.record_change(async |tx| store::set_told(tx, rejection.round_id).await).await
    })
}

/// Returns the id of the sandbox of a rejection, and its pending chunks; `None` if the sandbox was deleted.
async fn read(
    gateway: &Gateway,
    rejection: &Rejection,
) -> Result<Option<(String, Vec<DraftChunk>)>, Error> {
    let name = rejection.sandbox();
    let found = match gateway.get_sandbox(&name).await {
        Ok(found) => found,
        Err(Error::NotFound { kind: ResourceKind::Sandbox, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !is_of(rejection, &found.id) {
        return Ok(None);
    }
    match gateway.draft_chunks(&name, DraftStatus::Pending).await? {
        DraftList::Complete(chunks) => Ok(Some((found.id, chunks))),
        DraftList::Overflowing => Err(super::read::overflowing(&name)),
    }
}

fn is_of(rejection: &Rejection, sandbox_id: &str) -> bool {
    rejection.sandbox_id.as_deref() == Some(sandbox_id)
}

/// Rejects the chunk of a rejection on its gateway.
///
/// # Errors
/// Those of the call.
pub async fn reject(ctx: &Ctx, gateway: &Gateway, rejection: &Rejection) -> Result<(), Error> {
    let until = ctx.app().clock.since_boot() + CALL_TIME;
    let (name, chunk) = (rejection.sandbox(), &rejection.chunk_id);
    gateway.reject_draft(&name, chunk, &rejection.reason, until).await
}

/// The pending chunks of a sandbox, by their ids.
#[derive(Debug)]
pub struct Pending<'a> {
    sandbox_id: &'a str,
    chunks: HashMap<&'a str, &'a DraftChunk>,
}

impl<'a> Pending<'a> {
    /// Selects those of the chunks of a sandbox that are pending.
    #[must_use]
    pub fn new(sandbox_id: &'a str, chunks: &'a [DraftChunk]) -> Self {
        let pending = chunks.iter().filter(|chunk| chunk.status == ChunkStatus::Pending);
        let chunks = pending.map(|chunk| (chunk.id.as_str(), chunk)).collect();
        Self { sandbox_id, chunks }
    }

    /// Returns whether the chunk of a rejection is one of them, and asks for the rule that was rejected. What the rule
    /// would lead to may have changed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has(
        &self,
        ctx: &Ctx,
        gateway: &Gateway,
        rejection: &Rejection,
    ) -> Result<bool, Error> {
        let chunk = self.chunks.get(rejection.chunk_id.as_str());
        match chunk.filter(|_| is_of(rejection, self.sandbox_id)) {
            Some(chunk) => is_about(ctx, gateway, rejection, chunk).await,
            None => Ok(false),
        }
    }
}

async fn is_about(
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
