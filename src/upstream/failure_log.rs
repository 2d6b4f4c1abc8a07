//! Log lines about failed calls to one gateway: a gateway that is down fails every call, and one line for each would
//! hide everything else.
//!
//! Invariant: the first failure is logged at once, then at most one line per minute, with the number of failures
//! since the previous line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::warn;

use crate::clock::Clock;

/// Minimum time between two lines about one gateway.
const INTERVAL: Duration = Duration::from_mins(1);

/// The failures of one gateway. It outlives the connections and the settings of the gateway.
#[derive(Debug)]
pub struct FailureLog {
    clock: Clock,
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    /// Time since boot from which the next failure is logged.
    next_line: Duration,
    /// Failures since the previous line.
    count: u64,
}

impl FailureLog {
    /// Creates the log without failures.
    #[must_use]
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// Counts a failure, and logs it if a line is due.
    pub(crate) fn warn(&self, gateway: &str, why: impl fmt::Display) {
        if let Some(failures) = self.count() {
            warn!(gateway, %why, failures, "calls to a gateway fail");
        }
    }

    /// Counts a failure. Returns the number of failures since the previous line if a line is due.
    fn count(&self) -> Option<u64> {
        let now = self.clock.since_boot();
        let mut state = self.state.lock();
        state.count += 1;
        if now < state.next_line {
            return None;
        }
        state.next_line = now + INTERVAL;
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_a_minute_are_one_line_with_their_number() {
        let clock = Clock::system();
        let log = FailureLog::new(clock.clone());
        assert_eq!(log.count(), Some(1), "the first one is logged at once");
        for _ in 0..664 {
            assert_eq!(log.count(), None);
        }
        clock.advance(INTERVAL);
        assert_eq!(log.count(), Some(665));
        assert_eq!(log.count(), None);
        clock.advance(10 * INTERVAL);
        assert_eq!(log.count(), Some(2));
    }
}
