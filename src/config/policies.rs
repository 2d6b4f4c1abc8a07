//! `[policies]`: presets of policies, and the first policy of sandboxes under a rule.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Presets of policies, and the first policy of sandboxes under a rule.
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
}

impl Section for Policies {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("presets_dir", ValueKind::Text),
        ConfigKey::new("initial", ValueKind::Text),
    ];

    // The files are read when the policies are loaded.
    fn check(&self, _faults: &mut Faults) {}
}
