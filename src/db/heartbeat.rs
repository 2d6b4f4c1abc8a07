//! The heartbeat of this replica. A replica without one counts as dead, and its unfinished work is taken over or
//! closed.
//!
//! Invariants
//! - the first heartbeat is stored before any work begins, and the row is deleted after all work has ended;
//! - a process that crashes leaves its row behind, which then becomes stale.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::db::{Db, replicas};
use crate::error::Error;

/// Interval of heartbeats. Six can fail before other replicas consider this one dead.
const BEAT_EVERY: Duration = Duration::from_secs(10);

/// Sends heartbeats until it is dropped or stopped.
#[derive(Debug)]
pub struct Heartbeat {
    db: Db,
    replica: Arc<str>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _dropped: DropGuard,
}

impl Heartbeat {
    /// Stores the first heartbeat, and starts a task for the next ones. It is not a worker, so it continues while
    /// workers are being stopped.
    pub async fn start(db: &Db, replica: &Arc<str>) -> Result<Self, Error> {
        replicas::record_heartbeat(db, replica).await?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(run_heartbeat(db.clone(), Arc::clone(replica), stop.clone()));
        tasks.close();
        Ok(Self {
            db: db.clone(),
            replica: Arc::clone(replica),
            _dropped: stop.clone().drop_guard(),
            stop,
            tasks,
        })
    }

    /// Deletes the row. The last action of a process, when no work of it is open.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = replicas::remove(&self.db, &self.replica).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "the heartbeat row could not be deleted"
            );
        }
    }
}

async fn run_heartbeat(db: Db, replica: Arc<str>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(BEAT_EVERY)).await.is_some() {
        if let Err(error) = replicas::record_heartbeat(&db, &replica).await {
            warn!(error = &error as &dyn std::error::Error, "no heartbeat");
        }
    }
}
