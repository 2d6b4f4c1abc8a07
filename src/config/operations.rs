//! `[operations]`: how long operations are stored.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How long operations are stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// Time that finished operations are stored with their results, in days. Range 1 to 3650. Default 30: their callers
    /// have read the results by then, and the audit log stores who did what for longer.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn retention_days() -> u32 {
    30
}

impl Section for Operations {
    const KEYS: &'static [ConfigKey] = &[ConfigKey::new("retention_days", ValueKind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("operations.retention_days", self.retention_days, &(1..=3650));
    }
}
