//! `[policies]`: presets of policies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// Presets of policies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// Directory whose `.yaml` files are presets, in addition to the built-in ones; `presets/` of the source contains
    /// examples. An invalid preset prevents the start. Default: none.
    #[serde(default)]
    pub presets_dir: Option<PathBuf>,
}

impl Section for Policies {
    const KEYS: &'static [ConfigKey] = &[ConfigKey::new("presets_dir", ValueKind::Text)];

    // The folder is read when the presets are loaded.
    fn check(&self, _faults: &mut Faults) {}
}
