//! `[audit]`: how audit entries are stored.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How audit entries are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Time that audit entries are stored, in days. Range 1 to 3650. Default 90: a quarter, which most reviews cover.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
    /// Maximum number of audit entries in one database commit. Range 1 to 4096. Default 512: enough for ten thousand
    /// writes a second, and small enough that the first entry of a commit waits only milliseconds.
    #[serde(default = "batch_max")]
    pub batch_max: u32,
    /// Writes of one caller per minute that can be refused after their audit entry was stored. Further writes of that
    /// caller are refused until the minute ends, and are counted instead of stored one by one. 0 means no limit.
    /// Default 100: people and programs that make mistakes stay below it, and a caller without a role cannot fill the
    /// disk with entries.
    #[serde(default = "refused_writes_per_minute")]
    pub refused_writes_per_minute: u32,
}

fn retention_days() -> u32 {
    90
}

fn batch_max() -> u32 {
    512
}

fn refused_writes_per_minute() -> u32 {
    100
}

impl Section for Audit {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("retention_days", ValueKind::Number),
        ConfigKey::new("batch_max", ValueKind::Number),
        ConfigKey::new("refused_writes_per_minute", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("audit.retention_days", self.retention_days, &(1..=3650));
        faults.check_range("audit.batch_max", self.batch_max, &(1..=4096));
    }
}
