//! Checks whether a gateway accepts Shoreguard's credential.
//!
//! `Health` needs no credential, so a healthy gateway proves nothing. `GetCurrentUser` needs authentication and no
//! role, and reports roles and scopes; releases before 0.0.95 do not have it. `GetGatewayInfo` needs the role of a
//! platform admin.
//!
//! Invariants
//! - `PERMISSION_DENIED` is no proof: a credential is usable only if a role is reported or a method that needs one
//!   succeeds;
//! - text from the gateway is truncated and has no control characters (T20);
//! - `UNAUTHENTICATED` from a gateway is about Shoreguard's credential and never reaches a caller as is.

use tonic::Code;

use super::errors::sanitize_message;
use crate::error::{Error, GatewayRefusal, Reason};
use crate::pb::v0_1::openshell::v1::GetCurrentUserResponse;

/// Roles that OpenShell gateways define. A gateway can be configured with other names.
const ROLES: [&str; 2] = ["openshell-admin", "openshell-user"];
/// Prefixes of the scopes that gateways check, if they check scopes.
const SCOPES: [&str; 6] =
    ["openshell:", "sandbox:", "config:", "provider:", "workspace:", "inference:"];
/// Maximum number of roles in a message.
const ROLES_SHOWN_MAX: usize = 10;
/// Maximum length of a role in a message, in characters.
const ROLE_CHARACTERS_MAX: usize = 50;

/// Result of the check of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialCheck {
    /// The gateway accepts it and permits it something.
    Usable,
    /// The gateway does not accept it, or accepts it and permits it nothing. The text says which.
    Unusable(String),
    /// The gateway gave no conclusive response. The text says why.
    Unknown(String),
}

impl CredentialCheck {
    /// Returns why the credential is not known to be usable, or `None` if it is usable.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Usable => None,
            Self::Unusable(why) | Self::Unknown(why) => Some(why),
        }
    }

    /// Whether the credential is usable, or `None` if that is unknown.
    #[must_use]
    pub fn is_usable(&self) -> Option<bool> {
        match self {
            Self::Usable => Some(true),
            Self::Unusable(_) => Some(false),
            Self::Unknown(_) => None,
        }
    }

    /// Returns the result of a check without a conclusive response.
    pub(crate) fn unknown(method: &str, why: &str) -> Self {
        Self::Unknown(format!(
            "the credential cannot be verified: {method}: {}",
            sanitize_message(why)
        ))
    }

    /// Returns the result if a method that every accepted credential may call fails with this error.
    pub(crate) fn from_error(method: &str, code: Code, message: &str) -> Self {
        let message = sanitize_message(message);
        if code == Code::Unauthenticated {
            return Self::Unusable(format!(
                "the gateway does not accept the credential ({method}: UNAUTHENTICATED: {message})"
            ));
        }
        if code == Code::PermissionDenied {
            return Self::Unusable(format!(
                "the credential has no permissions on the gateway ({method}: PERMISSION_DENIED: {message})"
            ));
        }
        Self::unknown(method, &format!("{code:?}: {message}"))
    }
}

/// The response to `GetCurrentUser`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CurrentUser {
    roles: Vec<String>,
    scopes: Vec<String>,
}

impl From<GetCurrentUserResponse> for CurrentUser {
    fn from(answer: GetCurrentUserResponse) -> Self {
        Self { roles: answer.roles, scopes: answer.scopes }
    }
}

impl CurrentUser {
    fn has_role(&self) -> bool {
        self.roles.iter().any(|role| ROLES.contains(&role.as_str()))
    }

    /// Checks whether the scopes permit something. Empty scopes count, since the gateway does not report whether it
    /// checks scopes.
    fn has_scope(&self) -> bool {
        let permits = |scope: &String| SCOPES.iter().any(|prefix| scope.starts_with(prefix));
        self.scopes.is_empty() || self.scopes.iter().any(permits)
    }

    /// Whether roles and scopes alone prove that the credential is usable.
    pub(crate) fn is_proof(&self) -> bool {
        self.has_role() && self.has_scope()
    }

    /// Returns the result if `GetGatewayInfo` fails with this error.
    pub(crate) fn check_info_error(
        &self,
        method: &str,
        code: Code,
        message: &str,
    ) -> CredentialCheck {
        // A user without the platform admin role lacks the role. A credential without a known scope lacks the scope, if
        // the gateway checks scopes.
        let by_role = self.has_role() && !message.contains("scope");
        let name = match code {
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => return CredentialCheck::from_error(method, code, message),
        };
        if by_role {
            return CredentialCheck::Usable;
        }
        let (message, roles) = (sanitize_message(message), display_roles(&self.roles));
        CredentialCheck::Unusable(format!(
            "the gateway accepts the credential, but it has no permissions there ({method}: {name}: {message}; roles: {roles})"
        ))
    }
}

fn display_roles(roles: &[String]) -> String {
    if roles.is_empty() {
        return "none".to_owned();
    }
    let cut = |role: &String| {
        sanitize_message(role).chars().take(ROLE_CHARACTERS_MAX).collect::<String>()
    };
    roles.iter().take(ROLES_SHOWN_MAX).map(cut).collect::<Vec<_>>().join(", ")
}

/// Returns the error for a call that a gateway rejects with UNAUTHENTICATED and this text.
pub(crate) fn unauthenticated_error(gateway: &str, message: &str) -> Error {
    let lower = message.to_ascii_lowercase();
    if ["session token", "authorization_token"].iter().any(|field| lower.contains(field)) {
        // The text is about the token of an SSH session, which is part of the request.
        let (gateway, why) = (gateway.to_owned(), sanitize_message(message));
        return Error::Gateway { gateway, refusal: GatewayRefusal::Refused, why };
    }
    let why = format!(
        "gateway `{gateway}` does not accept the credential that Shoreguard presents to it; an admin of the gateway must \
         replace it"
    );
    Error::refused(Reason::GatewayCredentialRefused, why)
}

#[cfg(test)]
#[path = "credential_tests.rs"]
mod tests;
