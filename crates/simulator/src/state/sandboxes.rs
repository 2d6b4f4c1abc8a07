//! Sandboxes: creation, start, stop, deletion, with phases that progress by themselves.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tonic::Status;

use super::meta::{self, Meta, Page, SANDBOX_NAME_CHARS_MAX};
use super::revisions::Revision;
use super::{Chunk, LogLine, Notice, PlatformEvent, PolicyCounts, Settings, State, policy};
use shoreguard_proto::v0_0::openshell::v1 as pb;

/// Maximum number of sandboxes in the gateway.
pub(super) const SANDBOXES_MAX: usize = 10_000;

/// Minimum time for which a deleted sandbox is still visible.
const DELETE_AFTER: Duration = Duration::from_millis(20);

/// The phases of a sandbox: those of generation 0.1, which has one more than 0.0.
pub(crate) use shoreguard_proto::v0_1::openshell::v1::SandboxPhase as Phase;

/// The outcome of creating or starting a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StartOutcome {
    /// The sandbox becomes ready.
    #[default]
    Ready,
    /// The sandbox fails, for this reason.
    Failed(String),
    /// The command of the sandbox completes; only generation 0.1 has a phase for that.
    Completed,
}

/// A sandbox with its policies, proposals, settings, logs and events.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// Id, name, versions, labels.
    pub(crate) meta: Meta,
    /// The requested spec; its policy defines the static sections.
    pub(crate) spec: pb::SandboxSpec,
    /// Current phase.
    pub(crate) phase: Phase,
    /// Reason for the phase; may be empty.
    pub(crate) phase_reason: String,
    /// Start of the phase, in milliseconds since 1970.
    pub(crate) phase_ms: i64,
    /// Revisions of its policy, oldest first.
    pub(crate) revisions: Vec<Revision>,
    /// Proposals, oldest first.
    pub(crate) chunks: Vec<Chunk>,
    /// Version of the policy that it uses; 0 before the first.
    pub(crate) loaded_version: u32,
    /// How many changes its policy has had.
    pub(crate) counts: PolicyCounts,
    /// Its image; empty for the default.
    pub(crate) image: String,
    /// Settings of the sandbox.
    pub(crate) settings: Settings,
    /// Newest log lines.
    pub(crate) logs: VecDeque<LogLine>,
    /// Newest platform events.
    pub(crate) events: VecDeque<PlatformEvent>,
}

/// The parameters of a new sandbox.
#[derive(Debug, Default)]
pub(crate) struct NewSandbox {
    /// Empty for the default.
    pub(crate) workspace: String,
    /// Empty for a generated name.
    pub(crate) name: String,
    /// Required.
    pub(crate) spec: Option<pb::SandboxSpec>,
    /// The image if the spec has none.
    pub(crate) image: String,
    /// Free-form, can be used in selectors.
    pub(crate) labels: BTreeMap<String, String>,
    /// Free-form.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A change that happens by itself; contains the id of the sandbox.
#[derive(Debug, Clone)]
pub(crate) enum ScheduledChange {
    /// The supervisor has connected.
    Ready(String),
    /// The processes have ended.
    Stopped(String),
    /// The supervisor has loaded the newest policy.
    Loaded(String),
    /// The sandbox is removed.
    Removed(String),
}

impl ScheduledChange {
    /// Delay of the change.
    pub(super) fn delay(&self, ready_after: Duration) -> Duration {
        match self {
            Self::Ready(_) | Self::Stopped(_) | Self::Loaded(_) => ready_after,
            Self::Removed(_) => ready_after.max(DELETE_AFTER),
        }
    }
}

impl State {
    /// Returns the workspace of a request, which must exist.
    pub(crate) fn workspace(&self, name: &str) -> Result<String, Status> {
        let name = meta::workspace_or_default(name);
        if self.workspaces.contains_key(name) {
            return Ok(name.to_owned());
        }
        Err(Status::not_found(format!("workspace '{name}' not found")))
    }

    /// Returns a sandbox by workspace and name.
    pub(crate) fn sandbox(&mut self, at: &super::ObjectKey) -> Result<&mut Sandbox, Status> {
        let workspace = self.workspace(&at.0)?;
        if at.1.is_empty() {
            return Err(Status::invalid_argument("sandbox name is required"));
        }
        self.sandboxes
            .get_mut(&(workspace, at.1.clone()))
            .ok_or_else(|| Status::not_found("sandbox not found"))
    }

