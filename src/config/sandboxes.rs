//! `[sandboxes]`: how long is waited for sandboxes, how those that came or went without us are noticed, and what new ones
//! can begin with.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How sandboxes are waited for and looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandboxes {
    /// How long a creation waits until the sandbox is ready, in seconds. Default 180: an image of some gigabytes may have
    /// to be fetched.
    #[serde(default = "ready_timeout_seconds")]
    pub ready_timeout_seconds: u64,
    /// How often every gateway is asked for its sandboxes, in seconds. Default 60: a sandbox that was deleted behind our
    /// back is noticed about as soon as a gateway that is down.
    #[serde(default = "sweep_seconds")]
    pub sweep_seconds: u64,
    /// How long a gateway must have left a sandbox out of its list until it is taken for gone, in seconds. Default 300: a
    /// gateway that restarts may come up with a part of its state.
    #[serde(default = "missing_grace_seconds")]
    pub missing_grace_seconds: u64,
    /// How long one gateway may take to tell its sandboxes for a list of many gateways, in seconds. Default 5, as a probe: one
    /// that takes longer is named as unreachable, and delays the others no longer.
    #[serde(default = "list_timeout_seconds")]
    pub list_timeout_seconds: u64,
    /// The folder whose `.yaml` files are templates beside the server's own; `templates/` of the source has examples.
    /// Default: none. One that is wrong stops the start.
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
    const KEYS: &'static [Key] = &[
        Key::new("ready_timeout_seconds", Kind::Number),
        Key::new("sweep_seconds", Kind::Number),
        Key::new("missing_grace_seconds", Kind::Number),
        Key::new("list_timeout_seconds", Kind::Number),
        Key::new("templates_folder", Kind::Text),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.range("sandboxes.ready_timeout_seconds", self.ready_timeout_seconds, &(1..=3600));
        faults.range("sandboxes.sweep_seconds", self.sweep_seconds, &(5..=86_400));
        faults.range("sandboxes.missing_grace_seconds", self.missing_grace_seconds, &(0..=86_400));
        faults.range("sandboxes.list_timeout_seconds", self.list_timeout_seconds, &(1..=60));
    }
}

impl Sandboxes {
    /// How long a creation waits until the sandbox is ready.
    #[must_use]
    pub fn ready_timeout(&self) -> Duration {
        Duration::from_secs(self.ready_timeout_seconds)
    }

    /// How often every gateway is asked.
    #[must_use]
    pub fn sweep_interval(&self) -> Duration {
        Duration::from_secs(self.sweep_seconds)
    }

    /// How long a sandbox must be missing.
    #[must_use]
    pub fn missing_grace(&self) -> Duration {
        Duration::from_secs(self.missing_grace_seconds)
    }

    /// How long one gateway may take to tell its sandboxes for a list of many.
    #[must_use]
    pub fn list_timeout(&self) -> Duration {
        Duration::from_secs(self.list_timeout_seconds)
    }
}
