//! Proposals to change a policy: submission and decisions.
//!
//! Invariants
//! - a proposal is either pending, approved or rejected;
//! - a stored review token becomes stale: a change of the policy does not update it; the next approval with it fails
//!   once and renews it, and only the renewed token is accepted.

use std::collections::BTreeMap;

use tonic::{Code, Status};

use super::meta::{self, now_ms, random_id};
use super::policy::RESERVED_PREFIX;
use super::settings::{self, APPROVAL_MODE};
use super::verdict::{self, CLEAN, Verdict};
use super::{ConfigOutcome, ObjectKey, Proposal, State, merge};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkPolicyRule, setting_value};

/// Maximum number of proposals per sandbox.
pub(super) const CHUNKS_MAX: usize = 1_000;

/// Waits for a decision.
pub(super) const PENDING: &str = "pending";
/// The rule was added to the policy.
pub(super) const APPROVED: &str = "approved";
/// Refused or superseded.
pub(super) const REJECTED: &str = "rejected";

const TOKEN_STALE: &str = "proposal inputs changed; evaluation refreshed, refetch and review again";
const TOKEN_MISMATCH: &str =
    "review token does not match the fetched proposal; refetch and review again";

/// A stored proposal.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Id assigned by the gateway.
    pub(crate) id: String,
    /// `pending`, `approved` or `rejected`.
    pub(crate) status: &'static str,
    /// The name of the rule in the policy.
    pub(crate) rule_name: String,
    /// The proposed rule.
    pub(crate) rule: NetworkPolicyRule,
    /// Reason for the proposal.
    pub(crate) rationale: String,
    /// `mechanistic` or `agent_authored`.
    pub(crate) stage: &'static str,
    /// Id of the proposal that this one superseded.
    pub(crate) supersedes: String,
    /// Number of times it was proposed.
    pub(crate) hits: i32,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Milliseconds since 1970.
    pub(crate) seen_ms: i64,
    /// Milliseconds since 1970; 0 while it waits.
    pub(crate) decided_ms: i64,
    /// Reason for the rejection.
    pub(crate) reason: String,
    /// Number of the last submission to the sandbox that affected it.
    pub(crate) draft_version: u64,
    /// Result of the last evaluation.
    pub(crate) verdict: Verdict,
}

/// The result of a submission.
#[derive(Debug, Clone)]
pub(crate) enum SubmitResult {
    /// Stored, with this id.
    Stored(String),
    /// Refused, with the reason.
    Refused(String),
}

/// The parameters of a bulk approval.
#[derive(Debug)]
pub(crate) struct Approvals {
    /// Ids and review tokens; empty for all pending proposals.
    pub(crate) exact: Vec<(String, String)>,
    /// Includes proposals with security notes.
    pub(crate) include_flagged: bool,
}

impl Chunk {
    /// Returns the subject of the proposal: host, port and program of its first endpoint and binary.
    pub(crate) fn subject(&self) -> (String, u32, String) {
        let endpoint = self.rule.endpoints.first();
        (
            endpoint.map(|endpoint| endpoint.host.clone()).unwrap_or_default(),
            endpoint
                .and_then(|endpoint| verdict::ports(endpoint).first().copied())
                .unwrap_or_default(),
            self.rule.binaries.first().map(|binary| binary.path.clone()).unwrap_or_default(),
        )
    }

    fn decide(&mut self, status: &'static str, reason: &str) {
        self.status = status;
        reason.clone_into(&mut self.reason);
        self.decided_ms = if status == PENDING { 0 } else { now_ms() };
    }
}

impl State {
    /// Submits a proposal, as the sandbox's supervisor does.
    pub(crate) fn submit(
        &mut self,
        at: &ObjectKey,
        proposal: Proposal,
    ) -> Result<SubmitResult, Status> {
        if proposal.rule_name.starts_with(RESERVED_PREFIX) {
            return Ok(SubmitResult::Refused(format!(
                "rule name '{}' is reserved",
                proposal.rule_name
            )));
        }
        self.ensure_first_revision(at)?;
        let verdict = self.evaluate(at, &proposal.rule_name, &proposal.rule)?;
        if proposal.agent_authored && !verdict.application_error.is_empty() {
            return Ok(SubmitResult::Refused(verdict.application_error));
        }
        let chunks = &self.sandbox(at)?.chunks;
        meta::check_capacity("proposals of a sandbox", chunks.len(), CHUNKS_MAX)?;
        let now = now_ms();
        let mut chunk = Chunk {
            id: random_id(),
            status: PENDING,
            rule_name: proposal.rule_name,
            rule: proposal.rule,
            rationale: proposal.rationale,
            stage: if proposal.agent_authored { "agent_authored" } else { "mechanistic" },
            supersedes: String::new(),
            hits: 1,
            created_ms: now,
            seen_ms: now,
            decided_ms: 0,
            reason: String::new(),
            draft_version: draft_version(chunks) + 1,
            verdict,
        };
        let id = self.store_chunk(at, &mut chunk)?;
        let own = self.sandbox(at)?.settings.clone();
        let auto = setting_value::Value::StringValue("auto".to_owned());
        let clean = chunk.verdict.validation == CLEAN && chunk.status == PENDING;
        if clean
            && !self.global_active
            && settings::has_value(&self.settings, &own, APPROVAL_MODE, &auto)
        {
            self.apply_chunk(at, &id)?;
        }
        self.reject_covered(at)?;
        self.mark_changed(at);
        Ok(SubmitResult::Stored(id))
    }

