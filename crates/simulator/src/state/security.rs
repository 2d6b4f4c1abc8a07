//! Addresses that a sandbox never reaches or that need attention, and the notes of a gateway about a proposed rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shoreguard_proto::v0_0::openshell::sandbox::v1::{NetworkEndpoint, NetworkPolicyRule};

/// The first port of the range for temporary services.
const EPHEMERAL_PORT: u32 = 49_152;

/// Ports of databases and of similar services.
const DATABASE_PORTS: [u32; 7] = [5432, 3306, 6379, 27017, 9200, 11211, 5672];

/// Whether no policy allows an address: loopback, link-local and unspecified ones.
pub(super) fn is_always_blocked(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_blocked_v4(address),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unspecified() || is_link_local(address)
        }
    }
}

fn is_blocked_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_link_local() || address.is_unspecified()
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Whether an address is private or otherwise not on the public internet.
fn is_internal(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private() || is_shared || is_blocked_v4(address)
        }
        IpAddr::V6(address) => {
            let is_unique_local = address.segments()[0] & 0xfe00 == 0xfc00;
            is_unique_local || is_always_blocked(IpAddr::V6(address))
        }
    }
}

/// Returns the address of a network such as `10.0.0.0/8`, or of a single address.
pub(super) fn network_address(entry: &str) -> Option<IpAddr> {
    entry.split('/').next().and_then(|address| address.parse().ok())
}

/// Returns what a reviewer of a rule should notice; empty if there is nothing.
pub(crate) fn security_notes(rule: &NetworkPolicyRule) -> String {
    let mut notes = Vec::new();
    for endpoint in &rule.endpoints {
        note_host(endpoint, &mut notes);
        note_ports(endpoint, &mut notes);
    }
    notes.join(" ")
}

fn note_host(endpoint: &NetworkEndpoint, notes: &mut Vec<String>) {
    let needs_attention = |address: IpAddr| is_internal(address) && !is_always_blocked(address);
    let host = endpoint.host.to_lowercase();
    if host.parse::<IpAddr>().is_ok_and(needs_attention) {
        notes.push(format!("Destination '{host}' appears to be an internal/private address."));
    }
    if host.contains('*') {
        notes.push(format!(
            "Host '{host}' contains a wildcard \u{2014} this may match unintended destinations."
        ));
    }
    for entry in &endpoint.allowed_ips {
        if network_address(entry).is_some_and(needs_attention) {
            notes.push(format!("allowed_ips includes private/internal range '{entry}'."));
        }
    }
    if host.trim().is_empty() && !endpoint.allowed_ips.is_empty() {
        let hostless = "allowed_ips allowlist is hostless and may match any hostname resolving within the configured \
                        range.";
        notes.push(hostless.to_owned());
    }
}

fn note_ports(endpoint: &NetworkEndpoint, notes: &mut Vec<String>) {
    for port in super::merge::ports(endpoint) {
        if port > EPHEMERAL_PORT {
            notes.push(format!(
                "Port {port} is in the ephemeral range \u{2014} this may be a temporary service."
            ));
        }
        if DATABASE_PORTS.contains(&port) {
            notes.push(format!("Port {port} is a well-known database/service port."));
        }
    }
}
