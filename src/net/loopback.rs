//! Decides whether an address or a host is this machine, so that plaintext to it crosses no network. Pure functions.
//!
//! Invariant: no name is resolved. Of names, only `localhost` counts, since any other can resolve to another machine.

use std::net::{IpAddr, Ipv6Addr};

/// Whether an address is this machine. An IPv4-mapped address is what it maps to, since sockets connect to that one.
#[must_use]
pub fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a host is this machine: `localhost` or an address. An IPv6 address can have the brackets of a URL.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    let address = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().map(IpAddr::V6),
        None => host.parse(),
    };
    host == "localhost" || address.is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_count_as_loopback() {
        for (ip, is) in [
            ("127.0.0.1", true),
            ("127.255.255.254", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.1", false),
            // An IPv4-compatible address, which no socket connects to the IPv4 address.
            ("::127.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("169.254.169.254", false),
        ] {
            assert_eq!(is_loopback(ip.parse().unwrap()), is, "{ip}");
        }
    }

    #[test]
    fn only_localhost_and_loopback_addresses_count_as_hosts_of_this_machine() {
        for (host, is) in [
            ("127.0.0.1", true),
            ("[::1]", true),
            ("::1", true),
            ("[::ffff:127.0.0.1]", true),
            ("localhost", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("127.1", false),
            ("[localhost]", false),
            ("[127.0.0.1]", false),
            ("[[::1]]", false),
            ("[::1", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_host(host), is, "{host}");
        }
    }
}
