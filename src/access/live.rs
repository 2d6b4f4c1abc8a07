//! Live streams: each is ended within a second of its caller losing the right to it.
//!
//! A stream registers with the role that let it in. Whenever the snapshot moves, and at least twice a second, every
//! stream is checked again: caller, credential, role, freshness. What no longer holds is cancelled with its reason. When
//! the server drains, streams are cancelled at once; a unary call that is registered here goes on to the end of the drain.

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
    /// The credential is no longer good.
    CredentialGone,
    /// The role is too low now.
    RoleTooLow,
    /// The gateway is hidden from the caller now, or gone.
    GatewayGone,
    /// The gateway's address or credentials have changed.
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
    /// Whether it ends when a drain begins, and not with the drain.
    ends_at_drain: AtomicBool,
}

impl State {
    fn end(&self, why: Ended) {
        self.why.lock().get_or_insert(why);
        self.token.cancel();
    }
}

/// Every live stream of this process.
#[derive(Debug, Default)]
pub struct Live {
    streams: Mutex<HashMap<u64, Arc<Watched>>>,
    next: AtomicU64,
    /// Work that outlives its call, which is checked whenever the streams are.
    pub works: Arc<LiveWorks>,
    /// Changed under the lock of `streams`, so that no stream slips in between.
    draining: AtomicBool,
}

impl Live {
    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<Watched>>> {
        self.streams.lock()
    }

    /// Registers a stream that `caller` was let into with `least` at `place`. Dropping the answer takes it out again.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        caller: Caller,
        place: impl Into<Place>,
        least: Role,
    ) -> LiveStream {
        self.enter_as(Standing::new(caller, place.into(), least))
    }

    /// Registers a stream of a caller. Dropping the answer takes it out again.
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

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams().len()
    }

    /// How many there are to one gateway.
    #[must_use]
    pub fn count_on(&self, gateway: GatewayId) -> usize {
        self.streams().values().filter(|watched| watched.is_on(gateway)).count()
    }

    /// Checks every stream against the snapshot as it is now.
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

    /// Ends every stream that is to end when a drain begins, and from now on each that comes.
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
    /// Ends when a drain begins: for answers that stream, whose callers resume elsewhere.
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

    /// Cancelled when the stream must end.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.state.token.clone()
    }

    /// Why it must end, once it must.
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
