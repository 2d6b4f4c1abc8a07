//! Endpoints of rules: their normal form, which of them are merged, and the result.

use std::net::IpAddr;

use tonic::Status;

use super::{OperationAt, precondition};
use crate::state::security;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    L7Allow, L7Rule, NetworkBinary, NetworkEndpoint, NetworkPolicyRule,
};

/// The limit of a JSON-RPC body if an endpoint has none, in bytes.
const JSON_RPC_BODY_BYTES: u32 = 64 * 1024;

/// Returns the ports of an endpoint, from either field; empty if it has none.
pub(crate) fn ports(endpoint: &NetworkEndpoint) -> Vec<u32> {
    match (endpoint.ports.is_empty(), endpoint.port) {
        (false, _) => endpoint.ports.clone(),
        (true, 0) => Vec::new(),
        (true, port) => vec![port],
    }
}

/// Sets the ports of an endpoint, in order and once each. `port` is the lowest of them.
pub(super) fn set_ports(endpoint: &mut NetworkEndpoint, mut all: Vec<u32>) {
    all.sort_unstable();
    all.dedup();
    endpoint.port = all.first().copied().unwrap_or(0);
    endpoint.ports = all;
}

/// Brings an endpoint into the form in which a gateway stores it.
pub(super) fn normalize(endpoint: &mut NetworkEndpoint) {
    let all = ports(endpoint);
    set_ports(endpoint, all);
    remove_repeated(&mut endpoint.allowed_ips);
    remove_repeated(&mut endpoint.rules);
    remove_repeated(&mut endpoint.deny_rules);
}

/// Brings a rule into the form in which a gateway stores it.
pub(super) fn normalize_rule(rule: &mut NetworkPolicyRule) {
    rule.endpoints.iter_mut().for_each(normalize);
    let given = std::mem::take(&mut rule.binaries);
    append_binaries(&mut rule.binaries, &given);
}

/// Adds the binaries that are new. A binary without the mark of the advisor lifts that mark.
pub(super) fn append_binaries(kept: &mut Vec<NetworkBinary>, given: &[NetworkBinary]) {
    for binary in given {
        match kept.iter().position(|known| known.path == binary.path) {
            Some(at) => kept[at].harness &= binary.harness,
            None => kept.push(binary.clone()),
        }
    }
}

/// Adds the items that are new, in their order.
pub(super) fn append_new<T: Clone + PartialEq>(kept: &mut Vec<T>, given: &[T]) {
    for item in given {
        if !kept.contains(item) {
            kept.push(item.clone());
        }
    }
}

fn remove_repeated<T: Clone + PartialEq>(items: &mut Vec<T>) {
    let given = std::mem::take(items);
    append_new(items, &given);
}

/// Whether two endpoints have host and path in common, and a port.
pub(super) fn overlap(left: &NetworkEndpoint, right: &NetworkEndpoint) -> bool {
    let (some, others) = (ports(left), ports(right));
    left.host.eq_ignore_ascii_case(&right.host)
        && left.path == right.path
        && some.iter().any(|port| others.contains(port))
}

/// Whether an endpoint has a host and a port.
pub(super) fn has_address(endpoint: &NetworkEndpoint, host: &str, port: u32) -> bool {
    endpoint.host.eq_ignore_ascii_case(host) && ports(endpoint).contains(&port)
}

/// Merges an endpoint into another that it overlaps. Values that are already set are kept, lists are extended.
pub(super) fn merge(
    kept: &mut NetworkEndpoint,
    given: &NetworkEndpoint,
    at: OperationAt,
) -> Result<(), Status> {
    let (mut all, others) = (ports(kept), ports(given));
    let shared = all.iter().find(|port| others.contains(port)).or(others.first()).copied();
    let (host, port) = (kept.host.clone(), shared.unwrap_or(0));
    let becomes_mcp = becomes_mcp(kept, given);
    if !becomes_mcp && !have_equal_contracts(kept, given) {
        return Err(precondition(format!(
            "merge operation {} cannot combine MCP contracts at {host}:{port}: existing {}, incoming {}",
            at.index,
            contract_text(kept),
            contract_text(given)
        )));
    }
    all.extend(others);
    set_ports(kept, all);
    fill(&mut kept.protocol, &given.protocol);
    if becomes_mcp {
        kept.mcp = given.mcp;
        kept.json_rpc_max_body_bytes = given.json_rpc_max_body_bytes;
    }
    fill(&mut kept.enforcement, &given.enforcement);
    fill(&mut kept.tls, &given.tls);
    if !given.rules.is_empty() {
        expand_access(kept, &host, port)?;
        append_new(&mut kept.rules, &given.rules);
    } else if kept.rules.is_empty() {
        fill(&mut kept.access, &given.access);
    }
    append_new(&mut kept.deny_rules, &given.deny_rules);
    append_new(&mut kept.allowed_ips, &given.allowed_ips);
    kept.allow_encoded_slash |= given.allow_encoded_slash;
    kept.websocket_credential_rewrite |= given.websocket_credential_rewrite;
    kept.request_body_credential_rewrite |= given.request_body_credential_rewrite;
    match at.generation {
        Generation::V0_0 => kept.advisor_proposed |= given.advisor_proposed,
        Generation::V0_1 => {
            kept.allow_uninspected_credentials |= given.allow_uninspected_credentials;
            kept.advisor_proposed &= given.advisor_proposed;
        }
    }
    normalize(kept);
    Ok(())
}

