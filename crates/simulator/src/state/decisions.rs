//! Decisions about proposals to change a policy.
//!
//! Invariants
//! - a proposal is either pending, approved or rejected;
//! - a stored review token becomes stale: a change of the policy does not update it; the next approval with it fails
//!   once and renews it, and only the renewed token is accepted;
//! - only an approval adds a rule to the policy, and only undoing it or rejecting it afterwards removes the rule.

use std::collections::HashMap;

use tonic::{Code, Status};

use super::chunk::{APPROVED, PENDING, REJECTED};
use super::meta::now_ms;
use super::security::security_notes;
use super::verdict::{Evaluation, Source, one_line};
use super::{Chunk, ConfigOutcome, MergeOperation, ObjectKey, State, merge, policy};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkPolicyRule, SandboxPolicy};

/// The refusal of an approval while a global policy is in effect.
pub(super) const GLOBAL_ACTIVE: &str = "cannot approve rules while a global policy is active; delete the global policy \
                                        to manage per-sandbox rules";
const TOKEN_STALE: &str = "proposal inputs changed; evaluation refreshed, refetch and review again";
const TOKEN_MISMATCH: &str =
    "review token does not match the fetched proposal; refetch and review again";

/// The parameters of a bulk approval.
#[derive(Debug)]
pub(crate) struct Approvals {
    /// Ids and review tokens; empty for all pending proposals.
    pub(crate) exact: Vec<(String, String)>,
    /// Includes proposals with security notes.
    pub(crate) include_flagged: bool,
}

impl State {
    /// Approves one proposal if the reviewer has seen its current state.
    pub(crate) fn approve(
        &mut self,
        at: &ObjectKey,
        id: &str,
        token: &str,
    ) -> Result<ConfigOutcome, Status> {
        check_id(id)?;
        self.check_no_global_policy()?;
        let at = self.sandbox(at)?.key();
        self.chunk(&at, id)?.check_status(&[PENDING, REJECTED])?;
        self.check_current(&at, id, Some(token))?;
        if let Err(status) = self.apply_chunk(&at, id) {
            self.note_application_error(&at, id, &status)?;
            return Err(status);
        }
        self.count_write(&at)?;
        self.log(&at, "OCSF", "gateway", &format!("gateway approved draft chunk {id}"));
        self.newest_revision(&at)
    }

    /// Approves one proposal as it is now.
    pub(crate) fn approve_current(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        let at = self.sandbox(at)?.key();
        let token = self.chunk(&at, id)?.verdict.token.clone();
        self.approve(&at, id, &token).map(drop)
    }

    /// Approves several proposals: all are evaluated against the same policy and written as one revision.
    ///
    /// Returns how many were approved and how many were skipped.
    pub(crate) fn approve_all(
        &mut self,
        at: &ObjectKey,
        approvals: &Approvals,
    ) -> Result<(ConfigOutcome, u32, u32), Status> {
        self.check_no_global_policy()?;
        let at = self.sandbox(at)?.key();
        let selected = self.select_pending(&at, &approvals.exact)?;
        let tokens: HashMap<&str, &str> =
            approvals.exact.iter().map(|(id, token)| (id.as_str(), token.as_str())).collect();
        let mut staged = self.base_policy(&at)?;
        let (mut approved, mut skipped) = (Vec::new(), 0);
        for chunk in selected {
            if !approvals.include_flagged && !security_notes(&chunk.rule).is_empty() {
                skipped += 1;
                continue;
            }
            let token = tokens.get(chunk.id.as_str()).copied();
            match self.stage(&at, &chunk.id, token, &staged) {
                Ok(next) => {
                    staged = next;
                    approved.push(chunk.id);
                }
                Err(status) if is_skipped(&status) => skipped += 1,
                Err(status) => return Err(status),
            }
        }
        if approved.is_empty() {
            return Ok((ConfigOutcome::default(), 0, skipped));
        }
        self.write_revision(&at, staged, None, 0)?;
        for id in &approved {
            self.chunk(&at, id)?.approve();
        }
        self.reject_covered(&at)?;
        self.count_write(&at)?;
        let count = approved.len();
        let line = format!("gateway bulk-approved {count} draft chunk(s) and skipped {skipped}");
        self.log(&at, "OCSF", "gateway", &line);
        self.mark_changed(&at);
        Ok((self.newest_revision(&at)?, u32::try_from(count).unwrap_or(u32::MAX), skipped))
    }

