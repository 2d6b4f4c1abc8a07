//! The heartbeat of this replica: whoever has none is dead, and what it had begun is taken over or closed.
//!
//! Invariants
//! - the first beat comes before the first thing that is begun, the last row goes after the last thing has ended;
//! - a process that is dropped or killed leaves its row behind, which then ages.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::db::{Db, replicas};
use crate::error::Error;

/// Six beats may fail before others take the replica for dead.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// Beats until it is dropped or stopped.
#[derive(Debug)]
pub struct Heartbeat {
    db: Db,
    replica: Arc<str>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _dropped: DropGuard,
}

impl Heartbeat {
    /// The first beat, and then one now and then. It is no worker: it goes on while those are being stopped.
    pub async fn start(db: &Db, replica: &Arc<str>) -> Result<Self, Error> {
        replicas::beat(db, replica).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(beat(db.clone(), Arc::clone(replica), stop.clone()));
        tasks.close();
        Ok(Self {
            db: db.clone(),
            replica: Arc::clone(replica),
            _dropped: stop.clone().drop_guard(),
            stop,
            tasks,
        })
    }

    /// The last thing that a process does: nothing that it has begun is open any more.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = replicas::leave(&self.db, &self.replica).await {
            warn!(error = &error as &dyn std::error::Error, "the heartbeat was left behind");
        }
    }
}

async fn beat(db: Db, replica: Arc<str>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(BEAT_EVERY)).await.is_some() {
        if let Err(error) = replicas::beat(&db, &replica).await {
            warn!(error = &error as &dyn std::error::Error, "no heartbeat");
        }
    }
}
