//! Open connections of callers: limits in total and per address, and the choice of a connection to replace.
//!
//! Invariants
//! - at a limit, a new connection replaces the connection with the longest idle time, of the same address if the limit
//!   is that of the address; if none is idle, the new connection is refused;
//! - a connection with a call in flight is never closed to make room;
//! - a connection that was asked to close and does not is aborted; closing connections have their own limit;
//! - the acceptor waits while many aborted connections are not dropped yet, so that a new connection is not refused for
//!   them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::net::guard::accounting_address;
use crate::telemetry::metrics::{CONNECTIONS, CONNECTIONS_ENDED, CONNECTIONS_REFUSED};

/// Maximum number of connections that were asked to close and still have [`CLOSE_GRACE`] for it; beyond it, the oldest
/// is aborted.
pub(super) const CLOSING_MAX: usize = 64;
/// Time that a connection gets to close gracefully.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// Maximum time that the acceptor waits for cores to drop aborted connections. A core that takes longer delays no
/// connection of the others.
const DROP_WAIT: Duration = Duration::from_secs(1);
/// Maximum number of connections that one scan for the longest idle time looks at.
const SCAN_MAX: usize = 1_024;

/// Why a new connection was closed at once; the value of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// The total limit is reached.
    Total,
    /// The limit of the address is reached.
    Address,
    /// The queue of a core is full.
    Core,
    /// The process has no free file descriptor.
    Descriptors,
}

impl RefusalReason {
    /// Increments the metric.
    pub(super) fn count(self) {
        let reason = match self {
            Self::Total => "total",
            Self::Address => "address",
            Self::Core => "core",
            Self::Descriptors => "descriptors",
        };
        counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(1);
    }
}

/// Limits on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// Maximum in total.
    pub(super) total: usize,
    /// Maximum from one address.
    pub(super) address: usize,
    /// Time after which an idle connection is closed.
    pub(super) idle: Duration,
}

impl ConnectionLimits {
    /// Returns the configured limits, or lower ones if the file descriptors do not suffice. One address can have at
    /// most half of the total, so that it cannot lock out all others.
    pub(super) fn from_config(limits: &Limits, room: usize) -> Self {
        let configured = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        let total = configured(limits.connections_max).min(room);
        let address = configured(limits.address_connections_max).min((total / 2).max(1));
        Self { total, address, idle: limits.connection_idle() }
    }
}

/// All connections of this listener.
#[derive(Debug)]
pub(super) struct Connections {
    limits: ConnectionLimits,
    /// Trusted proxies, each of which carries many callers: their connections count only in total.
    trusted: Vec<IpNet>,
    started: Instant,
    open: Mutex<OpenConnections>,
    /// An aborted connection was dropped.
    aborted_dropped: Notify,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next: u64,
    /// Connections that were not asked to close.
    all: BTreeMap<u64, Arc<ConnectionState>>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    /// Connections that were asked to close.
    closing: BTreeMap<u64, Arc<ConnectionState>>,
    /// Number of connections that were aborted and are not dropped yet.
    aborted: usize,
    /// First id of the next scan.
    scan_from: u64,
}

