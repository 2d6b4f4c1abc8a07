//! `[auth]`: how sessions behave.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How sessions behave.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How long a session token lives before it must be refreshed, in minutes. Default 15: short enough that a stolen
    /// one is of little use, long enough that refreshing is rare.
    #[serde(default = "session_minutes")]
    pub session_minutes: u64,
}

fn session_minutes() -> u64 {
    15
}

impl Section for Auth {
    const KEYS: &'static [Key] = &[Key::new("session_minutes", Kind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.range("auth.session_minutes", self.session_minutes, &(1..=60));
    }
}

impl Auth {
    /// How long a session token lives.
    #[must_use]
    pub fn session(&self) -> Duration {
        Duration::from_secs(60 * self.session_minutes)
    }
}
