//! Upstream releases, and the generations of the upstream API.

use std::fmt;

/// A generation of the OpenShell API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Releases 0.0.88 to 0.0.116.
    V0_0,
    /// Releases from 0.1.0 on.
    V0_1,
}

impl Generation {
    /// All generations.
    pub const ALL: [Self; 2] = [Self::V0_0, Self::V0_1];

    /// Number of the generation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_0 => "0.0",
            Self::V0_1 => "0.1",
        }
    }

    /// Returns the generation with a number; `None` if there is no such generation.
    #[must_use]
    pub fn from_word(number: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|generation| generation.as_str() == number)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a release: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Parses a version as reported by a gateway, such as `0.0.112-dev.7+g2f7fb6559`; `None` if it has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let mut parts = core.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None) => {
                Some(Self(major, minor, patch))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}
