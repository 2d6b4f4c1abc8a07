//! Probes of gateways: health, version and generation, and whether they accept Shoreguard's credential.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use shoreguard_proto::v0_1::openshell::v1::{HealthResponse, ServiceStatus};

use super::capability;
use super::connection::Connection;
use super::credential::CredentialCheck;
use super::generation::{DetectedGeneration, Generation};
use super::targets::Target;
use super::unreachable::OpenError;
use crate::access::policy::PolicyEffect;
use crate::clock::{Clock, Timestamp};
use crate::config::Gateways;
use crate::error::{Error, Reason};

/// Path of the method that reports health and version.
pub(crate) const HEALTH: &str = "/openshell.v1.OpenShell/Health";

/// Path of the method that reports the caller's roles. Not every release has it.
pub(crate) const CURRENT_USER: &str = "/openshell.v1.OpenShell/GetCurrentUser";

/// Path of a method that requires the role of a platform admin and changes nothing.
pub(crate) const GATEWAY_INFO: &str = "/openshell.v1.OpenShell/GetGatewayInfo";

/// Maximum length of a stored version, in characters; a gateway may claim anything (T20).
const VERSION_CHARACTERS_MAX: usize = 64;

/// Maximum length of a stored probe error, in characters.
pub const ERROR_CHARACTERS_MAX: usize = 500;

/// Health as reported by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Not reported.
    Unspecified,
    /// Healthy.
    Healthy,
    /// Serving, but impaired.
    Degraded,
    /// Unhealthy.
    Unhealthy,
}

/// Result of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Health as reported by the gateway.
    pub status: Health,
    /// Version as reported, truncated and without control characters.
    pub version: String,
    /// The configured generation, otherwise that of the version.
    pub generation: DetectedGeneration,
    /// Response time on an open connection.
    pub latency: Duration,
    /// When the certificate of the gateway expires.
    pub server_cert_expires_at: Option<Timestamp>,
    /// Result of the credential check; `None` if it was not checked, as on connections for forwarded calls.
    pub credential: Option<CredentialCheck>,
}

impl Probe {
    /// Parses the response to `Health`. Returns `None` if it is malformed.
    pub(crate) fn from_health(answer: Bytes, latency: Duration) -> Option<Self> {
        let answer = HealthResponse::decode(answer).ok()?;
        let version: String = answer
            .version
            .chars()
            .filter(char::is_ascii_graphic)
            .take(VERSION_CHARACTERS_MAX)
            .collect();
        let status = match answer.status() {
            ServiceStatus::Unspecified => Health::Unspecified,
            ServiceStatus::Healthy => Health::Healthy,
            ServiceStatus::Degraded => Health::Degraded,
            ServiceStatus::Unhealthy => Health::Unhealthy,
        };
        let generation = DetectedGeneration::from_version(&version);
        Some(Self {
            status,
            version,
            generation,
            latency,
            server_cert_expires_at: None,
            credential: None,
        })
    }

    /// Returns why the credential is not known to be usable, or `None` if it is usable or was not checked.
    #[must_use]
    pub fn credential_problem(&self) -> Option<&str> {
        self.credential.as_ref().and_then(CredentialCheck::problem)
    }

    /// Returns the generation of the reported version, ignoring a configured one. This is what is stored and displayed
    /// as detected.
    #[must_use]
    pub fn reported_generation(&self) -> DetectedGeneration {
        DetectedGeneration::from_version(&self.version)
    }

    /// Returns the generation in which to call the gateway.
    ///
    /// # Errors
    /// `WIRE_UNSUPPORTED` if this build does not support it.
    pub(crate) fn supported_generation(&self, gateway: &str) -> Result<Generation, Error> {
        self.generation.known().ok_or_else(|| self.unsupported(gateway))
    }

    fn unsupported(&self, gateway: &str) -> Error {
        let why = format!("gateway `{gateway}`: {}", capability::unsupported_reason(&self.version));
        Error::refused(Reason::WireUnsupported, why)
    }

    /// Rejects a call that could change a policy if the configured generation contradicts the version.
    ///
    /// # Errors
    /// `WIRE_CONTRADICTED` for such a call; `WIRE_UNSUPPORTED` as [`Probe::supported_generation`].
    pub(crate) fn check_effect(&self, effect: PolicyEffect, gateway: &str) -> Result<(), Error> {
        capability::check_effect(
            effect,
            gateway,
            self.supported_generation(gateway)?,
            &self.version,
        )
    }
}

/// Connects to a target, checks its health and Shoreguard's credential, and closes the connection. Connecting and
/// checking the credential each have `timeout`.
///
/// # Errors
/// `ADDRESS_FORBIDDEN`, `GATEWAY_TOKEN_UNAVAILABLE`, and `GATEWAY_UNREACHABLE` with the cause. The errors of a front end
/// before the gateway are those of its HTTP status.
pub async fn probe(
    clock: &Clock,
    config: &Gateways,
    target: &Target,
    timeout: Duration,
) -> Result<Probe, Error> {
    let opening = Box::pin(Connection::open(target, config));
    let opened = clock.timeout(timeout, opening).await;
    let opened = opened.unwrap_or(Err(OpenError::Silent));
    let connection = opened.map_err(|error| error.into_error(&target.name))?;
    let credential = Some(connection.check_credential(timeout).await);
    Ok(Probe { credential, ..connection.probe().clone() })
}

/// Returns the error of a gateway for its readers, without the addresses to which a name resolved.
#[must_use]
pub fn display_error(error: &Error) -> String {
    if let Error::Refused { reason: Reason::AddressForbidden, .. } = error {
        return "the address must not be connected to".to_owned();
    }
    error.to_string().chars().take(ERROR_CHARACTERS_MAX).collect()
}
