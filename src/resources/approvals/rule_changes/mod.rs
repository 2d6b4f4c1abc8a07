//! Changes of rules that a round has approved. They are made in the transaction of the decision, against the version of
//! the row that was reviewed.

pub mod propose;

use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalWorkflowId, PolicyPinId};
use crate::error::Error;
use crate::governance::RuleFault;
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::rounds::{self, Content, Round, RuleContent, events};
use crate::resources::stored_rules::domain as stored_rules;

/// Makes the change that a round has approved. Returns whether it was made: not if the rule has changed since
/// the review was opened.
///
/// # Errors
/// Those of the database.
pub async fn execute(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    now: Timestamp,
) -> Result<bool, Error> {
    let stored = rounds::store::content(tx, round.id).await?;
    let Content::Rule(content) = Content::decode(round.action, round.generation, &stored)? else {
        return Err(Error::internal("a change of a rule whose content is a policy"));
    };
    let (is_made, event_type) = make(tx, &content, now).await?;
    if is_made {
        events::emit(ctx, tx, event_type, round, serde_json::json!({})).await?;
    }
    Ok(is_made)
}

/// Makes a change. Returns whether the row had the version that was reviewed, and the event.
async fn make(
    tx: &mut Tx<'_>,
    content: &RuleContent,
    now: Timestamp,
) -> Result<(bool, EventType), Error> {
    match content {
        RuleContent::Workflow { id, version, after: Some(rule), .. } => {
            let fault =
                |fault: RuleFault| Error::internal(format!("{}: {}", fault.field, fault.why));
            let columns = rule.to_columns().map_err(fault)?;
            let is_made =
                stored_rules::replace_rule(tx, ApprovalWorkflowId(*id), *version, &columns, now)
                    .await?;
            Ok((is_made, event_types::APPROVAL_WORKFLOW_SET))
        }
        RuleContent::Workflow { id, version, after: None, .. } => {
            let is_made =
                stored_rules::delete_workflow(tx, ApprovalWorkflowId(*id), *version).await?;
            Ok((is_made, event_types::APPROVAL_WORKFLOW_DELETED))
        }
        RuleContent::Pin { id, version, after: Some(ends_at), .. } => {
            let ends_at = Timestamp::from_unix_micros(*ends_at);
            let is_made =
                stored_rules::shorten_pin(tx, PolicyPinId(*id), *version, ends_at).await?;
            Ok((is_made, event_types::POLICY_PINNED))
        }
        RuleContent::Pin { id, version, after: None, .. } => {
            let is_made = stored_rules::delete_pin(tx, PolicyPinId(*id), *version).await?;
            Ok((is_made, event_types::POLICY_UNPINNED))
        }
    }
}
