//! `[approvals]`: how long reviews are stored, and when voters are reminded of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How long reviews are stored, and when voters are reminded of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// Time that reviews are stored with their votes after they have ended, in days. Range 1 to 3650. Default 365: who
    /// approved what matters for as long as the change is in force.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
    /// Time after which an event `approval.reminder` names those who could vote in an open review, in minutes. It is
    /// repeated once a day, and 2 hours before the review expires. Range 1 to 10,080. Default 240: half a working day.
    #[serde(default = "remind_after_minutes")]
    pub remind_after_minutes: u32,
}

fn retention_days() -> u32 {
    365
}

fn remind_after_minutes() -> u32 {
    240
}

impl Approvals {
    /// Returns the time from the opening of a review to its first reminder.
    #[must_use]
    pub fn remind_after(&self) -> Duration {
        Duration::from_mins(u64::from(self.remind_after_minutes))
    }
}

impl Section for Approvals {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("retention_days", ValueKind::Number),
        ConfigKey::new("remind_after_minutes", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("approvals.retention_days", self.retention_days, &(1..=3650));
        let after = self.remind_after_minutes;
        faults.check_range("approvals.remind_after_minutes", after, &(1..=10_080));
    }
}
