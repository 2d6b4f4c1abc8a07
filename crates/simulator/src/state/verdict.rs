//! What is thought of a proposal: the policy that it would lead to, what is dangerous in it, and the token that
//! says what a reviewer has seen.

use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta::hex;
use super::{Chunk, Key, State, merge, policy};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkEndpoint, NetworkPolicyRule, SandboxPolicy,
};

/// Goes into every token, so that no other program's token is taken for ours.
const EVALUATOR: &str = "simulator/1";

/// The verdict that lets a proposal through without a person, where that is switched on.
pub(super) const CLEAN: &str = "prover: no new findings";

/// The verdict on a proposal that could not be applied.
const UNAVAILABLE: &str = "validation unavailable";

/// What is thought of one proposal against one state of the sandbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// Shows that the reviewer has seen this.
    pub(crate) token: String,
    /// The effective policy now.
    pub(crate) current: SandboxPolicy,
    /// Its hash.
    pub(crate) current_hash: String,
    /// The effective policy with the proposal; none where it cannot be applied.
    pub(crate) candidate: Option<SandboxPolicy>,
    /// Its hash.
    pub(crate) candidate_hash: String,
    /// What the prover says.
    pub(crate) validation: String,
    /// What looks dangerous; empty if nothing does.
    pub(crate) security_notes: String,
    /// Why it cannot be applied; empty if it can.
    pub(crate) application_error: String,
}

impl State {
    /// Judges a proposal against the sandbox as it is now.
    pub(super) fn judge(
        &mut self,
        at: &Key,
        name: &str,
        rule: &NetworkPolicyRule,
    ) -> Result<Verdict, Status> {
        let base = self.base(at)?;
        let current = self.effective(at, &base)?;
        let mut next = base;
        let applied = merge::add_rule(&mut next, name, rule).and_then(|()| policy::validate(&next));
        let mut verdict = Verdict {
            current_hash: policy::hash(&current),
            current,
            security_notes: notes(rule),
            ..Verdict::default()
        };
        match applied {
            Ok(()) => {
                let candidate = self.effective(at, &next)?;
                verdict.candidate_hash = policy::hash(&candidate);
                verdict.candidate = Some(candidate);
                verdict.validation = prove(rule);
            }
            Err(status) => {
                status.message().clone_into(&mut verdict.application_error);
                UNAVAILABLE.clone_into(&mut verdict.validation);
            }
        }
        let sandbox = self.sandbox(at)?;
        let (place, providers) = (sandbox.place(), sandbox.spec.providers.clone());
        let mut digest = Sha256::new();
        for part in [
            EVALUATOR.as_bytes(),
            name.as_bytes(),
            &rule.encode_to_vec(),
            verdict.current_hash.as_bytes(),
            verdict.candidate_hash.as_bytes(),
            self.attached(&place.0, &providers).as_bytes(),
        ] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        verdict.token = hex(&digest.finalize());
        Ok(verdict)
    }
}

/// Whether a policy allows already all that a proposal asks for.
pub(super) fn covers(policy: &SandboxPolicy, chunk: &Chunk) -> bool {
    policy.network_policies.values().any(|rule| {
        let programs = rule.binaries.is_empty()
            || (!chunk.rule.binaries.is_empty()
                && chunk.rule.binaries.iter().all(|binary| rule.binaries.contains(binary)));
        programs && chunk.rule.endpoints.iter().all(|endpoint| rule.endpoints.contains(endpoint))
    })
}

/// The ports of an endpoint, however they are written.
pub(super) fn ports(endpoint: &NetworkEndpoint) -> Vec<u32> {
    if endpoint.ports.is_empty() { vec![endpoint.port] } else { endpoint.ports.clone() }
}

fn prove(rule: &NetworkPolicyRule) -> String {
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

fn notes(rule: &NetworkPolicyRule) -> String {
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
