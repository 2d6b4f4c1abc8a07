//! Polls for events that other replicas have sequenced: one poll per process, and only while there are readers.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::store;
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;

/// Maximum delay until another replica's events are noticed.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// Starts polling, until the process stops.
pub fn start_polling(app: &Arc<App>) {
    // On SQLite, there is no other replica.
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
        let (reads, begins) = app.feed.readers();
        if !reads {
            begins.notified().await;
        }
        match read_head(app).await {
            Ok(head) => app.feed.advance_head(head),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "events cannot be followed");
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

async fn read_head(app: &App) -> Result<i64, Error> {
    let mut conn = app.db.read().await?;
    Ok(store::sequence_range(&mut conn).await?.head)
}
