//! Batches of leases. When a process starts, all jobs need their leases at once, and when it stops, all of them release
//! theirs.
//!
//! Invariants
//! - jobs that ask during a batch are in the next one, so that two transactions serve all jobs of a process;
//! - a batch that fails fails none of its jobs: each then asks by itself, and gets its own error. So does a job that has
//!   waited for a second for the batch before its own;
//! - a lease that was lost is not released: it has another owner.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::debug;

use crate::app::App;
use crate::db::keyed_leases;
use crate::db::leases::{self, Acquisition, Lease};
use crate::error::Error;

/// Time that a job waits for the batch that runs: a database that does not answer its connection must not stop jobs that
/// could use another one.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The batches of this process.
#[derive(Debug, Default)]
pub struct LeaseBatches {
    acquired: Batches<Acquisition>,
    released: Batches<()>,
}

/// Results of a batch by the names of its leases.
type Results<T> = Result<HashMap<String, T>, Error>;

/// Jobs that wait for the next batch.
#[derive(Debug)]
struct Batches<T> {
    /// Names of leases, each with the sender of its result.
    waiting: Mutex<Vec<(String, oneshot::Sender<T>)>>,
    /// Locked during a batch.
    running: tokio::sync::Mutex<()>,
}

impl<T> Default for Batches<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), running: tokio::sync::Mutex::default() }
    }
}

impl<T> Batches<T> {
    /// Adds a lease to the next batch and returns its result. `run` gets the names of a batch. Returns `None` if the
    /// batch has failed or was not run in time.
    async fn join<'a>(
        &self,
        name: &str,
        run: impl FnOnce(Vec<String>) -> BoxFuture<'a, Results<T>>,
    ) -> Option<T> {
        let (sender, result) = oneshot::channel();
        self.waiting.lock().push((name.to_owned(), sender));
        let Ok(running) = tokio::time::timeout(WAIT_MAX, self.running.lock()).await else {
            return if self.leave(name) { None } else { result.await.ok() };
        };
        // Empty if the previous batch has included this lease.
        let batch = std::mem::take(&mut *self.waiting.lock());
        if !batch.is_empty() {
            let names = batch.iter().map(|(name, _)| name.clone()).collect();
            match run(names).await {
                Ok(mut results) => {
                    for (name, sender) in batch {
                        let Some(result) = results.remove(&name) else { continue };
                        // Fails if the job was dropped meanwhile.
                        drop(sender.send(result));
                    }
                }
                Err(error) => {
                    // Ends the wait of each job of the batch, including this one, whose sender it holds.
                    drop(batch);
                    debug!(
                        error = &error as &dyn std::error::Error,
                        "a batch of leases has failed"
                    );
                }
            }
        }
        drop(running);
        result.await.ok()
    }

    /// Leaves the next batch, which would acquire a lease that no job holds. Returns `false` if the lease is in the batch
    /// that runs.
    fn leave(&self, name: &str) -> bool {
        let mut waiting = self.waiting.lock();
        let count = waiting.len();
        waiting.retain(|(other, _)| other != name);
        waiting.len() < count
    }
}

/// Acquires a lease for `ttl` in the next batch, or returns when it expires.
///
/// # Errors
/// Those of the database.
pub(super) async fn acquire(app: &App, name: &str, ttl: Duration) -> Result<Acquisition, Error> {
    let run = |names: Vec<String>| -> BoxFuture<'_, Results<Acquisition>> {
        Box::pin(acquire_all(app, names, ttl))
    };
    match app.part::<LeaseBatches>().acquired.join(name, run).await {
        Some(acquisition) => Ok(acquisition),
        None => leases::try_acquire(&app.db, name, &app.replica, ttl).await,
    }
}

