//! The change that a call requests, and how it becomes a [`Change`] once the necessary facts are known.
//!
//! Invariant: without a fact, the change is the worst that the call can be. The fact can only make it harmless or
//! smaller, so a call that passes without it needs none.

use super::facts::Facts;
use super::rules::Rules;
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::governance::{Action, Change, InForce, Indirect, Origin, Reach, WideKind};
use crate::openshell::Generation;
use crate::openshell::settings::{APPROVAL_MANUAL, APPROVAL_MODE, OCSF_JSON};

/// The change that a call requests on the gateway of its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A new sandbox. Its name may be empty: then its gateway chooses it.
    Create {
        /// Its place.
        place: SandboxName,
        /// Whether the caller gives it a policy or providers.
        brings_policy: bool,
    },
    /// The end of a sandbox.
    Delete(SandboxName),
    /// Another policy of a sandbox, with content that can be reviewed.
    Write(SandboxName, Action),
    /// A change of a sandbox without such content.
    Indirect(SandboxName, Indirect),
    /// The removal of the approval mode of a sandbox: that of the gateway then applies.
    RemoveApprovalMode(SandboxName),
    /// The rejection of a draft chunk. An approved one leaves the policy.
    Reject {
        /// The sandbox.
        sandbox: SandboxName,
        /// Id of the chunk.
        chunk: String,
    },
    /// A change of a provider: of all sandboxes of its workspace that name it.
    Provider {
        /// Its workspace.
        workspace: String,
        /// Its name.
        name: String,
        /// The request, if it may replace nothing but values of credentials.
        credentials: Option<CredentialWrite>,
    },
    /// A change of provider profiles.
    Profiles {
        /// Their workspace; `None` for profiles of the whole gateway.
        workspace: Option<String>,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A change of a whole workspace, or of the gateway.
    Wide(WideKind, Option<String>),
    /// What changes no policy, on a sandbox, a workspace or the gateway.
    Harmless(Place),
}

/// A request that may replace nothing but values of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialWrite {
    /// Its generation.
    pub generation: Generation,
    /// Full name of its message.
    pub message: &'static str,
    /// The encoded message.
    pub encoded: Vec<u8>,
}

/// The part of a gateway that a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One sandbox.
    Sandbox(SandboxName),
    /// One workspace.
    Workspace(String),
    /// The whole gateway.
    Gateway,
}

impl Place {
    /// Returns the workspace, or `None` for the whole gateway.
    #[must_use]
    pub fn workspace(&self) -> Option<&str> {
        match self {
            Self::Sandbox(sandbox) => Some(&sandbox.workspace),
            Self::Workspace(workspace) => Some(workspace),
            Self::Gateway => None,
        }
    }

    /// Returns the name of the sandbox, or `None` for more than one.
    #[must_use]
    pub fn sandbox(&self) -> Option<&str> {
        match self {
            Self::Sandbox(sandbox) => Some(&sandbox.name),
            Self::Workspace(_) | Self::Gateway => None,
        }
    }
}

impl Asked {
    /// Returns what a change of a setting asks for. `value` is its text, empty for another type, or `None` if the
    /// setting is removed; `sandbox` is `None` for the whole gateway.
    #[must_use]
    pub fn setting(sandbox: Option<SandboxName>, key: &str, value: Option<&str>) -> Self {
        let place = |sandbox: Option<SandboxName>| sandbox.map_or(Place::Gateway, Place::Sandbox);
        if key == OCSF_JSON {
            return Self::Harmless(place(sandbox));
        }
        match (key == APPROVAL_MODE, value, sandbox) {
            (true, Some(APPROVAL_MANUAL), sandbox) => Self::Harmless(place(sandbox)),
            (true, None, Some(sandbox)) => Self::RemoveApprovalMode(sandbox),
            (true, Some(_), Some(sandbox)) => Self::Indirect(sandbox, Indirect::ApprovalMode),
            // Without the mode of the gateway, a sandbox has its own, which the gateway does not show now.
            (true, _, None) => Self::Wide(WideKind::ApprovalMode, None),
            (false, _, Some(sandbox)) => Self::Indirect(sandbox, Indirect::Setting),
            (false, _, None) => Self::Wide(WideKind::Setting, None),
        }
    }

