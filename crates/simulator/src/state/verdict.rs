//! Evaluation of a proposal: the resulting policy, its risks, and the token that proves what a reviewer has seen.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta::hex;
use super::{Chunk, ObjectKey, State, merge, policy};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkEndpoint, NetworkPolicyRule, SandboxPolicy,
};

/// Part of every token, so that tokens of other evaluators do not match.
const EVALUATOR: &str = "simulator/1";

/// The validation result with which a proposal is approved automatically, if that is enabled.
pub(super) const CLEAN: &str = "prover: no new findings";

/// The validation result of a proposal that cannot be applied.
const UNAVAILABLE: &str = "validation unavailable";

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
    /// The result of the prover.
    pub(crate) validation: String,
    /// Risks of the proposal; empty without risks.
    pub(crate) security_notes: String,
    /// Why it cannot be applied; empty if it can.
    pub(crate) application_error: String,
}

impl State {
    /// Evaluates a proposal against the current state of the sandbox.
    pub(super) fn evaluate(
        &mut self,
        at: &ObjectKey,
        name: &str,
        rule: &NetworkPolicyRule,
    ) -> Result<Verdict, Status> {
        let base = self.base_policy(at)?;
        let current = self.effective_policy(at, &base)?;
        let mut next = base;
        let applied = merge::add_rule(&mut next, name, rule).and_then(|()| policy::validate(&next));
        let mut verdict = Verdict {
            current_hash: policy::hash(&current),
            current,
            security_notes: security_notes(rule),
            ..Verdict::default()
        };
        match applied {
            Ok(()) => {
                let candidate = self.effective_policy(at, &next)?;
                verdict.candidate_hash = policy::hash(&candidate);
                verdict.candidate = Some(candidate);
                verdict.validation = validation_result(rule);
            }
            Err(status) => {
                status.message().clone_into(&mut verdict.application_error);
                UNAVAILABLE.clone_into(&mut verdict.validation);
            }
        }
        let sandbox = self.sandbox(at)?;
        let (place, providers) = (sandbox.key(), sandbox.spec.providers.clone());
        let mut digest = Sha256::new();
        for part in [
            EVALUATOR.as_bytes(),
            name.as_bytes(),
            &rule.encode_to_vec(),
            verdict.current_hash.as_bytes(),
            verdict.candidate_hash.as_bytes(),
            self.provider_versions(&place.0, &providers).as_bytes(),
        ] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        verdict.token = hex(&digest.finalize());
        Ok(verdict)
    }
}

/// Whether a policy already allows everything that a proposal requests.
pub(super) fn is_covered_by(policy: &SandboxPolicy, chunk: &Chunk) -> bool {
    policy.network_policies.values().any(|rule| {
        let programs = rule.binaries.is_empty()
            || (!chunk.rule.binaries.is_empty()
                && chunk.rule.binaries.iter().all(|binary| rule.binaries.contains(binary)));
        programs && chunk.rule.endpoints.iter().all(|endpoint| rule.endpoints.contains(endpoint))
    })
}

/// Returns the ports of an endpoint, from either field.
pub(super) fn ports(endpoint: &NetworkEndpoint) -> Vec<u32> {
    if endpoint.ports.is_empty() { vec![endpoint.port] } else { endpoint.ports.clone() }
}

fn validation_result(rule: &NetworkPolicyRule) -> String {
    let mut findings = Vec::new();
    for endpoint in rule.endpoints.iter().filter(|endpoint| endpoint.host.starts_with("169.254.")) {
        for port in ports(endpoint) {
            for binary in &rule.binaries {
                findings.push(format!(
                    "link_local_reach: {}:{port} via {}",
                    endpoint.host, binary.path
                ));
            }
        }
    }
    match findings.len() {
        0 => CLEAN.to_owned(),
        1 => format!("prover: 1 new finding\n  {}", findings[0]),
        count => format!("prover: {count} new findings\n  {}", findings.join("\n  ")),
    }
}

fn security_notes(rule: &NetworkPolicyRule) -> String {
    let mut notes = Vec::new();
    for endpoint in &rule.endpoints {
        if endpoint.host.contains('*') {
            notes.push(format!("wildcard host '{}'", endpoint.host));
        }
        let internal = endpoint.host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| {
            address.is_private() || address.is_loopback() || address.is_link_local()
        });
        if internal {
            notes.push(format!("internal address '{}'", endpoint.host));
        }
    }
    notes.join("; ")
}