async fn acquire_all(app: &App, names: Vec<String>, ttl: Duration) -> Results<Acquisition> {
    let acquired = keyed_leases::acquire_all(&app.db, &app.replica, names.clone(), ttl).await?;
    let acquired = acquired.into_iter().map(|lease| (lease.name().to_owned(), lease));
    let mut results: HashMap<String, Acquisition> =
        acquired.map(|(name, lease)| (name, Acquisition::Acquired(lease))).collect();
    let held: Vec<String> = names.into_iter().filter(|name| !results.contains_key(name)).collect();
    if held.is_empty() {
        return Ok(results);
    }
    // The others are acquired already, so an error here must not fail the batch. The jobs then try again at once.
    let mut expiries = read_expiries(app, &held).await.unwrap_or_default();
    results.extend(held.into_iter().map(|name| {
        let expires_in = expiries.remove(&name).unwrap_or_default();
        (name, Acquisition::Held(expires_in))
    }));
    Ok(results)
}

async fn read_expiries(app: &App, names: &[String]) -> Result<HashMap<String, Duration>, Error> {
    let mut conn = app.db.read().await?;
    keyed_leases::unexpired(&app.db, &mut conn, names).await
}

/// Releases a lease in the next batch.
///
/// # Errors
/// Those of the database. The lease then expires.
pub(super) async fn release(app: &App, lease: Lease) -> Result<(), Error> {
    let run =
        |names: Vec<String>| -> BoxFuture<'_, Results<()>> { Box::pin(release_all(app, names)) };
    let released = app.part::<LeaseBatches>().released.join(lease.name(), run).await;
    match released {
        Some(()) => Ok(()),
        None => leases::release(&app.db, lease).await,
    }
}

async fn release_all(app: &App, names: Vec<String>) -> Results<()> {
    keyed_leases::release_all(&app.db, &app.replica, &names).await?;
    Ok(names.into_iter().map(|name| (name, ())).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{join_all, ready};

    use super::*;

    #[tokio::test]
    async fn jobs_that_ask_during_a_batch_share_the_next_one() {
        let (batches, runs) = (Batches::default(), AtomicUsize::new(0));
        let run = |names: Vec<String>| -> BoxFuture<'_, Results<usize>> {
            let (number, count) = (runs.fetch_add(1, Ordering::Relaxed), names.len());
            Box::pin(async move {
                // The others ask meanwhile.
                tokio::task::yield_now().await;
                assert_eq!(count, if number == 0 { 1 } else { 3 });
                let results: HashMap<String, usize> =
                    names.into_iter().map(|name| (name, number)).collect();
                Ok(results)
            })
        };
        let found = join_all(["a", "b", "c", "d"].map(|name| batches.join(name, run))).await;
        assert_eq!(found, [Some(0), Some(1), Some(1), Some(1)]);
    }

    #[tokio::test]
    async fn a_batch_that_does_not_end_delays_the_jobs_of_the_next_one_by_a_second() {
        let batches: Batches<()> = Batches::default();
        let hangs =
            |_: Vec<String>| -> BoxFuture<'_, Results<()>> { Box::pin(std::future::pending()) };
        let begun = tokio::time::Instant::now();
        tokio::select! {
            biased;
            _ = batches.join("a", hangs) => panic!("it does not end"),
            found = batches.join("b", hangs) => assert_eq!(found, None),
        }
        assert!(begun.elapsed() >= WAIT_MAX);
        assert!(batches.waiting.lock().is_empty(), "it left the next batch");
    }

    #[tokio::test]
    async fn a_batch_that_fails_leaves_its_jobs_without_a_result() {
        let batches: Batches<u8> = Batches::default();
        let fails = |_: Vec<String>| -> BoxFuture<'_, Results<u8>> {
            Box::pin(ready(Err(Error::internal("away"))))
        };
        assert_eq!(batches.join("a", fails).await, None);
        let of_all = |names: Vec<String>| -> BoxFuture<'_, Results<u8>> {
            let results: HashMap<String, u8> = names.into_iter().map(|name| (name, 7)).collect();
            Box::pin(ready(Ok(results)))
        };
        assert_eq!(batches.join("a", of_all).await, Some(7));
    }
}
