//! Changes of policies and rules, as the gate describes them to [`judge`](super::judge()).

use crate::db::types::SandboxName;
use crate::role::Role;
use crate::words;

words! {
    /// Kind of change that a round decides about.
    pub enum Action {
        /// A complete policy replaces that of the sandbox.
        PolicyApply = "policy.apply",
        /// A rule that an agent proposed is merged into the policy.
        DraftApprove = "draft.approve",
        /// An approved rule is removed from the policy.
        DraftUndo = "draft.undo",
        /// A rule, lock or ceiling becomes weaker.
        RuleChange = "rule.change",
        /// An admin has bypassed rules, and another one reviews it afterwards.
        OverrideReview = "override.review",
    }
}

impl Action {
    /// Returns whether its change is written to the gateway.
    #[must_use]
    pub fn writes_policy(self) -> bool {
        match self {
            Self::PolicyApply | Self::DraftApprove | Self::DraftUndo => true,
            Self::RuleChange | Self::OverrideReview => false,
        }
    }
}

/// The API that a change arrives by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Shoreguard's own API. Without a workflow, the caller decides the round under the default rule.
    Own,
    /// The OpenShell API. Without a rule, the call is forwarded as it is.
    Proxied,
}

/// A change, by its effect on policies. Each path by which a policy or a rule can change is one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Changes the policy of one sandbox to exact content that a round can review. An approving vote is a write, too.
    Write {
        /// Kind of change of the round.
        action: Action,
        /// The API.
        origin: Origin,
        /// Whether the result is the revision that the sandbox's pin names, on the same sandbox: the pin allows it.
        to_pinned: bool,
    },
    /// Changes the policy of one sandbox without exact content that a round could review: attaching a provider,
    /// approving drafts without a list, a setting.
    Indirect(Indirect),
    /// Creates a sandbox.
    Create {
        /// Whether the caller brings a policy or providers. Without them, or with a template of the server, the initial
        /// policy applies.
        brings_policy: bool,
    },
    /// Deletes a sandbox.
    Delete,
    /// Reaches more than one sandbox.
    Wide(Reach),
    /// Sets, replaces or removes a pin or a workflow.
    Rule(RuleChange),
    /// Cannot change a policy or only narrows what is decided: a rejection, the withdrawal of a proposal, credentials.
    Harmless,
}

/// A change of one sandbox without exact content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indirect {
    /// Attaches or detaches a provider.
    Providers,
    /// Approves all drafts without a list of them.
    UnlistedDrafts,
    /// Sets or removes a setting of the sandbox that can change what a policy allows.
    Setting,
    /// Sets or removes the approval mode, and the mode in force afterwards is not `manual`: the gateway would approve
    /// drafts by itself.
    ApprovalMode,
}

/// Kind of a wide change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WideKind {
    /// Removes the gateway from the registry.
    Unregister,
    /// Sets or deletes the policy of the whole gateway.
    GlobalPolicy,
    /// Sets or removes a setting of the whole gateway that can change what policies allow.
    Setting,
    /// Sets or removes the approval mode of the gateway, and the mode in force afterwards is not `manual`.
    ApprovalMode,
    /// Writes a provider, a profile, a refresh or an inference route, or deletes a workspace.
    Providers,
}

/// The locks and rules that a change of several sandboxes reaches. The gate collects them in the transaction that
/// stores the write intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Kind of the change.
    pub kind: WideKind,
    /// Sandboxes in reach with a pin that is in force, by name. They need not exist.
    pub locked: Vec<SandboxName>,
    /// Sandboxes in reach under a workflow, by name; for a workflow of a gateway or workspace without a known sandbox,
    /// [`InForce::workflows`](super::InForce::workflows) is enough.
    pub governed: Vec<SandboxName>,
}

/// A change of a pin or a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleChange {
    /// Whether it makes the rule or lock weaker: see [`weakens`](super::weakens()). Removing and shortening a pin
    /// is weaker.
    pub weakens: bool,
    /// Least role that may make it weaker: that of the setter of a pin when it was set (T01). `Role::None` for its
    /// setter.
    pub least_role: Role,
}

/// Facts about the caller that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerFacts {
    /// Role on the gateway.
    pub role: Role,
    /// Whether the people behind the caller are known: see [`People::roots`](super::People::roots). False for a service
    /// principal whose maker is unknown; it cannot propose under a workflow.
    pub is_maker_known: bool,
}
