//! The connections of one runtime to one gateway for calls that answer with a stream, each shared by many of them.
//!
//! Invariants
//! - a connection is opened once for all who wait for it, and no more wait for it than it has room for;
//! - connections are filled one after the other, so that few are open.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::bounds::Seat;
use super::channels::Answer;
use super::connection::{Connection, Lease};
use crate::error::Error;

/// Calls that wait for the same connection. Each holds up to three of a connection's handles until its answer begins.
const WAITING_MAX: usize = 64;

/// The connections.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Slot>,
    next: u64,
}

/// A place for one connection.
#[derive(Debug)]
struct Slot {
    id: u64,
    /// The `connection_version` of the target.
    version: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The task answers once. What is counted is who waits.
    Opening(watch::Receiver<Option<Answer>>, Arc<()>),
    Open(Arc<Connection>),
}

/// A wait for a connection that is being opened.
#[derive(Debug)]
pub(crate) struct Waiting {
    answer: watch::Receiver<Option<Answer>>,
    _counted: Arc<()>,
}

/// What a call gets.
#[derive(Debug)]
pub(crate) enum Shared {
    /// A share.
    Open(Lease),
    /// A share once it is open.
    Opening(Waiting),
    /// The same; it is to be opened in this place by who gets this.
    New(New),
    /// The target is not the gateway's any more.
    Old,
}

/// A connection that is to be opened.
#[derive(Debug)]
pub(crate) struct New {
    /// Its place.
    pub(crate) id: u64,
    /// What lets it be open.
    pub(crate) seat: Seat,
    /// Where its task answers.
    pub(crate) answered: watch::Sender<Option<Answer>>,
    /// The wait for it.
    pub(crate) waiting: Waiting,
}

impl Streams {
    /// A share of a connection of this `connection_version`; `seat` gives none where the version is not the target's now.
    ///
    /// # Errors
    /// The seat's.
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

    /// Puts a connection into its place, or frees the place.
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

    /// A share of the connection; none where it has no room any more, an error where it could not be opened.
    pub(crate) async fn lease(mut self) -> Option<Result<Lease, ()>> {
        let answer = match self.answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            // The task has gone without a word, which a stopping runtime does.
            Err(_) => None,
        };
        match answer {
            Some(Ok(connection)) => connection.lease_at_once().map(Ok),
            Some(Err(())) | None => Some(Err(())),
        }
    }
}
