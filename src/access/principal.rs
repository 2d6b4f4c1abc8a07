//! Callers. What identifies one never changes; names are for showing (T12).

use std::fmt;
use std::sync::Arc;

use crate::db::types::{ServicePrincipalId, Timestamp, UserId};

/// What identifies a caller for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalId {
    /// A person.
    User(UserId),
    /// A program.
    ServicePrincipal(ServicePrincipalId),
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::ServicePrincipal(id) => write!(f, "service_principal:{id}"),
        }
    }
}

/// A caller that has proved who it is.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(in crate::access) principal: PrincipalId,
    pub(in crate::access) actor: Arc<str>,
    pub(in crate::access) version: i64,
    pub(in crate::access) expires_at: Option<Timestamp>,
}

impl Caller {
    /// What identifies the caller.
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// The caller's name: an e-mail address, or `sp:` and a name.
    #[must_use]
    pub fn actor(&self) -> &Arc<str> {
        &self.actor
    }

    /// Version of the key or password that the credential was made from: it dies with it (T14).
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// When the credential ends, where it does.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}
