//! `[operations]`: how operations are kept.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How operations are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operations {
    /// How long operations that have ended are kept, with their results, in days. Default 30: whoever began one has
    /// looked at its result by then, and the audit log keeps who did what for longer.
    #[serde(default = "retention_days")]
    pub retention_days: u32,
}

fn retention_days() -> u32 {
    30
}

impl Section for Operations {
    const KEYS: &'static [Key] = &[Key::new("retention_days", Kind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.range("operations.retention_days", self.retention_days, &(1..=3650));
    }
}
