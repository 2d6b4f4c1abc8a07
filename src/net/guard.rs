//! Decides which addresses may be connected to, and which addresses belong to the same host. Pure functions.
//!
//! A user who registers a gateway chooses where this server connects. Loopback, link-local and cloud metadata addresses
//! are rejected, since only this host can reach them, unless the configuration allows their network. Private networks
//! are allowed, since gateways run there. Webhooks are stricter ([`Reach`]): their receivers are on the internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of cloud metadata services, which return credentials. Those in 169.254.0.0/16 are link-local; these look
/// like addresses of an ordinary network.
const METADATA_V4: [Ipv4Addr; 3] = [
    // Alibaba, within 100.64.0.0/10, which gateways also use.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure's host agent.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle, within the IETF's 192.0.0.0/24.
    Ipv4Addr::new(192, 0, 0, 192),
];
/// The same for IPv6. All of Amazon's `fd00:ec2::/32`, with metadata and container credentials, is rejected separately.
const METADATA_V6: [Ipv6Addr; 5] = [
    // Google.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // Oracle.
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    // Scaleway.
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    // Akamai.
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    // Alibaba.
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),
];

/// Returns the address under which a host is counted: the IPv4 address, or the /64 network of an IPv6 address.
#[must_use]
pub fn accounting_address(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Which addresses a purpose may connect to, besides those of the networks that its configuration allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses and private networks, but no address that only this host can reach: gateways and issuers.
    Private,
    /// Public addresses: receivers of webhooks, and their mail servers.
    Public,
    /// No other address: receivers of webhooks without TLS.
    AllowedNetworks,
}

impl Reach {
    /// Whether this address may be connected to.
    #[must_use]
    pub fn includes(self, ip: IpAddr, allowed_networks: &[IpNet]) -> bool {
        match self {
            Self::Private => is_allowed(ip, allowed_networks),
            Self::Public => {
                is_named(ip, allowed_networks)
                    || (is_allowed(ip, allowed_networks) && is_public(ip))
            }
            Self::AllowedNetworks => is_named(ip, allowed_networks),
        }
    }
}

/// Whether an address, or the IPv4 address that it leads to, is in one of these networks.
fn is_named(ip: IpAddr, networks: &[IpNet]) -> bool {
    let is_in = |ip: IpAddr| networks.iter().any(|net| net.contains(&ip));
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => embedded_v4(v6),
    };
    is_in(ip) || embedded.is_some_and(|v4| is_in(IpAddr::V4(v4)))
}

/// Whether an address is reachable from the internet: not private, shared, reserved, or of a documentation or test
/// network.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            // The prefix of an ISATAP address can be that of a private network.
            Some(v4) => is_public_v4(v4) && (!is_isatap(v6) || is_public_v6(v6)),
            None => is_public_v6(v6),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    // Shared (RFC 6598), IETF, benchmarks (RFC 2544), former 6to4 relays, and reserved addresses.
    let special = matches!(
        ip.octets(),
        [100, 64..=127, ..]
            | [192, 0, 0, _]
            | [198, 18 | 19, ..]
            | [192, 88, 99, _]
            | [240..=255, ..]
    );
    !(special || ip.is_private() || ip.is_documentation())
}

/// Global unicast is `2000::/3`; within it, `2001::/23` is for protocols, `2001:db8::/32` and `3fff::/20` are for
/// documentation.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    let special = matches!((first, second), (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff));
    first & 0xe000 == 0x2000 && !special
}

/// Whether this address may be connected to.
#[must_use]
pub fn is_allowed(ip: IpAddr, allowed_networks: &[IpNet]) -> bool {
    if allowed_networks.iter().any(|net| net.contains(&ip)) {
        return true;
    }
    match ip {
        IpAddr::V4(v4) => is_allowed_v4(v4),
        // An IPv6 form of an IPv4 address must not bypass the rule for the IPv4 address.
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_allowed(IpAddr::V4(v4), allowed_networks),
            None => is_allowed_v6(v6),
        },
    }
}

fn is_allowed_v4(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this host; 169.254.169.254 is link-local.
    let this_host = ip.octets()[0] == 0;
    !(this_host
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_unspecified()
        || METADATA_V4.contains(&ip))
}

fn is_allowed_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || is_site_local(ip)
        || is_undetermined(ip)
        || matches!(ip.segments(), [0xfd00, 0xec2, ..])
        || METADATA_V6.contains(&ip))
}

/// `fec0::/10`, deprecated and effectively link-local.
fn is_site_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfec0
}

/// Whether an address leads to an IPv4 address that cannot be determined: local-use NAT64 (`64:ff9b:1::/48`, RFC 8215),
/// where only the translator knows the position of the IPv4 address, or Teredo (`2001::/32`), which leads through a
/// server to any host behind a client. A network with gateways behind its own NAT64 must be allowed in the
/// configuration.
fn is_undetermined(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..])
}

