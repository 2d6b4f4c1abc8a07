//! Waits for writes in progress after a rule was stored.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::warn;

use super::store;
pub use super::store::{
    IntentScope, NewIntent, RoundWrite, WriteInFlight, delete, delete_expired, insert,
    lock_exclusive, lock_shared, of_round, renew,
};
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::error::Error;

/// How long a call that has stored a rule waits for writes in progress.
pub const WAIT_TIME: Duration = Duration::from_secs(5);
/// Interval at which they are read again.
const POLL_EVERY: Duration = Duration::from_millis(100);
/// Maximum number of writes in progress that a response names.
pub const IN_FLIGHT_MAX: usize = 100;

/// Returns all writes in progress in a scope. A transaction that stores a rule reads them under the lock of the
/// gateway.
pub async fn in_flight(
    ctx: &Ctx,
    conn: &mut Conn,
    scope: IntentScope<'_>,
) -> Result<Vec<WriteInFlight>, Error> {
    let now = ctx.db().now(conn).await?;
    store::in_flight(conn, scope, now).await
}

/// Waits up to [`WAIT_TIME`] until the writes that were in progress when a rule was stored are over. Returns those that
/// may still happen, at most [`IN_FLIGHT_MAX`]. A failure of the database does not turn the stored rule into an error:
/// then all of them may.
#[must_use]
pub fn wait_for_end<'a>(
    ctx: &'a Ctx,
    scope: IntentScope<'a>,
    mut open: Vec<WriteInFlight>,
) -> BoxFuture<'a, Vec<WriteInFlight>> {
    Box::pin(async move {
        let clock = &ctx.app().clock;
        let until = clock.since_boot().saturating_add(WAIT_TIME);
        while !open.is_empty() && clock.since_boot() < until {
            clock.sleep(POLL_EVERY).await;
            match read(ctx, scope).await {
                // A write that began later is subject to the rule.
                Ok(now) => open.retain(|write| now.iter().any(|other| other.id == write.id)),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "writes in progress");
                    break;
                }
            }
        }
        open.truncate(IN_FLIGHT_MAX);
        open
    })
}

async fn read(ctx: &Ctx, scope: IntentScope<'_>) -> Result<Vec<WriteInFlight>, Error> {
    in_flight(ctx, &mut ctx.db().read().await?, scope).await
}
