//! `[access]`: how fresh the access data must be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How fresh the access data must be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The age past which checks fail and live streams end, in seconds. Default 5 and never more: so long at most does a
    /// caller who was shut out elsewhere get in here.
    #[serde(default = "stale_after_seconds")]
    pub stale_after_seconds: u64,
    /// How often the change log is read, in milliseconds. Default 500: what another replica writes is in force within
    /// one second.
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
    const KEYS: &'static [Key] = &[
        Key::new("stale_after_seconds", Kind::Number),
        Key::new("poll_milliseconds", Kind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.range("access.stale_after_seconds", self.stale_after_seconds, &(1..=5));
        faults.range("access.poll_milliseconds", self.poll_milliseconds, &(50..=1000));
        if self.poll() * 2 > self.stale_after() {
            let why = "must be at most half of `access.stale_after_seconds`";
            faults.add("access.poll_milliseconds", why);
        }
    }
}

impl Access {
    /// The age past which checks fail.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        Duration::from_secs(self.stale_after_seconds)
    }

    /// How often the change log is read.
    #[must_use]
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_milliseconds)
    }
}
