//! The connections of one runtime to one gateway for calls with response streams, each shared by many calls.
//!
//! Invariants
//! - a connection is opened once for all calls that wait for it, and no more calls wait than it has room for;
//! - connections are filled one after the other, so that few are open.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::bounds::Seat;
use super::channels::Answer;
use super::connection::{Connection, Lease};
use crate::error::Error;

/// Maximum number of calls that wait for the same connection. Each holds up to three stream handles until its response
/// begins.
const WAITING_MAX: usize = 64;

/// The shared connections.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Slot>,
    next: u64,
}

/// Slot for one connection.
#[derive(Debug)]
struct Slot {
    id: u64,
    /// The `connection_version` of the target.
    version: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Being opened; the task sends one result. The `Arc` counts the waiting calls.
    Opening(watch::Receiver<Option<Answer>>, Arc<()>),
    Open(Arc<Connection>),
}

/// A call that waits for a connection to open.
#[derive(Debug)]
pub(crate) struct Waiting {
    answer: watch::Receiver<Option<Answer>>,
    _counted: Arc<()>,
}

/// Result of a request for a shared connection.
#[derive(Debug)]
pub(crate) enum Shared {
    /// A lease of an open connection.
    Open(Lease),
    /// A wait for a connection that another call opens.
    Opening(Waiting),
    /// A new slot, for which this call must open the connection.
    New(New),
    /// The target is stale.
    Old,
}

/// A connection that is to be opened.
#[derive(Debug)]
pub(crate) struct New {
    /// Id of its slot.
    pub(crate) id: u64,
    /// Permit for the connection.
    pub(crate) seat: Seat,
    /// Where its task sends the result.
    pub(crate) answered: watch::Sender<Option<Answer>>,
    /// This call's own wait for the connection.
    pub(crate) waiting: Waiting,
}

impl Streams {
    /// Returns a share of a connection of this `connection_version`. `seat` returns `None` if the version is no longer
    /// that of the target.
    ///
    /// # Errors
    /// Those of `seat`.
    pub(crate) fn take(
        &self,
        version: u64,
        seat: impl FnOnce() -> Result<Option<Seat>, Error>,
    ) -> Result<Shared, Error> {
        let mut slots = self.0.lock();
        for slot in slots.taken.iter().filter(|slot| slot.version == version) {
            match &slot.state {
                State::Open(connection) => {
                    if let Some(lease) = connection.lease_at_once() {
                        return Ok(Shared::Open(lease));
                    }
                }
                State::Opening(answer, waiting) if Arc::strong_count(waiting) <= WAITING_MAX => {
                    return Ok(Shared::Opening(Waiting::new(answer, waiting)));
                }
                State::Opening(..) => {}
            }
        }
        let Some(seat) = seat()? else { return Ok(Shared::Old) };
        slots.taken.retain(|slot| slot.version == version && slot.state.is_alive());
        let id = slots.next;
        slots.next += 1;
        let ((answered, answer), counted) = (watch::channel(None), Arc::new(()));
        let waiting = Waiting::new(&answer, &counted);
        slots.taken.push(Slot { id, version, state: State::Opening(answer, counted) });
        Ok(Shared::New(New { id, seat, answered, waiting }))
    }

    /// Stores an opened connection in its slot; frees the slot if opening failed.
    pub(crate) fn opened(&self, id: u64, connection: Option<&Arc<Connection>>) {
        let mut slots = self.0.lock();
        match connection {
            None => slots.taken.retain(|slot| slot.id != id),
            Some(connection) => {
                if let Some(slot) = slots.taken.iter_mut().find(|slot| slot.id == id) {
                    slot.state = State::Open(Arc::clone(connection));
                }
            }
        }
    }
}

impl State {
    fn is_alive(&self) -> bool {
        match self {
            Self::Opening(..) => true,
            Self::Open(connection) => connection.is_open(),
        }
    }
}

impl Waiting {
    fn new(answer: &watch::Receiver<Option<Answer>>, counted: &Arc<()>) -> Self {
        Self { answer: answer.clone(), _counted: Arc::clone(counted) }
    }

    /// Waits for the connection. Returns `None` if it has no room left, and an error if it could not be opened.
    pub(crate) async fn lease(mut self) -> Option<Result<Lease, ()>> {
        let answer = match self.answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            // The task was dropped without a result because its runtime is stopping.
            Err(_) => None,
        };
        match answer {
            Some(Ok(connection)) => connection.lease_at_once().map(Ok),
            Some(Err(())) | None => Some(Err(())),
        }
    }
}