    /// Adds a new proposal next to those with the same subject. Returns the id that it is stored under.
    fn store_chunk(&mut self, at: &ObjectKey, chunk: &mut Chunk) -> Result<String, Status> {
        let mechanistic = chunk.stage == "mechanistic";
        let sandbox = self.sandbox(at)?;
        sandbox.analyzed_ms = chunk.created_ms;
        let subject = chunk.subject();
        let alike = sandbox.chunks.iter_mut().filter(|other| other.subject() == subject);
        for other in alike {
            if mechanistic && other.stage == chunk.stage && other.status == PENDING {
                other.hits += 1;
                other.seen_ms = chunk.seen_ms;
                other.draft_version = chunk.draft_version;
                return Ok(other.id.clone());
            }
            if mechanistic && other.stage != chunk.stage && other.status == APPROVED {
                chunk.decide(REJECTED, &format!("already covered by approved chunk {}", other.id));
            } else if other.status == PENDING {
                other.decide(REJECTED, &format!("superseded by chunk {}", chunk.id));
                other.id.clone_into(&mut chunk.supersedes);
            }
        }
        sandbox.chunks.push(chunk.clone());
        Ok(chunk.id.clone())
    }

    /// Rejects pending proposals that the current policy already allows.
    pub(super) fn reject_covered(&mut self, at: &ObjectKey) -> Result<(), Status> {
        let sandbox = self.sandbox(at)?;
        let Some(newest) = sandbox.revisions.last() else { return Ok(()) };
        let reason = format!("covered by active policy revision {}", newest.version);
        for chunk in sandbox.chunks.iter_mut().filter(|chunk| chunk.status == PENDING) {
            if verdict::is_covered_by(&newest.policy, chunk) {
                chunk.decide(REJECTED, &reason);
            }
        }
        Ok(())
    }

    /// Approves one proposal if the reviewer has seen its current state.
    pub(crate) fn approve(
        &mut self,
        at: &ObjectKey,
        id: &str,
        token: &str,
    ) -> Result<ConfigOutcome, Status> {
        let chunk = self.chunk(at, id)?.clone();
        self.check_no_global_policy("cannot approve rules")?;
        if chunk.status == APPROVED {
            return Err(Status::failed_precondition("draft chunk is already approved"));
        }
        if chunk.verdict.token != token {
            return Err(Status::failed_precondition(TOKEN_MISMATCH));
        }
        if self.re_evaluate(at, id)? {
            return Err(Status::failed_precondition(TOKEN_STALE));
        }
        self.apply_chunk(at, id)?;
        self.newest_revision(at)
    }

    /// Approves several proposals: all are evaluated against the same policy and written as one revision.
    ///
    /// Returns how many were approved and how many were skipped.
    pub(crate) fn approve_all(
        &mut self,
        at: &ObjectKey,
        approvals: &Approvals,
    ) -> Result<(ConfigOutcome, u32, u32), Status> {
        self.check_no_global_policy("cannot approve rules")?;
        let exact = !approvals.exact.is_empty();
        let waiting = self.sandbox(at)?.chunks.iter().filter(|chunk| chunk.status == PENDING);
        let wanted = if exact {
            approvals.exact.clone()
        } else {
            waiting.map(|chunk| (chunk.id.clone(), String::new())).collect()
        };
        let mut next = self.base_policy(at)?;
        let (mut approved, mut skipped) = (Vec::new(), 0);
        for (id, token) in wanted {
            let chunk = match self.chunk(at, &id) {
                Ok(chunk) => chunk.clone(),
                Err(status) if status.code() == Code::NotFound && exact => {
                    skipped += 1;
                    continue;
                }
                Err(status) => return Err(status),
            };
            let stale = exact && (chunk.verdict.token != token || self.re_evaluate(at, &id)?);
            let flagged = !chunk.verdict.security_notes.is_empty() && !approvals.include_flagged;
            let done = chunk.status == APPROVED || !chunk.verdict.application_error.is_empty();
            if stale || flagged || done {
                skipped += 1;
            } else if merge::add_rule(&mut next, &chunk.rule_name, &chunk.rule).is_ok() {
                approved.push(id);
            } else {
                skipped += 1;
            }
        }
        for id in &approved {
            self.chunk(at, id)?.decide(APPROVED, "");
        }
        if !approved.is_empty() {
            self.write_revision(at, next, &BTreeMap::new())?;
            self.log(
                at,
                "OCSF",
                "gateway",
                &format!("gateway approved {} draft chunks", approved.len()),
            );
        }
        let count = u32::try_from(approved.len()).unwrap_or(u32::MAX);
        Ok((self.newest_revision(at)?, count, skipped))
    }

