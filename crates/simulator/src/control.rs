//! Commands of tests about policies: what supervisors report and propose, changes that bypass all callers, and how
//! often a policy was written.

use tonic::Status;

use super::Simulator;
use super::script::Times;
use super::state::{
    LoadOutcome, NewSandbox, ObjectKey, PolicyCounts, Proposal, State, Submission, now_ms,
};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkPolicyRule, SandboxPolicy};
use shoreguard_proto::v0_0::openshell::v1::{ProviderProfile, SandboxSpec};

/// Returns the location of a sandbox.
fn key(workspace: &str, sandbox: &str) -> ObjectKey {
    (workspace.to_owned(), sandbox.to_owned())
}

impl Simulator {
    /// Proposes a change of a sandbox's policy, as its supervisor would. Returns the id of the proposal.
    pub fn propose(
        &self,
        workspace: &str,
        sandbox: &str,
        proposal: Proposal,
    ) -> Result<String, Status> {
        let mut done = self.submit_analysis(workspace, sandbox, vec![proposal])?;
        match done.accepted_ids.pop() {
            Some(id) => Ok(id),
            None => Err(Status::invalid_argument(done.rejection_reasons.join("; "))),
        }
    }

    /// Submits proposals in one request, as the supervisor of a sandbox would.
    pub fn submit_analysis(
        &self,
        workspace: &str,
        sandbox: &str,
        proposals: Vec<Proposal>,
    ) -> Result<Submission, Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.submit(&at, proposals))
    }

    /// Returns status and reason of a proposal; `None` if the sandbox has none of that id.
    pub fn proposal(
        &self,
        workspace: &str,
        sandbox: &str,
        id: &str,
    ) -> Result<Option<(String, String)>, Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| {
            let mut chunks = state.sandbox(&at)?.chunks.iter();
            let found = chunks.find(|chunk| chunk.id == id);
            Ok(found.map(|chunk| (chunk.status.to_owned(), chunk.reason.clone())))
        })
    }

    /// Changes the rule of a pending proposal, as a client does that bypasses Shoreguard.
    pub fn edit_proposal(
        &self,
        workspace: &str,
        sandbox: &str,
        id: &str,
        rule: NetworkPolicyRule,
    ) -> Result<(), Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.edit(&at, id, Some(rule)))
    }

    /// Approves a proposal, as a client does that bypasses Shoreguard.
    pub fn approve_proposal(&self, workspace: &str, sandbox: &str, id: &str) -> Result<(), Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.approve_current(&at, id))
    }

    /// Deletes the pending proposals of a sandbox, as a client does that bypasses Shoreguard. Returns their number.
    pub fn clear_proposals(&self, workspace: &str, sandbox: &str) -> Result<u32, Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.clear(&at))
    }

    /// Reports that a sandbox has loaded a revision of its policy, or that this failed with an error, as its supervisor
    /// would.
    pub fn report_policy_status(
        &self,
        workspace: &str,
        sandbox: &str,
        version: u32,
        error: Option<&str>,
    ) -> Result<(), Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.report_policy_status(&at, version, error))
    }

    /// Sets the outcome of loading policies, for the next loads or for all. Afterwards, policies are loaded. The newest
    /// revisions that are pending in running sandboxes are the next loads.
    pub fn set_load_outcome(&self, outcome: LoadOutcome, times: Times) {
        self.change(|state| state.set_load_outcome(outcome, times));
    }

    /// Puts a policy into an image: sandboxes of that image that are created without a policy use it.
    pub fn set_image_policy(&self, image: &str, policy: SandboxPolicy) -> Result<(), Status> {
        self.core.with(|state| state.behavior.set_image_policy(image, policy))
    }

    /// Makes the gateway drop the marks of what an advisor proposed from every policy that is written from now on.
    pub fn set_drops_marks(&self, drops: bool) {
        self.change(|state| state.behavior.drops_marks = drops);
    }

    /// Replaces the result of the prover for proposals that are evaluated from now on; `None` restores it.
    pub fn set_validation_result(&self, result: Option<&str>) {
        self.change(|state| state.behavior.validation = result.map(ToOwned::to_owned));
    }

    /// Changes a provider profile of a workspace, or of the platform if `workspace` is empty. A built-in profile can be
    /// changed too, as by a new release of the gateway.
    pub fn change_profile(
        &self,
        workspace: &str,
        id: &str,
        change: impl FnOnce(&mut ProviderProfile),
    ) -> Result<(), Status> {
        let at = key(workspace, id);
        self.core.with(|state| state.change_profile(&at, change))
    }

    /// Changes the policy of a sandbox as a write that bypasses Shoreguard does. Returns the version of the newest
    /// revision.
    pub fn change_policy(
        &self,
        workspace: &str,
        sandbox: &str,
        change: impl FnOnce(&mut SandboxPolicy),
    ) -> Result<u32, Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.change_policy(&at, change))
    }

    /// Returns how many changes the policy of a sandbox has had since the sandbox was created.
    pub fn policy_counts(&self, workspace: &str, sandbox: &str) -> Result<PolicyCounts, Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| state.sandbox(&at).map(|sandbox| sandbox.counts))
    }

    /// Changes the state.
    fn change(&self, act: impl FnOnce(&mut State)) {
        let changed = self.core.with(|state| {
            act(state);
            Ok(())
        });
        debug_assert!(changed.is_ok(), "it cannot fail");
    }

    /// Writes lines to the log of a sandbox at one time, faster than they can be read.
    pub fn log_at_once(
        &self,
        workspace: &str,
        sandbox: &str,
        level: &str,
        messages: impl IntoIterator<Item = String>,
    ) -> Result<(), Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| {
            let (at, time) = (state.sandbox(&at)?.key(), now_ms());
            for message in messages {
                state.log_with_time(&at, time, level, "sandbox", &message);
            }
            Ok(())
        })
    }

    /// Adds sandboxes `crowd-00000` and up to the default workspace.
    pub fn add_crowd(&self, count: usize) -> Result<(), Status> {
        self.core.with(|state| {
            for n in 0..count {
                let (name, spec) = (format!("crowd-{n:05}"), Some(SandboxSpec::default()));
                state.create_sandbox(NewSandbox { name, spec, ..NewSandbox::default() })?;
            }
            Ok(())
        })
    }

    /// Writes a line with a given time, in milliseconds since 1970, to the log of a sandbox.
    pub fn log_with_time(
        &self,
        workspace: &str,
        sandbox: &str,
        at_ms: i64,
        message: &str,
    ) -> Result<(), Status> {
        let at = key(workspace, sandbox);
        self.core.with(|state| {
            let at = state.sandbox(&at)?.key();
            state.log_with_time(&at, at_ms, "OCSF", "sandbox", message);
            Ok(())
        })
    }
}
