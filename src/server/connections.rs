//! Open connections of callers: limits in total and per address, and the choice of a connection to replace.
//!
//! Invariants
//! - at a limit, a new connection replaces the connection with the longest idle time, of the same address if the limit
//!   is that of the address; if none is idle, the new connection is refused;
//! - a connection with a call in flight is never closed to make room;
//! - a connection that was asked to close and does not is aborted; closing connections have their own limit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Body as HttpBody, Frame, SizeHint};
use ipnet::IpNet;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use crate::config::Limits;
use crate::net::guard::host_of;
use crate::telemetry::metrics::{CONNECTIONS, CONNECTIONS_ENDED, CONNECTIONS_REFUSED};

/// Maximum number of connections that were asked to close and still have [`END_GRACE`] for it; beyond it, the oldest is
/// aborted.
pub(super) const ENDING_MAX: usize = 64;
/// Time that a connection gets to close gracefully.
const END_GRACE: Duration = Duration::from_millis(500);
/// Maximum number of connections that one scan for the longest idle time looks at.
const SCAN_MAX: usize = 1_024;

/// Why a new connection was closed at once; the value of the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The total limit is reached.
    Total,
    /// The limit of the address is reached.
    Address,
    /// The queue of a core is full.
    Core,
    /// The process has no free file descriptor.
    Descriptors,
}

impl Refused {
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
pub(super) struct Bounds {
    /// Maximum in total.
    pub(super) total: usize,
    /// Maximum from one address.
    pub(super) address: usize,
    /// Time after which an idle connection is closed.
    pub(super) idle: Duration,
}

impl Bounds {
    /// Returns the configured limits, or lower ones if the file descriptors do not suffice. One address can have at
    /// most half of the total, so that it cannot lock out all others.
    pub(super) fn of(limits: &Limits, room: usize) -> Self {
        let configured = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        let total = configured(limits.connections_max).min(room);
        let address = configured(limits.address_connections_max).min((total / 2).max(1));
        Self { total, address, idle: limits.connection_idle() }
    }
}

/// All connections of this listener.
#[derive(Debug)]
pub(super) struct Connections {
    bounds: Bounds,
    /// Trusted proxies, each of which carries many callers: their connections count only in total.
    trusted: Vec<IpNet>,
    started: Instant,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Connections that were not asked to close.
    all: BTreeMap<u64, Arc<State>>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    /// Connections that were asked to close.
    ending: BTreeMap<u64, Arc<State>>,
    /// Number of connections that were aborted and are not dropped yet.
    cut: usize,
    /// First id of the next scan.
    scan_from: u64,
}

#[derive(Debug)]
struct State {
    /// `None` for a trusted proxy.
    address: Option<IpAddr>,
    calls: AtomicUsize,
    /// Time of the end of the last call, or of the accept, since `started`.
    used_ms: AtomicU64,
    /// Whether the HTTP version is known, so that a graceful close is possible.
    spoken: AtomicBool,
    displaced: CancellationToken,
    cut: CancellationToken,
}

impl Connections {
    pub(super) fn new(bounds: Bounds, trusted: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { bounds, trusted, started: Instant::now(), open: Mutex::default() })
    }