#[derive(Debug)]
struct ConnectionState {
    /// `None` for a trusted proxy.
    address: Option<IpAddr>,
    calls: AtomicUsize,
    /// Time of the end of the last call, or of the accept, since `started`.
    last_used_ms: AtomicU64,
    /// Whether the HTTP version is known, so that a graceful close is possible.
    version_known: AtomicBool,
    displaced: CancellationToken,
    abort: CancellationToken,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits, trusted: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            trusted,
            started: Instant::now(),
            open: Mutex::default(),
            aborted_dropped: Notify::new(),
        })
    }

    /// Waits until fewer than [`CLOSING_MAX`] aborted connections are still to be dropped by their cores, at most
    /// [`DROP_WAIT`]. Only the acceptor calls it.
    pub(super) async fn wait_aborted_dropped(&self) {
        let dropped = async {
            while self.open.lock().aborted >= CLOSING_MAX {
                self.aborted_dropped.notified().await;
            }
        };
        // Past this time, `admit` refuses connections while too many are open.
        let _ = tokio::time::timeout(DROP_WAIT, dropped).await;
    }

    /// Admits a connection, and closes an idle one if a limit is reached.
    ///
    /// # Errors
    /// The reached limit, if no connection counted against it is idle.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, RefusalReason> {
        let ip = peer.to_canonical();
        let trusted = self.trusted.iter().any(|network| network.contains(&ip));
        let address = (!trusted).then(|| accounting_address(ip));
        let mut open = self.open.lock();
        let held = address.and_then(|ip| open.by_address.get(&ip)).map_or(0, BTreeSet::len);
        let longest_idle = if held >= self.limits.address {
            Some(open.longest_idle_of(address).ok_or(RefusalReason::Address)?)
        } else if open.all.len() >= self.limits.total {
            Some(open.longest_idle().ok_or(RefusalReason::Total)?)
        } else {
            None
        };
        if let Some(id) = longest_idle {
            open.displace(id);
        }
        if open.count() >= self.limits.total + 2 * CLOSING_MAX {
            return Err(RefusalReason::Total);
        }
        let state = Arc::new(ConnectionState {
            address,
            calls: AtomicUsize::new(0),
            last_used_ms: AtomicU64::new(self.now_ms()),
            version_known: AtomicBool::new(false),
            displaced: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let id = open.next;
        open.next += 1;
        open.all.insert(id, Arc::clone(&state));
        if let Some(ip) = address {
            open.by_address.entry(ip).or_default().insert(id);
        }
        update_gauge(&open);
        drop(open);
        Ok(Slot { connections: Arc::clone(self), id, state })
    }

    /// Closes the connection with the longest idle time, if any is idle.
    pub(super) fn make_room(&self) {
        let mut open = self.open.lock();
        if let Some(stale) = open.longest_idle() {
            open.displace(stale);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl OpenConnections {
    fn count(&self) -> usize {
        self.all.len() + self.closing.len() + self.aborted
    }

    /// Returns the connection of one address with the longest idle time.
    fn longest_idle_of(&self, address: Option<IpAddr>) -> Option<u64> {
        let ids = self.by_address.get(&address?)?.iter();
        longest_idle(ids.filter_map(|id| Some((*id, self.all.get(id)?))).take(SCAN_MAX))
    }

    /// Returns the connection with the longest idle time among the next [`SCAN_MAX`]; successive scans cover all
    /// connections.
    fn longest_idle(&mut self) -> Option<u64> {
        let (first, then) = (self.all.range(self.scan_from..), self.all.range(..self.scan_from));
        let scanned = first.chain(then).map(|(id, state)| (*id, state)).take(SCAN_MAX);
        let last = scanned.clone().last().map(|(id, _)| id);
        let found = longest_idle(scanned);
        self.scan_from = last.map_or(0, |id| id + 1);
        found
    }

    /// Asks a connection to close.
    fn displace(&mut self, id: u64) {
        let Some(state) = self.remove(id) else { return };
        counter!(CONNECTIONS_ENDED, "reason" => "displaced").increment(1);
        if self.closing.len() >= CLOSING_MAX
            && let Some((_, oldest)) = self.closing.pop_first()
        {
            oldest.abort.cancel();
            self.aborted += 1;
        }
        state.displaced.cancel();
        self.closing.insert(id, state);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<ConnectionState>> {
        let state = self.all.remove(&id)?;
        let Some(ip) = state.address else { return Some(state) };
        if let Some(ids) = self.by_address.get_mut(&ip) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&ip);
            }
        }
        Some(state)
    }
}

fn longest_idle<'a>(
    connections: impl Iterator<Item = (u64, &'a Arc<ConnectionState>)>,
) -> Option<u64> {
    let idle = connections.filter(|(_, state)| state.calls.load(Ordering::Relaxed) == 0);
    idle.min_by_key(|(_, state)| state.last_used_ms.load(Ordering::Relaxed)).map(|(id, _)| id)
}

fn update_gauge(open: &OpenConnections) {
    #[expect(clippy::cast_precision_loss, reason = "connections fit")]
    gauge!(CONNECTIONS).set(open.count() as f64);
}

/// The place of one connection among the limits; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    id: u64,
    state: Arc<ConnectionState>,
}

/// Why a connection must close gracefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// A new connection replaces it.
    Displaced,
    /// It was idle for too long.
    Idle,
}

impl Slot {
    /// Counts a call in flight until the response is dropped.
    pub(super) fn call(self: &Arc<Self>) -> CallInFlight {
        self.state.calls.fetch_add(1, Ordering::Relaxed);
        CallInFlight(Arc::clone(self))
    }

    /// Notes that the HTTP version is known, so that the connection gets [`CLOSE_GRACE`] to close.
    pub(super) fn mark_version_known(&self) {
        self.state.version_known.store(true, Ordering::Relaxed);
    }

    /// Waits until the connection must close gracefully.
    pub(super) async fn close_requested(&self) -> CloseReason {
        tokio::select! {
            () = self.state.displaced.cancelled() => CloseReason::Displaced,
            () = self.wait_idle() => {
                counter!(CONNECTIONS_ENDED, "reason" => "idle").increment(1);
                CloseReason::Idle
            }
        }
    }

    async fn wait_idle(&self) {
        let idle_max = self.connections.limits.idle;
        loop {
            let idle = self.idle_time();
            if idle.is_some_and(|idle| idle >= idle_max) {
                return;
            }
            tokio::time::sleep(idle.map_or(idle_max / 4, |idle| idle_max.saturating_sub(idle)))
                .await;
        }
    }

    /// Returns how long no call has been in flight, or `None` while one is.
    fn idle_time(&self) -> Option<Duration> {
        let used = self.state.last_used_ms.load(Ordering::Acquire);
        let idle = self.connections.now_ms().saturating_sub(used);
        (self.state.calls.load(Ordering::Acquire) == 0).then(|| Duration::from_millis(idle))
    }

    /// Waits until an idle connection that was asked to close can be dropped: its grace time is over, and no call
    /// arrived before the caller learned of it.
    pub(super) async fn wait_unused(&self) {
        loop {
            tokio::time::sleep(CLOSE_GRACE).await;
            if self.idle_time().is_some() {
                return;
            }
        }
    }

    /// Waits until the connection must be aborted, even with calls in flight.
    pub(super) async fn wait_abort(&self) {
        let late = async {
            self.state.displaced.cancelled().await;
            if self.state.version_known.load(Ordering::Relaxed) {
                tokio::time::sleep(CLOSE_GRACE).await;
            }
        };
        tokio::select! {
            () = late => {}
            () = self.state.abort.cancelled() => {}
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        if open.remove(self.id).is_none() && open.closing.remove(&self.id).is_none() {
            open.aborted = open.aborted.saturating_sub(1);
            self.connections.aborted_dropped.notify_one();
        }
        update_gauge(&open);
    }
}

/// A call in flight.
#[derive(Debug)]
pub(super) struct CallInFlight(Arc<Slot>);

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.last_used_ms.store(self.0.connections.now_ms(), Ordering::Release);
        state.calls.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
