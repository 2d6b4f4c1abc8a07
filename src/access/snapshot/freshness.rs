//! Tracks whether the database has confirmed the snapshot recently enough (T13).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Reason};

/// Time of the last confirmation of the snapshot.
#[derive(Debug)]
pub(super) struct Freshness {
    clock: Clock,
    stale_after: Duration,
    /// Milliseconds since boot.
    confirmed_at: AtomicU64,
    /// A committed change is known to be missing, or nothing was read yet.
    unconfirmed: AtomicBool,
}

impl Freshness {
    /// Starts stale, until the first confirmation.
    pub(super) fn new(clock: Clock, stale_after: Duration) -> Self {
        let (confirmed_at, unconfirmed) = (AtomicU64::new(0), AtomicBool::new(true));
        Self { clock, stale_after, confirmed_at, unconfirmed }
    }

    /// Notes that the snapshot contains everything that was committed before `read_at` (since boot).
    pub(super) fn confirm(&self, read_at: Duration) {
        self.confirmed_at.fetch_max(millis(read_at), Ordering::Release);
        self.unconfirmed.store(false, Ordering::Release);
    }

    /// Makes the snapshot stale until the next confirmation.
    pub(super) fn mark_unconfirmed(&self) {
        self.unconfirmed.store(true, Ordering::Release);
    }

    /// Returns the time since the last confirmation.
    pub(super) fn age(&self) -> Duration {
        let now = millis(self.clock.since_boot());
        Duration::from_millis(now.saturating_sub(self.confirmed_at.load(Ordering::Acquire)))
    }

    /// Checks that the snapshot is fresh.
    ///
    /// # Errors
    /// `ACCESS_STALE`.
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.unconfirmed.load(Ordering::Acquire) && self.age() <= self.stale_after {
            return Ok(());
        }
        let why = "the access data cannot be confirmed to be fresh";
        Err(Error::unavailable(Reason::AccessStale, why))
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
