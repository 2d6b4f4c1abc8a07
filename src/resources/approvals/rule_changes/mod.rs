//! Changes of rules that a round has approved. They are made in the transaction of the decision, against the version of
//! the row that was reviewed. A review of another version ends with the change that stores it.

pub mod outdated;
pub mod propose;

use serde_json::{Value, json};

use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::Intent;
use crate::clock::Timestamp;
use crate::ctx::{Ctx, Tx};
use crate::db::types::{ApprovalWorkflowId, PolicyPinId};
use crate::error::Error;
use crate::governance::{People, Rule, RuleFault, shortfall};
use crate::outbox::{EventType, event_types};
use crate::resources::approvals::rounds::{self, Content, Round, RuleContent};
use crate::resources::stored_rules::domain::{self as stored_rules, StoredWorkflow};

/// Why a review ends of which the version of the rule is not stored any more.
const CHANGED: &str = "the rule was changed, or has ended, since the review was opened";

/// Whether an approved change was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// It was made.
    Made,
    /// It was not, for this reason.
    NotMade(String),
}

/// Makes the change that a round has approved, unless the rule has changed since the review was opened or the new one
/// cannot be met any more. Event and audit entry are those of the change, with the id of the
/// approval.
///
/// # Errors
/// Those of the database.
pub async fn execute(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    now: Timestamp,
) -> Result<Execution, Error> {
    let stored = rounds::store::content(tx, round.id).await?;
    let Content::Rule(content) = Content::decode(round.action, round.generation, &stored)? else {
        return Err(Error::internal("a change of a rule whose content is a policy"));
    };
    let made = match &*content {
        RuleContent::Workflow { id, version, after, .. } => {
            if let Some(why) = after.as_ref().and_then(|rule| unmet(ctx, round, rule)) {
                return Ok(Execution::NotMade(why));
            }
            let reviewed = (ApprovalWorkflowId(*id), *version);
            change_workflow(ctx, tx, round, reviewed, after.as_ref(), now).await?
        }
        RuleContent::Pin { id, version, after, .. } => {
            let ends_at = after.map(Timestamp::from_unix_micros);
            change_pin(ctx, tx, round, (PolicyPinId(*id), *version), ends_at).await?
        }
    };
    let Some((action, event_type, mut payload)) = made else {
        return Ok(Execution::NotMade(CHANGED.to_owned()));
    };
    payload["approval"] = round.id.get().into();
    let event = ctx.new_event(event_type, payload);
    tx.emit(event.with_gateway(round.place.gateway.clone())).await?;
    tx.record(entry(ctx, round, action)).await?;
    Ok(Execution::Made)
}

/// Returns the audit entry of a change, which is that of a change without a review besides the approval.
fn entry(ctx: &Ctx, round: &Round, action: Action) -> Intent {
    let ctx = ctx.clone().with_gateway(round.place.gateway.clone());
    let about = AuditSubject::new(action, round.place.sandbox().to_owned());
    let detail = json!({
        "approval": round.id.get(),
        "workspace": round.place.workspace(),
        "digest": round.digest,
    });
    Intent { detail: Some(detail), ..ctx.new_intent(about) }
}

/// Returns why a rule cannot be met by the people of now.
fn unmet(ctx: &Ctx, round: &Round, rule: &Rule) -> Option<String> {
    let people = People::on_gateway(&ctx.app().snapshot, round.place.gateway.id);
    let lacking = shortfall(rule, &people, None)?;
    Some(format!(
        "the new rule cannot be met any more: group `{}` requires {} approvals and can get {}",
        lacking.group, lacking.need, lacking.have
    ))
}

/// Stores or deletes a workflow. Returns the event; `None` if the row no longer has the version that was reviewed.
async fn change_workflow(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    (id, version): (ApprovalWorkflowId, i64),
    after: Option<&Rule>,
    now: Timestamp,
) -> Result<Option<(Action, EventType, Value)>, Error> {
    let gateway = &round.place.gateway;
    let workflows = stored_rules::workflows_of(tx, &gateway.name).await?;
    let Some(before) = workflows.into_iter().find(|stored| stored.id == id) else {
        return Ok(None);
    };
    let Some(rule) = after else {
        let is_made = stored_rules::delete_workflow(tx, id, version).await?;
        let payload = stored_rules::workflow_change_payload(ctx, gateway, &before);
        return Ok(is_made.then_some((
            Action::APPROVAL_WORKFLOW_DELETE,
            event_types::APPROVAL_WORKFLOW_DELETED,
            payload,
        )));
    };
    let fault = |fault: RuleFault| Error::internal(format!("{}: {}", fault.field, fault.why));
    let columns = rule.to_columns().map_err(fault)?;
    let is_made = stored_rules::replace_rule(tx, id, version, &columns, now).await?;
    let after = StoredWorkflow { columns, ..before };
    let payload = stored_rules::workflow_change_payload(ctx, gateway, &after);
    Ok(is_made.then_some((
        Action::APPROVAL_WORKFLOW_SET,
        event_types::APPROVAL_WORKFLOW_SET,
        payload,
    )))
}

/// Shortens or removes a pin. Returns the event; `None` if the row no longer has the version that was reviewed.
async fn change_pin(
    ctx: &Ctx,
    tx: &mut Tx<'_>,
    round: &Round,
    (id, version): (PolicyPinId, i64),
    ends_at: Option<Timestamp>,
) -> Result<Option<(Action, EventType, Value)>, Error> {
    let place = &round.place;
    let before = stored_rules::pin_of(tx, &place.gateway.name, &place.name).await?;
    let Some(before) = before.filter(|pin| pin.id == id) else { return Ok(None) };
    let Some(ends_at) = ends_at else {
        let is_made = stored_rules::delete_pin(tx, id, version).await?;
        let payload = stored_rules::pin_payload(ctx, &before);
        return Ok(is_made.then_some((
            Action::POLICY_UNPIN,
            event_types::POLICY_UNPINNED,
            payload,
        )));
    };
    let is_made = stored_rules::shorten_pin(tx, id, version, ends_at).await?;
    let after = stored_rules::Pin { expires_at: Some(ends_at), ..before };
    let payload = stored_rules::pin_payload(ctx, &after);
    Ok(is_made.then_some((Action::POLICY_PIN, event_types::POLICY_PINNED, payload)))
}
