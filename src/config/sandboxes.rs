//! `[sandboxes]`: timeouts of sandbox calls, detection of sandboxes that were created or deleted outside Shoreguard,
//! and templates of new sandboxes.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Timeouts and polling of sandboxes, and templates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandboxes {
    /// Time that a create operation waits until the sandbox is ready, in seconds. Range 1 to 3600. Default 180: an
    /// image of several gigabytes may have to be pulled.
    #[serde(default = "ready_timeout_seconds")]
    pub ready_timeout_seconds: u64,
    /// Interval at which the sandboxes of every gateway are listed, in seconds. Range 5 to 86,400. Default 60: a
    /// sandbox that was deleted outside Shoreguard is noticed about as soon as a gateway that is down.
    #[serde(default = "sweep_seconds")]
    pub sweep_seconds: u64,
    /// Time that a sandbox must be missing from the list of its gateway until it is treated as deleted, in seconds.
    /// Range 0 to 86,400; 0 treats it as deleted at the second list without it. Default 300: a restarted gateway may
    /// come up with only part of its state.
    #[serde(default = "missing_grace_seconds")]
    pub missing_grace_seconds: u64,
    /// Time that one gateway gets to list its sandboxes for a list over many gateways, in seconds. A slower gateway is
    /// reported as unreachable and does not delay the others. A gateway that did not answer its last probe gets half a
    /// second. Range 1 to 60. Default 5, as for a probe.
    #[serde(default = "list_timeout_seconds")]
    pub list_timeout_seconds: u64,
    /// Directory whose `.yaml` files are templates, in addition to the built-in ones; `templates/` of the source
    /// contains examples. An invalid template prevents the start. Default: none.
    #[serde(default)]
    pub templates_folder: Option<PathBuf>,
}

fn ready_timeout_seconds() -> u64 {
    180
}

fn sweep_seconds() -> u64 {
    60
}

fn missing_grace_seconds() -> u64 {
    300
}

fn list_timeout_seconds() -> u64 {
    5
}

impl Section for Sandboxes {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("ready_timeout_seconds", ValueKind::Number),
        ConfigKey::new("sweep_seconds", ValueKind::Number),
        ConfigKey::new("missing_grace_seconds", ValueKind::Number),
        ConfigKey::new("list_timeout_seconds", ValueKind::Number),
        ConfigKey::new("templates_folder", ValueKind::Text),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range(
            "sandboxes.ready_timeout_seconds",
            self.ready_timeout_seconds,
            &(1..=3600),
        );
        faults.check_range("sandboxes.sweep_seconds", self.sweep_seconds, &(5..=86_400));
        faults.check_range(
            "sandboxes.missing_grace_seconds",
            self.missing_grace_seconds,
            &(0..=86_400),
        );
        faults.check_range("sandboxes.list_timeout_seconds", self.list_timeout_seconds, &(1..=60));
    }
}

impl Sandboxes {
    /// Returns the time that a create operation waits until the sandbox is ready.
    #[must_use]
    pub fn ready_timeout(&self) -> Duration {
        Duration::from_secs(self.ready_timeout_seconds)
    }

    /// Returns the interval at which the sandboxes of every gateway are listed.
    #[must_use]
    pub fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds)
    }

    /// Returns the time that a sandbox must be missing until it is treated as deleted.
    #[must_use]
    pub fn missing_grace(&self) -> Duration {
        Duration::from_secs(self.missing_grace_seconds)
    }

    /// Returns the time that one gateway gets to list its sandboxes for a list over many gateways.
    #[must_use]
    pub fn list_timeout(&self) -> Duration {
        Duration::from_secs(self.list_timeout_seconds)
    }
}
