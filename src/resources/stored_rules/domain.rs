//! The rules in force, and whether a rule may be made weaker.

use serde_json::{Value, json};

pub use super::store::{
    Pin, PinRow, StoredWorkflow, WorkflowRow, all_workflows, delete_pin, delete_workflow, locks,
    pin_of, replace_rule, shorten_pin, workflows_applying, workflows_of, workflows_on,
};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::types::{ApprovalWorkflowId, GatewayId, GatewayRef};
use crate::error::Error;
use crate::governance::{
    CallerFacts, Change, Doubt, InForce, People, RuleChange, RuleScope, Verdict, Workflow, judge,
};

/// Returns the workflows that apply to a gateway, to one of its workspaces or sandboxes, or to something in it, as they
/// are judged, from the widest to the narrowest scope. `None` is the whole gateway or workspace.
pub async fn applying(
    conn: &mut Conn,
    gateway: &str,
    workspace: Option<&str>,
    sandbox: Option<&str>,
) -> Result<InForce, Error> {
    Ok(in_force(&workflows_applying(conn, gateway, workspace, sandbox).await?))
}

/// Returns workflows as they are judged. A rule that this version cannot read is a doubt.
#[must_use]
pub fn in_force<'a>(workflows: impl IntoIterator<Item = &'a StoredWorkflow>) -> InForce {
    let mut in_force = InForce::default();
    for stored in workflows {
        let scope = stored.scope.clone();
        match stored.rule() {
            Some(rule) => in_force.workflows.push(Workflow { id: stored.id, scope, rule }),
            None => in_force.doubt = Some(Doubt::UnreadableRule(scope)),
        }
    }
    in_force
}

/// Returns whether a review must decide about a change of a workflow or pin.
///
/// # Errors
/// `ROLE_TOO_LOW` below the least role, `GOVERNED` if a rule cannot be read, or it is not known who holds the key of the
/// caller.
pub fn needs_review(
    change: RuleChange,
    in_force: &InForce,
    caller: &CallerFacts,
    now: Timestamp,
) -> Result<bool, Error> {
    match judge(&Change::Rule(change), in_force, caller, now) {
        Verdict::Pass | Verdict::PassWithInitialPolicy => Ok(false),
        Verdict::Round(_) => Ok(true),
        Verdict::Refuse(refusal) => Err(refusal.into()),
    }
}

/// Returns the caller as it is judged. The people are only read where they matter: for a service principal under one of
/// these workflows.
///
/// # Errors
/// `ROLE_TOO_LOW` without a known caller.
pub fn caller_facts(
    ctx: &Ctx,
    gateway: GatewayId,
    workflows: &[Workflow],
) -> Result<CallerFacts, Error> {
    let unknown = || Error::Denied { why: "only a known caller changes policies".to_owned() };
    let principal = ctx.principal().ok_or_else(unknown)?;
    let is_maker_known = workflows.is_empty()
        || matches!(principal, PrincipalId::User(_))
        || (ctx.is_key_holder_known()
            && People::on_gateway(&ctx.app().snapshot, gateway).is_holder_known(principal));
    Ok(CallerFacts { role: ctx.role(), is_maker_known })
}

/// Returns the data of an event about a workflow.
#[must_use]
pub fn workflow_payload(gateway: &str, id: ApprovalWorkflowId, scope: &RuleScope) -> Value {
    json!({
        "gateway": gateway,
        "workspace": scope.workspace(),
        "sandbox": scope.sandbox(),
        "approval_workflow_id": id.get(),
    })
}

/// Returns the data of the event of a workflow that was set, or that was deleted.
#[must_use]
pub fn workflow_change_payload(ctx: &Ctx, gateway: &GatewayRef, of: &StoredWorkflow) -> Value {
    let mut payload = workflow_payload(&gateway.name, of.id, &of.scope);
    payload["actor"] = ctx.actor().to_string().into();
    payload["required_approvals"] = of.columns.required_approvals.into();
    payload
}

/// Returns the data of an event about a pin.
#[must_use]
pub fn pin_payload(ctx: &Ctx, pin: &Pin) -> Value {
    json!({
        "gateway": pin.gateway,
        "workspace": pin.sandbox.workspace,
        "sandbox": pin.sandbox.name,
        "version": (pin.pinned_version > 0).then_some(pin.pinned_version),
        "actor": &*ctx.actor(),
        "reason": pin.reason,
        "expires_at": pin.expires_at.map(|at| at.to_string()),
    })
}
