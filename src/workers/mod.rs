//! Background jobs: each is a tick that runs periodically; a job with a lease runs on one replica at a time.
//!
//! Invariants
//! - one holder at a time: a worker holds a [`leases::Lease`] and proves it inside the transaction that it writes in;
//! - a job whose lease another replica holds tries again when that lease expires, not at its next interval;
//! - a tick is idempotent and bounded, and returns whether there is more work;
//! - the jobs of a process acquire their leases together, and release them together (`batches`);
//! - on PostgreSQL, jobs run their first ticks one after the other (`turns`);
//! - a stopping process completes the current tick, releases its leases and starts no other tick.

mod batches;
pub mod disk;
pub mod keyed;
mod running;
mod turns;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::{counter, histogram};
use tokio::sync::Notify;
use tracing::{Instrument, debug, info_span, warn};

use crate::app::App;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::db::Conn;
use crate::db::leases::{self, Acquisition, Lease};
use crate::error::Error;
use crate::telemetry::metrics::{WORKER_TICK, WORKER_TICKS};

pub use self::batches::LeaseBatches;
pub use self::turns::TickTurns;

/// How long a lease is valid without renewal, which is how long a job is paused after its replica has crashed.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// Two renewals may fail before another replica takes the lease.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Delay after the expiry of another replica's lease; its jitter separates the replicas that wait for the same one.
const TAKEOVER_DELAY: Duration = Duration::from_millis(100);
/// Longest delay after failures, unless the interval of the job is longer.
const BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// One run of a job. It gets the lease if the job has one.
pub type Tick = for<'a> fn(&'a Ctx, Option<&'a Lease>) -> BoxFuture<'a, Result<TickResult, Error>>;

/// A background job.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Name of the job: of its lease, in the log, in metrics, and as the actor of its changes.
    pub name: &'static str,
    /// Interval between two ticks, with a jitter of a tenth.
    pub interval: fn(&Config) -> Duration,
    /// Whether only one replica runs it at a time.
    pub lease: bool,
    /// Notification that starts the next tick early.
    pub wake: Option<fn(&App) -> &Notify>,
    /// Runs once.
    pub tick: Tick,
}

/// The result of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickResult {
    /// Number of items that were processed.
    pub done: usize,
    /// Whether there is more work right now.
    pub more: bool,
}

impl TickResult {
    /// There was nothing to do.
    pub const IDLE: Self = Self { done: 0, more: false };

    /// The result of a batch of at most `limit`; a full batch means that there is more.
    #[must_use]
    pub fn batch(done: usize, limit: usize) -> Self {
        Self { done, more: done >= limit }
    }
}

/// Deletes rows that are no longer needed, as the tick of a job: one transaction, which proves the lease if the job has
/// one. `delete` gets the maximum number of rows and returns the number that it deleted.
///
/// # Errors
/// Those of `delete`; `Conflict` if the lease was lost.
pub async fn delete_batch(
    ctx: &Ctx,
    held: Option<&Lease>,
    rows_max: usize,
    delete: impl AsyncFnOnce(&mut Conn, i64) -> Result<usize, Error>,
) -> Result<TickResult, Error> {
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let done = ctx
        .db()
        .long_transaction(async |conn| {
            if let Some(held) = held {
                leases::check_held(conn, held).await?;
            }
            delete(conn, limit).await
        })
        .await?;
    Ok(TickResult::batch(done, rows_max))
}

/// Result of an attempt to run a job.
enum Attempt {
    /// The job ran.
    Ran(TickResult),
    /// Another replica holds the lease, which expires after this time unless it is renewed.
    Held(Duration),
}

/// Starts one job.
pub fn spawn(app: &Arc<App>, worker: Worker) {
    let span = info_span!("worker", worker = worker.name);
    app.spawn(run(Arc::clone(app), worker).instrument(span));
}

/// Runs one tick of a job immediately, under its lease if it has one. Returns `None` if another replica holds the
/// lease. For commands and tests.
pub async fn run_once(app: &Arc<App>, worker: &Worker) -> Result<Option<TickResult>, Error> {
    let ctx = Ctx::system(app, worker.name);
    if !worker.lease {
        return (worker.tick)(&ctx, None).await.map(Some);
    }
    let Some(lease) = leases::acquire(&app.db, worker.name, &app.replica, LEASE_TTL).await? else {
        return Ok(None);
    };
    let done = (worker.tick)(&ctx, Some(&lease)).await;
    // Fails if another replica has taken the lease, which is harmless.
    let _ = leases::release(&app.db, lease).await;
    done.map(Some)
}

async fn run(app: Arc<App>, worker: Worker) {
    let ctx = Ctx::system(&app, worker.name);
    let interval = (worker.interval)(&app.config);
    let mut held_lease = None;
    let mut failures = 0;
    while !app.stop.is_cancelled() {
        let rest = match try_tick(&ctx, &worker, &mut held_lease).await {
            Ok(Attempt::Ran(TickResult { more: true, .. })) => {
                failures = 0;
                continue;
            }
            Ok(Attempt::Ran(TickResult { more: false, .. })) => {
                failures = 0;
                add_jitter(&app, interval)
            }
            Ok(Attempt::Held(expires_in)) => {
                failures = 0;
                add_jitter(&app, interval).min(expires_in + add_jitter(&app, TAKEOVER_DELAY))
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, failures, "the tick failed");
                failures += 1;
                add_jitter(&app, back_off(interval, failures))
            }
        };
        let resting = rest_or_wake(&app, &worker, rest);
        if app
            .stop
            .run_until_cancelled(rest_with_renewal(&app, &mut held_lease, resting))
            .await
            .is_none()
        {
            break;
        }
    }
    let Some(lease) = held_lease else { return };
    if let Err(error) = batches::release(&app, lease).await {
        debug!(error = &error as &dyn std::error::Error, "a lease was not released");
    }
}

