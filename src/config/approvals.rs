//! `[approvals]`: how long reviews are stored.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How long reviews are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// Time that reviews are stored with their votes after they have ended, in days. Range 1 to 3650. Default 365: who
    /// approved what matters for as long as the change is in force.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn retention_days() -> u32 {
    365
}

impl Section for Approvals {
    const KEYS: &'static [ConfigKey] = &[ConfigKey::new("retention_days", ValueKind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("approvals.retention_days", self.retention_days, &(1..=3650));
    }
}
