//! Addresses in all forms in which a host can be written. Pure.
//!
//! Invariant: the forms are those of `inet_aton`, which browsers and most resolvers accept. They are read here, so that
//! the guard judges the same address with each resolver, even if the resolver does not know these forms and would return
//! no address.

use std::net::{IpAddr, Ipv4Addr};

/// Returns the address that a host names by itself: an address in any form, or a name of this host (RFC 6761). `None`
/// if it must be resolved, which includes `localhost`: the resolver knows which of its two addresses this host has.
pub(super) fn written_address(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.parse() {
        return Some(ip);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_local = name.rsplit('.').next().is_some_and(|of| of.eq_ignore_ascii_case("localhost"));
    if is_local && host.contains('.') {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    parse_numbers(name).map(Into::into)
}

/// Parses one to four numbers, of which the last one fills the remaining bytes: `127.1` and `2130706433` are 127.0.0.1.
fn parse_numbers(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = text.split('.').map(parse_number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 0xff) {
        return None;
    }
    let last_bits = 32 - 8 * first.len();
    if u64::from(*last) >= 1_u64 << last_bits {
        return None;
    }
    let mut bits = *last;
    for (number, position) in first.iter().zip([24_u32, 16, 8]) {
        bits |= *number << position;
    }
    Some(Ipv4Addr::from_bits(bits))
}

/// Parses a decimal number, or an octal one, which begins with 0, or a hexadecimal one, which begins with 0x.
fn parse_number(text: &str) -> Option<u32> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hexadecimal, text.strip_prefix('0')) {
        (Some(""), _) => ("0", 16),
        (Some(digits), _) => (digits, 16),
        (None, Some("")) => ("0", 10),
        (None, Some(digits)) => (digits, 8),
        (None, None) => (text, 10),
    };
    // Numbers of Rust can have a sign.
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e14_each_form_of_an_address_is_the_same_address() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "2130706433",
            "2130706433.",
            "0x7f000001",
            "0X7F.0x0.0.0x1",
            "017700000001",
            "0177.0.0.01",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "localhost.",
            "LocalHost.",
            "a.localhost",
            "a.localhost.",
        ] {
            assert_eq!(written_address(host), Some(Ipv4Addr::LOCALHOST.into()), "{host}");
        }
        for (host, ip) in [
            ("0", "0.0.0.0"),
            ("0x", "0.0.0.0"),
            ("4294967295", "255.255.255.255"),
            ("169.16689662", "169.254.169.254"),
            ("10.0.258", "10.0.1.2"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ] {
            assert_eq!(written_address(host), Some(ip.parse().unwrap()), "{host}");
        }
    }

    #[test]
    fn a_name_is_not_an_address() {
        for host in [
            "",
            ".",
            "example.com",
            "localhost",
            "localhost.example.com",
            "notlocalhost.",
            "127.0.0.1.example.com",
            "256.0.0.1",
            "1.2.3.256",
            "1.2.65536",
            "1.2.3.4.5",
            "4294967296",
            "99999999999",
            "08.1.1.1",
            "0x7g",
            "+1",
            "-1",
            "1..2",
            "127.0.0.1..",
            "face",
        ] {
            assert_eq!(written_address(host), None, "{host}");
        }
    }
}
