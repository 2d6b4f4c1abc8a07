//! What runs in this process: its leases are renewed here, and what is to stop is told so.
//!
//! Invariants
//! - one task a process, and only while operations run in it; it makes one statement for all leases and one query a
//!   second for all that was cancelled elsewhere;
//! - work is told to stop when its lease is another's, and when its end has passed without a renewal, by a clock that
//!   counts sleep: the replica may have been frozen, and another may go on with the work by now;
//! - how much runs here at once is bounded, for all and for each caller.

pub mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::access::live_work::{LiveWork, Lost, Right};
use crate::app::App;
use crate::db::Engine;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::resources::operations::feed::Feed;
use crate::resources::operations::right;
use crate::telemetry::metrics::OPERATIONS_RUNNING;

/// How long a lease is held without being renewed: so long does an operation stand still after its replica has died.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// Two renewals may fail before another replica takes over.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How late a cancel on another replica may be noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the database may take to answer: what hangs must not keep the end of a lease from being noticed.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);
/// Operations that run in one process at once.
pub const OPERATIONS_MAX: usize = 1_000;
/// Of them those of one caller.
pub const OPERATIONS_OF_ONE_MAX: usize = 100;
/// When a caller may try again whose operation found no room.
const BUSY_RETRY_IN: Duration = Duration::from_secs(5);

/// Why work is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody has cancelled it.
    Cancelled,
    /// The process ends. Where another replica can go on with the work it will: nothing is to be undone.
    Draining,
    /// Another replica may have taken over: nothing is to be done any more, nor undone.
    LeaseLost,
}

/// The operations of this process.
#[derive(Debug, Default)]
pub struct Operations {
    /// Who waits for one.
    pub feed: Feed,
    kept: Mutex<Kept>,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Debug, Default)]
struct Kept {
    held: HashMap<String, Arc<Held>>,
    keeping: bool,
}

#[derive(Debug, Default)]
struct Seats {
    all: usize,
    by_principal: HashMap<String, usize>,
}

/// Room for one operation; free again when it is dropped.
#[derive(Debug)]
pub(in crate::resources::operations) struct Seat {
    seats: Arc<Mutex<Seats>>,
    principal: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        seats.all -= 1;
        if let Some(count) = seats.by_principal.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                seats.by_principal.remove(&self.principal);
            }
        }
    }
}

/// An operation that runs here.
#[derive(Debug)]
pub(in crate::resources::operations) struct Held {
    pub(in crate::resources::operations) id: String,
    pub(in crate::resources::operations) fence: i64,
    pub(in crate::resources::operations) token: CancellationToken,
    why: Mutex<Option<Stop>>,
    /// When the lease ends, in microseconds since the machine started.
    until_us: AtomicU64,
    /// The right of its caller, and the gateway. `None` for the server's own work.
    right: Option<(LiveWork, GatewayId)>,
    /// That the right was lost is stored.
    lost_stored: AtomicBool,
    _seat: Seat,
}

impl Held {
    /// A lease that was written at a time or later.
    pub(in crate::resources::operations) fn new(
        id: String,
        fence: i64,
        written: Duration,
        seat: Seat,
    ) -> Self {
        Self {
            id,
            fence,
            token: CancellationToken::new(),
            why: Mutex::new(None),
            until_us: AtomicU64::new(micros(written + LEASE_TTL)),
            right: None,
            lost_stored: AtomicBool::new(false),
            _seat: seat,
        }
    }

    /// Needs this right for as long as it runs.
    pub(in crate::resources::operations) fn needing(mut self, app: &App, right: Right) -> Self {
        let work = app.live.works.enter(right, &self.token, &app.snapshot);
        self.right = Some((work, right.on));
        self
    }

    /// Why the right to it was lost, or `None` while it is not.
    pub(in crate::resources::operations) fn lost(&self) -> Option<Lost> {
        self.right.as_ref().and_then(|(work, _)| work.lost())
    }

