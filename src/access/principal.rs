//! Callers. Their ids never change; names are only for display (T12).

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::db::types::{GatewayId, ServicePrincipalId, SessionId, UserId};
use crate::error::Error;
use crate::names;

/// Permanent id of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PrincipalId {
    /// A person.
    User(UserId),
    /// A program.
    ServicePrincipal(ServicePrincipalId),
}

impl PrincipalId {
    /// Parses a principal in the configuration: a kind and an id, exactly as [`fmt::Display`] writes them, so that each
    /// principal has only one text.
    #[must_use]
    pub fn parse_exact(text: &str) -> Option<Self> {
        names::parse_principal(text)?;
        Self::parse(text)
    }

    /// Parses the text that [`fmt::Display`] writes.
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

/// Returns the error for a method that only users can call.
pub(crate) fn not_a_user_error() -> Error {
    Error::Denied { why: "only users can do this, not service principals".to_owned() }
}

/// Returns the user.
///
/// # Errors
/// `ROLE_TOO_LOW` for a service principal.
pub(crate) fn require_user(principal: PrincipalId) -> Result<UserId, Error> {
    match principal {
        PrincipalId::User(id) => Ok(id),
        PrincipalId::ServicePrincipal(_) => Err(not_a_user_error()),
    }
}

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(in crate::access) principal: PrincipalId,
    pub(in crate::access) actor: Arc<str>,
    pub(in crate::access) version: i64,
    pub(in crate::access) expires_at: Option<Timestamp>,
    pub(in crate::access) session: Option<SessionId>,
    pub(in crate::access) bound_gateway: Option<GatewayId>,
    pub(in crate::access) authenticated_at: Option<Timestamp>,
}

impl Caller {
    /// Returns the same caller, expiring at this time or earlier.
    pub(in crate::access) fn expiring_by(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(self.expires_at.map_or(at, |ends| ends.min(at)));
        self
    }

    /// Returns the id of the caller.
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// Returns the name of the caller: an e-mail address, or `sp:` and a name.
    #[must_use]
    pub fn actor(&self) -> &Arc<str> {
        &self.actor
    }

    /// Returns the version of the key or password that the credential was created from. The credential becomes invalid
    /// when that version does (T14).
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Returns when the credential expires, or `None` if it does not.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Returns the session of the credential, or `None` for keys and certificates.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Returns the gateway that the credential is bound to, or `None` if it is not bound (T02).
    #[must_use]
    pub fn bound_gateway(&self) -> Option<GatewayId> {
        self.bound_gateway
    }

    /// Returns when the person behind the session last authenticated.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.authenticated_at
    }

    /// Returns the condition under which work of this caller can continue: the credential without its planned expiry.
    #[must_use]
    pub fn work_credential(&self) -> WorkCredential {
        let Self { principal, version, session, bound_gateway, .. } = *self;
        WorkCredential { principal, version: Some(version), session, bound_gateway }
    }

    /// Returns the credential that a stored response with a secret belongs to: the key version and, if there is one,
    /// the session (T17).
    #[must_use]
    pub fn credential_id(&self) -> String {
        match self.session {
            None => self.version.to_string(),
            Some(session) => format!("{} {session}", self.version),
        }
    }
}

/// The credential that started a piece of work, without its planned expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkCredential {
    /// The principal.
    pub principal: PrincipalId,
    /// Version of the key or password. `None` if it is not known: then only the principal is checked.
    pub version: Option<i64>,
    /// The session, if the credential belongs to one.
    pub session: Option<SessionId>,
    /// The gateway that the credential is bound to, if any.
    pub bound_gateway: Option<GatewayId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_exactly_one_text_form() {
        let (user, program) =
            (PrincipalId::User(UserId(3)), PrincipalId::ServicePrincipal(ServicePrincipalId(17)));
        assert_eq!(PrincipalId::parse_exact("user:3"), Some(user));
        assert_eq!(PrincipalId::parse_exact("service_principal:17"), Some(program));
        for bad in [
            "",
            "3",
            "user:",
            "user:0",
            "user:-1",
            "user:+3",
            "user:03",
            "user: 3",
            "user:ana@example.com",
            "service_principal:ci",
            "service_principal:9223372036854775808",
            "group:1",
        ] {
            assert_eq!(PrincipalId::parse_exact(bad), None, "{bad}");
        }
    }
}
