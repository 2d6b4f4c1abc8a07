//! How many documents are received and read at once, and where.
//!
//! Invariants
//! - a document that is received holds at most its own bytes, and so many hold at once (T16);
//! - one caller leaves places to the others, however slowly it sends;
//! - reading one takes a thread of its own kind, never one that serves calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Reason};

/// Documents that are received, or wait to be stored, at once.
pub const RECEIVING_MAX: usize = 4;
/// Documents of one caller among them.
pub const RECEIVING_OF_CALLER_MAX: usize = 2;
/// Pairs of SBOMs that are loaded to be compared at once.
const COMPARING_MAX: usize = 2;
/// Documents that are read or compared at once.
const WORKING_MAX: usize = 2;
/// How long a call waits for its turn; what comes of it holds no document yet.
const TURN_TIME: Duration = Duration::from_secs(10);
const RETRY_IN: Duration = Duration::from_secs(5);

/// The places that there are.
#[derive(Debug)]
pub struct Intake {
    receiving: Arc<Semaphore>,
    /// The places of each caller that sends or waits.
    callers: Mutex<HashMap<String, Arc<Semaphore>>>,
    comparing: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            receiving: places(RECEIVING_MAX),
            callers: Mutex::default(),
            comparing: places(COMPARING_MAX),
            working: places(WORKING_MAX),
        }
    }
}

/// The turn of a document. It is over when this is dropped.
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
        let of_caller = turn(&self.places_of(caller)).await?;
        Ok(Turn { _of_caller: of_caller, _of_all: turn(&self.receiving).await? })
    }

    fn places_of(&self, caller: &str) -> Arc<Semaphore> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever sends or waits holds its own.
        callers.retain(|_, places| Arc::strong_count(places) > 1);
        let places = callers.entry(caller.to_owned());
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(RECEIVING_OF_CALLER_MAX))))
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
