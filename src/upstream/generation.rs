//! Wire generations of gateways.

use std::fmt;

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;
pub use shoreguard_proto::release::Generation;

use super::capability::Family;
use crate::stored_as_word;

/// The generation of a gateway, as detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum DetectedGeneration {
    /// Not known yet.
    Unknown,
    /// Not supported by this build.
    Unsupported,
    /// Supported by this build.
    Known(Generation),
}

/// The configured generation of a gateway, which overrides the detected generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub struct PinnedGeneration(pub Generation);

impl DetectedGeneration {
    /// Returns the stored form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unsupported => "unsupported",
            Self::Known(generation) => generation.as_str(),
        }
    }

    /// Parses the stored form.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "unknown" => Some(Self::Unknown),
            "unsupported" => Some(Self::Unsupported),
            number => Generation::from_word(number).map(Self::Known),
        }
    }

    /// Returns the generation, or `None` if it is unknown or unsupported.
    #[must_use]
    pub const fn known(self) -> Option<Generation> {
        match self {
            Self::Unknown | Self::Unsupported => None,
            Self::Known(generation) => Some(generation),
        }
    }

    /// Detects the generation from the version that a gateway reports: `0.0.88` to `0.0.116` and `0.1.x`, each with
    /// their dev builds.
    #[must_use]
    pub fn from_version(version: &str) -> Self {
        Family::from_version(version).generation()
    }
}

impl fmt::Display for DetectedGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PinnedGeneration {
    /// Returns the stored form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0.as_str()
    }

    /// Parses the stored form.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Generation::from_word(word).map(Self)
    }
}

stored_as_word!(DetectedGeneration);
stored_as_word!(PinnedGeneration);

/// Returns the releases of a generation, for messages.
#[must_use]
pub fn releases(generation: Generation) -> &'static str {
    match generation {
        Generation::V0_0 => "releases 0.0.88 to 0.0.116",
        Generation::V0_1 => "releases 0.1.x",
    }
}

#[cfg(test)]
mod tests {
    use super::Generation::{V0_0, V0_1};
    use super::*;

    #[test]
    fn the_generation_follows_from_the_version() {
        let table = [
            ("0.0.87", DetectedGeneration::Unsupported),
            ("0.0.88", DetectedGeneration::Known(V0_0)),
            ("0.0.112-dev.7+g2f7fb6559", DetectedGeneration::Known(V0_0)),
            ("0.0.116", DetectedGeneration::Known(V0_0)),
            ("0.0.117", DetectedGeneration::Unsupported),
            ("0.1.0", DetectedGeneration::Known(V0_1)),
            ("v0.1.5", DetectedGeneration::Known(V0_1)),
            ("0.1.12-dev.1", DetectedGeneration::Known(V0_1)),
            ("0.2.0", DetectedGeneration::Unsupported),
            ("1.0.0", DetectedGeneration::Unsupported),
            ("0.1", DetectedGeneration::Unsupported),
            ("", DetectedGeneration::Unsupported),
            ("latest", DetectedGeneration::Unsupported),
        ];
        for (version, expected) in table {
            assert_eq!(DetectedGeneration::from_version(version), expected, "{version}");
        }
    }
}
