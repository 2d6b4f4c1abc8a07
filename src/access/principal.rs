//! Callers. What identifies one never changes; names are for showing (T12).

use std::fmt;
use std::sync::Arc;

use crate::db::types::{GatewayId, ServicePrincipalId, SessionId, Timestamp, UserId};

/// What identifies a caller for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalId {
    /// A person.
    User(UserId),
    /// A program.
    ServicePrincipal(ServicePrincipalId),
}

impl PrincipalId {
    /// Back from its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once(':')?;
        let id: i64 = id.parse().ok()?;
        match kind {
            "user" => Some(Self::User(UserId(id))),
            "service_principal" => Some(Self::ServicePrincipal(ServicePrincipalId(id))),
            _ => None,
        }
    }
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
    pub(in crate::access) session: Option<SessionId>,
    pub(in crate::access) bound: Option<GatewayId>,
    pub(in crate::access) authenticated_at: Option<Timestamp>,
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

    /// The session that the credential belongs to; none for keys and certificates.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The one gateway that the credential is good for (T02).
    #[must_use]
    pub fn bound(&self) -> Option<GatewayId> {
        self.bound
    }

    /// When the person behind the session last proved who it is.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.authenticated_at
    }

    /// What an answer with a secret in it is kept for: the key version or the session (T17).
    #[must_use]
    pub fn credential(&self) -> String {
        match self.session {
            None => self.version.to_string(),
            Some(session) => format!("{} {session}", self.version),
        }
    }
}
