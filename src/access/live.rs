//! Live streams: each is ended within a second of its caller losing access.
//!
//! A stream is registered with the role that admitted it. Whenever the snapshot changes, and at least twice a second,
//! every stream is checked again: caller, credential, role, freshness. A stream that fails the check is canceled with
//! the reason. When the server drains, streams are canceled at once; a unary call that is registered here continues
//! until the end of the drain.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::live_work::LiveWorks;
use super::principal::Caller;
use super::snapshot::Snapshot;
use super::standing::{AccessCheck, RoleScope};
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::role::Role;

/// Why a stream was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The credential is no longer valid.
    CredentialGone,
    /// The role is now too low.
    RoleTooLow,
    /// The gateway is now hidden from the caller.
    GatewayGone,
    /// The gateway was removed.
    GatewayRemoved,
    /// The address or credentials of the gateway have changed.
    GatewayChanged,
    /// The access data is stale.
    Stale,
    /// The server is stopping.
    Draining,
}

impl From<EndReason> for Error {
    fn from(ended: EndReason) -> Self {
        match ended {
            EndReason::CredentialGone => {
                Self::Unauthenticated { reason: Reason::CredentialInvalid }
            }
            EndReason::RoleTooLow => Self::Denied { why: "the role was lowered".to_owned() },
            EndReason::GatewayGone => {
                Self::unavailable(Reason::GatewayUnreachable, "the gateway is no longer visible")
            }
            EndReason::GatewayRemoved => {
                Self::unavailable(Reason::GatewayUnreachable, "the gateway was removed")
            }
            EndReason::GatewayChanged => {
                Self::unavailable(Reason::GatewayUnreachable, "the gateway was changed, call again")
            }
            EndReason::Stale => Self::unavailable(
                Reason::AccessStale,
                "the access data cannot be confirmed to be fresh",
            ),
            EndReason::Draining => Self::unavailable(Reason::Draining, "the server is stopping"),
        }
    }
}

#[derive(Debug)]
struct StreamEntry {
    access_check: AccessCheck,
    state: Arc<StreamState>,
}

impl StreamEntry {
    fn is_on(&self, gateway: GatewayId) -> bool {
        self.access_check.scope().gateway() == Some(gateway)
    }
}

#[derive(Debug)]
struct StreamState {
    token: CancellationToken,
    reason: Mutex<Option<EndReason>>,
    /// Whether it ends at the start of a drain instead of at its end.
    ends_at_drain: AtomicBool,
}

impl StreamState {
    fn end(&self, reason: EndReason) {
        self.reason.lock().get_or_insert(reason);
        self.token.cancel();
    }
}

/// All live streams of this process.
#[derive(Debug, Default)]
pub struct LiveStreams {
    streams: Mutex<HashMap<u64, Arc<StreamEntry>>>,
    next: AtomicU64,
    /// Work that outlives its call; it is checked together with the streams.
    pub works: Arc<LiveWorks>,
    /// Changed under the lock of `streams`, so that no stream is registered in between.
    draining: AtomicBool,
}

impl LiveStreams {
    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<StreamEntry>>> {
        self.streams.lock()
    }

    /// Registers a stream to which `caller` was admitted with `min_role` in `scope`. Dropping the returned value
    /// unregisters it.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        caller: Caller,
        scope: impl Into<RoleScope>,
        min_role: Role,
    ) -> LiveStream {
        self.register_check(AccessCheck::new(caller, scope.into(), min_role))
    }

    /// Registers a stream of a caller. Dropping the returned value unregisters it.
    #[must_use]
    pub fn register_check(self: &Arc<Self>, access_check: AccessCheck) -> LiveStream {
        let state = Arc::new(StreamState {
            token: CancellationToken::new(),
            reason: Mutex::new(None),
            ends_at_drain: AtomicBool::new(false),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let watched = StreamEntry { access_check, state: Arc::clone(&state) };
        self.streams().insert(id, Arc::new(watched));
        LiveStream { live: Arc::clone(self), id, state }
    }

    /// Returns the number of streams.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams().len()
    }

    /// Returns the number of streams to one gateway.
    #[must_use]
    pub fn count_on(&self, gateway: GatewayId) -> usize {
        self.streams().values().filter(|watched| watched.is_on(gateway)).count()
    }

    /// Checks every stream against the current snapshot.
    pub fn recheck_all(&self, snapshot: &Snapshot) {
        self.works.recheck_all(snapshot);
        // Checked outside the lock, which cores take for each stream that begins or ends.
        let streams: Vec<Arc<StreamEntry>> = self.streams().values().cloned().collect();
        for watched in streams {
            if let Err(reason) = watched.access_check.check(snapshot) {
                watched.state.end(reason);
            }
        }
    }

    /// Ends every stream to one gateway.
    pub fn end_gateway_streams(&self, gateway: GatewayId, reason: EndReason) {
        for watched in self.streams().values().filter(|w| w.is_on(gateway)) {
            watched.state.end(reason);
        }
    }

    /// Ends every stream that ends at the start of a drain, and from now on each new one.
    pub fn drain(&self) {
        let streams = self.streams();
        self.draining.store(true, Ordering::Relaxed);
        for watched in streams.values() {
            if watched.state.ends_at_drain.load(Ordering::Relaxed) {
                watched.state.end(EndReason::Draining);
            }
        }
    }

    /// Ends every stream, and every call that is registered here.
    pub fn end_all(&self, reason: EndReason) {
        for watched in self.streams().values() {
            watched.state.end(reason);
        }
    }
}

/// A registered stream.
#[derive(Debug)]
pub struct LiveStream {
    live: Arc<LiveStreams>,
    id: u64,
    state: Arc<StreamState>,
}

impl LiveStream {
    /// Makes the stream end when a drain begins: for streamed responses, which callers resume elsewhere.
    #[must_use]
    pub fn end_at_drain(self) -> Self {
        let streams = self.live.streams();
        self.state.ends_at_drain.store(true, Ordering::Relaxed);
        if self.live.draining.load(Ordering::Relaxed) {
            self.state.end(EndReason::Draining);
        }
        drop(streams);
        self
    }

    /// Returns the token that is canceled when the stream must end.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.state.token.clone()
    }

    /// Returns why the stream must end, or `None` if it can continue.
    #[must_use]
    pub fn end_reason(&self) -> Option<EndReason> {
        *self.state.reason.lock()
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        self.live.streams().remove(&self.id);
    }
}
