//! Gateways that approve by themselves what a workflow would review.

use std::collections::HashSet;

use futures_util::future::BoxFuture;

use super::pass::Pass;
use super::store;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::sandbox::Sandbox;
use crate::openshell::settings::ApprovalMode;
use crate::outbox::event_types;
use crate::resources::stored_rules::domain::{StoredWorkflow, workflow_payload, workflows_of};

/// Sandboxes whose mode one pass reads.
const SANDBOXES_MAX: usize = 20;

/// Reads the approval mode of the gateway and, if it is not set there, of sandboxes under a workflow. Each pass continues
/// where the last one has ended.
///
/// # Errors
/// Those of the database, and of a gateway that does not answer.
pub(super) fn check<'a>(
    pass: &'a mut Pass<'_>,
    sandboxes: &'a [Sandbox],
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        if pass.stamp.workflows.number == 0 {
            return Ok(());
        }
        let (workflows, before) = {
            let mut conn = pass.ctx.db().read().await?;
            let workflows = workflows_of(&mut conn, &pass.gateway_ref.name).await?;
            // Those of selectors are reported where they are set.
            let workflows: Vec<StoredWorkflow> =
                workflows.into_iter().filter(|workflow| !workflow.gateway.is_empty()).collect();
            if workflows.is_empty() {
                return Ok(());
            }
            let ids: Vec<i64> = workflows.iter().map(|workflow| workflow.id.get()).collect();
            let before = store::auto_workflows(&mut conn, &ids).await?;
            (workflows, before.into_iter().collect::<HashSet<i64>>())
        };
        pass.wait().await;
        let common = pass.gateway.common_approval_mode().await;
        pass.spend();
        let common = common?;
        if common.is_none() {
            read_sandboxes(pass, sandboxes, &workflows).await?;
        }
        for workflow in &workflows {
            let Some(is_auto) = is_auto(pass, sandboxes, workflow, common) else { continue };
            if is_auto != before.contains(&workflow.id.get()) {
                report(pass, workflow, is_auto).await?;
            }
        }
        Ok(())
    })
}

/// Returns whether something under a workflow is approved by the gateway itself; `None` if that is not known.
fn is_auto(
    pass: &Pass<'_>,
    sandboxes: &[Sandbox],
    workflow: &StoredWorkflow,
    common: Option<ApprovalMode>,
) -> Option<bool> {
    match common {
        Some(ApprovalMode::Auto) => return Some(true),
        Some(ApprovalMode::Manual) => return Some(false),
        Some(ApprovalMode::Unknown) => return None,
        None => {}
    }
    let with_policy = sandboxes.iter().filter(|sandbox| sandbox.policy_version > 0);
    let mut names = with_policy.map(|sandbox| &sandbox.full_name);
    let modes = &pass.memory.modes;
    let is_in = |name: &SandboxName| workflow.scope.applies_to(name);
    if names.clone().any(|name| is_in(name) && modes.get(name) == Some(&ApprovalMode::Auto)) {
        return Some(true);
    }
    // A sandbox that was not read can have any mode.
    let all_manual =
        names.all(|name| !is_in(name) || modes.get(name) == Some(&ApprovalMode::Manual));
    all_manual.then_some(false)
}

async fn read_sandboxes(
    pass: &mut Pass<'_>,
    sandboxes: &[Sandbox],
    workflows: &[StoredWorkflow],
) -> Result<(), Error> {
    // Reading the settings of a sandbox without a policy would make some gateways write a revision.
    let is_governed = |sandbox: &&Sandbox| {
        let mut workflows = workflows.iter();
        sandbox.policy_version > 0
            && workflows.any(|workflow| workflow.scope.applies_to(&sandbox.full_name))
    };
    let governed: Vec<&Sandbox> = sandboxes.iter().filter(is_governed).collect();
    // The list is sorted.
    let last = pass.memory.last_mode.take();
    let later = governed.iter().filter(|sandbox| Some(&sandbox.full_name) > last.as_ref());
    let mut due: Vec<&Sandbox> = later.copied().take(SANDBOXES_MAX).collect();
    if due.is_empty() {
        due = governed.into_iter().take(SANDBOXES_MAX).collect();
    }
    for sandbox in due {
        let name = &sandbox.full_name;
        pass.wait().await;
        let mode = pass.gateway.approval_mode(Some(name)).await;
        pass.spend();
        pass.memory.last_mode = Some(name.clone());
        match mode {
            Ok(mode) => {
                pass.memory.modes.insert(name.clone(), mode);
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Stores that a gateway approves by itself what a workflow would review, with the event, or that it no longer does.
async fn report(pass: &Pass<'_>, workflow: &StoredWorkflow, is_auto: bool) -> Result<(), Error> {
    let ctx = pass.ctx;
    ctx.transaction(async |tx| {
        pass.check_held(tx).await?;
        let now = ctx.db().now(tx).await?;
        let is_new = store::set_auto(tx, workflow.id, is_auto.then_some(now)).await?;
        if !is_new || !is_auto {
            return Ok(());
        }
        let mut payload = workflow_payload(&workflow.gateway, workflow.id, &workflow.scope);
        payload["cause"] = "approval_mode_auto".into();
        let event = ctx.new_event(event_types::APPROVAL_WORKFLOW_BROKEN, payload);
        tx.emit(event.with_gateway(pass.gateway_ref.clone())).await
    })
    .await
}
