//! Refused anonymous calls: counted in memory, stored once a minute as one entry per address, method and reason (T16).
//!
//! Invariants
//! - memory and rows are bounded under a flood of anonymous calls: refusals beyond the bound are added to one count;
//! - an IPv6 caller is counted by its /64, since it can use any address in it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use parking_lot::Mutex;

use super::batch::AuditRow;
use super::{Ending, Intent, Outcome};
use crate::access::action::Action;
use crate::access::policy::{self, AuditSubject};
use crate::clock::Timestamp;

/// Maximum number of distinct refusals per minute.
pub(super) const KEYS_MAX: usize = 1_000;
/// gRPC's UNAUTHENTICATED.
const CODE_UNAUTHENTICATED: i32 = 16;

/// Refusals with the same key are added to one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AnonymousKey {
    ip: Option<IpAddr>,
    method: &'static str,
    reason: &'static str,
}

/// The key of all refusals beyond the bound.
const OTHER: AnonymousKey = AnonymousKey { ip: None, method: "", reason: "other" };

/// The counts of the current minute.
#[derive(Debug, Default)]
pub(super) struct AnonymousRefusals {
    counts: Mutex<HashMap<AnonymousKey, u64>>,
}

impl AnonymousRefusals {
    pub(super) fn count(&self, ip: Option<IpAddr>, method: &'static str, reason: &'static str) {
        let key = AnonymousKey { ip: ip.map(network_address), method, reason };
        let mut counts = self.counts.lock();
        let full = counts.len() >= KEYS_MAX && !counts.contains_key(&key);
        *counts.entry(if full { OTHER } else { key }).or_default() += 1;
    }

    /// Returns the counts and resets them.
    pub(super) fn take(&self) -> HashMap<AnonymousKey, u64> {
        std::mem::take(&mut *self.counts.lock())
    }
}

fn network_address(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

/// Builds one entry per count.
pub(super) fn entries(
    counts: HashMap<AnonymousKey, u64>,
    at: Timestamp,
    owner: &str,
) -> Vec<AuditRow> {
    counts.into_iter().map(|(key, count)| entry(key, count, at, owner)).collect()
}

fn entry(key: AnonymousKey, count: u64, at: Timestamp, owner: &str) -> AuditRow {
    let method = policy::find_method(key.method);
    let about = AuditSubject::new(method.map_or(Action::AUTH_REFUSE, |method| method.action), "");
    // The entry has no request id, since it counts many calls.
    let intent = Intent { client_ip: key.ip, method: key.method.into(), ..Intent::new(at, about) };
    let outcome = Outcome {
        detail: Some(serde_json::json!({ "count": count, "reason": key.reason })),
        ..Outcome::new(at, Ending::Unauthenticated, CODE_UNAUTHENTICATED)
    };
    AuditRow::new(intent, Some(outcome), owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as a call has it")]
    fn v4(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    #[test]
    fn equal_refusals_share_one_counter() {
        let counts = AnonymousRefusals::default();
        counts.count(v4(1), "/a", "x");
        counts.count(v4(1), "/a", "x");
        counts.count(v4(1), "/a", "y");
        let mapped: IpAddr = "::ffff:0.0.0.1".parse().unwrap();
        counts.count(Some(mapped), "/a", "x");
        assert_eq!(counts.take()[&AnonymousKey { ip: v4(1), method: "/a", reason: "x" }], 3);
        assert!(counts.take().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_one_counter() {
        let counts = AnonymousRefusals::default();
        for ip in ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"] {
            counts.count(Some(ip.parse().unwrap()), "/a", "x");
        }
        assert_eq!(counts.take().len(), 2);
    }

    #[test]
    fn refusals_beyond_the_limit_share_one_counter() {
        let counts = AnonymousRefusals::default();
        let max = u32::try_from(KEYS_MAX).unwrap();
        for n in 0..max + 5 {
            counts.count(v4(n), "/a", "x");
        }
        counts.count(v4(0), "/a", "x");
        let taken = counts.take();
        assert_eq!(taken.len(), KEYS_MAX + 1);
        assert_eq!(taken[&OTHER], 5);
        assert_eq!(taken[&AnonymousKey { ip: v4(0), method: "/a", reason: "x" }], 2);
    }
}
