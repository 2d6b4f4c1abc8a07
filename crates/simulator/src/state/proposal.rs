//! Proposals of a supervisor: rules to add to the policy.

use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkBinary, NetworkEndpoint, NetworkPolicyRule,
};

/// A proposal of a supervisor.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The name of the rule in the policy.
    pub rule_name: String,
    /// The proposed rule.
    pub rule: NetworkPolicyRule,
    /// Reason for the proposal.
    pub rationale: String,
    /// Written by the agent, rather than derived from refused connections.
    pub agent_authored: bool,
    /// How often the connection was refused; the gateway counts 1 to 100.
    pub hits: i32,
}

/// The result of a submission of proposals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submission {
    /// The ids under which the accepted proposals are stored.
    pub accepted_ids: Vec<String>,
    /// Why the others were refused.
    pub rejection_reasons: Vec<String>,
}

impl Proposal {
    /// Returns the proposal that results from refused connections of a program to a host.
    #[must_use]
    pub fn allow(host: &str, port: u32, binary: &str) -> Self {
        let name = format!("allow_{}_{port}", host.replace(['.', '*', '-', ':'], "_"));
        let endpoint =
            NetworkEndpoint { host: host.to_owned(), port, ..NetworkEndpoint::default() };
        let binary = NetworkBinary { path: binary.to_owned(), harness: false };
        Self {
            rule: NetworkPolicyRule {
                name: name.clone(),
                endpoints: vec![endpoint],
                binaries: vec![binary],
            },
            rule_name: name,
            rationale: format!("a connection to {host}:{port} was refused"),
            agent_authored: false,
            hits: 1,
        }
    }
}