    /// The gateway, if the right was lost and that is not stored yet.
    pub(in crate::resources::operations) fn to_store(&self) -> Option<GatewayId> {
        let (work, gateway) = self.right.as_ref()?;
        let stored = self.lost_stored.load(Ordering::Relaxed);
        (work.lost().is_some() && !stored).then_some(*gateway)
    }

    /// Notes that the loss of the right is stored.
    pub(in crate::resources::operations) fn note_stored(&self) {
        self.lost_stored.store(true, Ordering::Relaxed);
    }

    /// Tells the work to stop. That its lease is lost comes before everything else that it was told.
    pub(in crate::resources::operations) fn stop(&self, why: Stop) {
        let mut told = self.why.lock();
        if told.is_none() || why == Stop::LeaseLost {
            *told = Some(why);
        }
        drop(told);
        self.token.cancel();
    }

    /// Whether the lease is held for all that this replica knows, by a clock that counts sleep.
    pub(in crate::resources::operations) fn is_held(&self, now: Duration) -> bool {
        self.why() != Some(Stop::LeaseLost) && self.until_us.load(Ordering::Relaxed) > micros(now)
    }

    /// Why the work is to stop. A lost right stops it as a cancel does.
    pub(in crate::resources::operations) fn why(&self) -> Option<Stop> {
        let told = *self.why.lock();
        told.or_else(|| self.lost().map(|_| Stop::Cancelled))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Operations {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }

    /// Room for one more.
    ///
    /// # Errors
    /// `BUSY` where there is none.
    pub(in crate::resources::operations) fn seat(&self, principal: String) -> Result<Seat, Error> {
        let mut seats = self.seats.lock();
        let of_one = seats.by_principal.get(&principal).copied().unwrap_or_default();
        if seats.all >= OPERATIONS_MAX || of_one >= OPERATIONS_OF_ONE_MAX {
            return Err(Error::Exhausted { reason: Reason::Busy, retry_in: BUSY_RETRY_IN });
        }
        seats.all += 1;
        *seats.by_principal.entry(principal.clone()).or_default() += 1;
        Ok(Seat { seats: Arc::clone(&self.seats), principal })
    }

    /// How many run here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept().held.len()
    }

    /// Whether one runs here.
    pub(in crate::resources::operations) fn holds(&self, id: &str) -> bool {
        self.kept().held.contains_key(id)
    }

    /// Keeps the lease of one from here on.
    pub(in crate::resources::operations) fn keep(&self, app: &Arc<App>, held: &Arc<Held>) {
        let mut kept = self.kept();
        if let Some(older) = kept.held.insert(held.id.clone(), Arc::clone(held)) {
            older.stop(Stop::LeaseLost);
        }
        note_running(app, kept.held.len());
        if !kept.keeping {
            kept.keeping = true;
            app.spawn(keep(Arc::clone(app)));
        }
    }

    /// It runs here no longer.
    pub(in crate::resources::operations) fn leave(&self, app: &App, held: &Held) {
        let mut kept = self.kept();
        if kept.held.get(&held.id).is_some_and(|there| there.fence == held.fence) {
            kept.held.remove(&held.id);
        }
        note_running(app, kept.held.len());
    }

    /// Tells one that it was cancelled, where it runs here.
    pub(in crate::resources::operations) fn cancel(&self, id: &str) {
        if let Some(held) = self.kept().held.get(id) {
            held.stop(Stop::Cancelled);
        }
    }

