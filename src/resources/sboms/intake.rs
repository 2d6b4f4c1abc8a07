//! How many documents are received and read at once, and where.
//!
//! Invariants
//! - a document that is received holds at most its own bytes, and so many hold at once (T16);
//! - one caller leaves places to the others, however slowly it sends;
//! - reading one takes a thread of its own kind, never one that serves calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Reason};

/// Documents that are received, or wait to be stored, at once.
pub const RECEIVING_MAX: usize = 4;
/// Documents of one caller among them.
pub const RECEIVING_OF_CALLER_MAX: usize = 2;
/// Pairs of SBOMs that are loaded to be compared at once.
const COMPARING_MAX: usize = 2;
/// Searches over the fleet at once, so that long ones leave readers of the database to the other calls.
const SEARCHING_MAX: usize = 3;
/// Searches of one caller among them.
const SEARCHING_OF_CALLER_MAX: usize = 2;
/// Documents that are read or compared at once.
const WORKING_MAX: usize = 2;
/// How long a call waits for its turn; what comes of it holds no document yet.
const TURN_TIME: Duration = Duration::from_secs(10);
const RETRY_IN: Duration = Duration::from_secs(5);

/// The places that there are.
#[derive(Debug)]
pub struct Intake {
    receiving: Arc<Semaphore>,
    callers: Callers,
    searching: Arc<Semaphore>,
    searchers: Callers,
    comparing: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            receiving: places(RECEIVING_MAX),
            callers: Callers::of(RECEIVING_OF_CALLER_MAX),
            searching: places(SEARCHING_MAX),
            searchers: Callers::of(SEARCHING_OF_CALLER_MAX),
            comparing: places(COMPARING_MAX),
            working: places(WORKING_MAX),
        }
    }
}

/// The places of each caller that has a turn or waits for one.
#[derive(Debug)]
struct Callers {
    each: usize,
    places: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Callers {
    fn of(each: usize) -> Self {
        Self { each, places: Mutex::default() }
    }

    fn places_of(&self, caller: &str) -> Arc<Semaphore> {
        let mut all = self.places.lock();
        // Whoever has a turn or waits holds its own.
        all.retain(|_, places| Arc::strong_count(places) > 1);
        let places = all.entry(caller.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// A turn. It is over when this is dropped.
#[derive(Debug)]
pub struct Turn {
    _of_caller: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Intake {
    /// Waits for the turn of a document of this caller's that is to be received.
    ///
    /// # Errors
    /// `BUSY` where there is none in time.
    pub async fn turn(&self, caller: &str) -> Result<Turn, Error> {
        let of_caller = turn(&self.callers.places_of(caller)).await?;
        Ok(Turn { _of_caller: of_caller, _of_all: turn(&self.receiving).await? })
    }

    /// Waits for the turn of a search of this caller's over the fleet.
    ///
    /// # Errors
    /// `BUSY` where there is none in time.
    pub async fn turn_to_search(&self, caller: &str) -> Result<Turn, Error> {
        let of_caller = turn(&self.searchers.places_of(caller)).await?;
        Ok(Turn { _of_caller: of_caller, _of_all: turn(&self.searching).await? })
    }

    /// Waits for the turn of two SBOMs that are to be loaded and compared; it is over when the answer is dropped.
    pub async fn turn_to_compare(&self) -> Result<OwnedSemaphorePermit, Error> {
        turn(&self.comparing).await
    }

    /// Runs what takes a while off the threads that serve calls.
    pub async fn work<T: Send + 'static>(
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

async fn turn(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let turn = timeout(TURN_TIME, Arc::clone(places).acquire_owned()).await;
    let busy = |_| Error::Exhausted { reason: Reason::Busy, retry_in: RETRY_IN };
    turn.map_err(busy)?.map_err(Error::internal)
}
