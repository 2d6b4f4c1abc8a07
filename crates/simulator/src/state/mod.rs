//! The state of a gateway, independent of the wire generation.
//!
//! Invariants
//! - this module does not await: a [`Core`] locks the [`State`], changes it, and sends the notices afterwards;
//! - policies, rules and specs are stored as messages of generation 0.0; those of 0.1 are converted;
//! - every collection has a limit.

mod behavior;
mod catalog;
mod chunk;
mod compose;
mod config;
mod core;
mod decisions;
mod inference;
mod logs;
mod merge;
mod meta;
mod policy;
mod proposal;
mod providers;
mod refresh;
mod requests;
mod revisions;
mod sandboxes;
mod security;
mod services;
mod settings;
mod ssh;
mod submit;
mod templates;
mod updates;
mod verdict;
mod workspaces;

use std::collections::{BTreeMap, HashMap};

use self::behavior::Behavior;
pub use self::behavior::LoadOutcome;
pub(super) use self::chunk::{Chunk, draft_version};
pub(super) use self::config::Config;
pub(super) use self::core::{Core, Notice};
pub(super) use self::decisions::Approvals;
pub(super) use self::inference::Route;
pub(super) use self::logs::{LogFilter, LogLine, PlatformEvent};
pub(super) use self::merge::{ExactTarget, MergeOperation, RuleTarget, apply_permitted};
pub(super) use self::meta::{Meta, Page, now_ms};
pub use self::proposal::{Proposal, Submission};
pub(super) use self::providers::Provider;
pub(super) use self::refresh::Refresh;
pub(super) use self::requests::{Admission, Claim, RequestTable};
pub use self::revisions::PolicyCounts;
pub(super) use self::revisions::Revision;
pub use self::sandboxes::StartOutcome;
pub(super) use self::sandboxes::{NewSandbox, Phase, Sandbox, ScheduledChange};
pub(super) use self::security::security_notes;
pub(super) use self::services::{NewService, Service};
pub(super) use self::settings::Settings;
pub(super) use self::ssh::{HOST_KEY, SshSession};
pub(super) use self::templates::Template;
pub(super) use self::updates::{ConfigChange, ConfigOutcome, ConfigUpdate};
pub(super) use self::workspaces::{Member, Workspace};

use shoreguard_proto::v0_0::openshell::v1 as pb;

/// The workspace of a request without a workspace.
pub(super) const DEFAULT_WORKSPACE: &str = "default";

/// The location of an object: its workspace and its name.
pub(super) type ObjectKey = (String, String);

/// The complete state of a gateway.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Workspaces by name.
    pub(super) workspaces: BTreeMap<String, Workspace>,
    /// Sandboxes by workspace and name.
    pub(super) sandboxes: BTreeMap<ObjectKey, Sandbox>,
    /// Workspaces and names of sandboxes, by id.
    pub(super) keys_by_id: HashMap<String, ObjectKey>,
    /// Providers by workspace and name.
    pub(super) providers: BTreeMap<ObjectKey, Provider>,
    /// Imported profiles by workspace (empty for the platform) and id.
    pub(super) profiles: BTreeMap<ObjectKey, pb::ProviderProfile>,
    /// Exposed services by workspace, sandbox and name.
    pub(super) services: BTreeMap<(String, String, String), Service>,
    /// SSH sessions by token.
    pub(super) ssh: BTreeMap<String, SshSession>,
    /// Inference routes by workspace and name.
    pub(super) routes: BTreeMap<ObjectKey, Route>,
    /// Workload templates by workspace and name; only in generation 0.1.
    pub(super) templates: BTreeMap<ObjectKey, Template>,
    /// Settings of the gateway.
    pub(super) settings: Settings,
    /// Revisions of the global policy, oldest first.
    pub(super) global: Vec<Revision>,
    /// Whether the newest revision of the global policy is in effect.
    pub(super) global_active: bool,
    /// Requests with an id; only in generation 0.1.
    pub(super) requests: RequestTable,
    /// Notices for watchers, sent when the lock is released.
    pub(super) notices: Vec<Notice>,
    /// Changes to be applied after their delays.
    pub(super) pending_changes: Vec<ScheduledChange>,
    /// The outcome of starting sandboxes.
    pub(super) start_outcome: StartOutcome,
    /// The rules of the generation, and what a test has changed.
    pub(super) behavior: Behavior,
}
