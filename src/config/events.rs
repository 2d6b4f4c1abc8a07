//! `[events]`: how long events are stored.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How long events are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Time that events are stored, in days. Range 1 to 3650. Default 30: a reader that was away for longer starts over
    /// anyway.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn retention_days() -> u32 {
    30
}

impl Section for Events {
    const KEYS: &'static [ConfigKey] = &[ConfigKey::new("retention_days", ValueKind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("events.retention_days", self.retention_days, &(1..=3650));
    }
}
