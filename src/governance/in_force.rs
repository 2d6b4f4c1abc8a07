//! Locks and rules that are in force for a change, as they are read in the transaction that stores the write intent.

use std::fmt;
use std::sync::Arc;

use super::rule::Rule;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{ApprovalWorkflowId, SandboxName};
use crate::role::Role;

/// The part of a gateway that a rule applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleScope {
    /// The whole gateway.
    Gateway,
    /// One workspace.
    Workspace(String),
    /// One sandbox, also the next one of that name.
    Sandbox(SandboxName),
}

impl RuleScope {
    /// Returns the scopes that apply to a sandbox, from the widest to the narrowest.
    #[must_use]
    pub fn of_sandbox(sandbox: &SandboxName) -> [Self; 3] {
        [Self::Gateway, Self::Workspace(sandbox.workspace.clone()), Self::Sandbox(sandbox.clone())]
    }

    /// Returns whether a rule of this scope applies to a sandbox.
    #[must_use]
    pub fn applies_to(&self, sandbox: &SandboxName) -> bool {
        match self {
            Self::Gateway => true,
            Self::Workspace(workspace) => *workspace == sandbox.workspace,
            Self::Sandbox(own) => own == sandbox,
        }
    }

    /// Returns whether this scope includes everything in another one. Each scope contains itself.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gateway, _) => true,
            (Self::Workspace(workspace), Self::Workspace(other)) => workspace == other,
            (Self::Workspace(workspace), Self::Sandbox(other)) => *workspace == other.workspace,
            (Self::Sandbox(own), Self::Sandbox(other)) => own == other,
            (Self::Workspace(_) | Self::Sandbox(_), Self::Gateway)
            | (Self::Sandbox(_), Self::Workspace(_)) => false,
        }
    }

    /// Returns the workspace, or `None` for the whole gateway.
    #[must_use]
    pub fn workspace(&self) -> Option<&str> {
        match self {
            Self::Gateway => None,
            Self::Workspace(workspace) => Some(workspace),
            Self::Sandbox(sandbox) => Some(&sandbox.workspace),
        }
    }

    /// Returns the name of the sandbox, or `None` for a wider scope.
    #[must_use]
    pub fn sandbox(&self) -> Option<&str> {
        match self {
            Self::Gateway | Self::Workspace(_) => None,
            Self::Sandbox(sandbox) => Some(&sandbox.name),
        }
    }
}

impl fmt::Display for RuleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("the gateway"),
            Self::Workspace(workspace) => write!(f, "workspace `{workspace}`"),
            Self::Sandbox(sandbox) => write!(f, "sandbox `{sandbox}`"),
        }
    }
}

/// A lock on the policy of one sandbox: a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Name of the setter, for people.
    pub by: Arc<str>,
    /// The setter; `None` for an imported pin.
    pub setter: Option<PrincipalId>,
    /// Role of the setter when the pin was set, or the highest one of those who lengthened it (T01).
    pub setter_role: Role,
    /// Why it was set.
    pub reason: Option<String>,
    /// When it ends; `None` if it does not.
    pub expires_at: Option<Timestamp>,
}

impl Lock {
    /// Returns whether the lock is in force: it is over once it has ended, even before a worker has deleted it.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|ends_at| ends_at > now)
    }
}

/// A rule on its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// Id.
    pub id: ApprovalWorkflowId,
    /// Scope to which it applies.
    pub scope: RuleScope,
    /// The rule.
    pub rule: Rule,
}

/// Why it is not known what applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// A stored rule of this scope cannot be read by this version. Every change in its scope is refused.
    UnreadableRule(RuleScope),
}

/// Everything that applies to a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// The pin of the sandbox, which may have ended.
    pub pin: Option<Lock>,
    /// The workflows that apply, from the widest to the narrowest scope. For a wide change, those of every scope that
    /// the change can reach.
    pub workflows: Vec<Workflow>,
    /// Whether the gateway has a policy for all sandboxes: it would refuse a change of one sandbox.
    pub global_policy: bool,
    /// Why it is not known for certain; `None` if it is.
    pub doubt: Option<Doubt>,
}

impl InForce {
    /// Returns the pin if it is in force.
    #[must_use]
    pub fn lock(&self, now: Timestamp) -> Option<&Lock> {
        self.pin.as_ref().filter(|pin| pin.is_in_force(now))
    }

    /// Returns whether no rule and no lock applies.
    #[must_use]
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.lock(now).is_none() && self.workflows.is_empty()
    }
}
