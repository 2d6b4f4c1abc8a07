//! The pace of a follower: at most 20 calls and 4 MiB a second to one gateway.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Gateways;
use crate::openshell::Usage;

/// Minimum time per call.
const PER_CALL: Duration = Duration::from_millis(50);
/// Maximum number of bytes per second.
const BYTES_PER_SECOND: u64 = 4 << 20;
/// The follower uses at most one in this many bytes that the configuration allows for all of Shoreguard's own calls.
const SHARE_OF_BUDGET: u64 = 4;

/// When the next call is due.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    next: Mutex<Instant>,
}

impl Pace {
    /// Creates the pace of the configuration. The first call is due at once.
    #[must_use]
    pub fn new(config: &Gateways) -> Self {
        let of_budget = config.bytes_per_minute / 60 / SHARE_OF_BUDGET;
        let bytes_per_second = BYTES_PER_SECOND.min(of_budget).max(1);
        Self { bytes_per_second, next: Mutex::new(Instant::now()) }
    }

    /// Waits until the next call is due.
    pub async fn wait(&self) {
        let next = *self.next.lock();
        tokio::time::sleep_until(next).await;
    }

    /// Counts what calls have used.
    pub fn spend(&self, usage: Usage) {
        let mut next = self.next.lock();
        *next = (*next).max(Instant::now()) + self.cost(usage);
    }

    fn cost(&self, usage: Usage) -> Duration {
        let micros = usage.bytes as u64 * 1_000_000 / self.bytes_per_second;
        PER_CALL * usage.calls + Duration::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_follower_makes_20_calls_or_reads_4_mib_a_second() {
        let mut config = Config::from_toml("").unwrap().gateways;
        let cost = |config: &Gateways, calls, bytes| {
            Pace::new(config).cost(Usage { calls, bytes }).as_millis()
        };
        assert_eq!(cost(&config, 20, 0), 1_000);
        assert_eq!(cost(&config, 0, 4 << 20), 1_000);
        assert_eq!(cost(&config, 1, 16 << 20), 4_050);
        // A quarter of the budget of all calls.
        config.bytes_per_minute = 60 << 20;
        assert_eq!(cost(&config, 0, 1 << 20), 4_000);
    }
}
