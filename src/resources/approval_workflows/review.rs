//! Weaker rules: a review under the workflows of the scope decides about them.

use crate::ctx::{Ctx, Tx};
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::Error;
use crate::governance::{Rule, RuleScope};
use crate::resources::approvals::rule_changes::propose::propose;
use crate::resources::approvals::{Round, RuleContent};
use crate::resources::stored_rules::domain::StoredWorkflow;

/// Opens the review of a weaker rule; `None` to delete the workflow.
pub(super) async fn review(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    gateway: &GatewayRef,
    before: &StoredWorkflow,
    after: Option<&Rule>,
) -> Result<Box<Round>, Error> {
    // A rule that cannot be read was refused.
    let unreadable = || Error::internal("a rule that cannot be read is not reviewed");
    let rule = before.rule().ok_or_else(unreadable)?;
    let content = RuleContent::Workflow {
        id: before.id.get(),
        version: before.version,
        before: rule,
        after: after.cloned(),
    };
    let place = place_of(gateway, &before.scope);
    Ok(Box::new(propose(ctx, tx, &place, content).await?))
}

/// Returns the place of the reviews of a scope. Its names below the scope are empty.
pub(super) fn place_of(gateway: &GatewayRef, scope: &RuleScope) -> SandboxRef {
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let name = SandboxName { workspace: text(scope.workspace()), name: text(scope.sandbox()) };
    SandboxRef { gateway: gateway.clone(), name }
}
