//! The four roles. `access/roles.rs` defines how they are combined.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Role of a caller, from least to most access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No access: excludes a caller globally or from one gateway.
    None,
    /// Can read.
    Viewer,
    /// Can create, run and delete sandboxes.
    Operator,
    /// Can manage access.
    Admin,
}

impl Role {
    /// All roles, from least to most.
    pub const ALL: [Self; 4] = [Self::None, Self::Viewer, Self::Operator, Self::Admin];

    /// Name of the role, as stored and displayed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is not one of the four roles.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownRole(String);

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a role: none, viewer, operator or admin", self.0)
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(s: &str) -> Result<Self, UnknownRole> {
        match s {
            "none" => Ok(Self::None),
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            other => Err(UnknownRole(other.to_owned())),
        }
    }
}