    /// Returns the workspace and name of the sandbox with an id.
    pub(crate) fn sandbox_key(&self, id: &str) -> Result<super::ObjectKey, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("sandbox_id is required"));
        }
        self.keys_by_id.get(id).cloned().ok_or_else(|| Status::not_found("sandbox not found"))
    }

    /// Creates a sandbox, which becomes ready by itself.
    pub(crate) fn create_sandbox(&mut self, new: NewSandbox) -> Result<Sandbox, Status> {
        let workspace = self.workspace(&new.workspace)?;
        let Some(mut spec) = new.spec else {
            return Err(Status::invalid_argument("spec is required"));
        };
        let own_image = spec.template.as_ref().map(|template| template.image.clone());
        let image = own_image.filter(|image| !image.is_empty()).unwrap_or(new.image);
        let name = match new.name.as_str() {
            "" => format!("sandbox-{}", &meta::random_hex()[..10]),
            name => name.to_owned(),
        };
        meta::check_label("name", &name, SANDBOX_NAME_CHARS_MAX)?;
        meta::check_map_size("labels", &new.labels)?;
        meta::check_map_size("annotations", &new.annotations)?;
        if let Some(policy) = &mut spec.policy {
            policy::check_not_reserved(policy)?;
            policy::validate(policy)?;
            policy::clear_credentialed(policy);
        }
        for provider in &spec.providers {
            if !self.providers.contains_key(&(workspace.clone(), provider.clone())) {
                return Err(Status::failed_precondition(format!(
                    "provider '{provider}' not found"
                )));
            }
        }
        meta::check_capacity("sandboxes", self.sandboxes.len(), SANDBOXES_MAX)?;
        let at = (workspace.clone(), name.clone());
        if self.sandboxes.contains_key(&at) {
            return Err(Status::already_exists(format!("sandbox '{name}' already exists")));
        }
        let mut meta = Meta::new(&workspace, &name);
        meta.labels = new.labels;
        meta.annotations = new.annotations;
        let id = meta.id.clone();
        let sandbox = Sandbox {
            phase_ms: meta.created_ms,
            meta,
            spec,
            phase: Phase::Provisioning,
            phase_reason: String::new(),
            revisions: Vec::new(),
            chunks: Vec::new(),
            loaded_version: 0,
            counts: PolicyCounts::default(),
            image,
            settings: Settings::default(),
            logs: VecDeque::new(),
            events: VecDeque::new(),
        };
        let answer = sandbox.clone();
        self.sandboxes.insert(at.clone(), sandbox);
        self.keys_by_id.insert(id.clone(), at.clone());
        self.add_event(&at, "Scheduled", "the sandbox was placed");
        self.log(&at, "INFO", "gateway", "sandbox created");
        self.pending_changes.push(ScheduledChange::Ready(id));
        Ok(answer)
    }

    /// Returns the sandboxes of a workspace, or of all workspaces, oldest first.
    pub(crate) fn list_sandboxes(
        &self,
        workspace: Option<&str>,
        selector: &str,
        page: Page,
    ) -> Result<(Vec<Sandbox>, String), Status> {
        let workspace = workspace.map(|name| self.workspace(name)).transpose()?;
        let mut found = Vec::new();
        for ((place, _), sandbox) in &self.sandboxes {
            let wanted = workspace.as_ref().is_none_or(|workspace| workspace == place);
            if wanted && sandbox.meta.matches_selector(selector)? {
                found.push(sandbox);
            }
        }
        found.sort_by_key(|sandbox| (sandbox.meta.created_ms, &sandbox.meta.name));
        let (page, next) = page.paginate(found.into_iter());
        Ok((page.into_iter().cloned().collect(), next))
    }

    /// Starts deleting a sandbox, which is removed later. Returns its id.
    pub(crate) fn delete_sandbox(&mut self, at: &super::ObjectKey) -> Result<String, Status> {
        let sandbox = self.sandbox(at)?;
        let id = sandbox.meta.id.clone();
        if sandbox.phase != Phase::Deleting {
            sandbox.meta.deletion_ms = meta::now_ms();
            let at = sandbox.key();
            self.set_phase(&at, Phase::Deleting);
            self.pending_changes.push(ScheduledChange::Removed(id.clone()));
        }
        Ok(id)
    }

    /// Stops a sandbox. Does nothing if it is already stopped.
    pub(crate) fn stop_sandbox(&mut self, at: &super::ObjectKey) -> Result<Sandbox, Status> {
        let sandbox = self.sandbox(at)?;
        let (id, at) = (sandbox.meta.id.clone(), sandbox.key());
        match sandbox.phase {
            Phase::Stopping | Phase::Stopped => {}
            Phase::Ready | Phase::Provisioning | Phase::Starting | Phase::Error => {
                self.set_phase(&at, Phase::Stopping);
                self.pending_changes.push(ScheduledChange::Stopped(id));
            }
            Phase::Deleting | Phase::Unknown | Phase::Unspecified | Phase::Completed => {
                return Err(Status::failed_precondition("sandbox cannot be stopped"));
            }
        }
        Ok(self.sandbox(&at)?.clone())
    }

    /// Starts a stopped sandbox. Does nothing if it is running.
    pub(crate) fn start_sandbox(&mut self, at: &super::ObjectKey) -> Result<Sandbox, Status> {
        let sandbox = self.sandbox(at)?;
        let (id, at) = (sandbox.meta.id.clone(), sandbox.key());
        match sandbox.phase {
            Phase::Ready | Phase::Starting | Phase::Provisioning => {}
            Phase::Stopped => {
                self.set_phase(&at, Phase::Starting);
                self.pending_changes.push(ScheduledChange::Ready(id));
            }
            Phase::Stopping
            | Phase::Error
            | Phase::Deleting
            | Phase::Unknown
            | Phase::Unspecified
            | Phase::Completed => {
                return Err(Status::failed_precondition("sandbox is not stopped"));
            }
        }
        Ok(self.sandbox(&at)?.clone())
    }

    /// Applies a change whose delay has passed, if it is still applicable.
    pub(super) fn apply(&mut self, change: &ScheduledChange) {
        let (ScheduledChange::Ready(id)
        | ScheduledChange::Stopped(id)
        | ScheduledChange::Loaded(id)
        | ScheduledChange::Removed(id)) = change;
        let Ok(at) = self.sandbox_key(id) else { return };
        let phase = self.sandboxes.get(&at).map(|sandbox| sandbox.phase);
        match (change, phase) {
            (ScheduledChange::Ready(_), Some(Phase::Provisioning | Phase::Starting)) => {
                self.finish_start(&at);
            }
            (ScheduledChange::Stopped(_), Some(Phase::Stopping)) => {
                self.set_phase(&at, Phase::Stopped);
            }
            (ScheduledChange::Loaded(_), Some(Phase::Ready)) => self.load_newest(&at),
            (ScheduledChange::Removed(_), Some(Phase::Deleting)) => self.remove_sandbox(&at),
            _ => {}
        }
    }

    fn finish_start(&mut self, at: &super::ObjectKey) {
        let phase = match &self.start_outcome {
            StartOutcome::Ready => Phase::Ready,
            StartOutcome::Completed => Phase::Completed,
            StartOutcome::Failed(why) => {
                let why = why.clone();
                if let Some(sandbox) = self.sandboxes.get_mut(at) {
                    sandbox.phase_reason = why;
                }
                Phase::Error
            }
        };
        self.set_phase(at, phase);
        if phase == Phase::Ready {
            self.log(at, "INFO", "sandbox", "supervisor connected");
            self.simulate_supervisor(at);
        }
    }

    /// Sets the phase of a sandbox.
    pub(crate) fn set_phase(&mut self, at: &super::ObjectKey, phase: Phase) {
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        sandbox.phase = phase;
        sandbox.phase_ms = meta::now_ms();
        self.mark_changed(at);
    }

    /// Increments the version of a sandbox and notifies its watchers.
    pub(super) fn mark_changed(&mut self, at: &super::ObjectKey) {
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        sandbox.meta.bump_version();
        self.notices.push(Notice::Changed(sandbox.meta.id.clone()));
    }

    /// Removes a sandbox with its services and SSH sessions.
    fn remove_sandbox(&mut self, at: &super::ObjectKey) {
        let Some(sandbox) = self.sandboxes.remove(at) else { return };
        self.services.retain(|(workspace, name, _), _| (workspace, name) != (&at.0, &at.1));
        self.ssh.retain(|_, session| session.sandbox_id != sandbox.meta.id);
        self.keys_by_id.remove(&sandbox.meta.id);
        self.notices.push(Notice::Deleted(sandbox.meta.id));
    }
}

impl Sandbox {
    /// The workspace and name of the sandbox.
    pub(crate) fn key(&self) -> super::ObjectKey {
        (self.meta.workspace.clone(), self.meta.name.clone())
    }

    /// Returns the environment of a command: that of the sandbox, overridden by that of the command.
    pub(crate) fn environment(&self, over: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut all = self.spec.environment.clone();
        all.extend(over);
        all
    }

    /// Refuses an operation if the sandbox is not running.
    pub(crate) fn check_running(&self) -> Result<(), Status> {
        if self.phase == Phase::Ready {
            return Ok(());
        }
        Err(Status::failed_precondition("sandbox is not ready"))
    }
}
