//! What we ask of a gateway on our own account, in the same words whatever its generation.
//!
//! [`Gateway`] is the handle; `sandbox`, `settings`, `exec` and `watch` are what can be asked, and `v0_0` and `v0_1` translate.
//! `capability` says what a gateway can do at all, `annotation` what we write into its record.
//!
//! Invariants
//! - what a gateway tells is bounded on its way in (T20);
//! - nothing is decided here: who may ask what is for the domain.
//!
//! `Health` is the same in both generations, and a gateway answers it without a credential: its version tells the
//! generation, and with it how everything else is read. `credential` checks the credential by calls that require one.

pub mod annotation;
pub mod budget;
pub mod capability;
pub mod credential;
pub mod exec;
pub(crate) mod gateway;
mod outgoing;
pub mod policy_file;
mod reached;
pub(crate) mod said;
pub mod sandbox;
pub mod settings;
pub mod ssh;
pub mod templates;
mod v0_0;
mod v0_1;
pub mod watch;

use std::time::Duration;

pub use self::gateway::{Gateway, Wire};

use bytes::Bytes;
use prost::Message;

use self::credential::CredentialCheck;
use crate::access::policy::PolicyEffect;
use crate::app::App;
use crate::clock::Timestamp;
use crate::error::{Error, Reason};
use crate::pb::v0_1::openshell::v1::{HealthResponse, ServiceStatus};
use crate::proxy::connection::Connection;
use crate::resources::gateways::targets::{Generation, Target};

/// Path of the method that tells the version.
pub(crate) const HEALTH: &str = "/openshell.v1.OpenShell/Health";

/// Path of the method that reports the caller's roles. Not every release has it.
pub(crate) const CURRENT_USER: &str = "/openshell.v1.OpenShell/GetCurrentUser";

/// Path of a method that requires the role of a platform admin and changes nothing.
pub(crate) const GATEWAY_INFO: &str = "/openshell.v1.OpenShell/GetGatewayInfo";

/// Longest version that is kept, in characters; a gateway may claim anything (T20).
const VERSION_CHARACTERS_MAX: usize = 64;

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
    pub generation: Generation,
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
        let generation = Generation::of_version(&version);
        Some(Self { status, version, generation, latency, server_cert: None, credential: None })
    }

    /// Why the credential is not known to be usable; `None` if it is usable or was not checked.
    #[must_use]
    pub fn credential_problem(&self) -> Option<&str> {
        self.credential.as_ref().and_then(CredentialCheck::problem)
    }

    /// What follows from the version, whatever is pinned: what is stored and shown as found.
    #[must_use]
    pub fn told_generation(&self) -> Generation {
        Generation::of_version(&self.version)
    }

    /// Why the gateway is not spoken to, where it is not.
    pub(crate) fn unsupported(&self, gateway: &str) -> Error {
        let why = format!("gateway `{gateway}`: {}", capability::unsupported(&self.version));
        Error::refused(Reason::WireUnsupported, why)
    }

    /// Refuses a call that could change a policy where the generation that was set by hand is not the version's.
    ///
    /// # Errors
    /// `WIRE_CONTRADICTED`.
    pub(crate) fn governable(&self, effect: PolicyEffect, gateway: &str) -> Result<(), Error> {
        capability::governable(effect, gateway, self.generation, &self.version)
    }
}

/// Connects to a gateway as it is described, asks whether it is well, and checks our credential. The connection is closed
/// again. Each of the two steps has `timeout`.
///
/// # Errors
/// `ADDRESS_FORBIDDEN` or `GATEWAY_UNREACHABLE`.
pub async fn probe(app: &App, target: &Target, timeout: Duration) -> Result<Probe, Error> {
    let opened = Connection::open(target, &app.config.gateways);
    let Ok(connection) = tokio::time::timeout(timeout, opened).await else {
        return Err(Connection::unreachable(&target.name));
    };
    let connection = connection?;
    let credential = Some(connection.check_credential(timeout).await);
    Ok(Probe { credential, ..connection.probe().clone() })
}
