//! The pace of a follower: at most 20 calls and 4 MiB a second to one gateway.
//!
//! The calls of a pass over few sandboxes follow each other without a pause: each wait would wake this process again.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Gateways;
use crate::openshell::Usage;

/// Maximum number of calls in any second.
const CALLS_PER_SECOND: u32 = 20;
/// Maximum number of bytes per second.
const BYTES_PER_SECOND: u64 = 4 << 20;
/// The follower uses at most one in this many bytes that the configuration allows for all of Shoreguard's own calls.
const SHARE_OF_BUDGET: u64 = 4;
/// Time of bytes for which the next call does not wait yet.
const UNPAID_MAX: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);

/// When the next call is due.
#[derive(Debug)]
pub struct Pace {
    /// `None` if every call is due at once.
    bytes_per_second: Option<u64>,
    spent: Mutex<Spent>,
}

/// Usage by calls.
#[derive(Debug)]
struct Spent {
    /// Times of the last calls, the oldest first, at most [`CALLS_PER_SECOND`].
    calls: VecDeque<Instant>,
    /// When the time is over that everything else takes at this pace.
    paid_at: Instant,
}

impl Pace {
    /// Creates the pace of the configuration. The first call is due at once.
    #[must_use]
    pub fn new(config: &Gateways) -> Self {
        let of_budget = config.bytes_per_minute / 60 / SHARE_OF_BUDGET;
        let bytes_per_second = BYTES_PER_SECOND.min(of_budget).max(1);
        let spent = Spent { calls: VecDeque::new(), paid_at: Instant::now() };
        Self { bytes_per_second: Some(bytes_per_second), spent: Mutex::new(spent) }
    }

    /// Creates a pace at which every call is due at once, for single passes, which a test starts one after the other.
    pub(super) fn unlimited() -> Self {
        let spent = Spent { calls: VecDeque::new(), paid_at: Instant::now() };
        Self { bytes_per_second: None, spent: Mutex::new(spent) }
    }

    /// Waits until this many calls may be made at once, at most 20.
    pub async fn wait(&self, calls: usize) {
        let due = self.spent.lock().next_due(calls, Instant::now());
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
    }

    /// Counts what calls have used.
    pub fn spend(&self, usage: Usage) {
        let Some(bytes_per_second) = self.bytes_per_second else { return };
        let micros = usage.bytes as u64 * 1_000_000 / bytes_per_second;
        self.spent.lock().add(usage.calls, Duration::from_micros(micros), Instant::now());
    }
}

impl Spent {
    /// Returns when this many calls are due; `None` if they are due now.
    fn next_due(&self, calls: usize, now: Instant) -> Option<Instant> {
        let over = (self.calls.len() + calls).saturating_sub(CALLS_PER_SECOND as usize);
        let last_over = over.min(self.calls.len()).checked_sub(1);
        let after_calls = last_over.and_then(|at| self.calls.get(at)).map(|call| *call + SECOND);
        let after_bytes = (self.paid_at > now + UNPAID_MAX).then_some(self.paid_at);
        after_calls.max(after_bytes).filter(|due| *due > now)
    }

    /// Adds calls, with the time that their bytes take.
    fn add(&mut self, calls: u32, bytes_time: Duration, now: Instant) {
        let at_once = calls.min(CALLS_PER_SECOND);
        self.calls.extend(std::iter::repeat_n(now, at_once as usize));
        let over = self.calls.len().saturating_sub(CALLS_PER_SECOND as usize);
        self.calls.drain(..over);
        let rest_time = SECOND / CALLS_PER_SECOND * (calls - at_once);
        self.paid_at = self.paid_at.max(now) + bytes_time + rest_time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn unused() -> Spent {
        Spent { calls: VecDeque::new(), paid_at: Instant::now() }
    }

    /// Returns how long the next call waits.
    fn wait(spent: &Spent, now: Instant) -> Duration {
        spent.next_due(1, now).map_or(Duration::ZERO, |due| due - now)
    }

    #[test]
    fn a_follower_makes_20_calls_in_any_second() {
        let (mut spent, begun) = (unused(), Instant::now());
        let after = |millis| begun + Duration::from_millis(millis);
        spent.add(19, Duration::ZERO, begun);
        assert_eq!(wait(&spent, begun), Duration::ZERO);
        spent.add(1, Duration::ZERO, after(100));
        assert_eq!(wait(&spent, after(100)), Duration::from_millis(900));
        // The 19 calls are made more than a second before, the other one is not.
        assert_eq!(spent.next_due(19, after(1_000)), None);
        assert_eq!(spent.next_due(20, after(1_000)), Some(after(1_100)));
        assert_eq!(spent.next_due(21, after(1_000)), Some(after(1_100)), "more than ever fit");
        spent.add(19, Duration::ZERO, after(1_000));
        assert_eq!(wait(&spent, after(1_000)), Duration::from_millis(100));
        // More calls between two waits than in a second are paid for afterwards.
        let mut spent = unused();
        spent.add(60, Duration::ZERO, begun);
        assert!(wait(&spent, begun) >= SECOND * 2);
        assert_eq!(spent.calls.len(), CALLS_PER_SECOND as usize);
    }

    #[test]
    fn a_follower_reads_4_mib_a_second_or_a_quarter_of_the_budget_of_all_calls() {
        let mut config = Config::from_toml("").unwrap().gateways;
        let wait_after = |config: &Gateways, bytes| {
            let pace = Pace::new(config);
            pace.spend(Usage { calls: 1, bytes });
            let spent = pace.spent.lock();
            wait(&spent, spent.calls[0])
        };
        assert_eq!(wait_after(&config, 1 << 10), Duration::ZERO);
        let at_least = |millis| Duration::from_millis(millis)..Duration::from_millis(millis + 1);
        assert!(at_least(1_000).contains(&wait_after(&config, 4 << 20)));
        assert!(at_least(4_000).contains(&wait_after(&config, 16 << 20)));
        config.bytes_per_minute = 60 << 20;
        assert!(at_least(4_000).contains(&wait_after(&config, 1 << 20)));
    }

    #[test]
    fn an_unlimited_pace_delays_no_call() {
        let pace = Pace::unlimited();
        pace.spend(Usage { calls: 40, bytes: 40 << 20 });
        assert_eq!(pace.spent.lock().next_due(20, Instant::now()), None);
    }
}