fn fill(kept: &mut String, given: &str) {
    if kept.is_empty() {
        given.clone_into(kept);
    }
}

/// Refuses to change the rules of an endpoint without methods and paths.
pub(super) fn check_has_methods(
    endpoint: &NetworkEndpoint,
    host: &str,
    port: u32,
) -> Result<(), Status> {
    match endpoint.protocol.as_str() {
        "rest" | "websocket" => Ok(()),
        "" => Err(precondition(format!(
            "endpoint {host}:{port} has no L7 inspection configured (protocol is empty)"
        ))),
        other => Err(precondition(format!(
            "endpoint {host}:{port} uses unsupported protocol '{other}'; this operation currently supports only \
             protocol 'rest' or 'websocket'"
        ))),
    }
}

/// Replaces the access preset of an endpoint by the rules that it means.
pub(super) fn expand_access(
    endpoint: &mut NetworkEndpoint,
    host: &str,
    port: u32,
) -> Result<(), Status> {
    let methods: &[&str] = match (endpoint.protocol.as_str(), endpoint.access.as_str()) {
        (_, "") => return Ok(()),
        (_, "full") => &["*"],
        ("websocket", "read-only") => &["GET"],
        ("websocket", "read-write") => &["GET", "WEBSOCKET_TEXT"],
        (_, "read-only") => &["GET", "HEAD", "OPTIONS"],
        (_, "read-write") => &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"],
        (_, other) => {
            return Err(Status::invalid_argument(format!(
                "endpoint {host}:{port} uses unsupported access preset '{other}'"
            )));
        }
    };
    let allowed: Vec<_> = methods.iter().map(|method| allow_everywhere(method)).collect();
    endpoint.access.clear();
    append_new(&mut endpoint.rules, &allowed);
    Ok(())
}

fn allow_everywhere(method: &str) -> L7Rule {
    let allow = L7Allow { method: method.to_owned(), path: "**".to_owned(), ..L7Allow::default() };
    L7Rule { allow: Some(allow) }
}

/// The settings of MCP inspection, with their defaults.
#[derive(PartialEq, Eq)]
struct McpContract {
    is_strict: bool,
    allows_all_known: bool,
    body_bytes: u32,
}

fn is_mcp(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case("mcp")
}

fn contract(endpoint: &NetworkEndpoint) -> Option<McpContract> {
    let options = endpoint.mcp.unwrap_or_default();
    let bytes = endpoint.json_rpc_max_body_bytes;
    is_mcp(&endpoint.protocol).then_some(McpContract {
        is_strict: options.strict_tool_names.unwrap_or(true),
        allows_all_known: options.allow_all_known_mcp_methods.unwrap_or(false),
        body_bytes: if bytes == 0 { JSON_RPC_BODY_BYTES } else { bytes },
    })
}

/// Whether an endpoint is inspected as MCP, or has options for it.
pub(super) fn uses_mcp(endpoint: &NetworkEndpoint) -> bool {
    is_mcp(&endpoint.protocol) || endpoint.mcp.is_some()
}

/// Whether two endpoints are inspected in the same way, as far as MCP is concerned.
pub(super) fn have_equal_contracts(left: &NetworkEndpoint, right: &NetworkEndpoint) -> bool {
    match (contract(left), contract(right)) {
        (None, None) => !uses_mcp(left) && !uses_mcp(right),
        (left, right) => left == right,
    }
}

/// Whether protocols are equal.
pub(super) fn are_equal_protocols(left: &str, right: &str) -> bool {
    left == right || (is_mcp(left) && is_mcp(right))
}

/// Whether an endpoint without inspection gets the MCP inspection of another one.
fn becomes_mcp(kept: &NetworkEndpoint, given: &NetworkEndpoint) -> bool {
    kept.protocol.is_empty()
        && kept.mcp.is_none()
        && kept.json_rpc_max_body_bytes == 0
        && contract(given).is_some()
}

fn contract_text(endpoint: &NetworkEndpoint) -> String {
    let Some(contract) = contract(endpoint) else {
        return format!("non-mcp(protocol='{}')", endpoint.protocol);
    };
    format!(
        "mcp(strict_tool_names={}, allow_all_known_mcp_methods={}, max_body_bytes={})",
        contract.is_strict, contract.allows_all_known, contract.body_bytes
    )
}

/// Refuses an endpoint that a sandbox never connects to.
pub(super) fn check_not_blocked(host: &str) -> Result<(), Status> {
    let host = host.trim();
    let refused = |what: String| {
        Err(Status::invalid_argument(format!(
            "proposed rule endpoint host {what} regardless of policy"
        )))
    };
    if host.parse::<IpAddr>().is_ok_and(security::is_always_blocked) {
        return refused(format!(
            "'{host}' is an always-blocked address (loopback/link-local/unspecified); the proxy will deny traffic to \
             this destination"
        ));
    }
    match host.to_lowercase().as_str() {
        "localhost" | "localhost." => refused(
            "'localhost' is always blocked; the proxy will deny traffic to loopback".to_owned(),
        ),
        "metadata.google.internal" => refused(format!(
            "'{host}' is a known cloud metadata hostname; the proxy will deny traffic to this destination"
        )),
        _ => Ok(()),
    }
}
