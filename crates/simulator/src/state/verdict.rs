//! Evaluation of a proposal: the rule that is stored, the resulting policy, and the token that proves what a reviewer
//! has seen.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta::hex;
use super::{MergeOperation, ObjectKey, State, merge, policy};
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkPolicyRule, SandboxPolicy};

/// Part of every token, so that tokens of other evaluators do not match.
const EVALUATOR: &str = "simulator/2";

/// The validation result with which a proposal is approved automatically, if that is enabled.
pub(super) const CLEAN: &str = "prover: no new findings";

/// The validation result if the prover fails.
const UNAVAILABLE: &str = "validation unavailable";

/// The source of a rule that is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A refused connection.
    Mechanistic,
    /// An agent, or a stored proposal.
    Authored,
}

/// A proposal as it is stored, with its evaluation.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    /// The name of the rule in the policy.
    pub(super) rule_name: String,
    /// The rule.
    pub(super) rule: NetworkPolicyRule,
    /// The result.
    pub(super) verdict: Verdict,
}

/// The evaluation of a proposal against one state of the sandbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Proves that a reviewer has seen this evaluation.
    pub(crate) token: String,
    /// The current effective policy.
    pub(crate) current: SandboxPolicy,
    /// Hash of the current policy.
    pub(crate) current_hash: String,
    /// The effective policy with the proposal; `None` if it cannot be applied.
    pub(crate) candidate: Option<SandboxPolicy>,
    /// Hash of the candidate.
    pub(crate) candidate_hash: String,
    /// The result of the prover; empty if the proposal cannot be applied.
    pub(crate) validation: String,
    /// Why it cannot be applied; empty if it can.
    pub(crate) application_error: String,
}

impl State {
    /// Evaluates a proposal against the current state of the sandbox. `known` is the result of the prover for the same
    /// inputs, if there is one.
    pub(super) fn evaluate(
        &mut self,
        at: &ObjectKey,
        name: &str,
        rule: &NetworkPolicyRule,
        source: Source,
        known: Option<&str>,
    ) -> Result<Evaluation, Status> {
        let base = self.base_policy(at)?;
        let current = self.current_effective(at)?;
        let mut given = rule.clone();
        if self.behavior.generation == Generation::V0_1 {
            given.endpoints.iter_mut().for_each(|endpoint| endpoint.advisor_proposed = true);
        }
        let mut verdict = Verdict {
            current_hash: policy::hash(&current),
            current: current.clone(),
            ..Verdict::default()
        };
        let (rule_name, rule) = match self.stored_form(&base, &current, name, &given, source) {
            Ok(stored) => stored,
            Err(why) => {
                verdict.application_error = format!("candidate canonicalization failed: {why}");
                (name.to_owned(), given)
            }
        };
        if verdict.application_error.is_empty() {
            self.try_candidate(at, &base, (rule_name.as_str(), &rule), &mut verdict)?;
        }
        if verdict.application_error.is_empty() {
            let known = known.map(ToOwned::to_owned);
            verdict.validation = known.unwrap_or_else(|| self.prove(&current, &rule));
            if verdict.validation == UNAVAILABLE {
                let why = "prover validation unavailable; proposal cannot be reviewed";
                why.clone_into(&mut verdict.application_error);
            }
        }
        let credentials = self.credential_fingerprint(at)?;
        verdict.token = token(&rule_name, &rule, &verdict, &credentials);
        Ok(Evaluation { rule_name, rule, verdict })
    }

    /// Returns name and content of the rule as it is stored. In generation 0.1, what an agent proposes is never merged
    /// into an existing rule.
    fn stored_form(
        &self,
        base: &SandboxPolicy,
        current: &SandboxPolicy,
        name: &str,
        given: &NetworkPolicyRule,
        source: Source,
    ) -> Result<(String, NetworkPolicyRule), String> {
        match (source, self.behavior.generation) {
            (Source::Mechanistic, _) => merge::canonical_rule(base, current, name, given),
            (Source::Authored, Generation::V0_0) => Ok((name.to_owned(), given.clone())),
            (Source::Authored, Generation::V0_1) => {
                let name = merge::free_name(name, base, current);
                Ok((name.clone(), NetworkPolicyRule { name, ..given.clone() }))
            }
        }
    }

    /// Adds the policy with the proposal to a verdict, or the reason why the proposal cannot be applied.
    fn try_candidate(
        &mut self,
        at: &ObjectKey,
        base: &SandboxPolicy,
        (name, rule): (&str, &NetworkPolicyRule),
        verdict: &mut Verdict,
    ) -> Result<(), Status> {
        let add = MergeOperation::AddRule(name.to_owned(), rule.clone());
        let next = match merge::apply(base, &[add], self.behavior.generation) {
            Ok(next) => next,
            Err(status) => {
                verdict.application_error = format!("merge failed: {}", one_line(status.message()));
                return Ok(());
            }
        };
        if let Err(status) = policy::validate(&next) {
            let why = one_line(status.message());
            verdict.application_error = format!("candidate invalid: {why}");
            return Ok(());
        }
        let candidate = self.compose(at, &next)?;
        verdict.candidate_hash = policy::hash(&candidate);
        verdict.candidate = Some(candidate);
        Ok(())
    }

    /// Returns the result of the prover.
    fn prove(&self, current: &SandboxPolicy, rule: &NetworkPolicyRule) -> String {
        self.behavior.validation.clone().unwrap_or_else(|| validation_result(current, rule))
    }
}

fn token(name: &str, rule: &NetworkPolicyRule, verdict: &Verdict, credentials: &str) -> String {
    let mut digest = Sha256::new();
    for part in [
        EVALUATOR.as_bytes(),
        name.as_bytes(),
        &rule.encode_to_vec(),
        verdict.current_hash.as_bytes(),
        verdict.candidate_hash.as_bytes(),
        verdict.application_error.as_bytes(),
        credentials.as_bytes(),
    ] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// Returns a text as one line.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

/// Finds link-local addresses that the current policy does not reach.
fn validation_result(current: &SandboxPolicy, rule: &NetworkPolicyRule) -> String {
    let is_known = |host: &str, path: &str| {
        current.network_policies.values().any(|known| {
            known.endpoints.iter().any(|endpoint| endpoint.host == host)
                && known.binaries.iter().any(|binary| binary.path == path)
        })
    };
    let mut findings = Vec::new();
    for endpoint in rule.endpoints.iter().filter(|endpoint| endpoint.host.starts_with("169.254.")) {
        for port in merge::ports(endpoint) {
            for binary in rule.binaries.iter().filter(|one| !is_known(&endpoint.host, &one.path)) {
                let (host, path) = (&endpoint.host, &binary.path);
                findings.push(format!("link_local_reach: {host}:{port} via {path}"));
            }
        }
    }
    match findings.as_slice() {
        [] => CLEAN.to_owned(),
        [only] => format!("prover: 1 new finding\n  {only}"),
        several => format!("prover: {} new findings\n  {}", several.len(), several.join("\n  ")),
    }
}
