//! Background jobs: those of a test's server, and those that a test runs itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoreguard::app::App;
use shoreguard::boot;
use shoreguard::db::leases;
use shoreguard::error::{Error, Reason};
use shoreguard::feed;
use shoreguard::resources::events;
use shoreguard::resources::gateways::findings::CHECKS;
use shoreguard::resources::gateways::worker::PROBES;
use shoreguard::resources::webhooks::worker::FANOUT;
use shoreguard::workers::keyed::{self, Keyed};
use shoreguard::workers::{self, TickResult, Worker};

use super::server::TestServer;
use super::{CONDITION_TIME_MAX, pause};

/// How long the server's own worker does not run a job that a test has run: longer than any test, on any of its clocks.
const LEASE_TTL: Duration = Duration::from_hours(100 * 366 * 24);

/// Starts all background jobs except two kinds. Those that delete old rows: a new database has none, and a test that
/// makes rows old runs such a job itself. And the rounds over all gateways: the first one might come before or after a
/// test registers its gateways, and take an answer that the test has prepared.
pub(super) fn start_jobs(app: &Arc<App>) {
    let deletes = |job: &Worker| job.name.ends_with("-retention") || job.name.ends_with("-expiry");
    let calls_gateways = |job: &Worker| [PROBES.name, CHECKS.name].contains(&job.name);
    app.spawn(feed::follow(Arc::clone(app)));
    for job in boot::WORKERS.iter().filter(|job| !deletes(job) && !calls_gateways(job)) {
        workers::spawn(app, poll_rarely(*job));
    }
    for kind in boot::KEYED {
        // Messages that are queued wake it.
        keyed::spawn(app, Keyed { look_every: Duration::from_secs(1), ..*kind });
    }
    events::follow::start_polling(app);
}

/// Stores an expired lease for each job, as in the database of a server that has run before: a server takes them over
/// in less time than it inserts them.
pub(super) async fn leave_leases(app: &App) {
    for job in boot::WORKERS.iter().filter(|job| job.lease) {
        let lease = leases::acquire(&app.db, job.name, &app.replica, LEASE_TTL).await.unwrap();
        leases::release(&app.db, lease.expect("no job has run")).await.unwrap();
    }
}

/// Lets the job that each numbered event wakes poll once a second. At its own interval, the servers of the tests would
/// poll for a good part of their time.
fn poll_rarely(job: Worker) -> Worker {
    if job.name == FANOUT.name {
        return Worker { interval: |_| Duration::from_secs(1), ..job };
    }
    job
}

impl TestServer {
    /// Runs a background job at once, in place of the server's own worker, whose lease expires for it. From then on,
    /// the test keeps the lease. Otherwise, the worker would run the job again as soon as it notices that it has lost
    /// the lease, which may be in the middle of a test on a busy machine.
    pub(crate) async fn run_job(&self, job: &Worker) -> TickResult {
        let db = &self.app.db;
        let held = self.leases.lock().unwrap().remove(job.name);
        if let Some(lease) = held {
            // Fails if another server has ended all leases, which is harmless.
            let _ = leases::release(db, lease).await;
        }
        let begun = Instant::now();
        let result = loop {
            db.advance_clock(Duration::from_secs(31));
            match workers::run_once(&self.app, job).await {
                Ok(Some(result)) => break result,
                // The worker may acquire or renew its lease in between, and a busy machine may keep a writer waiting.
                Ok(None) | Err(Error::Exhausted { reason: Reason::Busy, .. }) => {}
                Err(error) => panic!("{}: {error}", job.name),
            }
            assert!(begun.elapsed() < CONDITION_TIME_MAX, "{} keeps its lease", job.name);
            pause().await;
        };
        if job.lease {
            let kept = leases::acquire(db, job.name, "the test", LEASE_TTL).await.unwrap();
            self.leases.lock().unwrap().extend(kept.map(|lease| (job.name, lease)));
        }
        result
    }
}
