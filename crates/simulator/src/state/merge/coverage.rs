//! Coverage: whether endpoints and rules already allow what others allow, as the upstream compares them.
//!
//! Generation 0.1 compares one port at a time, and takes a value that is not set as no requirement.

use super::endpoint::{are_equal_protocols, have_equal_contracts, ports, uses_mcp};
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkBinary, NetworkEndpoint, NetworkPolicyRule, SandboxPolicy,
};

/// The part of an endpoint that is compared: one port, or `None` for the endpoint as a whole.
pub(super) type Unit = Option<u32>;

/// Returns the parts of an endpoint that are compared.
pub(super) fn units(endpoint: &NetworkEndpoint, generation: Generation) -> Vec<Unit> {
    let all = ports(endpoint);
    match generation {
        Generation::V0_1 if !all.is_empty() => all.into_iter().map(Some).collect(),
        Generation::V0_1 | Generation::V0_0 => vec![None],
    }
}

/// Whether a policy already allows everything that a rule allows.
pub(in crate::state) fn covers_rule(
    policy: &SandboxPolicy,
    wanted: &NetworkPolicyRule,
    generation: Generation,
) -> bool {
    let allows = |endpoint: &NetworkEndpoint, unit: Unit, binary: Option<&NetworkBinary>| {
        policy.network_policies.values().any(|rule| {
            has_binary(rule, binary)
                && rule.endpoints.iter().any(|known| covers(known, endpoint, unit, generation))
        })
    };
    !wanted.endpoints.is_empty()
        && wanted.endpoints.iter().all(|endpoint| {
            units(endpoint, generation).into_iter().all(|unit| match wanted.binaries.as_slice() {
                [] => allows(endpoint, unit, None),
                binaries => binaries.iter().all(|binary| allows(endpoint, unit, Some(binary))),
            })
        })
}

/// Whether a rule applies to a program, or to every program if it is `None`.
pub(super) fn has_binary(rule: &NetworkPolicyRule, wanted: Option<&NetworkBinary>) -> bool {
    rule.binaries.is_empty()
        || wanted.is_some_and(|wanted| rule.binaries.iter().any(|known| known.path == wanted.path))
}

/// Whether an endpoint allows what another one allows.
pub(super) fn covers(
    known: &NetworkEndpoint,
    wanted: &NetworkEndpoint,
    unit: Unit,
    generation: Generation,
) -> bool {
    let all = ports(known);
    let has_ports = match generation {
        Generation::V0_0 => ports(wanted).iter().all(|port| all.contains(port)),
        Generation::V0_1 => unit.is_none_or(|port| all.contains(&port)),
    };
    has_ports
        && known.host.eq_ignore_ascii_case(&wanted.host)
        && known.path == wanted.path
        && have_equal_contracts(known, wanted)
        && has_lists(known, wanted)
        && match generation {
            Generation::V0_0 => has_values_v0_0(known, wanted),
            Generation::V0_1 => has_values_v0_1(known, wanted),
        }
}

/// Whether the lists and switches of an endpoint include those of another one.
fn has_lists(known: &NetworkEndpoint, wanted: &NetworkEndpoint) -> bool {
    let includes = |known: bool, wanted: bool| known || !wanted;
    wanted.rules.iter().all(|rule| known.rules.contains(rule))
        && wanted.deny_rules.iter().all(|rule| known.deny_rules.contains(rule))
        && wanted.allowed_ips.iter().all(|entry| known.allowed_ips.contains(entry))
        && includes(known.allow_encoded_slash, wanted.allow_encoded_slash)
        && includes(known.websocket_credential_rewrite, wanted.websocket_credential_rewrite)
        && includes(known.request_body_credential_rewrite, wanted.request_body_credential_rewrite)
        && (wanted.access.is_empty() || known.access == wanted.access)
}

fn has_values_v0_0(known: &NetworkEndpoint, wanted: &NetworkEndpoint) -> bool {
    are_equal_protocols(&known.protocol, &wanted.protocol)
        && tls_in_force(&known.tls) == tls_in_force(&wanted.tls)
        && enforcement_in_force(&known.enforcement) == enforcement_in_force(&wanted.enforcement)
        && (known.advisor_proposed || !wanted.advisor_proposed)
        && known.persisted_queries == wanted.persisted_queries
        && known.graphql_persisted_queries == wanted.graphql_persisted_queries
        && known.graphql_max_body_bytes == wanted.graphql_max_body_bytes
        && known.credential_signing == wanted.credential_signing
        && known.signing_service == wanted.signing_service
        && known.signing_region == wanted.signing_region
        && (uses_mcp(known) || known.json_rpc_max_body_bytes == wanted.json_rpc_max_body_bytes)
}

fn has_values_v0_1(known: &NetworkEndpoint, wanted: &NetworkEndpoint) -> bool {
    let has_text = |known: &str, wanted: &str| wanted.is_empty() || known == wanted;
    let has_size = |known: u32, wanted: u32| wanted == 0 || known == wanted;
    (wanted.protocol.is_empty() || are_equal_protocols(&known.protocol, &wanted.protocol))
        && has_text(&known.tls, &wanted.tls)
        && (wanted.enforcement.is_empty()
            || enforcement_in_force(&known.enforcement)
                == enforcement_in_force(&wanted.enforcement))
        && has_text(&known.persisted_queries, &wanted.persisted_queries)
        && (wanted.graphql_persisted_queries.is_empty()
            || known.graphql_persisted_queries == wanted.graphql_persisted_queries)
        && has_size(known.graphql_max_body_bytes, wanted.graphql_max_body_bytes)
        && has_text(&known.credential_signing, &wanted.credential_signing)
        && has_text(&known.signing_service, &wanted.signing_service)
        && has_text(&known.signing_region, &wanted.signing_region)
        && (uses_mcp(known)
            || has_size(known.json_rpc_max_body_bytes, wanted.json_rpc_max_body_bytes))
}

fn tls_in_force(tls: &str) -> &str {
    if matches!(tls, "" | "terminate" | "passthrough") { "auto" } else { tls }
}

fn enforcement_in_force(enforcement: &str) -> &str {
    if enforcement.is_empty() { "audit" } else { enforcement }
}
