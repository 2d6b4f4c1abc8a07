//! Revisions of policies: how they are written, and how sandboxes load them.
//!
//! Invariants
//! - a revision equals its predecessor only if their annotations differ;
//! - only the report of a supervisor changes the status of a revision, except for the global policy, which is in effect
//!   at once, and for revision 1 of a sandbox that was created with a policy;
//! - a sandbox uses the version that it reported as loaded most recently.

use std::collections::BTreeMap;

use tonic::Status;

use super::meta::now_ms;
use super::{LoadOutcome, ObjectKey, Phase, ScheduledChange, State, policy};
use crate::script::Times;
use shoreguard_proto::v0_0::openshell::sandbox::v1::SandboxPolicy;
use shoreguard_proto::v0_0::openshell::v1::PolicyStatus;

/// Maximum number of revisions of a sandbox or of the global policy; the oldest are removed first.
const REVISIONS_MAX: usize = 1_000;

/// A revision of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    /// Version number, starting at 1.
    pub(crate) version: u32,
    /// The policy.
    pub(crate) policy: SandboxPolicy,
    /// Hash of the policy.
    pub(crate) hash: String,
    /// Whether the sandbox has loaded it.
    pub(crate) status: PolicyStatus,
    /// Why the sandbox could not load it; empty unless it failed.
    pub(crate) load_error: String,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Milliseconds since 1970; 0 if it was not loaded yet.
    pub(crate) loaded_ms: i64,
    /// Annotations of the request that created it.
    pub(crate) provenance: BTreeMap<String, String>,
}

/// How many changes of its policy a sandbox has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// Requests of callers that changed the policy or would have, if it had not been equal: updates, merges, approved
    /// proposals, and approvals that were undone.
    pub writes: u64,
    /// Revisions, including those of the supervisor and those that were removed.
    pub revisions: u64,
}

impl State {
    /// Writes a revision of a sandbox's policy, unless it equals the newest one. With `None` as annotations, the policy
    /// alone is compared. `expected_version` is the expected resource version, or 0.
    pub(super) fn write_revision(
        &mut self,
        at: &ObjectKey,
        mut next: SandboxPolicy,
        annotations: Option<&BTreeMap<String, String>>,
        expected_version: u64,
    ) -> Result<(), Status> {
        if self.behavior.drops_marks {
            policy::drop_marks(&mut next);
        }
        let hash = policy::hash(&next);
        let sandbox = self.sandbox(at)?;
        let is_same = sandbox.revisions.last().is_some_and(|newest| {
            newest.hash == hash && annotations.is_none_or(|given| newest.provenance == *given)
        });
        let given = annotations.cloned().unwrap_or_default();
        let noted = &sandbox.meta.annotations;
        if is_same && given.iter().all(|(key, value)| noted.get(key) == Some(value)) {
            return Ok(());
        }
        sandbox.meta.check_version(expected_version)?;
        sandbox.meta.annotations.extend(given.clone());
        if !is_same {
            push_revision(&mut sandbox.revisions, next, &given);
            sandbox.counts.revisions += 1;
            let id = sandbox.meta.id.clone();
            self.pending_changes.push(ScheduledChange::Loaded(id));
        }
        self.mark_changed(at);
        Ok(())
    }

    /// Counts a request of a caller that changes the policy of a sandbox.
    pub(super) fn count_write(&mut self, at: &ObjectKey) -> Result<(), Status> {
        self.sandbox(at)?.counts.writes += 1;
        Ok(())
    }

    /// Writes revision 1 from the spec, as a gateway does when the configuration is first read.
    pub(super) fn ensure_first_revision(&mut self, at: &ObjectKey) -> Result<(), Status> {
        let sandbox = self.sandbox(at)?;
        if !sandbox.revisions.is_empty() {
            return Ok(());
        }
        if let Some(base) = sandbox.spec.policy.clone() {
            push_revision(&mut sandbox.revisions, base, &BTreeMap::new());
            mark_loaded(&mut sandbox.revisions);
            sandbox.counts.revisions += 1;
            sandbox.loaded_version = 1;
        }
        Ok(())
    }

    /// Simulates a supervisor after it has connected. If the sandbox has no policy, the supervisor sets that of the
    /// image, or its own. Then it loads the newest revision.
    pub(crate) fn simulate_supervisor(&mut self, at: &ObjectKey) {
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        if sandbox.spec.policy.is_none() && sandbox.revisions.is_empty() {
            let found = self.behavior.image_policy(&sandbox.image);
            let mut policy = found.unwrap_or_else(policy::default_policy);
            policy::remove_reserved(&mut policy);
            policy::clear_credentialed(&mut policy);
            push_revision(&mut sandbox.revisions, policy.clone(), &BTreeMap::new());
            sandbox.counts.revisions += 1;
            sandbox.spec.policy = Some(policy);
        }
        // Watchers are notified of the new phase.
        if self.ensure_first_revision(at).is_ok() {
            self.try_load(at);
        }
    }

    /// Loads the newest revision of a sandbox if it is pending, as its supervisor does, without a notice to watchers.
    fn try_load(&mut self, at: &ObjectKey) {
        let newest = self.sandboxes.get(at).and_then(|sandbox| sandbox.revisions.last());
        let pending = newest.filter(|newest| newest.status == PolicyStatus::Pending);
        let Some(version) = pending.map(|newest| newest.version) else { return };
        let reported = match self.behavior.next_load_outcome() {
            LoadOutcome::Held => return,
            LoadOutcome::Loaded => self.record_load(at, version, None),
            LoadOutcome::Failed(why) => self.record_load(at, version, Some(&why)),
        };
        debug_assert!(reported.is_ok(), "the revision exists");
    }