    /// Admits a connection, and closes an idle one if a limit is reached.
    ///
    /// # Errors
    /// The reached limit, if no connection counted against it is idle.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Slot, Refused> {
        let ip = peer.to_canonical();
        let trusted = self.trusted.iter().any(|network| network.contains(&ip));
        let address = (!trusted).then(|| host_of(ip));
        let mut open = self.open.lock();
        let held = address.and_then(|ip| open.by_address.get(&ip)).map_or(0, BTreeSet::len);
        let longest_idle = if held >= self.bounds.address {
            Some(open.stalest_of(address).ok_or(Refused::Address)?)
        } else if open.all.len() >= self.bounds.total {
            Some(open.stalest().ok_or(Refused::Total)?)
        } else {
            None
        };
        if let Some(id) = longest_idle {
            open.displace(id);
        }
        if open.count() >= self.bounds.total + 2 * ENDING_MAX {
            return Err(Refused::Total);
        }
        let state = Arc::new(State {
            address,
            calls: AtomicUsize::new(0),
            used_ms: AtomicU64::new(self.now_ms()),
            spoken: AtomicBool::new(false),
            displaced: CancellationToken::new(),
            cut: CancellationToken::new(),
        });
        let id = open.next;
        open.next += 1;
        open.all.insert(id, Arc::clone(&state));
        if let Some(ip) = address {
            open.by_address.entry(ip).or_default().insert(id);
        }
        show(&open);
        drop(open);
        Ok(Slot { connections: Arc::clone(self), id, state })
    }

    /// Closes the connection with the longest idle time, if any is idle.
    pub(super) fn make_room(&self) {
        let mut open = self.open.lock();
        if let Some(stale) = open.stalest() {
            open.displace(stale);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Open {
    fn count(&self) -> usize {
        self.all.len() + self.ending.len() + self.cut
    }

    /// Returns the connection of one address with the longest idle time.
    fn stalest_of(&self, address: Option<IpAddr>) -> Option<u64> {
        let ids = self.by_address.get(&address?)?.iter();
        stalest(ids.filter_map(|id| Some((*id, self.all.get(id)?))).take(SCAN_MAX))
    }

    /// Returns the connection with the longest idle time among the next [`SCAN_MAX`]; successive scans cover all
    /// connections.
    fn stalest(&mut self) -> Option<u64> {
        let (first, then) = (self.all.range(self.scan_from..), self.all.range(..self.scan_from));
        let scanned = first.chain(then).map(|(id, state)| (*id, state)).take(SCAN_MAX);
        let last = scanned.clone().last().map(|(id, _)| id);
        let found = stalest(scanned);
        self.scan_from = last.map_or(0, |id| id + 1);
        found
    }

    /// Asks a connection to close.
    fn displace(&mut self, id: u64) {
        let Some(state) = self.forget(id) else { return };
        counter!(CONNECTIONS_ENDED, "reason" => "displaced").increment(1);
        if self.ending.len() >= ENDING_MAX
            && let Some((_, oldest)) = self.ending.pop_first()
        {
            oldest.cut.cancel();
            self.cut += 1;
        }
        state.displaced.cancel();
        self.ending.insert(id, state);
    }

    fn forget(&mut self, id: u64) -> Option<Arc<State>> {
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

fn stalest<'a>(of: impl Iterator<Item = (u64, &'a Arc<State>)>) -> Option<u64> {
    let idle = of.filter(|(_, state)| state.calls.load(Ordering::Relaxed) == 0);
    idle.min_by_key(|(_, state)| state.used_ms.load(Ordering::Relaxed)).map(|(id, _)| id)
}

fn show(open: &Open) {
    #[expect(clippy::cast_precision_loss, reason = "connections fit")]
    gauge!(CONNECTIONS).set(open.count() as f64);
}

/// The place of one connection among the limits; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Arc<Connections>,
    id: u64,
    state: Arc<State>,
}

/// Why a connection must close gracefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
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

    /// Notes that the HTTP version is known, so that the connection gets [`END_GRACE`] to close.
    pub(super) fn speaks(&self) {
        self.state.spoken.store(true, Ordering::Relaxed);
    }

    /// Waits until the connection must close gracefully.
    pub(super) async fn leave(&self) -> Leave {
        tokio::select! {
            () = self.state.displaced.cancelled() => Leave::Displaced,
            () = self.idle() => {
                counter!(CONNECTIONS_ENDED, "reason" => "idle").increment(1);
                Leave::Idle
            }
        }
    }

    async fn idle(&self) {
        let most = self.connections.bounds.idle;
        loop {
            let idle = self.idle_for();
            if idle.is_some_and(|idle| idle >= most) {
                return;
            }
            tokio::time::sleep(idle.map_or(most / 4, |idle| most.saturating_sub(idle))).await;
        }
    }

    /// Returns how long no call has been in flight, or `None` while one is.
    fn idle_for(&self) -> Option<Duration> {
        let used = self.state.used_ms.load(Ordering::Acquire);
        let idle = self.connections.now_ms().saturating_sub(used);
        (self.state.calls.load(Ordering::Acquire) == 0).then(|| Duration::from_millis(idle))
    }

    /// Waits until an idle connection that was asked to close can be dropped: its grace time is over, and no call
    /// arrived before the caller learned of it.
    pub(super) async fn unused(&self) {
        loop {
            tokio::time::sleep(END_GRACE).await;
            if self.idle_for().is_some() {
                return;
            }
        }
    }

    /// Waits until the connection must be aborted, even with calls in flight.
    pub(super) async fn cut(&self) {
        let late = async {
            self.state.displaced.cancelled().await;
            if self.state.spoken.load(Ordering::Relaxed) {
                tokio::time::sleep(END_GRACE).await;
            }
        };
        tokio::select! {
            () = late => {}
            () = self.state.cut.cancelled() => {}
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        if open.forget(self.id).is_none() && open.ending.remove(&self.id).is_none() {
            open.cut = open.cut.saturating_sub(1);
        }
        show(&open);
    }
}

/// A call in flight.
#[derive(Debug)]
pub(super) struct CallInFlight(Arc<Slot>);

impl Drop for CallInFlight {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.used_ms.store(self.0.connections.now_ms(), Ordering::Release);
        state.calls.fetch_sub(1, Ordering::Release);
    }
}

/// Body of a response whose call is in flight until the body is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    body: Body,
    _call: CallInFlight,
}

impl Counted {
    pub(super) fn new(body: Body, call: CallInFlight) -> Self {
        Self { body, _call: call }
    }
}

impl HttpBody for Counted {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
