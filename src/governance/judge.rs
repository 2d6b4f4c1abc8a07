//! The decision whether a change passes, is refused, or needs a round.

use super::change::{CallerFacts, Change, Indirect, Origin, Reach, RuleChange, WideKind};
use super::in_force::{Doubt, InForce, Lock, RuleScope, Workflow};
use super::verdict::{Deciders, Governed, GovernedBy, Instead, Refusal, Verdict};
use crate::clock::Timestamp;
use crate::role::Role;

/// Decides whether a change passes, is refused, or needs a round. `now` is the time of the database in the transaction
/// that stores the write intent.
#[must_use]
pub fn judge(change: &Change, in_force: &InForce, caller: &CallerFacts, now: Timestamp) -> Verdict {
    if *change == Change::Harmless {
        return Verdict::Pass;
    }
    let lock = in_force.lock(now);
    if let Some(doubt) = in_doubt(change, in_force) {
        return Verdict::Refuse(Refusal::Doubt(doubt));
    }
    let workflow = in_force.workflows.last();
    match change {
        Change::Harmless => Verdict::Pass,
        Change::Write { origin, to_pinned, .. } => {
            let lock = lock.filter(|_| !to_pinned);
            judge_write(*origin, lock, in_force, *caller)
        }
        Change::Indirect(kind) => judge_indirect(*kind, lock, workflow),
        Change::Create { brings_policy } => judge_creation(*brings_policy, lock, workflow),
        Change::Delete => judge_deletion(lock, &in_force.workflows),
        Change::Wide(reach) => judge_wide(reach, workflow),
        Change::Rule(change) => judge_rule_change(*change, workflow, *caller),
    }
}

/// Returns what stops a change because it is not known what applies.
fn in_doubt(change: &Change, in_force: &InForce) -> Option<Doubt> {
    // A new or tighter rule beside it passes. Its own replacement counts as weaker, since it is not known what it
    // demands: `shoreguard admin unlock` removes it.
    let stops = !matches!(change, Change::Rule(change) if !change.weakens);
    in_force.doubt.clone().filter(|_| stops)
}

fn judge_write(
    origin: Origin,
    lock: Option<&Lock>,
    in_force: &InForce,
    caller: CallerFacts,
) -> Verdict {
    if let Some(lock) = lock {
        return pinned(lock);
    }
    let workflow = in_force.workflows.last();
    if in_force.global_policy && (workflow.is_some() || origin == Origin::Own) {
        return governed(GovernedBy::GlobalPolicy, Instead::DeleteGlobalPolicy);
    }
    let Some(workflow) = workflow else {
        return match origin {
            Origin::Own => Verdict::Round(Deciders::Default),
            Origin::Proxied => Verdict::Pass,
        };
    };
    if !caller.is_maker_known {
        return by_workflow(workflow, Instead::RotateKey);
    }
    Verdict::Round(Deciders::Workflows)
}

fn judge_indirect(kind: Indirect, lock: Option<&Lock>, workflow: Option<&Workflow>) -> Verdict {
    if let Some(lock) = lock {
        return pinned(lock);
    }
    let Some(workflow) = workflow else { return Verdict::Pass };
    match kind {
        Indirect::ApprovalMode => {
            Verdict::Refuse(Refusal::ApprovalModeAuto(workflow.scope.clone()))
        }
        Indirect::UnlistedDrafts => by_workflow(workflow, Instead::ListDrafts),
        Indirect::Providers | Indirect::Setting => by_workflow(workflow, Instead::RemoveRule),
    }
}

fn judge_creation(
    brings_policy: bool,
    lock: Option<&Lock>,
    workflow: Option<&Workflow>,
) -> Verdict {
    match (lock, workflow) {
        (None, None) => Verdict::Pass,
        (_, _) if !brings_policy => Verdict::PassWithInitialPolicy,
        (Some(lock), _) => pinned(lock),
        (None, Some(workflow)) => by_workflow(workflow, Instead::CreateWithout),
    }
}

/// Only the sandbox's own pin and workflow stop its deletion: a wider rule also covers the next sandbox of that name.
fn judge_deletion(lock: Option<&Lock>, workflows: &[Workflow]) -> Verdict {
    if let Some(lock) = lock {
        return pinned(lock);
    }
    let own = workflows.iter().find(|workflow| matches!(workflow.scope, RuleScope::Sandbox(_)));
    own.map_or(Verdict::Pass, |workflow| by_workflow(workflow, Instead::RemoveRule))
}

fn judge_wide(reach: &Reach, workflow: Option<&Workflow>) -> Verdict {
    let by = match (reach.locked.is_empty(), workflow) {
        (true, None) => return Verdict::Pass,
        (true, Some(workflow)) if reach.kind == WideKind::ApprovalMode => {
            return Verdict::Refuse(Refusal::ApprovalModeAuto(workflow.scope.clone()));
        }
        (true, Some(workflow)) => GovernedBy::Workflow(workflow.scope.clone()),
        (false, _) => GovernedBy::Pins,
    };
    let sandboxes = match by {
        GovernedBy::Pins => reach.locked.clone(),
        GovernedBy::Workflow(_) | GovernedBy::GlobalPolicy => reach.governed.clone(),
    };
    let instead = Instead::RemoveRule;
    Verdict::Refuse(Refusal::Governed(Governed { by, sandboxes, instead }))
}

fn judge_rule_change(
    change: RuleChange,
    workflow: Option<&Workflow>,
    caller: CallerFacts,
) -> Verdict {
    if !change.weakens {
        return Verdict::Pass;
    }
    if change.least_role > Role::None && caller.role < change.least_role {
        return Verdict::Refuse(Refusal::RoleTooLow(change.least_role));
    }
    match workflow {
        None => Verdict::Pass,
        Some(workflow) if !caller.is_maker_known => by_workflow(workflow, Instead::RotateKey),
        Some(_) => Verdict::Round(Deciders::Workflows),
    }
}

fn pinned(lock: &Lock) -> Verdict {
    Verdict::Refuse(Refusal::Pinned(lock.clone()))
}

fn governed(by: GovernedBy, instead: Instead) -> Verdict {
    Verdict::Refuse(Refusal::Governed(Governed { by, sandboxes: Vec::new(), instead }))
}

fn by_workflow(workflow: &Workflow, instead: Instead) -> Verdict {
    governed(GovernedBy::Workflow(workflow.scope.clone()), instead)
}
