//! Connections that we open to others.
//!
//! Invariants
//! - an address is judged when it is connected to, never when it is stored: a name may resolve to another one later;
//! - of a name every address must be allowed, and only the judged ones are connected to;
//! - what went wrong inside is logged here, once; the error names the host and no more.

pub mod connect;
pub mod guard;

use std::net::{IpAddr, Ipv6Addr};

/// What one host is counted by: its address, or of IPv6 the /64, in which it has every address that it likes.
#[must_use]
pub fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip @ IpAddr::V4(_) => ip,
    }
}
