//! `[audit]`: how the audit log is kept.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How the audit log is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// How long entries are kept, in days. Default 90: a quarter, the time that most reviews look back.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
    /// Most entries in one commit. Default 512: enough for ten thousand writes a second, small enough that the first one
    /// in it waits milliseconds.
    #[serde(default = "batch_max")]
    pub batch_max: u32,
    /// Writes of one caller that may be refused after their entry was stored, a minute; further writes of that caller are
    /// refused until the minute ends, and counted together. 0 is no bound. Default 100: people and programs that make
    /// mistakes stay below it, and a caller without a role cannot fill the disk with entries.
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
    const KEYS: &'static [Key] = &[
        Key::new("retention_days", Kind::Number),
        Key::new("batch_max", Kind::Number),
        Key::new("refused_writes_per_minute", Kind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.range("audit.retention_days", self.retention_days, &(1..=3650));
        faults.range("audit.batch_max", self.batch_max, &(1..=4096));
    }
}
