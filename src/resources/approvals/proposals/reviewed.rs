//! The policy that an approval leads to, read by the sandbox that it is about.

use super::store;
use crate::ctx::Ctx;
use crate::db::types::{ApprovalRoundId, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::policy::Policy;
use crate::resources::approvals::rounds::Content;
use crate::upstream::generation::Generation;

/// Returns the policy that an approval of a sandbox leads to, or led to. `field` names the approval in the request.
///
/// # Errors
/// `NOT_FOUND` if the sandbox has no such approval, even if another one has; `Invalid` for `field` if it is not about a
/// policy; `POLICY_UNREADABLE` if this server does not know a part of the policy; `BUSY` if the caller has too many
/// turns.
pub async fn reviewed_policy(
    ctx: &Ctx,
    place: &SandboxRef,
    id: ApprovalRoundId,
    field: &str,
) -> Result<Policy, Error> {
    let found = store::content_of(&mut ctx.db().read().await?, place, id).await?;
    let missing = || Error::not_found(ResourceKind::Approval, id);
    let (action, generation, stored) = found.ok_or_else(missing)?;
    let generation = generation.as_deref().and_then(Generation::from_word);
    let turn = ctx.long_work(stored.len()).await?;
    match turn.run(|| Content::decode(action, generation, &stored))? {
        Content::Policy(content) => content.candidate.require_known(),
        Content::Rule(_) | Content::Draft(_) | Content::Undo(_) => {
            let why = format!("must be an approval of a policy: approval {id} is of `{action}`");
            Err(Error::invalid(field, why))
        }
    }
}
