//! Which addresses may be connected to, and which are one host. Pure.
//!
//! Who registers a gateway chooses where this server connects. Loopback, link-local and the metadata services of clouds
//! are what only this host can reach, so they are refused unless the configuration names their network. Private
//! networks are where gateways live, so they are allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Where clouds answer instances over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What one host usually has: an IPv4 address, or an IPv6 network of 64 bits. By this, callers are counted.
#[must_use]
pub fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Whether this address may be connected to.
#[must_use]
pub fn allowed(ip: IpAddr, allowed_networks: &[IpNet]) -> bool {
    if allowed_networks.iter().any(|net| net.contains(&ip)) {
        return true;
    }
    match ip {
        IpAddr::V4(v4) => is_open_v4(v4),
        // An IPv6 form of an IPv4 address must not be a way around the rule for the latter.
        IpAddr::V6(v6) => match embedded(v6) {
            Some(v4) => allowed(IpAddr::V4(v4), allowed_networks),
            None => is_open_v6(v6),
        },
    }
}

/// Whether a host, as it stands in a URL, is this very machine: what is sent there in plain crosses no network.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_open_v4(ip: Ipv4Addr) -> bool {
    // 0.0.0.0/8 is this host; 169.254.169.254 is link-local.
    let this_host = ip.octets()[0] == 0;
    !(this_host
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_unspecified())
}

fn is_open_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || is_site_local(ip)
        || ip == METADATA_V6)
}

/// `fec0::/10`, deprecated, and link-local in effect.
fn is_site_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfec0
}

/// The IPv4 address that an IPv6 one leads to: mapped, compatible, NAT64 or 6to4.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let v4 =
        |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match s {
        // The unspecified and the loopback address are no IPv4-compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            v4(high, low)
        }
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ip: &str, networks: &[&str]) -> bool {
        let networks: Vec<IpNet> = networks.iter().map(|n| n.parse().unwrap()).collect();
        allowed(ip.parse().unwrap(), &networks)
    }

    #[test]
    fn what_only_this_host_can_reach_is_refused_in_every_spelling() {
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
    fn private_and_public_networks_are_where_gateways_are() {
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
    fn only_this_machine_is_loopback() {
        for (host, is) in [
            ("127.0.0.1", true),
            ("[::1]", true),
            ("localhost", true),
            ("localhost.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), is, "{host}");
        }
    }

    #[test]
    fn a_named_network_is_allowed_and_its_neighbour_is_not() {
        assert!(check("127.0.0.1", &["127.0.0.0/8"]));
        assert!(check("::ffff:127.0.0.1", &["127.0.0.0/8"]));
        assert!(!check("::1", &["127.0.0.0/8"]));
        assert!(!check("169.254.169.254", &["169.254.1.0/24"]));
        assert!(check("fd00:ec2::254", &["fd00:ec2::254/128"]));
    }
}
