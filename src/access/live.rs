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
use super::standing::{Place, Standing};
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::role::Role;

/// Why a stream was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The credential is no longer valid.
    CredentialGone,
    /// The role is now too low.
    RoleTooLow,
    /// The gateway is now hidden from the caller, or was removed.
    GatewayGone,
    /// The address or credentials of the gateway have changed.
    GatewayChanged,
    /// The access data is stale.
    Stale,
    /// The server is stopping.
    Draining,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::CredentialGone => Self::Unauthenticated { reason: Reason::CredentialInvalid },
            Ended::RoleTooLow => Self::Denied { why: "the role was lowered".to_owned() },
            Ended::GatewayGone => {
                Self::unavailable(Reason::GatewayUnreachable, "the gateway is no longer visible")
            }
            Ended::GatewayChanged => {
                Self::unavailable(Reason::GatewayUnreachable, "the gateway was changed, call again")
            }
            Ended::Stale => Self::unavailable(
                Reason::AccessStale,
                "the access data cannot be confirmed to be fresh",
            ),
            Ended::Draining => Self::unavailable(Reason::Draining, "the server is stopping"),
        }
    }
}

#[derive(Debug)]
struct Watched {
    standing: Standing,
    state: Arc<State>,
}

impl Watched {
    fn is_on(&self, gateway: GatewayId) -> bool {
        self.standing.place().gateway() == Some(gateway)
    }
}

#[derive(Debug)]
struct State {
    token: CancellationToken,
    why: Mutex<Option<Ended>>,
    /// Whether it ends at the start of a drain instead of at its end.
    ends_at_drain: AtomicBool,
}

impl State {
    fn end(&self, why: Ended) {
        self.why.lock().get_or_insert(why);
        self.token.cancel();
    }
}

/// All live streams of this process.
#[derive(Debug, Default)]
pub struct Live {
    streams: Mutex<HashMap<u64, Arc<Watched>>>,
    next: AtomicU64,
    /// Work that outlives its call; it is checked together with the streams.
    pub works: Arc<LiveWorks>,
    /// Changed under the lock of `streams`, so that no stream is registered in between.
    draining: AtomicBool,
}

impl Live {
    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<Watched>>> {
        self.streams.lock()
    }

    /// Registers a stream to which `caller` was admitted with `least` at `place`. Dropping the returned value
    /// unregisters it.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        caller: Caller,
        place: impl Into<Place>,
        least: Role,
    ) -> LiveStream {
        self.enter_as(Standing::new(caller, place.into(), least))
    }

    /// Registers a stream of a caller. Dropping the returned value unregisters it.
    #[must_use]
    pub fn enter_as(self: &Arc<Self>, standing: Standing) -> LiveStream {
        let state = Arc::new(State {
            token: CancellationToken::new(),
            why: Mutex::new(None),
            ends_at_drain: AtomicBool::new(false),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let watched = Watched { standing, state: Arc::clone(&state) };
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
    pub fn sweep(&self, snapshot: &Snapshot) {
        self.works.sweep(snapshot);
        // Checked outside the lock, which cores take for each stream that begins or ends.
        let streams: Vec<Arc<Watched>> = self.streams().values().cloned().collect();
        for watched in streams {
            if let Err(why) = watched.standing.check(snapshot) {
                watched.state.end(why);
            }
        }
    }

    /// Ends every stream to one gateway.
    pub fn end_gateway(&self, gateway: GatewayId, why: Ended) {
        for watched in self.streams().values().filter(|w| w.is_on(gateway)) {
            watched.state.end(why);
        }
    }

    /// Ends every stream that ends at the start of a drain, and from now on each new one.
    pub fn drain(&self) {
        let streams = self.streams();
        self.draining.store(true, Ordering::Relaxed);
        for watched in streams.values() {
            if watched.state.ends_at_drain.load(Ordering::Relaxed) {
                watched.state.end(Ended::Draining);
            }
        }
    }

    /// Ends every stream, and every call that is registered here.
    pub fn end_all(&self, why: Ended) {
        for watched in self.streams().values() {
            watched.state.end(why);
        }
    }
}

/// A registered stream.
#[derive(Debug)]
pub struct LiveStream {
    live: Arc<Live>,
    id: u64,
    state: Arc<State>,
}

impl LiveStream {
    /// Makes the stream end when a drain begins: for streamed responses, which callers resume elsewhere.
    #[must_use]
    pub fn ending_at_drain(self) -> Self {
        let streams = self.live.streams();
        self.state.ends_at_drain.store(true, Ordering::Relaxed);
        if self.live.draining.load(Ordering::Relaxed) {
            self.state.end(Ended::Draining);
        }
        drop(streams);
        self
    }

    /// Returns the token that is canceled when the stream must end.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.state.token.clone()
    }

    /// Returns why the stream must end, or `None` if it can continue.
    #[must_use]
    pub fn why(&self) -> Option<Ended> {
        *self.state.why.lock()
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        self.live.streams().remove(&self.id);
    }
}
