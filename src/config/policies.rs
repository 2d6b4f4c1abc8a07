//! `[policies]`: presets of policies, the first policy of sandboxes under a rule, and when gateways are asked.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Presets of policies, the first policy of sandboxes under a rule, and when gateways are asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Directory whose `.yaml` files are presets, in addition to the built-in ones; `presets/` of the source contains
    /// examples. An invalid preset prevents the start. Default: none.
    #[serde(default)]
    pub presets_dir: Option<PathBuf>,
    /// File with the policy of sandboxes that are created without one under a pin or an approval workflow; without it
    /// they would have the policy of their image. It must be valid for both generations. An invalid file prevents the
    /// start. Default: a built-in policy without network rules.
    #[serde(default)]
    pub initial: Option<PathBuf>,
    /// Time that the operation of an approved policy waits until the sandbox has loaded what was written, in seconds.
    /// Then it fails with `timeout`, and the review ends when the policy is loaded, for example when a stopped sandbox
    /// starts. Range 1 to 3600. Default 300.
    #[serde(default = "load_timeout_seconds")]
    pub load_timeout_seconds: u64,
    /// Interval at which a replica asks a gateway which sandboxes it has and in which phase they are, what agents have
    /// proposed, whether the policies of pinned sandboxes have changed, and whether the gateway approves by itself or
    /// has a policy for all sandboxes, in seconds. A gateway with many sandboxes is asked less often about each: at
    /// most 20 calls and 4 MiB per second. Range 1 to 3600. Default 15.
    #[serde(default = "follow_interval_seconds")]
    pub follow_interval_seconds: u64,
}

fn load_timeout_seconds() -> u64 {
    300
}

fn follow_interval_seconds() -> u64 {
    15
}

impl Policies {
    /// Returns the interval at which a gateway is asked about its sandboxes.
    #[must_use]
    pub fn follow_interval(&self) -> Duration {
        Duration::from_secs(self.follow_interval_seconds)
    }

    /// Returns the time that an operation waits until a policy is loaded.
    #[must_use]
    pub fn load_timeout(&self) -> Duration {
        Duration::from_secs(self.load_timeout_seconds)
    }
}

impl Section for Policies {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("presets_dir", ValueKind::Text),
        ConfigKey::new("initial", ValueKind::Text),
        ConfigKey::new("load_timeout_seconds", ValueKind::Number),
        ConfigKey::new("follow_interval_seconds", ValueKind::Number),
    ];

    // The files are read when the policies are loaded.
    fn check(&self, faults: &mut Faults) {
        let time = self.load_timeout_seconds;
        faults.check_range("policies.load_timeout_seconds", time, &(1..=3600));
        let interval = self.follow_interval_seconds;
        faults.check_range("policies.follow_interval_seconds", interval, &(1..=3600));
    }
}
