//! Rate limit of one address. It runs before authentication, so that a flood costs little (T16).
//!
//! An IPv6 address counts by its /64, which usually belongs to one host. A forwarded address is used only if the
//! connection comes from a configured proxy (T19).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use ipnet::IpNet;

use crate::error::{Error, Reason};
use crate::net::guard::accounting_address;
use crate::server::stages::{CallFailure, CallState, StartedCall};

/// Refuses a call of an address above its rate, before any work that a flood could cause: hashing, signatures, bodies.
pub(in crate::server) fn admit(mut started: StartedCall) -> Result<StartedCall, CallFailure> {
    let StartedCall(state) = &mut started;
    let CallState { shared, ip, shares, .. } = &mut **state;
    let admitted = shared
        .address_limit
        .admit(*ip)
        .and_then(|()| shared.open_calls.count_for_address(shares, *ip));
    match admitted {
        Ok(()) => Ok(started),
        Err(error) => Err(started.0.into_failure(error)),
    }
}

/// Number of addresses after which idle ones are dropped.
const ADDRESSES_MAX: usize = 100_000;
/// Time between two scans for idle addresses, in milliseconds: a scan reads all of them, on a core.
const SCAN_INTERVAL_MS: u64 = 1_000;

/// A token bucket for each address.
#[derive(Debug)]
pub struct AddressLimit {
    buckets: Option<DefaultKeyedRateLimiter<IpAddr>>,
    trusted_proxies: Vec<IpNet>,
    started: Instant,
    /// Time of the last scan, in milliseconds since `started`.
    last_scan_ms: AtomicU64,
}

impl AddressLimit {
    /// Allows an address `per_second` calls, and `burst` at once. With `per_second` 0 there is no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, trusted_proxies: Vec<IpNet>) -> Self {
        let quota = NonZeroU32::new(per_second).map(Quota::per_second);
        Self::with_buckets(buckets(quota, burst), trusted_proxies)
    }

    /// Allows an address `per_minute` calls of public methods, and `burst` at once. With `per_minute` 0 there is no
    /// limit.
    #[must_use]
    pub fn for_public_methods(per_minute: u32, burst: u32) -> Self {
        let quota = NonZeroU32::new(per_minute).map(Quota::per_minute);
        Self::with_buckets(buckets(quota, burst), Vec::new())
    }

    fn with_buckets(
        buckets: Option<DefaultKeyedRateLimiter<IpAddr>>,
        trusted_proxies: Vec<IpNet>,
    ) -> Self {
        Self { buckets, trusted_proxies, started: Instant::now(), last_scan_ms: AtomicU64::new(0) }
    }

    /// Returns whether a scan is due; true for one caller at a time.
    fn start_scan(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.last_scan_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= SCAN_INTERVAL_MS;
        let swap =
            || self.last_scan_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed);
        due && swap().is_ok()
    }

    /// Returns the address that a call counts for.
    #[must_use]
    pub fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.is_trusted_proxy(peer) {
            return peer;
        }
        // From the right, the first hop that is not a trusted proxy is the caller.
        let hops =
            headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            hops.flat_map(|v| v.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
        hops.into_iter()
            .rev()
            .map(|ip: IpAddr| ip.to_canonical())
            .find(|ip| !self.is_trusted_proxy(*ip))
            .unwrap_or(peer)
    }

    fn is_trusted_proxy(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&ip))
    }

    /// Takes one call from the bucket of the address.
    ///
    /// # Errors
    /// `RATE_LIMITED` with the time to wait.
    pub fn admit(&self, ip: IpAddr) -> Result<(), Error> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        if buckets.len() > ADDRESSES_MAX && self.start_scan() {
            buckets.retain_recent();
        }
        buckets.check_key(&accounting_address(ip)).map_err(|until| Error::Exhausted {
            reason: Reason::RateLimited,
            retry_in: until.wait_time_from(DefaultClock::default().now()),
        })
    }
}

fn buckets(quota: Option<Quota>, burst: u32) -> Option<DefaultKeyedRateLimiter<IpAddr>> {
    let burst = NonZeroU32::new(burst);
    quota.map(|quota| RateLimiter::keyed(burst.map_or(quota, |burst| quota.allow_burst(burst))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::layers::fixture::{Fixture, LOGIN, grpc_request, refusal};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_over_the_rate_is_refused_as_rate_limited() {
        let config = "[limits]\naddress_requests_per_second = 1\naddress_burst = 1";
        let fixture = Fixture::new(config).await;
        admit(fixture.started(grpc_request(LOGIN))).unwrap();
        let (error, _) = refusal(admit(fixture.started(grpc_request(LOGIN))));
        assert!(matches!(error, Error::Exhausted { reason: Reason::RateLimited, .. }), "{error}");
    }

    #[test]
    fn the_limit_refuses_one_address_without_affecting_others() {
        let limit = AddressLimit::new(1, 3, vec![]);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            limit.admit(a).unwrap();
        }
        assert!(matches!(
            limit.admit(a),
            Err(Error::Exhausted { reason: Reason::RateLimited, .. })
        ));
        limit.admit(b).unwrap();
    }

    #[test]
    fn scans_of_all_addresses_are_rate_limited() {
        let limit = AddressLimit::new(1, 1, vec![]);
        let scans = (0..1_000_000).filter(|_| limit.start_scan()).count() as u128;
        assert!(scans <= limit.started.elapsed().as_millis() / u128::from(SCAN_INTERVAL_MS));
    }

    #[test]
    fn ipv6_hosts_of_one_network_share_one_bucket() {
        let limit = AddressLimit::new(1, 1, vec![]);
        limit.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(limit.admit("2001:db8::ffff:1".parse().unwrap()).is_err());
        limit.admit("2001:db8:0:1::1".parse().unwrap()).unwrap();
    }

    #[test]
    fn a_forwarded_address_is_used_only_behind_a_trusted_proxy() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.0.0.2".parse().unwrap());
        let open = AddressLimit::new(0, 0, vec![]);
        assert_eq!(open.client_ip("10.0.0.1".parse().unwrap(), &headers).to_string(), "10.0.0.1");
        let behind = AddressLimit::new(0, 0, vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(
            behind.client_ip("10.0.0.1".parse().unwrap(), &headers).to_string(),
            "198.51.100.7"
        );
        assert_eq!(
            behind.client_ip("192.0.2.5".parse().unwrap(), &headers).to_string(),
            "192.0.2.5"
        );
    }
}
