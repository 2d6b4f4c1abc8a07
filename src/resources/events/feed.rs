//! Wakes whoever waits for events: the sequencer when one was written, readers when one was numbered.
//!
//! Invariants
//! - a wake-up carries no event: who is woken reads the database, so that none can be lost here;
//! - what this replica numbers wakes its readers at once; what another one numbers does so by a poll, one a process, and
//!   only while somebody reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tracing::warn;

use super::store;
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;

/// How late another replica's events may be noticed.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Wakes whoever waits for events.
#[derive(Debug, Default)]
pub struct Feed {
    written: Notify,
    head: watch::Sender<i64>,
    watched: Notify,
}

impl Feed {
    /// An event was committed here: called after the transaction that [`super::domain::enqueue`] was called in.
    pub fn written(&self) {
        self.written.notify_one();
    }

    /// What wakes the sequencer.
    #[must_use]
    pub fn to_number(&self) -> &Notify {
        &self.written
    }

    /// Events up to this sequence can be read.
    pub fn moved_to(&self, head: i64) {
        self.head.send_if_modified(|at| {
            let moved = head > *at;
            *at = head.max(*at);
            moved
        });
    }

    /// Wakes whenever there may be new events. Taken before reading, so that nothing comes in between unseen.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        let receiver = self.head.subscribe();
        self.watched.notify_one();
        receiver
    }
}

/// Follows what other replicas number, until the process stops.
pub fn follow(app: &Arc<App>) {
    // On SQLite there is no other replica.
    if app.db.engine() == Engine::Postgres {
        let app_of_task = Arc::clone(app);
        app.spawn(async move {
            let stop = app_of_task.stop.clone();
            stop.run_until_cancelled(poll(&app_of_task)).await;
        });
    }
}

async fn poll(app: &App) {
    loop {
        if app.feed.head.receiver_count() == 0 {
            app.feed.watched.notified().await;
        }
        match head(app).await {
            Ok(head) => app.feed.moved_to(head),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "events cannot be followed");
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

async fn head(app: &App) -> Result<i64, Error> {
    let mut conn = app.db.read().await?;
    Ok(store::kept(&mut conn).await?.head)
}