/// Runs one tick if this replica holds the lease or acquires it.
async fn try_tick(
    ctx: &Ctx,
    worker: &Worker,
    held_lease: &mut Option<Lease>,
) -> Result<Attempt, Error> {
    let app = ctx.app();
    let mut turn = None;
    if worker.lease && held_lease.is_none() {
        match batches::acquire(app, worker.name, LEASE_TTL).await? {
            Acquisition::Acquired(lease) => *held_lease = Some(lease),
            Acquisition::Held(expires_in) => return Ok(Attempt::Held(expires_in)),
        }
        turn = turns::tick_turn(app).await;
    }
    let started_at = Instant::now();
    let tick = match held_lease.take() {
        None => catch_panic((worker.tick)(ctx, None)).await,
        Some(lease) => {
            // The lease is renewed while the tick runs, however long that takes; the tick proves it in each
            // transaction.
            let (answer, still_held) = {
                let tick = catch_panic((worker.tick)(ctx, Some(&lease)));
                with_renewal(app, &lease, turns::in_turn(turn, tick)).await
            };
            *held_lease = still_held.then_some(lease);
            answer
        }
    };
    record_metrics(worker, started_at, &tick);
    if matches!(&tick, Err(Error::Conflict { kind: crate::error::ResourceKind::Lease, .. })) {
        // Another replica has taken over. The next attempt finds out until when.
        *held_lease = None;
        return Ok(Attempt::Held(Duration::ZERO));
    }
    tick.map(Attempt::Ran)
}

async fn catch_panic(tick: BoxFuture<'_, Result<TickResult, Error>>) -> Result<TickResult, Error> {
    let result = AssertUnwindSafe(tick).catch_unwind().await;
    result.unwrap_or_else(|_| Err(Error::internal("the tick panicked")))
}

/// Runs work while the lease is renewed. Returns whether it is still held.
async fn with_renewal<T>(app: &App, lease: &Lease, work: impl Future<Output = T>) -> (T, bool) {
    tokio::pin!(work);
    let mut still_held = true;
    loop {
        tokio::select! {
            answer = &mut work => return (answer, still_held),
            () = tokio::time::sleep(RENEW_EVERY), if still_held => {
                still_held = renew(app, lease).await;
            }
        }
    }
}

/// Renews a lease. Returns whether it is still held, which it is after an error of the database.
async fn renew(app: &App, lease: &Lease) -> bool {
    match leases::renew(&app.db, lease, LEASE_TTL).await {
        Ok(()) => true,
        Err(Error::Conflict { .. }) => false,
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "a lease was not renewed");
            true
        }
    }
}

/// Rests while the lease, if any, is renewed. Ends early if the lease is lost.
async fn rest_with_renewal(
    app: &App,
    held_lease: &mut Option<Lease>,
    rest: impl Future<Output = ()>,
) {
    let Some(lease) = held_lease else { return rest.await };
    tokio::pin!(rest);
    loop {
        tokio::select! {
            () = &mut rest => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        if !renew(app, lease).await {
            *held_lease = None;
            return;
        }
    }
}

async fn rest_or_wake(app: &App, worker: &Worker, rest: Duration) {
    let Some(wake) = worker.wake else { return tokio::time::sleep(rest).await };
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        () = wake(app).notified() => {}
    }
}

/// Doubles the delay with each failure, up to a minute or the interval of the job.
fn back_off(interval: Duration, failures: u32) -> Duration {
    let most = interval.max(BACK_OFF_MAX);
    interval.max(Duration::from_millis(500)).saturating_mul(1 << failures.min(10)).min(most)
}

/// Adds a jitter of a tenth, so that replicas that start together do not stay synchronized.
fn add_jitter(app: &App, rest: Duration) -> Duration {
    let byte = app.new_id().as_bytes()[0];
    rest.mul_f64(0.9 + f64::from(byte) / f64::from(u8::MAX) * 0.2)
}

fn record_metrics(worker: &Worker, started_at: Instant, tick: &Result<TickResult, Error>) {
    let outcome = match tick {
        Ok(TickResult { done: 0, .. }) => "idle",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    counter!(WORKER_TICKS, "worker" => worker.name, "outcome" => outcome).increment(1);
    histogram!(WORKER_TICK, "worker" => worker.name).record(started_at.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_jobs_back_off_up_to_a_maximum() {
        let second = Duration::from_secs(1);
        for (interval, failures, rest) in [
            (second, 1, second * 2),
            (second, 3, second * 8),
            (second, 30, BACK_OFF_MAX),
            (Duration::from_hours(1), 2, Duration::from_hours(1)),
        ] {
            assert_eq!(back_off(interval, failures), rest);
        }
    }
}
