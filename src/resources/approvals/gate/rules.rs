//! The pins and workflows of a part of a gateway, as they are stored.

use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::governance::{Doubt, InForce, Lock, Workflow};

/// Rules that are stored for a part of a gateway. Pins may have ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// The pins, each with its sandbox.
    pub(super) pins: Vec<(SandboxName, Lock)>,
    /// The workflows, from the widest to the narrowest scope.
    pub(super) workflows: Vec<Workflow>,
    /// What could not be read.
    pub(super) doubt: Option<Doubt>,
}

impl Rules {
    /// Whether no rule and no lock is in force.
    #[must_use]
    pub(super) fn is_empty(&self, now: Timestamp) -> bool {
        self.workflows.is_empty()
            && self.doubt.is_none()
            && !self.pins.iter().any(|(_, pin)| pin.is_in_force(now))
    }

    /// Returns what is in force for one sandbox, of which these are the rules. `global_policy` is whether the gateway has
    /// a policy for all sandboxes, as far as that matters for the change.
    #[must_use]
    pub(super) fn in_force(&self, global_policy: bool) -> InForce {
        InForce {
            pin: self.pins.first().map(|(_, pin)| pin.clone()),
            workflows: self.workflows.clone(),
            global_policy,
            doubt: self.doubt.clone(),
        }
    }

    /// Returns those that apply to one of these sandboxes.
    #[must_use]
    pub(super) fn reaching(&self, sandboxes: &[SandboxName]) -> Self {
        let applies = |workflow: &&Workflow| {
            sandboxes.iter().any(|sandbox| workflow.scope.applies_to(sandbox))
        };
        Self {
            pins: self.pins.iter().filter(|(of, _)| sandboxes.contains(of)).cloned().collect(),
            workflows: self.workflows.iter().filter(applies).cloned().collect(),
            doubt: self.doubt.clone(),
        }
    }

    /// Returns the sandboxes with a pin that is in force.
    #[must_use]
    pub(super) fn locked(&self, now: Timestamp) -> Vec<SandboxName> {
        let in_force = self.pins.iter().filter(|(_, pin)| pin.is_in_force(now));
        in_force.map(|(sandbox, _)| sandbox.clone()).collect()
    }

    /// Returns those of these sandboxes that are under a workflow.
    #[must_use]
    pub(super) fn governed(&self, sandboxes: &[SandboxName]) -> Vec<SandboxName> {
        let applies = |sandbox: &&SandboxName| {
            self.workflows.iter().any(|workflow| workflow.scope.applies_to(sandbox))
        };
        sandboxes.iter().filter(applies).cloned().collect()
    }

    /// Returns the sandboxes that have a workflow of their own.
    #[must_use]
    pub(super) fn named(&self) -> Vec<SandboxName> {
        let named = |workflow: &Workflow| {
            let (workspace, name) = (workflow.scope.workspace()?, workflow.scope.sandbox()?);
            Some(SandboxName { workspace: workspace.to_owned(), name: name.to_owned() })
        };
        self.workflows.iter().filter_map(named).collect()
    }
}
