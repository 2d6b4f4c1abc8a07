//! What a gateway remembers, whichever generation of the wire asks for it.
//!
//! Invariants
//! - nothing here awaits: a [`Core`] locks the [`State`], changes it, and afterwards sends what was noted;
//! - policies, rules and specs are kept in the messages of generation 0.0, to which 0.1 is translated;
//! - every collection has a limit.

mod catalog;
mod core;
mod drafts;
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
mod services;
mod settings;
mod ssh;
mod templates;
mod verdict;
mod workspaces;

use std::collections::{BTreeMap, HashMap};

pub(super) use self::core::{Core, Notice};
pub(super) use self::drafts::{Approvals, Chunk, Submitted, draft_version};
pub(super) use self::inference::Route;
pub(super) use self::logs::{LogFilter, LogLine, PlatformEvent};
pub(super) use self::merge::{Merge, Target};
pub(super) use self::meta::{Meta, Page};
pub use self::proposal::Proposal;
pub(super) use self::providers::Provider;
pub(super) use self::refresh::Refresh;
pub(super) use self::requests::{Admitted, Claim, Requests};
pub(super) use self::revisions::{
    Config, ConfigChange, ConfigUpdate, ConfigUpdated, Revision, active,
};
pub use self::sandboxes::Settles;
pub(super) use self::sandboxes::{Change, NewSandbox, Phase, Sandbox};
pub(super) use self::services::{NewService, Service};
pub(super) use self::settings::Settings;
pub(super) use self::ssh::{HOST_KEY, SshSession};
pub(super) use self::templates::Template;
pub(super) use self::workspaces::{Member, Workspace};

use shoreguard_proto::v0_0::openshell::v1 as pb;

/// The workspace of a request that names none.
pub(super) const DEFAULT_WORKSPACE: &str = "default";

/// A thing's place: its workspace and its name in it.
pub(super) type Key = (String, String);

/// Everything that a gateway remembers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Workspaces by name.
    pub(super) workspaces: BTreeMap<String, Workspace>,
    /// Sandboxes by place.
    pub(super) sandboxes: BTreeMap<Key, Sandbox>,
    /// Places of sandboxes by id.
    pub(super) places: HashMap<String, Key>,
    /// Providers by place.
    pub(super) providers: BTreeMap<Key, Provider>,
    /// Profiles that were imported, by workspace (empty for the platform) and id.
    pub(super) profiles: BTreeMap<Key, pb::ProviderProfile>,
    /// Exposed services by workspace, sandbox and name.
    pub(super) services: BTreeMap<(String, String, String), Service>,
    /// Ssh sessions by token.
    pub(super) ssh: BTreeMap<String, SshSession>,
    /// Inference routes by place.
    pub(super) routes: BTreeMap<Key, Route>,
    /// Workload templates by place; only generation 0.1 has them.
    pub(super) templates: BTreeMap<Key, Template>,
    /// The settings of the whole gateway.
    pub(super) settings: Settings,
    /// The revisions of the global policy, oldest first.
    pub(super) global: Vec<Revision>,
    /// Whether the newest of them is in force.
    pub(super) global_active: bool,
    /// What was admitted under a request id, which only generation 0.1 has.
    pub(super) requests: Requests,
    /// What watchers are told once the lock is released.
    pub(super) notices: Vec<Notice>,
    /// What happens by itself, and after how long.
    pub(super) due: Vec<Change>,
    /// What becomes of sandboxes that come up.
    pub(super) settles: Settles,
}
