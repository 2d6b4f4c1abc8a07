//! Turns at the password hash, which is slow on purpose.
//!
//! A flood of wrong passwords would otherwise use all slots at all times, and no login could succeed (T16).
//!
//! Invariants
//! - a caller waits for a slot, but only for a short time; the number of waiting callers is limited, in total and per
//!   address;
//! - the addresses that wait take turns, so that the calls of one address do not delay those of another; if the room is
//!   full, the address with the most waiting calls makes room;
//! - familiar callers, such as an account at an address from which it has logged in before, get three of four turns
//!   while others wait too, so that a flood of strangers cannot keep them out, nor they the strangers;
//! - a slot is returned when its work has ended, even if its caller no longer waits for the result.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::{Error, Reason};
use crate::net::guard::accounting_address;

/// Longest time that a caller waits for a slot.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Maximum number of waiting familiar callers, in total and per address: the people of an office share an address.
const FAMILIAR_MAX: usize = 64;
const FAMILIAR_PER_ADDRESS_MAX: usize = 32;
/// The same for other callers.
const STRANGERS_MAX: usize = 32;
const STRANGERS_PER_ADDRESS_MAX: usize = 4;
/// While familiar callers wait, one turn out of this number is for strangers.
const TURNS_PER_STRANGER: u32 = 4;
const RETRY_IN: Duration = Duration::from_secs(1);

/// A caller that needs a password hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCaller {
    familiar: bool,
    /// Unknown addresses are one address.
    address: Option<IpAddr>,
}

impl HashCaller {
    /// Returns a caller that has proven who it is, or an account at an address from which it has logged in before.
    #[must_use]
    pub fn familiar(address: Option<IpAddr>) -> Self {
        Self { familiar: true, address: address.map(accounting_address) }
    }

    /// Returns any other caller.
    #[must_use]
    pub fn stranger(address: Option<IpAddr>) -> Self {
        Self { familiar: false, address: address.map(accounting_address) }
    }
}

/// The slots, and the callers that wait for one.
#[derive(Debug)]
pub struct HashTurns {
    wait: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    familiar: Queue,
    strangers: Queue,
    /// Turns of familiar callers since the last turn of a stranger.
    turns: u32,
    next_id: u64,
}

/// The right to hash one password.
#[derive(Debug)]
pub struct HashSlot(Arc<HashTurns>);

impl Drop for HashSlot {
    fn drop(&mut self) {
        self.0.state.lock().release();
    }
}

impl HashTurns {
    /// Creates `slots` slots. No caller waits longer than `wait` for one.
    #[must_use]
    pub fn new(slots: usize, wait: Duration) -> Arc<Self> {
        let state = State {
            free: slots.max(1),
            familiar: Queue::new(FAMILIAR_MAX, FAMILIAR_PER_ADDRESS_MAX),
            strangers: Queue::new(STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX),
            turns: 0,
            next_id: 0,
        };
        Arc::new(Self { wait, state: Mutex::new(state) })
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// `BUSY` if too many callers wait, or if no slot is free in time.
    pub async fn acquire(self: &Arc<Self>, caller: HashCaller) -> Result<HashSlot, Error> {
        let busy = || Error::Exhausted { reason: Reason::Busy, retry_in: RETRY_IN };
        let (sender, granted) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            // Slots are free only while no caller waits.
            if state.free > 0 {
                state.free -= 1;
                return Ok(HashSlot(Arc::clone(self)));
            }
            let id = state.next_id;
            state.next_id += 1;
            let place = Place { id, address: caller.address, round: 0, grant: sender };
            if !state.queue(caller.familiar).push(place) {
                return Err(busy());
            }
            id
        };
        let mut waiting = Waiting { turns: self, familiar: caller.familiar, id, granted };
        match tokio::time::timeout(self.wait, &mut waiting.granted).await {
            Ok(Ok(())) => Ok(HashSlot(Arc::clone(self))),
            // It made room for another address, or waited too long.
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

impl State {
    fn queue(&mut self, familiar: bool) -> &mut Queue {
        if familiar { &mut self.familiar } else { &mut self.strangers }
    }

    /// Passes a slot to the next caller, or keeps it free if no caller waits.
    fn release(&mut self) {
        let is_stranger = if self.familiar.places.is_empty() || self.strangers.places.is_empty() {
            self.familiar.places.is_empty()
        } else {
            self.turns = (self.turns + 1) % TURNS_PER_STRANGER;
            self.turns == 0
        };
        match self.queue(!is_stranger).pop() {
            // The receiver exists: `Waiting` removes its place before it drops the receiver.
            Some(place) => {
                let _ = place.grant.send(());
            }
            None => self.free += 1,
        }
    }
}

/// A caller that waits.
struct Waiting<'a> {
    turns: &'a Arc<HashTurns>,
    familiar: bool,
    id: u64,
    granted: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock();
        state.queue(self.familiar).remove(self.id);
        // A slot that was granted, but not taken.
        if self.granted.try_recv().is_ok() {
            state.release();
        }
    }
}

/// The place of one waiting caller.
#[derive(Debug)]
struct Place {
    id: u64,
    address: Option<IpAddr>,
    /// Each address has one place in each round.
    round: u64,
    grant: oneshot::Sender<()>,
}

/// Waiting callers of one kind. It is short, so it is searched from end to end.
#[derive(Debug)]
struct Queue {
    places: Vec<Place>,
    /// Round of the last turn.
    round: u64,
    places_max: usize,
    per_address_max: usize,
}

impl Queue {
    fn new(places_max: usize, per_address_max: usize) -> Self {
        Self { places: Vec::new(), round: 0, places_max, per_address_max }
    }

    fn count(&self, address: Option<IpAddr>) -> usize {
        self.places.iter().filter(|place| place.address == address).count()
    }

    /// Adds a place in the first round without a place of its address. Returns `false` if there is no room.
    fn push(&mut self, mut place: Place) -> bool {
        let own = self.count(place.address);
        if own >= self.per_address_max || !self.make_room(own) {
            return false;
        }
        let of_address = self.places.iter().filter(|other| other.address == place.address);
        let last = of_address.map(|other| other.round).max();
        place.round = last.map_or(self.round, |last| last + 1);
        self.places.push(place);
        true
    }

    /// Makes room for an address with `own` places, if another address has at least two more.
    fn make_room(&mut self, own: usize) -> bool {
        if self.places.len() < self.places_max {
            return true;
        }
        let count = |place: &Place| self.count(place.address);
        let longest = self.places.iter().max_by_key(|place| (count(place), place.round));
        let Some((id, count)) = longest.map(|place| (place.id, count(place))) else { return false };
        if count < own + 2 {
            return false;
        }
        self.remove(id);
        true
    }

    /// Takes the oldest place of the earliest round.
    fn pop(&mut self) -> Option<Place> {
        let by_turn = |(_, place): &(usize, &Place)| (place.round, place.id);
        let (at, _) = self.places.iter().enumerate().min_by_key(by_turn)?;
        let place = self.places.remove(at);
        self.round = place.round;
        Some(place)
    }

    fn remove(&mut self, id: u64) {
        self.places.retain(|place| place.id != id);
    }
}

#[cfg(test)]
#[path = "hash_turns_tests.rs"]
mod tests;