    /// Returns the pending proposals with these ids, in their order, or all of them.
    fn select_pending(
        &mut self,
        at: &ObjectKey,
        exact: &[(String, String)],
    ) -> Result<Vec<Chunk>, Status> {
        let chunks = self.sandbox(at)?.chunks.iter();
        let pending: Vec<_> = chunks.filter(|chunk| chunk.status == PENDING).cloned().collect();
        if pending.is_empty() {
            return Err(Status::failed_precondition("no pending chunks to approve"));
        }
        if exact.is_empty() {
            return Ok(pending);
        }
        let select = |(id, _): &(String, String)| {
            pending.iter().find(|chunk| chunk.id == *id).cloned().ok_or_else(|| {
                let why = "is not pending; refetch before bulk approval";
                Status::failed_precondition(format!("chunk '{id}' {why}"))
            })
        };
        exact.iter().map(select).collect()
    }

    /// Returns the policy of a bulk approval with one more proposal.
    fn stage(
        &mut self,
        at: &ObjectKey,
        id: &str,
        token: Option<&str>,
        staged: &SandboxPolicy,
    ) -> Result<SandboxPolicy, Status> {
        self.check_current(at, id, token)?;
        let added = self.with_chunk(at, id, staged);
        if let Err(status) = &added {
            self.note_application_error(at, id, status)?;
        }
        added
    }

    /// Rejects a proposal. If it was approved, its program is removed from the rule.
    pub(crate) fn reject(&mut self, at: &ObjectKey, id: &str, reason: &str) -> Result<(), Status> {
        check_id(id)?;
        let at = self.sandbox(at)?.key();
        let chunk = self.chunk(&at, id)?;
        chunk.check_status(&[PENDING, APPROVED])?;
        if chunk.status == APPROVED {
            self.check_no_global_policy()?;
            self.remove_chunk(&at, id)?;
        }
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        self.chunk(&at, id)?.decide(REJECTED, reason);
        self.mark_changed(&at);
        Ok(())
    }

    /// Resets an approved proposal to pending and removes its program from the rule.
    pub(crate) fn undo(&mut self, at: &ObjectKey, id: &str) -> Result<ConfigOutcome, Status> {
        check_id(id)?;
        let at = self.sandbox(at)?.key();
        self.chunk(&at, id)?.check_status(&[APPROVED])?;
        self.remove_chunk(&at, id)?;
        self.chunk(&at, id)?.decide(PENDING, Some(""));
        self.mark_changed(&at);
        self.newest_revision(&at)
    }

    /// Changes the rule of a pending proposal and evaluates it again.
    pub(crate) fn edit(
        &mut self,
        at: &ObjectKey,
        id: &str,
        rule: Option<NetworkPolicyRule>,
    ) -> Result<(), Status> {
        check_id(id)?;
        let Some(rule) = rule else {
            return Err(Status::invalid_argument("proposed_rule is required"));
        };
        let at = self.sandbox(at)?.key();
        let chunk = self.chunk(&at, id)?;
        chunk.check_status(&[PENDING])?;
        let name = chunk.rule_name.clone();
        let evaluation = self.evaluate(&at, &name, &rule, Source::Authored, None)?;
        self.chunk(&at, id)?.accept(evaluation);
        self.mark_changed(&at);
        Ok(())
    }

    /// Deletes pending proposals. Returns how many were deleted.
    pub(crate) fn clear(&mut self, at: &ObjectKey) -> Result<u32, Status> {
        let at = self.sandbox(at)?.key();
        let chunks = &mut self.sandbox(&at)?.chunks;
        let before = chunks.len();
        chunks.retain(|chunk| chunk.status != PENDING);
        let cleared = before - chunks.len();
        self.mark_changed(&at);
        Ok(u32::try_from(cleared).unwrap_or(u32::MAX))
    }

    /// Returns the proposal with an id.
    pub(super) fn chunk(&mut self, at: &ObjectKey, id: &str) -> Result<&mut Chunk, Status> {
        let mut chunks = self.sandbox(at)?.chunks.iter_mut();
        let found = chunks.find(|chunk| chunk.id == id);
        found.ok_or_else(|| Status::not_found("chunk not found"))
    }

