//! Wakes calls that wait for operations.
//!
//! Invariants
//! - a wake-up carries no operation: the woken call reads the database;
//! - a change by this process wakes at once; for changes by other replicas, the process makes one query a second for
//!   all operations that calls wait for, and only while a call waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use super::store;
use crate::access::live::EndReason;
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;
use crate::resources::operations::leases::LocalOperations;

/// Poll interval: how late a change by another replica may be noticed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Most ids in one query.
const POLL_IDS_MAX: usize = 1_000;

/// Operations that calls of this process wait for.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
struct FeedState {
    /// Last version that was noticed, by operation id.
    versions: HashMap<String, watch::Sender<i64>>,
    polling: bool,
    /// Number of polls of the database so far.
    polls: u64,
}

impl Feed {
    /// Reports the new version of an operation. Called after the commit.
    pub fn notify(&self, id: &str, version: i64) {
        if let Some(sender) = self.state.lock().versions.get(id) {
            sender.send_if_modified(|at| {
                let moved = version > *at;
                *at = version.max(*at);
                moved
            });
        }
    }

    /// Returns how often this process has polled the database.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state.lock().polls
    }
}

/// Waits for changes of one operation.
#[derive(Debug)]
pub struct Waiter {
    app: Arc<App>,
    id: String,
    versions: watch::Receiver<i64>,
}

impl Waiter {
    /// Registers a waiter. Call this before reading the operation, so that no change is missed.
    #[must_use]
    pub fn new(app: &Arc<App>, id: &str) -> Self {
        let mut waiting = app.part::<LocalOperations>().feed.state.lock();
        let sender = waiting.versions.entry(id.to_owned()).or_insert_with(|| watch::Sender::new(0));
        let versions = sender.subscribe();
        // SQLite allows only one replica, so there is nothing to poll for.
        if app.db.engine() == Engine::Postgres && !waiting.polling {
            waiting.polling = true;
            app.spawn(poll(Arc::clone(app)));
        }
        drop(waiting);
        Self { app: Arc::clone(app), id: id.to_owned(), versions }
    }

    /// Marks all changes so far as seen, so that only later ones wake.
    pub fn mark_seen(&mut self) {
        self.versions.borrow_and_update();
    }

    /// Waits until the operation may have changed.
    ///
    /// # Errors
    /// `DRAINING` if the process is shutting down: the caller can resume the wait on another replica.
    pub async fn changed(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            // The sender lives as long as there is a waiter, so `changed` does not fail.
            _ = self.versions.changed() => Ok(()),
            () = self.app.stop.cancelled() => Err(EndReason::Draining.into()),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.app.part::<LocalOperations>().feed.state.lock();
        // No receiver can subscribe while the lock is held, so the last receiver is this waiter's.
        if waiting.versions.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.versions.remove(&self.id);
        }
    }
}

/// Polls the versions of the operations until no call waits any more, or until the process stops, which ends these
/// calls.
async fn poll(app: Arc<App>) {
    while app.stop.run_until_cancelled(tokio::time::sleep(POLL_EVERY)).await.is_some() {
        let ids: Vec<String> = {
            let mut waiting = app.part::<LocalOperations>().feed.state.lock();
            if waiting.versions.is_empty() {
                waiting.polling = false;
                return;
            }
            waiting.polls += 1;
            waiting.versions.keys().cloned().collect()
        };
        for ids in ids.chunks(POLL_IDS_MAX) {
            if let Err(error) = poll_versions(&app, ids).await {
                warn!(error = &error as &dyn std::error::Error, "operations cannot be followed");
            }
        }
    }
}

async fn poll_versions(app: &App, ids: &[String]) -> Result<(), Error> {
    let mut conn = app.db.read().await?;
    for (id, version) in store::versions(&mut conn, ids).await? {
        app.part::<LocalOperations>().feed.notify(&id, version);
    }
    Ok(())
}
