//! Submission of proposals by the supervisor of a sandbox: they are evaluated, counted, compared with those of the same
//! connection, and approved at once if the gateway is set to do so.
//!
//! Invariants
//! - refused connections of one program to one host and port are one proposal, even after its decision;
//! - of the pending proposals for one connection, only the newest stays pending.

use tonic::Status;

use super::chunk::{APPROVED, PENDING, REJECTED, draft_version};
use super::decisions::GLOBAL_ACTIVE;
use super::meta::{self, now_ms, random_id};
use super::security::security_notes;
use super::settings::{self, APPROVAL_MODE};
use super::verdict::{CLEAN, Evaluation, Source};
use super::{Chunk, ObjectKey, Proposal, State, Submission, merge, policy};
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkPolicyRule, setting_value};

/// Maximum number of proposals per sandbox.
const CHUNKS_MAX: usize = 10_000;

/// Maximum number of refused connections that one submission counts.
const HITS_MAX: i32 = 100;

/// The connection that a proposal is about: host, port and program of its first endpoint and binary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Host in lower case.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u32,
    /// Path of the program.
    pub(crate) binary: String,
}

impl Subject {
    fn of(rule: &NetworkPolicyRule) -> Self {
        let endpoint = rule.endpoints.first();
        let binary = rule.binaries.first();
        Self {
            host: endpoint.map(|endpoint| endpoint.host.to_lowercase()).unwrap_or_default(),
            port: endpoint.map_or(0, |endpoint| endpoint.port),
            binary: binary.map(|binary| binary.path.clone()).unwrap_or_default(),
        }
    }

    /// Whether it names a connection that can be compared with others.
    fn is_complete(&self) -> bool {
        !self.host.is_empty() && self.port != 0 && !self.binary.is_empty()
    }
}

impl State {
    /// Submits proposals, as the supervisor of the sandbox does in one request.
    pub(crate) fn submit(
        &mut self,
        at: &ObjectKey,
        proposals: Vec<Proposal>,
    ) -> Result<Submission, Status> {
        let at = self.sandbox(at)?.key();
        self.reject_covered(&at)?;
        let version = draft_version(&self.sandbox(&at)?.chunks) + 1;
        let mut submission = Submission::default();
        for proposal in proposals {
            match self.submit_one(&at, proposal, version)? {
                Ok(id) => submission.accepted_ids.push(id),
                Err(why) => submission.rejection_reasons.push(why),
            }
        }
        self.mark_changed(&at);
        Ok(submission)
    }

    /// Submits a proposal. Returns the id under which it is stored, or why it was refused.
    fn submit_one(
        &mut self,
        at: &ObjectKey,
        mut proposal: Proposal,
        version: u64,
    ) -> Result<Result<String, String>, Status> {
        let name = proposal.rule_name.clone();
        if name.is_empty() {
            return Ok(Err("chunk missing rule_name".to_owned()));
        }
        if policy::is_reserved(&name) {
            let why = format!("chunk '{name}' uses reserved '_provider_' rule-name prefix");
            return Ok(Err(why));
        }
        let subject = Subject::of(&proposal.rule);
        if !proposal.agent_authored {
            mark_advised(&mut proposal.rule, self.behavior.generation);
        }
        let known = self.mechanistic_chunk(at, &proposal, &subject)?;
        let pending = known.as_ref().filter(|known| known.status == PENDING);
        let evaluation = if let Some(pending) = pending {
            self.evaluate_stored(at, pending)?
        } else {
            let is_authored = proposal.agent_authored;
            let source = if is_authored { Source::Authored } else { Source::Mechanistic };
            self.evaluate(at, &name, &proposal.rule, source, None)?
        };
        if proposal.agent_authored && !evaluation.verdict.application_error.is_empty() {
            return Ok(Err(format!("chunk '{name}': {}", evaluation.verdict.application_error)));
        }
        let hits = proposal.hits.clamp(1, HITS_MAX);
        let id = match known {
            Some(known) => self.count_hits(at, &known.id, hits, evaluation)?,
            None => self.store_chunk(at, proposal, subject.clone(), version, evaluation)?,
        };
        self.settle(at, &id, &subject)?;
        if let Err(status) = self.approve_automatically(at, &id) {
            self.note_application_error(at, &id, &status)?;
        }
        Ok(Ok(id))
    }

    /// Returns the stored proposal for the same refused connection.
    fn mechanistic_chunk(
        &mut self,
        at: &ObjectKey,
        proposal: &Proposal,
        subject: &Subject,
    ) -> Result<Option<Chunk>, Status> {
        if proposal.agent_authored {
            return Ok(None);
        }
        let mut chunks = self.sandbox(at)?.chunks.iter();
        let found = chunks.find(|known| known.is_mechanistic && known.subject == *subject);
        Ok(found.cloned())
    }

