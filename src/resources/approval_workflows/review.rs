//! Weaker rules: a review under the workflows of the scope decides about them.

use crate::ctx::{Ctx, Tx};
use crate::db::types::{GatewayRef, SandboxName, SandboxRef};
use crate::error::Error;
use crate::governance::Rule;
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
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let name = SandboxName {
        workspace: text(before.scope.workspace()),
        name: text(before.scope.sandbox()),
    };
    let place = SandboxRef { gateway: gateway.clone(), name };
    Ok(Box::new(propose(ctx, tx, &place, content).await?))
}
