//! `[followers]`: what is read of the sandboxes of gateways without a caller who watches.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Which data of sandboxes is read without a caller who watches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Followers {
    /// Whether the logs of running sandboxes are read, to find attempts to bypass their policies and refused
    /// connections: with each pass over a gateway (`policies.follow_interval_seconds`), but at most every 13 seconds.
    /// Costs one call per sandbox. A gateway with many sandboxes is read less often: at most 10 calls and 1 MiB per
    /// second. Default true.
    #[serde(default = "logs")]
    pub logs: bool,
}

fn logs() -> bool {
    true
}

impl Section for Followers {
    const KEYS: &'static [ConfigKey] = &[ConfigKey::new("logs", ValueKind::Flag)];

    fn check(&self, _: &mut Faults) {}
}
