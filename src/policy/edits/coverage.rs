//! Coverage: whether an endpoint already allows what another one allows, as gateways compare them.
//!
//! Generation 0.1 compares one port at a time, and a value that is not set requires nothing.

use shoreguard_proto::release::Generation;

use super::endpoint::{Endpoint, MARK};
use super::parts;

/// The part of an endpoint that is compared: one port, or `None` for the endpoint as a whole.
pub(super) type Unit = Option<u32>;

/// Fields whose values must be equal, besides those with a rule of their own.
const EQUAL_FIELDS: [&str; 6] = [
    "persisted_queries",
    "graphql_persisted_queries",
    "graphql_max_body_bytes",
    "credential_signing",
    "signing_service",
    "signing_region",
];
/// The field that endpoints of MCP do not compare here, since it is part of their contract.
const BODY_BYTES: &str = "json_rpc_max_body_bytes";

/// Returns the parts of an endpoint that are compared.
pub(super) fn units(endpoint: &Endpoint, generation: Generation) -> Vec<Unit> {
    match generation {
        Generation::V0_1 if !endpoint.ports().is_empty() => {
            endpoint.ports().iter().copied().map(Some).collect()
        }
        Generation::V0_1 | Generation::V0_0 => vec![None],
    }
}

/// Returns whether an endpoint allows what another one allows.
pub(super) fn covers(
    known: &Endpoint,
    wanted: &Endpoint,
    unit: Unit,
    generation: Generation,
) -> bool {
    let has_ports = match generation {
        Generation::V0_0 => wanted.ports().iter().all(|port| known.ports().contains(port)),
        Generation::V0_1 => unit.is_none_or(|port| known.ports().contains(&port)),
    };
    has_ports
        && known.is_at(wanted)
        && known.has_equal_contract(wanted)
        && has_lists(known, wanted)
        && match generation {
            Generation::V0_0 => has_equal_values(known, wanted),
            Generation::V0_1 => has_required_values(known, wanted),
        }
}

/// Whether the lists and flags of an endpoint include those of another one.
fn has_lists(known: &Endpoint, wanted: &Endpoint) -> bool {
    let lists = ["rules", "deny_rules", "allowed_ips"];
    let flags =
        ["allow_encoded_slash", "websocket_credential_rewrite", "request_body_credential_rewrite"];
    lists.iter().all(|name| parts::includes(known.list(name), wanted.list(name)))
        && flags.iter().all(|name| known.flag(name) || !wanted.flag(name))
        && has_required(known, wanted, "access")
}

/// Whether a value is equal or not required.
fn has_required(known: &Endpoint, wanted: &Endpoint, name: &str) -> bool {
    wanted.value(name).is_none() || known.value(name) == wanted.value(name)
}

fn has_equal_values(known: &Endpoint, wanted: &Endpoint) -> bool {
    known.has_equal_protocol(wanted)
        && tls_in_force(known) == tls_in_force(wanted)
        && enforcement_in_force(known) == enforcement_in_force(wanted)
        && (known.flag(MARK) || !wanted.flag(MARK))
        && EQUAL_FIELDS.iter().all(|name| known.value(name) == wanted.value(name))
        && (known.uses_mcp() || known.value(BODY_BYTES) == wanted.value(BODY_BYTES))
}

fn has_required_values(known: &Endpoint, wanted: &Endpoint) -> bool {
    (wanted.value("protocol").is_none() || known.has_equal_protocol(wanted))
        && has_required(known, wanted, "tls")
        && (wanted.value("enforcement").is_none()
            || enforcement_in_force(known) == enforcement_in_force(wanted))
        && EQUAL_FIELDS.iter().all(|name| has_required(known, wanted, name))
        && (known.uses_mcp() || has_required(known, wanted, BODY_BYTES))
}

fn tls_in_force(endpoint: &Endpoint) -> String {
    let tls = endpoint.text("tls");
    if matches!(tls.as_str(), "" | "terminate" | "passthrough") { "auto".to_owned() } else { tls }
}

fn enforcement_in_force(endpoint: &Endpoint) -> String {
    let enforcement = endpoint.text("enforcement");
    if enforcement.is_empty() { "audit".to_owned() } else { enforcement }
}
