//! `[access]`: how fresh the access data must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How fresh the access data must be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Age of the access data after which access checks fail and live streams end, in seconds. It bounds how long a
    /// caller whose access was revoked on another replica can still use this one. Range 1 to 5. Default 5.
    #[serde(default = "stale_after_seconds")]
    pub stale_after_seconds: u64,
    /// Interval at which the change log is read, in milliseconds. Range 50 to 1000, and at most half of
    /// `stale_after_seconds`. Default 500: a change on another replica takes effect within one second.
    #[serde(default = "poll_milliseconds")]
    pub poll_milliseconds: u64,
}

fn stale_after_seconds() -> u64 {
    5
}

fn poll_milliseconds() -> u64 {
    500
}

impl Section for Access {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("stale_after_seconds", ValueKind::Number),
        ConfigKey::new("poll_milliseconds", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("access.stale_after_seconds", self.stale_after_seconds, &(1..=5));
        faults.check_range("access.poll_milliseconds", self.poll_milliseconds, &(50..=1000));
        if self.poll() * 2 > self.stale_after() {
            let why = "must be at most half of `access.stale_after_seconds`";
            faults.add("access.poll_milliseconds", why);
        }
    }
}

impl Access {
    /// Returns the age after which access checks fail.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        Duration::from_secs(self.stale_after_seconds)
    }

    /// Returns the interval at which the change log is read.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_milliseconds)
    }
}