    /// Rejects a proposal. If it was approved, its rule is removed from the policy.
    pub(crate) fn reject(&mut self, at: &ObjectKey, id: &str, reason: &str) -> Result<(), Status> {
        match self.chunk(at, id)?.status {
            APPROVED => self.remove_chunk_rule(at, id)?,
            PENDING => {}
            _ => return Err(Status::failed_precondition("draft chunk is already rejected")),
        }
        self.chunk(at, id)?.decide(REJECTED, reason);
        self.mark_changed(at);
        Ok(())
    }

    /// Resets an approved proposal to pending and removes its rule from the policy.
    pub(crate) fn undo(&mut self, at: &ObjectKey, id: &str) -> Result<ConfigOutcome, Status> {
        if self.chunk(at, id)?.status != APPROVED {
            return Err(Status::failed_precondition("draft chunk is not approved"));
        }
        self.remove_chunk_rule(at, id)?;
        self.chunk(at, id)?.decide(PENDING, "");
        self.mark_changed(at);
        self.newest_revision(at)
    }

    /// Changes the rule of a pending proposal and evaluates it again.
    pub(crate) fn edit(
        &mut self,
        at: &ObjectKey,
        id: &str,
        rule: Option<NetworkPolicyRule>,
    ) -> Result<(), Status> {
        let Some(rule) = rule else {
            return Err(Status::invalid_argument("proposed_rule is required"));
        };
        let chunk = self.chunk(at, id)?;
        if chunk.status != PENDING {
            return Err(Status::failed_precondition("only pending draft chunks can be edited"));
        }
        chunk.rule = rule;
        self.re_evaluate(at, id)?;
        self.mark_changed(at);
        Ok(())
    }

    /// Deletes pending proposals. Returns how many were deleted.
    pub(crate) fn clear(&mut self, at: &ObjectKey) -> Result<u32, Status> {
        let chunks = &mut self.sandbox(at)?.chunks;
        let before = chunks.len();
        chunks.retain(|chunk| chunk.status != PENDING);
        let cleared = before - chunks.len();
        self.mark_changed(at);
        Ok(u32::try_from(cleared).unwrap_or(u32::MAX))
    }

    fn chunk(&mut self, at: &ObjectKey, id: &str) -> Result<&mut Chunk, Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("chunk_id is required"));
        }
        let chunks = &mut self.sandbox(at)?.chunks;
        chunks
            .iter_mut()
            .find(|chunk| chunk.id == id)
            .ok_or_else(|| Status::not_found("draft chunk not found"))
    }

    /// Evaluates a proposal again. Returns whether the verdict has changed.
    fn re_evaluate(&mut self, at: &ObjectKey, id: &str) -> Result<bool, Status> {
        let chunk = self.chunk(at, id)?.clone();
        let verdict = self.evaluate(at, &chunk.rule_name, &chunk.rule)?;
        let other = verdict.token != chunk.verdict.token;
        self.chunk(at, id)?.verdict = verdict;
        Ok(other)
    }

    fn apply_chunk(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        let chunk = self.chunk(at, id)?.clone();
        if !chunk.verdict.application_error.is_empty() {
            return Err(Status::failed_precondition(chunk.verdict.application_error));
        }
        let mut next = self.base_policy(at)?;
        merge::add_rule(&mut next, &chunk.rule_name, &chunk.rule)?;
        self.chunk(at, id)?.decide(APPROVED, "");
        self.write_revision(at, next, &BTreeMap::new())?;
        self.log(at, "OCSF", "gateway", &format!("gateway approved draft chunk {id}"));
        self.mark_changed(at);
        Ok(())
    }

    fn remove_chunk_rule(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        self.check_no_global_policy("cannot remove rules")?;
        let chunk = self.chunk(at, id)?.clone();
        let mut next = self.base_policy(at)?;
        merge::remove_rule_endpoints(&mut next, &chunk.rule_name, &chunk.rule);
        self.write_revision(at, next, &BTreeMap::new())
    }
}

/// Returns the highest submission number; 0 without proposals.
pub(crate) fn draft_version(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.draft_version).max().unwrap_or(0)
}
