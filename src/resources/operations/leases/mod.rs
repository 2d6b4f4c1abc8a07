//! Leases of the operations that run in this process: renews them and stops work that must stop.
//!
//! Invariants
//! - there is one task per process, and only while operations run in it. It renews all leases with one statement and
//!   finds operations that were canceled on other replicas with one query a second;
//! - work is stopped when another replica holds its lease, and when the lease has expired without a renewal by a clock
//!   that counts suspend time: the process may have been frozen while another replica took over;
//! - the number of operations that run in one process is limited, in total and per caller.

mod renewal;
pub mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::access::live_work::{LiveWork, StopReason, WorkCondition};
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::resources::operations::feed::Feed;
use crate::telemetry::metrics::OPERATIONS_RUNNING;

/// Lifetime of a lease without a renewal. An operation makes no progress for this long after its replica has crashed.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// Most operations that run in one process at once.
pub const OPERATIONS_MAX: usize = 1_000;
/// Most operations of one caller that run in one process at once.
pub const OPERATIONS_OF_ONE_MAX: usize = 100;
/// Retry delay that a caller gets with `BUSY`.
const BUSY_RETRY_IN: Duration = Duration::from_secs(5);

/// Reason for which work must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// The operation was canceled.
    Cancelled,
    /// The process is shutting down. Another replica resumes the work if it is resumable, so nothing must be undone.
    Draining,
    /// Another replica may have taken over: the work must do nothing more, and undo nothing.
    LeaseLost,
}

/// The operations of this process.
#[derive(Debug, Default)]
pub struct LocalOperations {
    /// Wakes calls that wait for operations.
    pub feed: Feed,
    leases: Mutex<HeldLeases>,
    /// The last operation that ran here has ended.
    emptied: Notify,
    slots: Arc<Mutex<SlotCounts>>,
}

#[derive(Debug, Default)]
struct HeldLeases {
    operations: HashMap<String, Arc<LeasedOperation>>,
    renewing: bool,
}

#[derive(Debug, Default)]
struct SlotCounts {
    all: usize,
    by_principal: HashMap<String, usize>,
}

/// Reserved capacity for one operation. Dropping it frees the capacity.
#[derive(Debug)]
pub(in crate::resources::operations) struct Slot {
    slots: Arc<Mutex<SlotCounts>>,
    principal: String,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.lock();
        counts.all -= 1;
        if let Some(count) = counts.by_principal.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                counts.by_principal.remove(&self.principal);
            }
        }
    }
}

/// An operation that runs here.
#[derive(Debug)]
pub(in crate::resources::operations) struct LeasedOperation {
    pub(in crate::resources::operations) id: String,
    pub(in crate::resources::operations) fence: i64,
    pub(in crate::resources::operations) token: CancellationToken,
    stop_cause: Mutex<Option<StopCause>>,
    /// Expiry of the lease, in microseconds since the machine started.
    expires_us: AtomicU64,
    /// The right of its caller, and the gateway. `None` for the server's own work.
    right: Option<(LiveWork, GatewayId)>,
    /// Whether the loss of the right is stored.
    lost_stored: AtomicBool,
    _slot: Slot,
}

impl LeasedOperation {
    /// Creates the entry for a lease that was stored no earlier than `written`.
    pub(in crate::resources::operations) fn new(
        id: String,
        fence: i64,
        written: Duration,
        slot: Slot,
    ) -> Self {
        Self {
            id,
            fence,
            token: CancellationToken::new(),
            stop_cause: Mutex::new(None),
            expires_us: AtomicU64::new(micros(written + LEASE_TTL)),
            right: None,
            lost_stored: AtomicBool::new(false),
            _slot: slot,
        }
    }

    /// Registers the right that the work needs while it runs.
    pub(in crate::resources::operations) fn with_right(
        mut self,
        app: &App,
        right: WorkCondition,
    ) -> Self {
        let work = app.live.works.register(right, &self.token, &app.snapshot);
        self.right = Some((work, right.gateway));
        self
    }

    /// Returns why the caller lost its right to the work. `None` if it still has it.
    pub(in crate::resources::operations) fn right_loss(&self) -> Option<StopReason> {
        self.right.as_ref().and_then(|(work, _)| work.stop_reason())
    }

    /// Returns the gateway if the right was lost and the loss is not stored yet.
    pub(in crate::resources::operations) fn unstored_loss(&self) -> Option<GatewayId> {
        let (work, gateway) = self.right.as_ref()?;
        let stored = self.lost_stored.load(Ordering::Relaxed);
        (work.stop_reason().is_some() && !stored).then_some(*gateway)
    }

    /// Marks the loss of the right as stored.
    pub(in crate::resources::operations) fn mark_loss_stored(&self) {
        self.lost_stored.store(true, Ordering::Relaxed);
    }

    /// Stops the work. The first reason is kept, except that `LeaseLost` overrides every other one.
    pub(in crate::resources::operations) fn stop(&self, why: StopCause) {
        let mut cause = self.stop_cause.lock();
        if cause.is_none() || why == StopCause::LeaseLost {
            *cause = Some(why);
        }
        drop(cause);
        self.token.cancel();
    }

