//! Probes of gateways: their health, version and generation, and whether they accept our credential.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use shoreguard_proto::v0_1::openshell::v1::{HealthResponse, ServiceStatus};

use super::capability;
use super::connection::Connection;
use super::credential::CredentialCheck;
use super::generation::{Detected, Generation};
use super::targets::Target;
use crate::access::policy::PolicyEffect;
use crate::clock::Timestamp;
use crate::config::Gateways;
use crate::error::{Error, Reason};

/// Path of the method that tells the version.
pub(crate) const HEALTH: &str = "/openshell.v1.OpenShell/Health";

/// Path of the method that reports the caller's roles. Not every release has it.
pub(crate) const CURRENT_USER: &str = "/openshell.v1.OpenShell/GetCurrentUser";

/// Path of a method that requires the role of a platform admin and changes nothing.
pub(crate) const GATEWAY_INFO: &str = "/openshell.v1.OpenShell/GetGatewayInfo";

/// Longest version that is kept, in characters; a gateway may claim anything (T20).
const VERSION_CHARACTERS_MAX: usize = 64;

/// Longest error of a probe that is stored, in characters.
pub const ERROR_CHARACTERS_MAX: usize = 500;

/// How a gateway says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does not say.
    Unspecified,
    /// Well.
    Healthy,
    /// It serves, but not all is well.
    Degraded,
    /// Not well.
    Unhealthy,
}

/// What a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// How the gateway says that it is.
    pub status: Health,
    /// The version that it claims, cut and without control characters.
    pub version: String,
    /// What is pinned, or else follows from the version.
    pub generation: Detected,
    /// How long the question took, on a connection that stood.
    pub latency: Duration,
    /// When the certificate ends that the gateway has shown.
    pub server_cert: Option<Timestamp>,
    /// Result of the check of our credential; `None` if it was not checked, as on connections that calls share.
    pub credential: Option<CredentialCheck>,
}

impl Probe {
    /// From the answer to `Health`; none where it is none.
    pub(crate) fn read(answer: Bytes, latency: Duration) -> Option<Self> {
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
        let generation = Detected::of_version(&version);
        Some(Self { status, version, generation, latency, server_cert: None, credential: None })
    }

    /// Why the credential is not known to be usable; `None` if it is usable or was not checked.
    #[must_use]
    pub fn credential_problem(&self) -> Option<&str> {
        self.credential.as_ref().and_then(CredentialCheck::problem)
    }

    /// What follows from the version, whatever is pinned: what is stored and shown as found.
    #[must_use]
    pub fn told_generation(&self) -> Detected {
        Detected::of_version(&self.version)
    }

    /// The generation that the gateway is spoken to in.
    ///
    /// # Errors
    /// `WIRE_UNSUPPORTED` where this build does not speak its generation.
    pub(crate) fn spoken(&self, gateway: &str) -> Result<Generation, Error> {
        self.generation.known().ok_or_else(|| self.unsupported(gateway))
    }

    fn unsupported(&self, gateway: &str) -> Error {
        let why = format!("gateway `{gateway}`: {}", capability::unsupported(&self.version));
        Error::refused(Reason::WireUnsupported, why)
    }

    /// Refuses a call that could change a policy where the generation that was set by hand is not the version's.
    ///
    /// # Errors
    /// `WIRE_CONTRADICTED`.
    pub(crate) fn governable(&self, effect: PolicyEffect, gateway: &str) -> Result<(), Error> {
        capability::governable(effect, gateway, self.spoken(gateway)?, &self.version)
    }
}

/// Connects to a gateway as it is described, asks whether it is well, and checks our credential. The connection is closed
/// again. Each of the two steps has `timeout`.
///
/// # Errors
/// `ADDRESS_FORBIDDEN` or `GATEWAY_UNREACHABLE`.
pub async fn probe(config: &Gateways, target: &Target, timeout: Duration) -> Result<Probe, Error> {
    let opened = Connection::open(target, config);
    let Ok(connection) = tokio::time::timeout(timeout, opened).await else {
        return Err(Connection::unreachable(&target.name));
    };
    let connection = connection?;
    let credential = Some(connection.check_credential(timeout).await);
    Ok(Probe { credential, ..connection.probe().clone() })
}

/// Returns the error of a gateway as its readers may see it: never an address that a name resolved to.
#[must_use]
pub fn display_error(error: &Error) -> String {
    if let Error::Refused { reason: Reason::AddressForbidden, .. } = error {
        return "the address must not be connected to".to_owned();
    }
    error.to_string().chars().take(ERROR_CHARACTERS_MAX).collect()
}