/// Returns the IPv4 address to which an IPv6 address leads, or `None`. Handles mapped, compatible, translated, NAT64,
/// 6to4 and ISATAP addresses.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 =
        |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        // The unspecified and the loopback address are not IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // `::ffff:0:0/96` is mapped, `::/96` compatible, `::ffff:0:0:0/96` translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        // Link-local addresses are already rejected as such.
        [prefix, .., high, low] if is_isatap(ip) && prefix & 0xffc0 != 0xfe80 => v4(high, low),
        _ => None,
    }
}

/// Whether an interface of such an address, with any prefix, is a tunnel to the embedded IPv4 address (RFC 5214).
fn is_isatap(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: &str, networks: &[&str]) -> bool {
        let networks: Vec<IpNet> = networks.iter().map(|n| n.parse().unwrap()).collect();
        is_allowed(ip.parse().unwrap(), &networks)
    }

    #[test]
    fn local_addresses_are_refused_in_every_notation() {
        for ip in [
            "127.0.0.1",
            "127.8.9.10",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
        ] {
            assert!(!check(ip, &[]), "{ip}");
        }
    }

    #[test]
    fn cloud_metadata_addresses_are_refused_and_their_neighbors_are_not() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::ffff:100.100.100.200",
            "64:ff9b::168.63.129.16",
            "2002:c000:00c0::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:ffff::1",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
        ] {
            assert!(!check(ip, &[]), "{ip}");
        }
        for neighbour in [
            "100.100.100.201",
            "168.63.129.17",
            "192.0.0.193",
            "fd00:ec3::254",
            "fd20:ce::253",
            "fd00:c1::a9fe:a9ff",
            "fd00:42::43",
            "fd00:a9fe:a9fe::2",
            "fd00:100::100:201",
        ] {
            assert!(check(neighbour, &[]), "{neighbour}");
        }
    }

    #[test]
    fn tunneled_and_translated_addresses_do_not_bypass_the_guard() {
        for ip in [
            // Translated, and ISATAP with any prefix and both values of the universal/local bit.
            "::ffff:0:127.0.0.1",
            "2001:db8::5efe:127.0.0.1",
            "2001:db8::200:5efe:169.254.169.254",
            "fe80::5efe:10.0.0.1",
            // Teredo and local-use NAT64, regardless of the embedded address.
            "2001:0:7f00:1::1",
            "2001:0:cb00:7105:0:0:80ff:fffe",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "64:ff9b:1::10.0.0.1",
        ] {
            assert!(!check(ip, &[]), "{ip}");
        }
        for ip in ["2001:db8::5efe:10.0.0.1", "2001:1::1", "64:ff9b:2::1", "64:ff9b::203.0.113.5"] {
            assert!(check(ip, &[]), "{ip}");
        }
        assert!(check("64:ff9b:1::10.0.0.1", &["64:ff9b:1::/96"]));
        assert!(!check("64:ff9b:1:1::10.0.0.1", &["64:ff9b:1::/96"]));
    }

    #[test]
    fn private_and_public_networks_are_allowed() {
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "203.0.113.5",
            "fd12:3456::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:1::1",
        ] {
            assert!(check(ip, &[]), "{ip}");
        }
    }

    #[test]
    fn e14_webhooks_reach_only_public_addresses_and_named_networks() {
        let reach = |reach: Reach, ip: &str, networks: &[&str]| {
            let networks: Vec<IpNet> = networks.iter().map(|n| n.parse().unwrap()).collect();
            reach.includes(ip.parse().unwrap(), &networks)
        };
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "168.63.129.16",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.5",
            "240.0.0.1",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:0a00:1::1",
            "2001:db8::1",
            "3fff:fff::1",
            "fd12:3456::1",
            "fe80::1",
            "4000::1",
            "fd12:3456::5efe:8.8.8.8",
            "fd12:3456::200:5efe:8.8.8.8",
            "2001:db8::5efe:8.8.8.8",
            "2606:4700::5efe:10.0.0.1",
        ] {
            assert!(!reach(Reach::Public, ip, &[]), "{ip}");
            assert!(!reach(Reach::AllowedNetworks, ip, &[]), "{ip}");
        }
        for ip in [
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "198.17.255.255",
            "2606:4700::1",
            "2001:200::1",
            "3fff:1000::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2606:4700::5efe:8.8.8.8",
        ] {
            assert!(reach(Reach::Public, ip, &[]), "{ip}");
            assert!(!reach(Reach::AllowedNetworks, ip, &[]), "{ip}");
            assert!(reach(Reach::Private, ip, &[]), "{ip}");
        }
        for ip in ["10.1.2.3", "::ffff:10.1.2.3"] {
            for open in [Reach::Public, Reach::AllowedNetworks] {
                assert!(reach(open, ip, &["10.0.0.0/8"]), "{ip}");
                assert!(!reach(open, ip, &["10.2.0.0/16"]), "{ip}");
            }
        }
    }

    #[test]
    fn only_a_configured_network_is_exempt_from_the_guard() {
        assert!(check("127.0.0.1", &["127.0.0.0/8"]));
        assert!(check("::ffff:127.0.0.1", &["127.0.0.0/8"]));
        assert!(!check("::1", &["127.0.0.0/8"]));
        assert!(!check("169.254.169.254", &["169.254.1.0/24"]));
        assert!(check("fd00:ec2::254", &["fd00:ec2::254/128"]));
    }
}
