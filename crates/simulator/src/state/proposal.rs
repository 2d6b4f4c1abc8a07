//! What comes from a supervisor: a rule that it would like to see in the policy.

use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkBinary, NetworkEndpoint, NetworkPolicyRule,
};

/// What a supervisor proposes.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The name of the rule in the policy.
    pub rule_name: String,
    /// What it would allow.
    pub rule: NetworkPolicyRule,
    /// Why.
    pub rationale: String,
    /// Written by the agent itself, rather than gathered from refused connections.
    pub agent_authored: bool,
}

impl Proposal {
    /// The proposal that refused connections of a program to a host would lead to.
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
        }
    }
}