    /// All that run here; when there are none, the keeper is told to end.
    fn all(&self) -> Vec<Arc<Held>> {
        let mut kept = self.kept();
        kept.keeping = !kept.held.is_empty();
        kept.held.values().cloned().collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count in a metric")]
fn note_running(app: &App, count: usize) {
    app.operations_running.store(count, Ordering::SeqCst);
    gauge!(OPERATIONS_RUNNING).set(count as f64);
}

/// Keeps what runs here, until nothing does.
async fn keep(app: Arc<App>) {
    let mut renewed_at = app.clock.since_boot();
    let mut drained_at = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let held = app.part::<Operations>().all();
        if held.is_empty() {
            return;
        }
        let now = app.clock.since_boot();
        let due = now.saturating_sub(renewed_at) >= RENEW_EVERY;
        let asked = async {
            if due {
                renew(&app, &held, now).await?;
            }
            look(&app, &held).await?;
            right::store_lost(&app, &held).await
        };
        let late = |_| Err(Error::Late { why: "the database took too long".to_owned() });
        let asked = tokio::time::timeout(ASK_TIME_MAX, asked).await.unwrap_or_else(late);
        if asked.is_ok() && due {
            renewed_at = now;
        }
        if let Err(error) = asked {
            let held = held.len();
            warn!(error = &error as &dyn std::error::Error, held, "operations were not kept");
        }
        for held in held.iter().filter(|held| !held.is_held(now)) {
            held.stop(Stop::LeaseLost);
        }
        if app.stop.is_cancelled() {
            let until =
                *drained_at.get_or_insert_with(|| Instant::now() + app.config.server.drain());
            if Instant::now() >= until {
                for held in &held {
                    held.stop(Stop::Draining);
                }
            }
        }
    }
}

/// Holds every lease for longer. What does not come back is another's.
async fn renew(app: &App, held: &[Arc<Held>], now: Duration) -> Result<(), Error> {
    let ids: Vec<String> = held.iter().map(|held| held.id.clone()).collect();
    let mut conn = app.db.write().await?;
    let until = app.db.now(&mut conn).await?.plus(LEASE_TTL);
    let ours = store::renew(&mut conn, &app.replica, &ids, until).await?;
    let ours: HashMap<String, i64> = ours.into_iter().collect();
    for held in held {
        if ours.get(&held.id) == Some(&held.fence) {
            held.until_us.store(micros(now + LEASE_TTL), Ordering::Relaxed);
        } else {
            held.stop(Stop::LeaseLost);
        }
    }
    Ok(())
}

/// Finds what was cancelled on another replica.
async fn look(app: &App, held: &[Arc<Held>]) -> Result<(), Error> {
    // On SQLite there is none.
    if app.db.engine() == Engine::Sqlite {
        return Ok(());
    }
    let mut conn = app.db.read().await?;
    let asked: HashMap<String, i64> =
        store::cancelling(&mut conn, &app.replica).await?.into_iter().collect();
    for held in held.iter().filter(|held| asked.get(&held.id) == Some(&held.fence)) {
        held.stop(Stop::Cancelled);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_for_each_and_for_all_and_given_back() {
        let operations = Operations::default();
        let full = |answer: Result<Seat, Error>| matches!(answer, Err(Error::Exhausted { .. }));
        let seats = |principal: &str| -> Vec<Seat> {
            let seat = |_| operations.seat(principal.to_owned()).unwrap();
            (0..OPERATIONS_OF_ONE_MAX).map(seat).collect()
        };
        let mut taken = vec![seats("a")];
        assert!(full(operations.seat("a".to_owned())));
        for other in ["b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            taken.push(seats(other));
        }
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), OPERATIONS_MAX);
        assert!(full(operations.seat("k".to_owned())));
        taken[0].pop();
        assert!(operations.seat("k".to_owned()).is_ok());
    }

    #[test]
    fn that_a_lease_is_lost_comes_before_every_other_reason() {
        let operations = Operations::default();
        let seat = operations.seat("a".to_owned()).unwrap();
        let held = Held::new("x".to_owned(), 1, Duration::ZERO, seat);
        assert_eq!((held.why(), held.token.is_cancelled()), (None, false));
        assert!(held.is_held(LEASE_TTL.saturating_sub(Duration::from_micros(1))));
        assert!(!held.is_held(LEASE_TTL));
        for (told, why) in [
            (Stop::Cancelled, Stop::Cancelled),
            (Stop::Draining, Stop::Cancelled),
            (Stop::LeaseLost, Stop::LeaseLost),
            (Stop::Cancelled, Stop::LeaseLost),
        ] {
            held.stop(told);
            assert_eq!((held.why(), held.token.is_cancelled()), (Some(why), true));
        }
        assert!(!held.is_held(Duration::ZERO));
    }
}
