//! What [`judge`](super::judge()) decides, and the error of each refusal.

use std::fmt;

use super::in_force::{Doubt, Lock, RuleScope};
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};
use crate::role::Role;

/// Maximum number of sandboxes in an error.
pub const NAMED_SANDBOXES_MAX: usize = 20;
/// Maximum length of the names of sandboxes in the metadata of an error, in bytes: clients limit the size of trailers.
const SANDBOX_BYTES_MAX: usize = 2_000;
/// Keys of the sandboxes in the metadata of an error. A fact is too short for a list of them.
const SANDBOX_KEYS: [&str; NAMED_SANDBOXES_MAX] = [
    "sandbox_1",
    "sandbox_2",
    "sandbox_3",
    "sandbox_4",
    "sandbox_5",
    "sandbox_6",
    "sandbox_7",
    "sandbox_8",
    "sandbox_9",
    "sandbox_10",
    "sandbox_11",
    "sandbox_12",
    "sandbox_13",
    "sandbox_14",
    "sandbox_15",
    "sandbox_16",
    "sandbox_17",
    "sandbox_18",
    "sandbox_19",
    "sandbox_20",
];

/// Whether a change passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing applies: the call is made as it is.
    Pass,
    /// The sandbox may be created, and its creation carries a policy of the server: without one it would take the
    /// policy of its image, which the caller chooses.
    PassWithInitialPolicy,
    /// A round under these rules decides.
    Round(Deciders),
    /// Refused.
    Refuse(Refusal),
}

/// Who decides a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deciders {
    /// The default rule: the caller approves by calling.
    Default,
    /// The workflows in force.
    Workflows,
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The sandbox is pinned.
    Pinned(Lock),
    /// A rule forbids it, and no round can decide it.
    Governed(Governed),
    /// The gateway would approve drafts by itself, under a workflow of this scope.
    ApprovalModeAuto(RuleScope),
    /// The role is lower than that of the setter of the pin (T01).
    RoleTooLow(Role),
    /// It is not known what applies.
    Doubt(Doubt),
}

/// A change that a rule forbids without a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Governed {
    /// What forbids it.
    pub by: GovernedBy,
    /// The sandboxes that are locked or under the rule, if the change reaches several.
    pub sandboxes: Vec<SandboxName>,
    /// What to do instead.
    pub instead: Instead,
}

/// What forbids a change without a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GovernedBy {
    /// A workflow of this scope.
    Workflow(RuleScope),
    /// Pins of sandboxes that the change reaches.
    Pins,
    /// The policy that the gateway has for all sandboxes.
    GlobalPolicy,
}

/// What a caller can do instead of a forbidden change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Create the sandbox without a policy and providers, then propose them.
    CreateWithout,
    /// Approve drafts by their ids.
    ListDrafts,
    /// Remove the pin or workflow that the error names.
    RemoveRule,
    /// Rotate the key of the service principal, or call as a user.
    RotateKey,
    /// Delete the gateway's policy for all sandboxes.
    DeleteGlobalPolicy,
}

impl Instead {
    /// Returns the advice, as the end of a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateWithout => {
                "create the sandbox without a policy and providers, then propose them"
            }
            Self::ListDrafts => "approve the drafts by a list of their ids",
            Self::RemoveRule => {
                "remove its pins, and its workflows by `shoreguard workflow delete` or, on the host, \
                 `shoreguard admin unlock`"
            }
            Self::RotateKey => {
                "it is not known who holds the key of this service principal: rotate it, use its newest key, or call \
                 as a user"
            }
            Self::DeleteGlobalPolicy => "delete the policy of the gateway for all sandboxes",
        }
    }
}

impl fmt::Display for GovernedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workflow(scope) => write!(f, "an approval workflow of {scope} forbids this"),
            Self::Pins => f.write_str("pinned sandboxes are affected"),
            Self::GlobalPolicy => f.write_str("the gateway has a policy for all sandboxes"),
        }
    }
}

impl fmt::Display for Governed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.by)?;
        for (at, sandbox) in self.sandboxes.iter().take(NAMED_SANDBOXES_MAX).enumerate() {
            write!(f, "{}`{sandbox}`", if at == 0 { ": " } else { ", " })?;
        }
        if self.sandboxes.len() > NAMED_SANDBOXES_MAX {
            write!(f, " and {} more", self.sandboxes.len() - NAMED_SANDBOXES_MAX)?;
        }
        write!(f, "; {}", self.instead.as_str())
    }
}

impl Governed {
    /// Returns the rule, the sandboxes and the advice, for programs.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts =
            vec![("rule", self.by.to_rule()), ("instead", self.instead.as_str().to_owned())];
        let mut bytes = 0;
        for (key, sandbox) in SANDBOX_KEYS.into_iter().zip(&self.sandboxes) {
            let sandbox = sandbox.to_string();
            bytes += sandbox.len();
            if bytes > SANDBOX_BYTES_MAX {
                break;
            }
            facts.push((key, sandbox));
        }
        facts
    }
}

impl GovernedBy {
    /// Returns what forbids the change, for programs.
    fn to_rule(&self) -> String {
        match self {
            Self::Workflow(scope) => format!("approval workflow of {scope}"),
            Self::Pins => "pins".to_owned(),
            Self::GlobalPolicy => "policy for all sandboxes".to_owned(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Pinned(lock) => {
                Self::explained(Reason::PolicyPinned, pinned(&lock), pin_facts(&lock))
            }
            Refusal::Governed(governed) => {
                Self::explained(Reason::Governed, governed.to_string(), governed.facts())
            }
            Refusal::ApprovalModeAuto(scope) => {
                let why = format!(
                    "the gateway would approve drafts by itself, and {scope} has an approval workflow"
                );
                let rule = GovernedBy::Workflow(scope).to_rule();
                let setting = "proposal_approval_mode".to_owned();
                Self::explained(
                    Reason::ApprovalModeAuto,
                    why,
                    [("rule", rule), ("setting", setting)],
                )
            }
            Refusal::RoleTooLow(role) => Self::Denied {
                why: format!("only the setter of the pin or a caller with role {role} can do this"),
            },
            Refusal::Doubt(Doubt::UnreadableRule(scope)) => {
                let instead = "upgrade, or remove it with `shoreguard admin unlock`";
                let why = format!(
                    "the approval workflow of {scope} cannot be read by this version: {instead}"
                );
                let rule = GovernedBy::Workflow(scope).to_rule();
                Self::explained(
                    Reason::Governed,
                    why,
                    [("rule", rule), ("instead", instead.to_owned())],
                )
            }
        }
    }
}

/// Returns who set a pin, why, and until when it lasts, for programs.
fn pin_facts(lock: &Lock) -> Vec<(&'static str, String)> {
    let mut facts = vec![("pinned_by", lock.by.to_string())];
    facts.extend(lock.reason.clone().map(|reason| ("reason", reason)));
    facts.extend(lock.expires_at.map(|ends_at| ("until", ends_at.to_string())));
    facts
}

fn pinned(lock: &Lock) -> String {
    let mut why = format!("the policy is pinned by `{}`", lock.by);
    if let Some(ends_at) = lock.expires_at {
        why = format!("{why} until {ends_at}");
    }
    match &lock.reason {
        Some(reason) => format!("{why}: {reason}"),
        None => why,
    }
}