    /// Returns whether the lease is still held as far as this replica knows, by a clock that counts suspend time.
    pub(in crate::resources::operations) fn is_held(&self, now: Duration) -> bool {
        self.stop_cause() != Some(StopCause::LeaseLost)
            && self.expires_us.load(Ordering::Relaxed) > micros(now)
    }

    /// Returns why the work must stop. A lost right counts as a cancellation.
    pub(in crate::resources::operations) fn stop_cause(&self) -> Option<StopCause> {
        let cause = *self.stop_cause.lock();
        cause.or_else(|| self.right_loss().map(|_| StopCause::Cancelled))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl LocalOperations {
    fn leases(&self) -> MutexGuard<'_, HeldLeases> {
        self.leases.lock()
    }

    /// Reserves capacity for one more operation.
    ///
    /// # Errors
    /// `BUSY` if the total or the caller's share is used up.
    pub(in crate::resources::operations) fn reserve_slot(
        &self,
        principal: String,
    ) -> Result<Slot, Error> {
        let mut counts = self.slots.lock();
        let of_one = counts.by_principal.get(&principal).copied().unwrap_or_default();
        if counts.all >= OPERATIONS_MAX || of_one >= OPERATIONS_OF_ONE_MAX {
            return Err(Error::Exhausted { reason: Reason::Busy, retry_in: BUSY_RETRY_IN });
        }
        counts.all += 1;
        *counts.by_principal.entry(principal.clone()).or_default() += 1;
        Ok(Slot { slots: Arc::clone(&self.slots), principal })
    }

    /// Returns the number of operations that run in this process.
    #[must_use]
    pub fn count(&self) -> usize {
        self.leases().operations.len()
    }

    /// Returns whether an operation runs in this process.
    pub(in crate::resources::operations) fn contains(&self, id: &str) -> bool {
        self.leases().operations.contains_key(id)
    }

    /// Registers an operation, so that its lease is renewed from now on.
    pub(in crate::resources::operations) fn register(
        &self,
        app: &Arc<App>,
        held: &Arc<LeasedOperation>,
    ) {
        let mut leases = self.leases();
        if let Some(older) = leases.operations.insert(held.id.clone(), Arc::clone(held)) {
            older.stop(StopCause::LeaseLost);
        }
        record_running_count(app, leases.operations.len());
        if !leases.renewing {
            leases.renewing = true;
            app.spawn(renewal::renew_until_idle(Arc::clone(app)));
        }
    }

    /// Removes an operation that no longer runs here.
    pub(in crate::resources::operations) fn remove(&self, app: &App, held: &LeasedOperation) {
        let mut leases = self.leases();
        if leases.operations.get(&held.id).is_some_and(|there| there.fence == held.fence) {
            leases.operations.remove(&held.id);
        }
        if leases.operations.is_empty() {
            self.emptied.notify_one();
        }
        record_running_count(app, leases.operations.len());
    }

    /// Stops an operation as canceled if it runs here.
    pub(in crate::resources::operations) fn cancel(&self, id: &str) {
        if let Some(held) = self.leases().operations.get(id) {
            held.stop(StopCause::Cancelled);
        }
    }

    /// Returns all operations that run here. If there are none, the renewal task ends.
    fn all(&self) -> Vec<Arc<LeasedOperation>> {
        let mut leases = self.leases();
        leases.renewing = !leases.operations.is_empty();
        leases.operations.values().cloned().collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count in a metric")]
fn record_running_count(app: &App, count: usize) {
    app.operations_running.store(count, Ordering::SeqCst);
    gauge!(OPERATIONS_RUNNING).set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_operations_are_limited_per_principal_and_in_total() {
        let operations = LocalOperations::default();
        let full = |answer: Result<Slot, Error>| matches!(answer, Err(Error::Exhausted { .. }));
        let seats = |principal: &str| -> Vec<Slot> {
            let slot = |_| operations.reserve_slot(principal.to_owned()).unwrap();
            (0..OPERATIONS_OF_ONE_MAX).map(slot).collect()
        };
        let mut taken = vec![seats("a")];
        assert!(full(operations.reserve_slot("a".to_owned())));
        for other in ["b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            taken.push(seats(other));
        }
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), OPERATIONS_MAX);
        assert!(full(operations.reserve_slot("k".to_owned())));
        taken[0].pop();
        assert!(operations.reserve_slot("k".to_owned()).is_ok());
    }

    #[test]
    fn a_lost_lease_overrides_every_other_stop_reason() {
        let operations = LocalOperations::default();
        let slot = operations.reserve_slot("a".to_owned()).unwrap();
        let held = LeasedOperation::new("x".to_owned(), 1, Duration::ZERO, slot);
        assert_eq!((held.stop_cause(), held.token.is_cancelled()), (None, false));
        assert!(held.is_held(LEASE_TTL.saturating_sub(Duration::from_micros(1))));
        assert!(!held.is_held(LEASE_TTL));
        for (cause, why) in [
            (StopCause::Cancelled, StopCause::Cancelled),
            (StopCause::Draining, StopCause::Cancelled),
            (StopCause::LeaseLost, StopCause::LeaseLost),
            (StopCause::Cancelled, StopCause::LeaseLost),
        ] {
            held.stop(cause);
            assert_eq!((held.stop_cause(), held.token.is_cancelled()), (Some(why), true));
        }
        assert!(!held.is_held(Duration::ZERO));
    }
}