    fn check_no_global_policy(&self) -> Result<(), Status> {
        if self.global_active {
            return Err(Status::failed_precondition(GLOBAL_ACTIVE));
        }
        Ok(())
    }

    /// Evaluates a stored proposal again. The result of the prover is reused if nothing else has changed.
    pub(super) fn evaluate_stored(
        &mut self,
        at: &ObjectKey,
        chunk: &Chunk,
    ) -> Result<Evaluation, Status> {
        let (name, rule) = (&chunk.rule_name, &chunk.rule);
        let known = Some(chunk.verdict.validation.as_str()).filter(|known| !known.is_empty());
        let same = self.evaluate(at, name, rule, Source::Authored, known)?;
        if same.verdict.token == chunk.verdict.token {
            return Ok(same);
        }
        self.evaluate(at, name, rule, Source::Authored, None)
    }

    /// Refuses an approval unless the token is the stored one and nothing has changed since. `None` as the token skips
    /// the first comparison. A stale evaluation is renewed.
    fn check_current(
        &mut self,
        at: &ObjectKey,
        id: &str,
        token: Option<&str>,
    ) -> Result<(), Status> {
        let chunk = self.chunk(at, id)?.clone();
        if token.is_some_and(|token| token != chunk.verdict.token) {
            return Err(Status::failed_precondition(TOKEN_MISMATCH));
        }
        let live = self.evaluate_stored(at, &chunk)?;
        let why = match live.verdict.application_error.as_str() {
            "" if live.verdict.token == chunk.verdict.token => return Ok(()),
            "" => TOKEN_STALE.to_owned(),
            error => format!("proposal is not applicable: {error}"),
        };
        let chunk = self.chunk(at, id)?;
        if chunk.status != PENDING {
            let why = "proposal is no longer pending; refetch before deciding";
            return Err(Status::failed_precondition(why));
        }
        chunk.accept(live);
        self.mark_changed(at);
        Err(Status::failed_precondition(why))
    }

    /// Returns a policy with the rule of a proposal.
    fn with_chunk(
        &mut self,
        at: &ObjectKey,
        id: &str,
        base: &SandboxPolicy,
    ) -> Result<SandboxPolicy, Status> {
        let chunk = self.chunk(at, id)?;
        let add = MergeOperation::AddRule(chunk.rule_name.clone(), chunk.rule.clone());
        let next = merge::apply_permitted(base, &[add], self.behavior.generation)?;
        policy::validate(&next)?;
        Ok(next)
    }

    /// Adds the rule of a proposal to the policy and marks it as approved.
    pub(super) fn apply_chunk(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        let base = self.base_policy(at)?;
        let next = self.with_chunk(at, id, &base)?;
        self.write_revision(at, next, None, 0)?;
        self.chunk(at, id)?.approve();
        self.reject_covered(at)?;
        self.mark_changed(at);
        Ok(())
    }

    /// Removes the program of an approved proposal from its rule, and the rule if no program is left.
    fn remove_chunk(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        let chunk = self.chunk(at, id)?;
        let binary = chunk.subject.binary.clone();
        let remove = MergeOperation::RemoveBinary(chunk.rule_name.clone(), binary);
        let base = self.base_policy(at)?;
        let next = merge::apply(&base, &[remove], self.behavior.generation)?;
        policy::validate(&next)?;
        self.write_revision(at, next, None, 0)?;
        self.count_write(at)
    }

    /// Stores why a pending proposal could not be applied.
    pub(super) fn note_application_error(
        &mut self,
        at: &ObjectKey,
        id: &str,
        status: &Status,
    ) -> Result<(), Status> {
        let chunk = self.chunk(at, id)?;
        if chunk.status == PENDING {
            chunk.verdict.application_error = one_line(status.message());
            chunk.seen_ms = now_ms();
        }
        Ok(())
    }
}

/// Refuses a request without the id of a proposal.
fn check_id(id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("chunk_id is required"));
    }
    Ok(())
}

/// Whether a bulk approval continues without the proposal that was refused with this status.
fn is_skipped(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument)
}