    /// Loads the newest revision of a sandbox if it is pending, and notifies the watchers.
    pub(super) fn load_newest(&mut self, at: &ObjectKey) {
        let version = |state: &Self| state.sandboxes.get(at).map(|sandbox| sandbox.loaded_version);
        let before = version(self);
        self.try_load(at);
        if version(self) != before {
            self.mark_changed(at);
        }
    }

    /// Sets the outcome of loading policies, and loads those that are pending in running sandboxes.
    pub(crate) fn set_load_outcome(&mut self, outcome: LoadOutcome, times: Times) {
        self.behavior.set_load_outcome(outcome, times);
        let running = self.sandboxes.iter().filter(|(_, sandbox)| sandbox.phase == Phase::Ready);
        let running: Vec<ObjectKey> = running.map(|(at, _)| at.clone()).collect();
        for at in running {
            self.load_newest(&at);
        }
    }

    /// Records the report of a supervisor about a revision: it was loaded, or failed with this error.
    pub(crate) fn report_policy_status(
        &mut self,
        at: &ObjectKey,
        version: u32,
        error: Option<&str>,
    ) -> Result<(), Status> {
        let at = self.sandbox(at)?.key();
        self.record_load(&at, version, error)?;
        if error.is_none() {
            self.mark_changed(&at);
        }
        Ok(())
    }

    fn record_load(
        &mut self,
        at: &ObjectKey,
        version: u32,
        error: Option<&str>,
    ) -> Result<(), Status> {
        if version == 0 {
            return Err(Status::invalid_argument("version is required"));
        }
        let sandbox = self.sandbox(at)?;
        let found = sandbox.revisions.iter_mut().find(|revision| revision.version == version);
        let Some(revision) = found else {
            return Err(Status::not_found("policy revision not found"));
        };
        if let Some(error) = error {
            revision.status = PolicyStatus::Failed;
            error.clone_into(&mut revision.load_error);
            revision.loaded_ms = 0;
            return Ok(());
        }
        revision.status = PolicyStatus::Loaded;
        revision.load_error.clear();
        revision.loaded_ms = now_ms();
        supersede(&mut sandbox.revisions, version);
        sandbox.loaded_version = version;
        Ok(())
    }

    /// Returns the policy that the next change is applied to: the newest revision, without generated rules.
    pub(super) fn base_policy(&mut self, at: &ObjectKey) -> Result<SandboxPolicy, Status> {
        let sandbox = self.sandbox(at)?;
        let newest = sandbox.revisions.last().map(|newest| newest.policy.clone());
        Ok(newest.or_else(|| sandbox.spec.policy.clone()).unwrap_or_default())
    }

    /// Returns the revisions of a sandbox, or of the global policy, newest first.
    pub(crate) fn revisions(&mut self, at: Option<&ObjectKey>) -> Result<Vec<Revision>, Status> {
        let revisions = match at {
            Some(at) => &self.sandbox(at)?.revisions,
            None => &self.global,
        };
        Ok(revisions.iter().rev().cloned().collect())
    }

    /// Returns one revision, the newest for version 0, and the version that the sandbox uses, which is 0 for the global
    /// policy.
    pub(crate) fn policy_status(
        &mut self,
        at: Option<&ObjectKey>,
        version: u32,
    ) -> Result<(Revision, u32), Status> {
        let (active, what) = match at {
            Some(at) => {
                (self.sandbox(at)?.loaded_version, "no policy revision found for this sandbox")
            }
            None => (0, "no global policy revision found"),
        };
        let all = self.revisions(at)?;
        let found = all.into_iter().find(|one| version == 0 || one.version == version);
        Ok((found.ok_or_else(|| Status::not_found(what))?, active))
    }

    /// Returns the global policy that is in effect.
    pub(super) fn active_global(&self) -> Option<&Revision> {
        self.global.last().filter(|_| self.global_active)
    }
}

/// Adds a revision, which is pending.
pub(super) fn push_revision(
    revisions: &mut Vec<Revision>,
    policy: SandboxPolicy,
    annotations: &BTreeMap<String, String>,
) {
    let version = revisions.last().map_or(1, |newest| newest.version + 1);
    if revisions.len() == REVISIONS_MAX {
        revisions.remove(0);
    }
    revisions.push(Revision {
        version,
        hash: policy::hash(&policy),
        policy,
        status: PolicyStatus::Pending,
        load_error: String::new(),
        created_ms: now_ms(),
        loaded_ms: 0,
        provenance: annotations.clone(),
    });
}

/// Marks the newest revision as loaded.
pub(super) fn mark_loaded(revisions: &mut [Revision]) {
    let Some(newest) = revisions.last_mut() else { return };
    newest.status = PolicyStatus::Loaded;
    newest.loaded_ms = now_ms();
    let version = newest.version;
    supersede(revisions, version);
}

/// Marks the revisions before a version as superseded, except for those that failed.
pub(super) fn supersede(revisions: &mut [Revision], before: u32) {
    for revision in revisions.iter_mut().filter(|revision| revision.version < before) {
        if matches!(revision.status, PolicyStatus::Pending | PolicyStatus::Loaded) {
            revision.status = PolicyStatus::Superseded;
        }
    }
}
