//! Coverage: whether an endpoint already allows what another one allows, as gateways compare them.
//!
//! Generation 0.1 compares one port at a time, and a value that is not set requires nothing.
//!
//! Invariant: two endpoints are compared at most once apart from their ports, however many ports they have.

use std::collections::HashSet;

use shoreguard_proto::release::Generation;

use super::endpoint::{Endpoint, MARK};

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
fn units(endpoint: &Endpoint, generation: Generation) -> Vec<Unit> {
    match generation {
        Generation::V0_1 if !endpoint.ports().is_empty() => {
            endpoint.ports().iter().copied().map(Some).collect()
        }
        Generation::V0_1 | Generation::V0_0 => vec![None],
    }
}

/// Returns the parts of an endpoint that none of `known` covers. `covers_rest` says whether an endpoint covers it apart
/// from the ports.
pub(super) fn uncovered<'a>(
    known: impl Iterator<Item = &'a Endpoint>,
    wanted: &Endpoint,
    generation: Generation,
    covers_rest: impl Fn(&Endpoint) -> bool,
) -> Vec<Unit> {
    let units = units(wanted, generation);
    let mut left: HashSet<Unit> = units.iter().copied().collect();
    for known in known.filter(|known| known.is_at(wanted)) {
        if left.is_empty() {
            break;
        }
        let covered = with_ports_of(known, wanted, &left, generation);
        if !covered.is_empty() && covers_rest(known) {
            left.retain(|unit| !covered.contains(unit));
        }
    }
    units.into_iter().filter(|unit| left.contains(unit)).collect()
}

/// Returns which of these parts of `wanted` have only ports of `known`.
fn with_ports_of(
    known: &Endpoint,
    wanted: &Endpoint,
    left: &HashSet<Unit>,
    generation: Generation,
) -> HashSet<Unit> {
    match generation {
        Generation::V0_0 if !has_ports_of(known, wanted) => HashSet::new(),
        // An endpoint without ports has no other part.
        Generation::V0_1 if !left.contains(&None) => {
            known.ports().iter().copied().map(Some).filter(|unit| left.contains(unit)).collect()
        }
        Generation::V0_0 | Generation::V0_1 => HashSet::from([None]),
    }
}

/// Returns whether an endpoint has all ports of another one.
pub(super) fn has_ports_of(known: &Endpoint, wanted: &Endpoint) -> bool {
    let ports: HashSet<u32> = known.ports().iter().copied().collect();
    wanted.ports().iter().all(|port| ports.contains(port))
}

/// Returns whether an endpoint allows what another one allows, apart from the ports.
pub(super) fn covers_apart_from_ports(
    known: &Endpoint,
    wanted: &Endpoint,
    generation: Generation,
) -> bool {
    known.is_at(wanted)
        && known.has_equal_contract(wanted)
        && match generation {
            Generation::V0_0 => has_equal_values(known, wanted),
            Generation::V0_1 => has_required_values(known, wanted),
        }
        && has_lists(known, wanted)
}

/// Whether the lists and flags of an endpoint include those of another one.
fn has_lists(known: &Endpoint, wanted: &Endpoint) -> bool {
    let lists = ["rules", "deny_rules", "allowed_ips"];
    let flags =
        ["allow_encoded_slash", "websocket_credential_rewrite", "request_body_credential_rewrite"];
    flags.iter().all(|name| known.flag(name) || !wanted.flag(name))
        && has_required(known, wanted, "access")
        && lists.iter().all(|name| known.includes(wanted, name))
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
