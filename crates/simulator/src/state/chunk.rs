//! Stored proposals.

use tonic::Status;

use super::meta::now_ms;
use super::submit::Subject;
use super::verdict::{Evaluation, Verdict};
use shoreguard_proto::v0_0::openshell::sandbox::v1::NetworkPolicyRule;

/// Waits for a decision.
pub(super) const PENDING: &str = "pending";
/// The rule was added to the policy.
pub(super) const APPROVED: &str = "approved";
/// Refused or superseded.
pub(super) const REJECTED: &str = "rejected";

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
    /// Whether it results from refused connections.
    pub(crate) is_mechanistic: bool,
    /// The connection that it is about; an edit does not change it.
    pub(crate) subject: Subject,
    /// How often the connection was refused.
    pub(crate) hits: i32,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Milliseconds since 1970.
    pub(crate) seen_ms: i64,
    /// Milliseconds since 1970; 0 while it waits.
    pub(crate) decided_ms: i64,
    /// Reason for the rejection; it stays if the proposal is approved later.
    pub(crate) reason: String,
    /// Number of the submission that created it.
    pub(crate) draft_version: u64,
    /// Result of the last evaluation.
    pub(crate) verdict: Verdict,
}

impl Chunk {
    /// Sets the status. With `None`, the reason of an earlier rejection stays.
    pub(super) fn decide(&mut self, status: &'static str, reason: Option<&str>) {
        self.status = status;
        if let Some(reason) = reason {
            reason.clone_into(&mut self.reason);
        }
        self.decided_ms = if status == PENDING { 0 } else { now_ms() };
    }

    /// Marks it as approved: its rule is in the policy.
    pub(super) fn approve(&mut self) {
        self.verdict.application_error.clear();
        self.decide(APPROVED, None);
    }

    /// Stores a new evaluation.
    pub(super) fn accept(&mut self, evaluation: Evaluation) {
        self.rule_name = evaluation.rule_name;
        self.rule = evaluation.rule;
        self.verdict = evaluation.verdict;
        self.seen_ms = now_ms();
    }

    /// Refuses a decision in a wrong status.
    pub(super) fn check_status(&self, expected: &[&str]) -> Result<(), Status> {
        if expected.contains(&self.status) {
            return Ok(());
        }
        let quoted: Vec<_> = expected.iter().map(|status| format!("'{status}'")).collect();
        Err(Status::failed_precondition(format!(
            "chunk status is '{}', expected {}",
            self.status,
            quoted.join(" or ")
        )))
    }
}

/// Returns the highest submission number; 0 without proposals.
pub(crate) fn draft_version(chunks: &[Chunk]) -> u64 {
    chunks.iter().map(|chunk| chunk.draft_version).max().unwrap_or(0)
}
