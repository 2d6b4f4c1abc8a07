//! Wakes whoever waits for an operation.
//!
//! Invariants
//! - a wake-up carries no operation: who is woken reads the database;
//! - what moves here wakes at once; what another replica moves does so by one query a process and second over all that
//!   is waited for, and only while somebody waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use super::store;
use crate::access::live::Ended;
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;
use crate::resources::operations::keeper::Operations;

/// How late another replica's moves may be noticed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Ids that one query asks for.
const POLL_IDS_MAX: usize = 1_000;

/// What is waited for in this process.
#[derive(Debug, Default)]
pub struct Feed {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By id: the last version that was noticed.
    versions: HashMap<String, watch::Sender<i64>>,
    polling: bool,
    /// How often the database was asked.
    polls: u64,
}

impl Feed {
    /// An operation has this version now: called after the commit.
    pub fn moved(&self, id: &str, version: i64) {
        if let Some(sender) = self.state.lock().versions.get(id) {
            sender.send_if_modified(|at| {
                let moved = version > *at;
                *at = version.max(*at);
                moved
            });
        }
    }

    /// How often this process has asked the database for what is waited for.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state.lock().polls
    }
}

/// Somebody who waits for one operation.
#[derive(Debug)]
pub struct Waiter {
    app: Arc<App>,
    id: String,
    versions: watch::Receiver<i64>,
}

impl Waiter {
    /// Waits for one from here on. Taken before reading, so that nothing comes in between unseen.
    #[must_use]
    pub fn new(app: &Arc<App>, id: &str) -> Self {
        let mut waiting = app.part::<Operations>().feed.state.lock();
        let sender = waiting.versions.entry(id.to_owned()).or_insert_with(|| watch::Sender::new(0));
        let versions = sender.subscribe();
        // On SQLite there is no other replica.
        if app.db.engine() == Engine::Postgres && !waiting.polling {
            waiting.polling = true;
            app.spawn(poll(Arc::clone(app)));
        }
        drop(waiting);
        Self { app: Arc::clone(app), id: id.to_owned(), versions }
    }

    /// From here on what comes wakes.
    pub fn mark_seen(&mut self) {
        self.versions.borrow_and_update();
    }

    /// Waits until it may have moved.
    ///
    /// # Errors
    /// `DRAINING` when the process is to stop: the wait can be resumed on another replica.
    pub async fn moved(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            // The sender stays as long as somebody waits.
            _ = self.versions.changed() => Ok(()),
            () = self.app.stop.cancelled() => Err(Ended::Draining.into()),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.app.part::<Operations>().feed.state.lock();
        // Under the lock nobody else subscribes: the one that is left is this one.
        if waiting.versions.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.versions.remove(&self.id);
        }
    }
}

/// Asks as long as somebody waits.
async fn poll(app: Arc<App>) {
    loop {
        tokio::time::sleep(POLL_EVERY).await;
        let ids: Vec<String> = {
            let mut waiting = app.part::<Operations>().feed.state.lock();
            if waiting.versions.is_empty() {
                waiting.polling = false;
                return;
            }
            waiting.polls += 1;
            waiting.versions.keys().cloned().collect()
        };
        for ids in ids.chunks(POLL_IDS_MAX) {
            if let Err(error) = ask(&app, ids).await {
                warn!(error = &error as &dyn std::error::Error, "operations cannot be followed");
            }
        }
    }
}

async fn ask(app: &App, ids: &[String]) -> Result<(), Error> {
    let mut conn = app.db.read().await?;
    for (id, version) in store::versions(&mut conn, ids).await? {
        app.part::<Operations>().feed.moved(&id, version);
    }
    Ok(())
}
