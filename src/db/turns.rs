//! Turns of callers at the database connections.
//!
//! A pool serves requests in order. Without turns, a caller with a thousand calls in flight would fill the queue, and
//! the server's own work, such as reading access changes and renewing leases, would wait behind it (T16).
//!
//! Invariants
//! - one caller holds or waits for at most half of the reader connections, and three quarters of the writer connections
//!   of PostgreSQL; its other requests wait for each other;
//! - the server's own work has no such limit;
//! - a caller without calls in flight costs no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Reason};

/// Retry delay after no turn was free in time.
pub(super) const BUSY_RETRY_IN: Duration = Duration::from_secs(1);

tokio::task_local! {
    static CALLER: Arc<ActiveCaller>;
}

/// Returns how many of `readers` connections one caller uses: half of them, at least one.
#[must_use]
pub fn readers_of_caller(readers: usize) -> usize {
    (readers / 2).max(1)
}

/// Returns how many of `writers` connections one caller uses: three quarters of them, at least one. More than half, since
/// a writer mostly waits for the disk of the server, whose commits share that wait.
#[must_use]
pub fn writers_of_caller(writers: usize) -> usize {
    (writers.saturating_mul(3) / 4).max(1)
}

/// The caller whose turns are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallerKey {
    /// A user, by id.
    User(i64),
    /// A service principal, by id.
    ServicePrincipal(i64),
    /// Callers without a credential, by address.
    Address(IpAddr),
}

/// The turns of one caller.
#[derive(Debug)]
pub(super) struct CallerTurns {
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
}

/// The turns of every caller with a call in flight.
#[derive(Debug)]
pub(super) struct TurnRegistry {
    readers_each: usize,
    writers_each: usize,
    wait: Duration,
    callers: Mutex<HashMap<CallerKey, Arc<CallerTurns>>>,
}

impl TurnRegistry {
    /// Sets the limits of a caller by the sizes of the pools. No request waits longer than `wait` for its turn.
    pub(super) fn new(readers: usize, writers: usize, wait: Duration) -> Arc<Self> {
        let (readers_each, writers_each) = (readers_of_caller(readers), writers_of_caller(writers));
        Arc::new(Self { readers_each, writers_each, wait, callers: Mutex::default() })
    }

    fn register(self: &Arc<Self>, key: CallerKey) -> Arc<ActiveCaller> {
        let turns = Arc::clone(self.callers.lock().entry(key).or_insert_with(|| {
            let turns = |each| Arc::new(Semaphore::new(each));
            Arc::new(CallerTurns {
                readers: turns(self.readers_each),
                writers: turns(self.writers_each),
            })
        }));
        Arc::new(ActiveCaller { key, turns, all: Arc::clone(self) })
    }

    /// Runs `work` with its requests counted as those of `key`.
    pub(super) fn run_as<F: Future>(
        self: &Arc<Self>,
        key: CallerKey,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CALLER.scope(self.register(key), work)
    }

    /// Waits for a turn of the current caller. `None` for the server's own work, which needs none.
    ///
    /// # Errors
    /// `BUSY` if no turn is free in time.
    pub(super) async fn acquire(
        &self,
        of: fn(&CallerTurns) -> &Arc<Semaphore>,
    ) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let Ok(turns) = CALLER.try_with(|caller| Arc::clone(of(&caller.turns))) else {
            return Ok(None);
        };
        self.wait_for(turns).await.map(Some)
    }

    /// Waits for one of `turns`, for the time that a caller waits.
    ///
    /// # Errors
    /// `BUSY` if none is free in time.
    pub(super) async fn wait_for(
        &self,
        turns: Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
            return Ok(turn);
        }
        let busy = |_| Error::Exhausted { reason: Reason::Busy, retry_in: BUSY_RETRY_IN };
        let turn = tokio::time::timeout(self.wait, turns.acquire_owned()).await.map_err(busy)?;
        turn.map_err(Error::internal)
    }
}

impl CallerTurns {
    pub(super) fn readers(&self) -> &Arc<Semaphore> {
        &self.readers
    }

    pub(super) fn writers(&self) -> &Arc<Semaphore> {
        &self.writers
    }
}

/// A caller with work in flight.
#[derive(Debug)]
struct ActiveCaller {
    key: CallerKey,
    turns: Arc<CallerTurns>,
    all: Arc<TurnRegistry>,
}

impl Drop for ActiveCaller {
    fn drop(&mut self) {
        let mut callers = self.all.callers.lock();
        // One reference is in the map, the other is this one; under the lock no other can be created.
        if Arc::strong_count(&self.turns) <= 2 {
            callers.remove(&self.key);
        }
    }
}

/// Counts `work` as the current caller's; for a separate task that a call spawns.
pub fn inherit_caller<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let caller = CALLER.try_with(Arc::clone).ok();
    async move {
        match caller {
            Some(caller) => CALLER.scope(caller, work).await,
            None => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CallerKey = CallerKey::User(1);

    #[test]
    fn a_caller_leaves_connections_to_others_unless_there_is_one() {
        for (size, readers, writers) in [(1, 1, 1), (2, 1, 1), (4, 2, 3), (6, 3, 4), (16, 8, 12)] {
            assert_eq!((readers_of_caller(size), writers_of_caller(size)), (readers, writers));
        }
    }

    #[tokio::test]
    async fn a_caller_waits_only_for_its_own_turns_and_the_server_never_waits() {
        let all = TurnRegistry::new(4, 1, Duration::from_millis(20));
        let reader = || all.acquire(CallerTurns::readers);
        all.run_as(KEY, async {
            let held = [reader().await.unwrap(), reader().await.unwrap()];
            assert!(held.iter().all(Option::is_some));
            let third = reader().await;
            assert!(matches!(third, Err(Error::Exhausted { reason: Reason::Busy, .. })));
            // Another caller and the server are not affected.
            assert!(all.run_as(CallerKey::User(2), reader()).await.unwrap().is_some());
            assert!(all.acquire(CallerTurns::writers).await.unwrap().is_some());
            drop(held);
            assert!(inherit_caller(reader()).await.unwrap().is_some());
        })
        .await;
        assert!(reader().await.unwrap().is_none());
        assert!(all.callers.lock().is_empty());
    }
}
