//! Background jobs: each is a tick that runs periodically; a job with a lease runs on one replica at a time.
//!
//! Invariants
//! - one holder at a time: a worker holds a [`leases::Lease`] and proves it inside the transaction that it writes in;
//! - a tick is idempotent and bounded, and returns whether there is more work;
//! - a stopping process completes the current tick, releases its leases and starts no other tick.

pub mod disk;

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
use crate::db::leases::{self, Lease};
use crate::error::Error;
use crate::telemetry::metrics::{WORKER_TICK, WORKER_TICKS};

/// How long a lease is valid without renewal, which is how long a job is paused after its replica has crashed.
const LEASE_TTL: Duration = Duration::from_secs(30);
/// Two renewals may fail before another replica takes the lease.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Longest delay after failures, unless the interval of the job is longer.
const BACK_OFF_MAX: Duration = Duration::from_mins(1);

/// One run of a job. It gets the lease if the job has one.
pub type Tick = for<'a> fn(&'a Ctx, Option<&'a Lease>) -> BoxFuture<'a, Result<Worked, Error>>;

/// A background job.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Name of the job: of its lease, in the log, in metrics, and as the actor of its changes.
    pub name: &'static str,
    /// Interval between two ticks, with a jitter of a tenth.
    pub every: fn(&Config) -> Duration,
    /// Whether only one replica runs it at a time.
    pub lease: bool,
    /// Notification that starts the next tick early.
    pub wake: Option<fn(&App) -> &Notify>,
    /// Runs once.
    pub tick: Tick,
}

/// The result of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worked {
    /// Number of items that were processed.
    pub done: usize,
    /// Whether there is more work right now.
    pub more: bool,
}

impl Worked {
    /// There was nothing to do.
    pub const NOTHING: Self = Self { done: 0, more: false };

    /// The result of a batch of at most `limit`; a full batch means that there is more.
    #[must_use]
    pub fn batch(done: usize, limit: usize) -> Self {
        Self { done, more: done >= limit }
    }
}

/// Starts one job.
pub fn spawn(app: &Arc<App>, worker: Worker) {
    let span = info_span!("worker", worker = worker.name);
    app.spawn(run(Arc::clone(app), worker).instrument(span));
}

/// Runs one tick of a job immediately, under its lease if it has one. Returns `None` if another replica holds the
/// lease. For commands and tests.
pub async fn once(app: &Arc<App>, worker: &Worker) -> Result<Option<Worked>, Error> {
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
    let every = (worker.every)(&app.config);
    let mut held = None;
    let mut failures = 0;
    while !app.stop.is_cancelled() {
        let rest = match attempt(&ctx, &worker, &mut held).await {
            Ok(Worked { more: true, .. }) => {
                failures = 0;
                continue;
            }
            Ok(Worked { more: false, .. }) => {
                failures = 0;
                every
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, failures, "the tick failed");
                failures += 1;
                back_off(every, failures)
            }
        };
        let resting = rest_of(&app, &worker, jittered(&app, rest));
        if app.stop.run_until_cancelled(keeping(&app, &mut held, resting)).await.is_none() {
            break;
        }
    }
    if let Some(lease) = held
        && let Err(error) = leases::release(&app.db, lease).await
    {
        debug!(error = &error as &dyn std::error::Error, "a lease was not released");
    }
}

/// Runs one tick if this replica holds the lease or acquires it.
async fn attempt(ctx: &Ctx, worker: &Worker, held: &mut Option<Lease>) -> Result<Worked, Error> {
    let app = ctx.app();
    if worker.lease && held.is_none() {
        *held = leases::acquire(&app.db, worker.name, &app.replica, LEASE_TTL).await?;
        if held.is_none() {
            return Ok(Worked::NOTHING);
        }
    }
    let begun = Instant::now();
    let tick = match held.take() {
        None => caught((worker.tick)(ctx, None)).await,
        Some(lease) => {
            // The lease is renewed while the tick runs, however long that takes; the tick proves it in each
            // transaction.
            let (answer, still) = {
                let tick = caught((worker.tick)(ctx, Some(&lease)));
                renewing(app, &lease, tick).await
            };
            *held = still.then_some(lease);
            answer
        }
    };
    measure(worker, begun, &tick);
    if matches!(&tick, Err(Error::Conflict { kind: crate::error::Kind::Lease, .. })) {
        // Another replica has taken over.
        *held = None;
        return Ok(Worked::NOTHING);
    }
    tick
}

async fn caught(tick: BoxFuture<'_, Result<Worked, Error>>) -> Result<Worked, Error> {
    let caught = AssertUnwindSafe(tick).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("the tick panicked")))
}

/// Runs work while the lease is renewed. Returns whether it is still held.
async fn renewing<T>(app: &App, lease: &Lease, work: impl Future<Output = T>) -> (T, bool) {
    tokio::pin!(work);
    let mut held = true;
    loop {
        tokio::select! {
            answer = &mut work => return (answer, held),
            () = tokio::time::sleep(RENEW_EVERY), if held => {
                match leases::renew(&app.db, lease, LEASE_TTL).await {
                    Ok(()) => {}
                    Err(Error::Conflict { .. }) => held = false,
                    Err(error) => {
                        warn!(error = &error as &dyn std::error::Error, "a lease was not renewed");
                    }
                }
            }
        }
    }
}

/// Rests while the lease, if any, is renewed.
async fn keeping(app: &App, held: &mut Option<Lease>, rest: impl Future<Output = ()>) {
    let Some(lease) = held else { return rest.await };
    let ((), still) = renewing(app, lease, rest).await;
    if !still {
        *held = None;
    }
}

async fn rest_of(app: &App, worker: &Worker, rest: Duration) {
    let Some(wake) = worker.wake else { return tokio::time::sleep(rest).await };
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        () = wake(app).notified() => {}
    }
}

/// Doubles the delay with each failure, up to a minute or the interval of the job.
fn back_off(every: Duration, failures: u32) -> Duration {
    let most = every.max(BACK_OFF_MAX);
    every.max(Duration::from_millis(500)).saturating_mul(1 << failures.min(10)).min(most)
}

/// Adds a jitter of a tenth, so that replicas that start together do not stay synchronized.
fn jittered(app: &App, rest: Duration) -> Duration {
    let byte = app.new_id().as_bytes()[0];
    rest.mul_f64(0.9 + f64::from(byte) / f64::from(u8::MAX) * 0.2)
}

fn measure(worker: &Worker, begun: Instant, tick: &Result<Worked, Error>) {
    let outcome = match tick {
        Ok(Worked { done: 0, .. }) => "idle",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    counter!(WORKER_TICKS, "worker" => worker.name, "outcome" => outcome).increment(1);
    histogram!(WORKER_TICK, "worker" => worker.name).record(begun.elapsed());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_jobs_back_off_up_to_a_maximum() {
        let second = Duration::from_secs(1);
        for (every, failures, rest) in [
            (second, 1, second * 2),
            (second, 3, second * 8),
            (second, 30, BACK_OFF_MAX),
            (Duration::from_hours(1), 2, Duration::from_hours(1)),
        ] {
            assert_eq!(back_off(every, failures), rest);
        }
    }
}
