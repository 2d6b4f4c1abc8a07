//! The only clock. Tests can advance it; no other module reads the time.
//!
//! Its timers end early when a test advances it. Timers of tokio measure real time.

mod timestamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

pub use self::timestamp::Timestamp;

/// A wall clock and a boot-time clock, which includes time asleep. Both are shifted by the same offset.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    shift: Arc<Shift>,
}

/// The offset that all clones of a clock share.
#[derive(Debug, Default)]
struct Shift {
    offset_us: AtomicI64,
    /// Wakes the timers when the offset changes.
    changed: Notify,
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
            read_micros(ClockId::Realtime) + self.shift.offset_us.load(Ordering::Relaxed),
        )
    }

    /// Time since the machine booted, including time asleep. Freshness is measured with it (T13).
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        let us = read_micros(ClockId::Boottime) + self.shift.offset_us.load(Ordering::Relaxed);
        Duration::from_micros(u64::try_from(us).unwrap_or_default())
    }

    /// Waits until this time has passed on the clock.
    pub async fn sleep(&self, time: Duration) {
        let until = self.since_boot().saturating_add(time);
        loop {
            // Created before the clock is read, so that no change is missed.
            let changed = self.shift.changed.notified();
            let left = until.saturating_sub(self.since_boot());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = changed => {}
            }
        }
    }

    /// Returns the output of `work`, or `None` if this time passes on the clock before. Box a large future: this one
    /// contains it twice.
    pub async fn timeout<F: Future>(&self, time: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = work => Some(output),
            () = self.sleep(time) => None,
        }
    }

    /// Advances both clocks and the timers, for tests.
    pub fn advance(&self, by: Duration) {
        let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.shift.offset_us.fetch_add(us, Ordering::Relaxed);
        self.shift.changed.notify_waiters();
    }
}

fn read_micros(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec * 1_000_000 + t.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn timers_end_when_the_clock_is_advanced_or_the_time_has_passed() {
        let clock = Clock::system();
        let mut timer = pin!(clock.sleep(HOUR));
        assert!(timer.as_mut().now_or_never().is_none());
        clock.clone().advance(HOUR / 2);
        assert!(timer.as_mut().now_or_never().is_none());
        clock.advance(HOUR / 2);
        timer.await;
        clock.sleep(Duration::from_millis(1)).await;
        assert_eq!(clock.timeout(Duration::ZERO, std::future::pending::<()>()).await, None);
        assert_eq!(clock.timeout(Duration::MAX, async { 1 }).await, Some(1));
    }
}
