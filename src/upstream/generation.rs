//! Wire generations of gateways.

use shoreguard_proto::release;

use super::capability::Family;

/// The schema family that a gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Not known yet.
    Unknown,
    /// Releases 0.0.88 to 0.0.116.
    V0_0,
    /// Releases from 0.1.0 on.
    V0_1,
    /// One that this build does not speak.
    Unsupported,
}

impl Generation {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::V0_0 => "0.0",
            Self::V0_1 => "0.1",
            Self::Unsupported => "unsupported",
        }
    }

    /// The generation of the wire; `None` if it is not known or not supported.
    #[must_use]
    pub fn spoken(self) -> Option<release::Generation> {
        match self {
            Self::V0_0 => Some(release::Generation::V0_0),
            Self::V0_1 => Some(release::Generation::V0_1),
            Self::Unknown | Self::Unsupported => None,
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Unknown, Self::V0_0, Self::V0_1, Self::Unsupported]
            .into_iter()
            .find(|g| g.as_str() == text)
    }

    /// From the version that a gateway reports: `0.0.88` to `0.0.116` and their dev builds, or `0.1.0` and later.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        Family::of(version).generation()
    }

    /// Its releases, in words.
    #[must_use]
    pub fn releases(self) -> &'static str {
        match self {
            Self::V0_0 => "releases 0.0.88 to 0.0.116",
            Self::V0_1 => "releases 0.1.0 and later",
            Self::Unknown | Self::Unsupported => "no release",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_follows_from_the_version() {
        let table = [
            ("0.0.87", Generation::Unsupported),
            ("0.0.88", Generation::V0_0),
            ("0.0.112-dev.7+g2f7fb6559", Generation::V0_0),
            ("0.0.116", Generation::V0_0),
            ("0.0.117", Generation::Unsupported),
            ("0.1.0", Generation::V0_1),
            ("v0.1.5", Generation::V0_1),
            ("0.1.12-dev.1", Generation::V0_1),
            ("0.2.0", Generation::Unsupported),
            ("1.0.0", Generation::Unsupported),
            ("0.1", Generation::Unsupported),
            ("", Generation::Unsupported),
            ("latest", Generation::Unsupported),
        ];
        for (version, expected) in table {
            assert_eq!(Generation::of_version(version), expected, "{version}");
        }
    }
}