    /// Counts a repeated proposal of any status.
    fn count_hits(
        &mut self,
        at: &ObjectKey,
        id: &str,
        hits: i32,
        evaluation: Evaluation,
    ) -> Result<String, Status> {
        let chunk = self.chunk(at, id)?;
        chunk.hits = chunk.hits.saturating_add(hits);
        chunk.seen_ms = now_ms();
        if chunk.status == PENDING && chunk.verdict.token != evaluation.verdict.token {
            chunk.accept(evaluation);
        }
        Ok(id.to_owned())
    }

    fn store_chunk(
        &mut self,
        at: &ObjectKey,
        proposal: Proposal,
        subject: Subject,
        draft_version: u64,
        evaluation: Evaluation,
    ) -> Result<String, Status> {
        let chunks = &mut self.sandbox(at)?.chunks;
        meta::check_capacity("proposals of a sandbox", chunks.len(), CHUNKS_MAX)?;
        let (id, now) = (random_id(), now_ms());
        chunks.push(Chunk {
            id: id.clone(),
            status: PENDING,
            rule_name: evaluation.rule_name,
            rule: evaluation.rule,
            rationale: proposal.rationale,
            is_mechanistic: !proposal.agent_authored,
            subject,
            hits: proposal.hits.clamp(1, HITS_MAX),
            created_ms: now,
            seen_ms: now,
            decided_ms: 0,
            reason: String::new(),
            draft_version,
            verdict: evaluation.verdict,
        });
        Ok(id)
    }

    /// Rejects the other pending proposals for a connection, and a refused connection that is already approved.
    fn settle(&mut self, at: &ObjectKey, id: &str, subject: &Subject) -> Result<(), Status> {
        if !subject.is_complete() {
            return Ok(());
        }
        let chunks = &mut self.sandbox(at)?.chunks;
        let mut approved = None;
        let alike = chunks.iter_mut().filter(|chunk| chunk.subject == *subject);
        for other in alike.filter(|chunk| chunk.id != id) {
            if other.status == PENDING {
                other.decide(REJECTED, Some(&format!("superseded by chunk {id}")));
            } else if other.status == APPROVED {
                approved.get_or_insert_with(|| other.id.clone());
            }
        }
        let chunk = self.chunk(at, id)?;
        if let Some(approved) = approved.filter(|_| chunk.is_mechanistic && chunk.status == PENDING)
        {
            let by = "(agent_authored or prior auto-approval)";
            let why = format!("already covered by approved chunk {approved} {by}");
            chunk.decide(REJECTED, Some(&why));
        }
        Ok(())
    }

    /// Approves a proposal without findings and without notes, if the gateway or the sandbox is set to do so.
    fn approve_automatically(&mut self, at: &ObjectKey, id: &str) -> Result<(), Status> {
        let own = self.sandbox(at)?.settings.clone();
        let auto = setting_value::Value::StringValue("auto".to_owned());
        if !settings::has_value(&self.settings, &own, APPROVAL_MODE, &auto) {
            return Ok(());
        }
        if self.global_active {
            return Err(Status::failed_precondition(GLOBAL_ACTIVE));
        }
        let chunk = self.chunk(at, id)?;
        let is_clean = chunk.verdict.validation == CLEAN && security_notes(&chunk.rule).is_empty();
        if chunk.status != PENDING || !is_clean {
            return Ok(());
        }
        self.apply_chunk(at, id)?;
        let line = format!("auto-approved: no new prover findings, chunk {id}");
        self.log(at, "OCSF", "gateway", &line);
        Ok(())
    }

    /// Rejects pending proposals that the current policy already allows.
    pub(super) fn reject_covered(&mut self, at: &ObjectKey) -> Result<(), Status> {
        let effective = self.current_effective(at)?;
        let generation = self.behavior.generation;
        let sandbox = self.sandbox(at)?;
        let version = sandbox.revisions.last().map_or(0, |newest| newest.version);
        let reason = format!("covered by active policy revision {version}");
        for chunk in sandbox.chunks.iter_mut().filter(|chunk| chunk.status == PENDING) {
            if merge::covers_rule(&effective, &chunk.rule, generation) {
                chunk.decide(REJECTED, Some(&reason));
            }
        }
        Ok(())
    }
}

/// Marks what results from refused connections, as a supervisor does. Programs have a mark only in generation 0.0.
fn mark_advised(rule: &mut NetworkPolicyRule, generation: Generation) {
    rule.endpoints.iter_mut().for_each(|endpoint| endpoint.advisor_proposed = true);
    if generation == Generation::V0_0 {
        rule.binaries.iter_mut().for_each(|binary| binary.harness = true);
    }
}