    /// Returns the part of the gateway whose rules apply.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Create { place: sandbox, .. }
            | Self::Delete(sandbox)
            | Self::Write(sandbox, _)
            | Self::Indirect(sandbox, _)
            | Self::RemoveApprovalMode(sandbox)
            | Self::Reject { sandbox, .. } => Place::Sandbox(sandbox.clone()),
            Self::Provider { workspace, .. } => Place::Workspace(workspace.clone()),
            Self::Wide(_, within) => within.clone().map_or(Place::Gateway, Place::Workspace),
            // Providers of other workspaces can use them, too.
            Self::Profiles { .. } => Place::Gateway,
            Self::Harmless(place) => place.clone(),
        }
    }

    /// Whether a lock that is set while the call is on its way must name it.
    #[must_use]
    pub(super) fn can_change_policy(&self) -> bool {
        !matches!(self, Self::Harmless(_))
    }

    /// Whether a review can decide about it: it has exact content, of one sandbox.
    #[must_use]
    pub(super) fn can_be_reviewed(&self) -> bool {
        matches!(self, Self::Write(..) | Self::Reject { .. })
    }

    /// Whether a fact could make the change harmless or smaller.
    #[must_use]
    pub(super) fn depends_on_facts(&self) -> bool {
        match self {
            Self::RemoveApprovalMode(_)
            | Self::Reject { .. }
            | Self::Provider { .. }
            | Self::Profiles { .. } => true,
            Self::Create { .. }
            | Self::Delete(_)
            | Self::Write(..)
            | Self::Indirect(..)
            | Self::Wide(..)
            | Self::Harmless(_) => false,
        }
    }

    /// Returns the change and what is in force for it.
    #[must_use]
    pub(super) fn judged(
        &self,
        facts: Option<&Facts>,
        rules: &Rules,
        now: Timestamp,
    ) -> (Change, InForce) {
        let write = |action| Change::Write { action, origin: Origin::Proxied, to_pinned: false };
        let change = match (self, facts) {
            (Self::Harmless(_), _)
            | (Self::Reject { .. }, Some(Facts::NotApproved))
            | (Self::RemoveApprovalMode(_), Some(Facts::ManualMode))
            | (Self::Provider { .. }, Some(Facts::OnlyCredentials)) => Change::Harmless,
            (Self::Create { brings_policy, .. }, _) => {
                Change::Create { brings_policy: *brings_policy }
            }
            (Self::Delete(_), _) => Change::Delete,
            (Self::Write(_, action), _) => write(*action),
            (Self::Indirect(_, kind), _) => Change::Indirect(*kind),
            (Self::RemoveApprovalMode(_), _) => Change::Indirect(Indirect::ApprovalMode),
            (Self::Reject { .. }, _) => write(Action::DraftUndo),
            (Self::Provider { .. } | Self::Profiles { .. }, Some(Facts::Reached(sandboxes))) => {
                let rules = rules.reaching(sandboxes);
                return wide(WideKind::Providers, &rules, Some(sandboxes), now);
            }
            (Self::Provider { .. } | Self::Profiles { .. }, _) => {
                return wide(WideKind::Providers, rules, None, now);
            }
            (Self::Wide(kind, _), _) => return wide(*kind, rules, None, now),
        };
        // Not known here: a gateway with a policy for all sandboxes refuses a proxied change by itself, and
        // `judge_write` refuses its review.
        (change, rules.in_force(false))
    }
}

/// Returns a change of several sandboxes. `known` are those in reach, if they are known.
fn wide(
    kind: WideKind,
    rules: &Rules,
    known: Option<&[SandboxName]>,
    now: Timestamp,
) -> (Change, InForce) {
    let locked = rules.locked(now);
    let governed = known.map_or_else(|| rules.named(), |known| rules.governed(known));
    let in_force = InForce { pin: None, ..rules.in_force(false) };
    (Change::Wide(Reach { kind, locked, governed }), in_force)
}
