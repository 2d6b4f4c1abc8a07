//! The only clock. Tests can advance it; no other module reads the time.

mod timestamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub use self::timestamp::Timestamp;

/// A wall clock and a boot-time clock, which includes time asleep. Both are shifted by the same offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_us: Arc<AtomicI64>,
}

impl Clock {
    /// Returns the system time without an offset.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// The current time, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(
            read_micros(ClockId::Realtime) + self.offset_us.load(Ordering::Relaxed),
        )
    }

    /// Time since the machine booted, including time asleep. Freshness is measured with it (T13).
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        let us = read_micros(ClockId::Boottime) + self.offset_us.load(Ordering::Relaxed);
        Duration::from_micros(u64::try_from(us).unwrap_or_default())
    }

    /// Advances both clocks, for tests.
    pub fn advance(&self, by: Duration) {
        let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.offset_us.fetch_add(us, Ordering::Relaxed);
    }
}

fn read_micros(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec * 1_000_000 + t.tv_nsec / 1_000
}
