//! The task that renews the leases of this process. It runs only while operations run here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{LEASE_TTL, LeasedOperation, LocalOperations, StopCause, micros, store};
use crate::app::App;
use crate::db::Engine;
use crate::error::Error;
use crate::resources::operations::right;

/// Renewal interval: two renewals may fail before another replica takes over.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Interval of the loop: how late a cancellation on another replica may be noticed.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Timeout of the database: a query that hangs must not delay the detection of an expired lease.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Renews the leases until no operation runs here any more.
pub(super) async fn renew_until_idle(app: Arc<App>) {
    let mut renewed_at = app.clock.since_boot();
    let mut drained_at = None;
    while let Some(held) = next_check(&app).await {
        let now = app.clock.since_boot();
        let due = now.saturating_sub(renewed_at) >= RENEW_EVERY;
        let polled = async {
            if due {
                renew(&app, &held, now).await?;
            }
            stop_cancelled(&app, &held).await?;
            right::store_losses(&app, &held).await
        };
        let late =
            |_| Err(Error::DeadlineExceeded { why: "the database took too long".to_owned() });
        let polled = tokio::time::timeout(DATABASE_TIMEOUT, polled).await.unwrap_or_else(late);
        if polled.is_ok() && due {
            renewed_at = now;
        }
        if let Err(error) = polled {
            let held = held.len();
            warn!(error = &error as &dyn std::error::Error, held, "leases were not renewed");
        }
        for held in held.iter().filter(|held| !held.is_held(now)) {
            held.stop(StopCause::LeaseLost);
        }
        if app.stop.is_cancelled() {
            let until =
                *drained_at.get_or_insert_with(|| Instant::now() + app.config.server.drain());
            if Instant::now() >= until {
                for held in &held {
                    held.stop(StopCause::Draining);
                }
            }
        }
    }
}

/// Waits until a check is due. Returns the operations, or `None` as soon as no operation runs here any more: a process
/// that stops waits for this task.
async fn next_check(app: &App) -> Option<Vec<Arc<LeasedOperation>>> {
    let operations = app.part::<LocalOperations>();
    loop {
        let is_due = tokio::select! {
            () = app.clock.sleep(CHECK_EVERY) => true,
            () = operations.emptied.notified() => false,
        };
        let held = operations.all();
        if held.is_empty() {
            return None;
        }
        // Otherwise, each of them has begun since the last one ended.
        if is_due {
            return Some(held);
        }
    }
}

/// Renews all leases. An operation that the statement does not return belongs to another replica.
async fn renew(app: &App, held: &[Arc<LeasedOperation>], now: Duration) -> Result<(), Error> {
    let ids: Vec<String> = held.iter().map(|held| held.id.clone()).collect();
    let mut conn = app.db.write().await?;
    let until = app.db.now(&mut conn).await?.plus(LEASE_TTL);
    let ours = store::renew(&mut conn, &app.replica, &ids, until).await?;
    let ours: HashMap<String, i64> = ours.into_iter().collect();
    for held in held {
        if ours.get(&held.id) == Some(&held.fence) {
            held.expires_us.store(micros(now + LEASE_TTL), Ordering::Relaxed);
        } else {
            held.stop(StopCause::LeaseLost);
        }
    }
    Ok(())
}

/// Stops operations that were canceled on another replica.
async fn stop_cancelled(app: &App, held: &[Arc<LeasedOperation>]) -> Result<(), Error> {
    // SQLite allows only one replica.
    if app.db.engine() == Engine::Sqlite {
        return Ok(());
    }
    let mut conn = app.db.read().await?;
    let polled: HashMap<String, i64> =
        store::cancelling(&mut conn, &app.replica).await?.into_iter().collect();
    for held in held.iter().filter(|held| polled.get(&held.id) == Some(&held.fence)) {
        held.stop(StopCause::Cancelled);
    }
    Ok(())
}
