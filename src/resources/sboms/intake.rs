//! Limits on how many documents are received, parsed and compared at once.
//!
//! Invariants
//! - memory is bounded: a document holds at most its own bytes while it is received, and only a limited number is
//!   received at once (T16);
//! - one caller cannot take all slots, even if it sends slowly;
//! - parsing runs on a blocking thread, never on a thread that serves calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Reason};

/// Documents that are received or wait to be stored at once.
pub const RECEIVING_MAX: usize = 4;
/// Documents of one caller among them.
pub const RECEIVING_OF_CALLER_MAX: usize = 2;
/// Pairs of SBOMs that are loaded for a comparison at once.
const COMPARING_MAX: usize = 2;
/// Fleet-wide searches at once, so that long ones leave database connections to other calls.
const SEARCHING_MAX: usize = 3;
/// Searches of one caller among them.
const SEARCHING_OF_CALLER_MAX: usize = 2;
/// Documents that are read again at once because their rows are of older rules, besides those of the worker.
const RECOMPUTING_MAX: usize = 1;
/// Documents that are parsed or compared at once.
const WORKING_MAX: usize = 2;
/// How long a call waits for a slot. It holds no document while it waits.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_IN: Duration = Duration::from_secs(5);

/// Slots for uploads, searches and comparisons.
#[derive(Debug)]
pub struct SbomLimits {
    receiving: Arc<Semaphore>,
    callers: CallerSlots,
    searching: Arc<Semaphore>,
    searchers: CallerSlots,
    comparing: Arc<Semaphore>,
    recomputing: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Default for SbomLimits {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            receiving: places(RECEIVING_MAX),
            callers: CallerSlots::new(RECEIVING_OF_CALLER_MAX),
            searching: places(SEARCHING_MAX),
            searchers: CallerSlots::new(SEARCHING_OF_CALLER_MAX),
            comparing: places(COMPARING_MAX),
            recomputing: places(RECOMPUTING_MAX),
            working: places(WORKING_MAX),
        }
    }
}

/// Slots of each caller that holds or waits for one.
#[derive(Debug)]
struct CallerSlots {
    per_caller: usize,
    slots: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl CallerSlots {
    fn new(each: usize) -> Self {
        Self { per_caller: each, slots: Mutex::default() }
    }

    fn slots_of(&self, caller: &str) -> Arc<Semaphore> {
        let mut all = self.slots.lock();
        // A caller that holds or waits for a slot has its own reference to the semaphore.
        all.retain(|_, places| Arc::strong_count(places) > 1);
        let places = all.entry(caller.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.per_caller))))
    }
}

/// A slot of one call. Dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    _of_caller: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl SbomLimits {
    /// Waits for a slot to receive a document.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn acquire_receive(&self, caller: &str) -> Result<Slot, Error> {
        let of_caller = acquire(&self.callers.slots_of(caller)).await?;
        Ok(Slot { _of_caller: of_caller, _of_all: acquire(&self.receiving).await? })
    }

    /// Waits for a slot to search the fleet.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn acquire_search(&self, caller: &str) -> Result<Slot, Error> {
        let of_caller = acquire(&self.searchers.slots_of(caller)).await?;
        Ok(Slot { _of_caller: of_caller, _of_all: acquire(&self.searching).await? })
    }

    /// Waits for a slot to load and compare two SBOMs. Dropping the permit frees it.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn acquire_compare(&self) -> Result<OwnedSemaphorePermit, Error> {
        acquire(&self.comparing).await
    }

    /// Waits for a slot to read a stored document again. Dropping the permit frees it.
    ///
    /// # Errors
    /// `BUSY` if no slot is free in time.
    pub async fn acquire_recompute(&self) -> Result<OwnedSemaphorePermit, Error> {
        acquire(&self.recomputing).await
    }

    /// Runs slow work on a blocking thread.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.working).acquire_owned().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        })
        .await
        .map_err(Error::internal)
    }
}

async fn acquire(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let turn = timeout(SLOT_TIMEOUT, Arc::clone(places).acquire_owned()).await;
    let busy = |_| Error::Exhausted { reason: Reason::Busy, retry_in: RETRY_IN };
    turn.map_err(busy)?.map_err(Error::internal)
}
