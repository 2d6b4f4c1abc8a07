//! How many documents are received and read at once, and where.
//!
//! Invariants
//! - a document that is received holds at most its own bytes, and so many hold at once (T16);
//! - reading one takes a thread of its own kind, never one that serves calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Reason};

/// Documents that are received, or wait to be stored, at once.
pub const RECEIVING_MAX: usize = 4;
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
    comparing: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Default for Intake {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            receiving: places(RECEIVING_MAX),
            comparing: places(COMPARING_MAX),
            working: places(WORKING_MAX),
        }
    }
}

impl Intake {
    /// Waits for the turn of a document that is to be received; it is over when the answer is dropped.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        turn(&self.receiving).await
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
