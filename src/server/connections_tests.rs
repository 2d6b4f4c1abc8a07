//! Limits on connections, and the choice of the connection to replace.

use std::net::IpAddr;

use futures_util::FutureExt as _;

use super::*;

fn connections(total: usize, address: usize) -> Arc<Connections> {
    let bounds = ConnectionLimits { total, address, idle: Duration::from_mins(1) };
    Connections::new(bounds, vec!["10.0.0.0/8".parse().unwrap()])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn is_displaced(slot: &Slot) -> bool {
    slot.state.displaced.is_cancelled()
}

/// Sets the last use, so that the order is certain.
fn used_at(slot: &Slot, ms: u64) {
    slot.state.last_used_ms.store(ms, Ordering::Relaxed);
}

#[test]
fn an_address_at_its_limit_displaces_its_own_stalest_connection() {
    let connections = connections(10, 2);
    let other = connections.admit(ip("192.0.2.2")).unwrap();
    let first = connections.admit(ip("192.0.2.1")).unwrap();
    let second = connections.admit(ip("192.0.2.1")).unwrap();
    for (slot, ms) in [(&other, 1), (&first, 3), (&second, 2)] {
        used_at(slot, ms);
        assert!(!is_displaced(slot), "no connection is displaced at the limit");
    }
    let _third = connections.admit(ip("192.0.2.1")).unwrap();
    assert!(is_displaced(&second) && !is_displaced(&first) && !is_displaced(&other));
}

#[test]
fn a_connection_with_a_call_in_flight_is_never_displaced() {
    let connections = connections(10, 2);
    let busy: Vec<_> =
        (0..2).map(|_| Arc::new(connections.admit(ip("192.0.2.1")).unwrap())).collect();
    let calls: Vec<_> = busy.iter().map(Slot::call).collect();
    assert_eq!(connections.admit(ip("192.0.2.1")).unwrap_err(), RefusalReason::Address);
    let _other = connections.admit(ip("192.0.2.2")).unwrap();
    drop(calls);
    let _new = connections.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(busy.iter().filter(|slot| is_displaced(slot)).count(), 1);
}

#[test]
fn the_total_limit_displaces_the_stalest_connection_of_any_address() {
    let connections = connections(2, 2);
    let old = connections.admit(ip("192.0.2.1")).unwrap();
    let new = Arc::new(connections.admit(ip("192.0.2.2")).unwrap());
    used_at(&old, 1);
    used_at(&new, 2);
    let next = Arc::new(connections.admit(ip("192.0.2.3")).unwrap());
    assert!(is_displaced(&old) && !is_displaced(&new));
    let _calls = (new.call(), next.call());
    assert_eq!(connections.admit(ip("192.0.2.4")).unwrap_err(), RefusalReason::Total);
}

#[test]
fn an_ipv6_network_counts_as_one_address_and_trusted_proxies_are_not_limited() {
    let connections = connections(10, 1);
    let first = connections.admit(ip("2001:db8::1")).unwrap();
    let _same = connections.admit(ip("2001:db8::2:1")).unwrap();
    assert!(is_displaced(&first));
    let mapped = connections.admit(ip("::ffff:192.0.2.1")).unwrap();
    let _same = connections.admit(ip("192.0.2.1")).unwrap();
    assert!(is_displaced(&mapped));
    let proxied: Vec<_> = (0..4).map(|_| connections.admit(ip("10.0.0.1")).unwrap()).collect();
    assert!(!proxied.iter().any(is_displaced));
}

#[test]
fn displaced_connections_beyond_the_limit_are_cut_and_further_ones_are_refused() {
    let connections = connections(1, 1);
    let mut slots = Vec::new();
    for _ in 0..=2 * CLOSING_MAX {
        slots.push(connections.admit(ip("192.0.2.1")).unwrap());
    }
    let aborted = slots.iter().filter(|slot| slot.state.abort.is_cancelled()).count();
    assert_eq!(aborted, CLOSING_MAX, "those past the bound of ending ones");
    assert_eq!(connections.admit(ip("192.0.2.1")).unwrap_err(), RefusalReason::Total);
    drop(slots);
    assert_eq!(connections.open.lock().count(), 0, "every place is free again");
    let _new = connections.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(connections.open.lock().count(), 1);
}

#[tokio::test]
async fn the_acceptor_waits_until_cores_have_dropped_aborted_connections() {
    let connections = connections(1, 1);
    assert!(connections.wait_aborted_dropped().now_or_never().is_some());
    let mut slots = Vec::new();
    for _ in 0..=2 * CLOSING_MAX {
        slots.push(connections.admit(ip("192.0.2.1")).unwrap());
    }
    let mut waiting = std::pin::pin!(connections.wait_aborted_dropped());
    assert!(waiting.as_mut().now_or_never().is_none());
    drop(slots.remove(0));
    assert!(waiting.now_or_never().is_some(), "one was dropped");
    let _new = connections.admit(ip("192.0.2.1")).unwrap();
}

#[tokio::test]
async fn a_silent_connection_is_cut_at_once_and_an_active_one_after_a_grace_period() {
    let connections = connections(1, 1);
    let silent = connections.admit(ip("192.0.2.1")).unwrap();
    assert!(silent.wait_abort().now_or_never().is_none(), "the limit is not exceeded");
    let spoken = connections.admit(ip("192.0.2.1")).unwrap();
    spoken.mark_version_known();
    assert!(silent.wait_abort().now_or_never().is_some());
    let started = Instant::now();
    let _new = connections.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(spoken.close_requested().await, CloseReason::Displaced);
    spoken.wait_abort().await;
    assert!(started.elapsed() >= CLOSE_GRACE, "{:?}", started.elapsed());
}

#[test]
fn many_connections_are_scanned_in_parts() {
    let connections = connections(3 * SCAN_MAX, 3 * SCAN_MAX);
    let slots: Vec<_> =
        (0..3 * SCAN_MAX).map(|_| Arc::new(connections.admit(ip("10.0.0.1")).unwrap())).collect();
    let (last, busy) = slots.split_last().unwrap();
    let _calls: Vec<_> = busy.iter().map(Slot::call).collect();
    let admitted = (0..3).filter_map(|_| connections.admit(ip("192.0.2.1")).ok()).count();
    assert_eq!(admitted, 1, "the idle connection is found within as many scans");
    assert!(is_displaced(last));
}

#[test]
fn file_descriptors_cap_the_limits_and_one_address_gets_at_most_half() {
    let mut limits = crate::config::Config::from_toml("").unwrap().limits;
    let bounds = |limits: &Limits, room| {
        let ConnectionLimits { total, address, .. } = ConnectionLimits::from_config(limits, room);
        (total, address)
    };
    assert_eq!(bounds(&limits, 100_000), (8_192, 512));
    assert_eq!(bounds(&limits, 300), (300, 150));
    (limits.connections_max, limits.address_connections_max) = (16, 8);
    assert_eq!(bounds(&limits, 300), (16, 8));
    limits.address_connections_max = 9;
    assert_eq!(bounds(&limits, 300), (16, 8));
}
