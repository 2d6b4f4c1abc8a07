//! Capabilities of a gateway, derived from the version that it reports and its effective generation.
//!
//! The schemas of OpenShell come in four families: before 0.0.37, up to 0.0.87, up to 0.0.116, and from 0.1.0 on. The
//! last two are the generations that Shoreguard supports; methods were added within them.
//!
//! Invariants
//! - pure functions: nothing here calls a gateway;
//! - a version that cannot be parsed removes no capability: the gateway itself rejects calls that it does not know. A
//!   development build counts as the release that it precedes.

use super::generation::{DetectedGeneration, Generation};
use crate::access::policy::PolicyEffect;
use crate::error::{Error, Reason};
use crate::pb::release::Version;

/// The supported releases, for messages.
const SUPPORTED: &str = "supported are 0.0.88 to 0.0.116 and 0.1.x";

/// A family of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Before 0.0.37.
    Before0_0_37,
    /// From 0.0.37 to 0.0.87.
    Before0_0_88,
    /// Generation 0.0.
    V0_0,
    /// Generation 0.1.
    V0_1,
    /// Not known to this build.
    Unknown,
}

impl Family {
    /// Returns the family of a version.
    #[must_use]
    pub fn from_version(version: &str) -> Self {
        match Version::parse(version) {
            Some(Version(0, 0, 0..=36)) => Self::Before0_0_37,
            Some(Version(0, 0, 37..=87)) => Self::Before0_0_88,
            Some(Version(0, 0, 88..=116)) => Self::V0_0,
            Some(Version(0, 1, _)) => Self::V0_1,
            Some(_) | None => Self::Unknown,
        }
    }

    /// Returns the generation of the family.
    #[must_use]
    pub fn generation(self) -> DetectedGeneration {
        match self {
            Self::V0_0 => DetectedGeneration::Known(Generation::V0_0),
            Self::V0_1 => DetectedGeneration::Known(Generation::V0_1),
            Self::Before0_0_37 | Self::Before0_0_88 | Self::Unknown => {
                DetectedGeneration::Unsupported
            }
        }
    }
}

/// A feature that some gateways lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Reports the identity of its caller.
    CurrentUser,
    /// Stops and starts sandboxes.
    StartStop,
    /// Reports the exit status of a sandbox's main process.
    MainProcessExit,
    /// Exchanges tokens for the providers of a sandbox.
    SubjectTokens,
    /// Routes inference by workspace. Absent in generation 0.1.
    InferenceRoutes,
    /// Stores sandbox templates.
    SandboxTemplates,
    /// Accepts sandbox file systems as archives.
    RootfsStaging,
    /// Reports the status of a sandbox's providers.
    ProviderStatus,
    /// Detects repeated requests by their `request_id`.
    RequestIds,
    /// All calls identify sandboxes by name instead of by id.
    SandboxNames,
    /// Returns provider credentials, which Shoreguard never forwards.
    ProviderCredentials,
}

impl Capability {
    /// All capabilities, oldest first.
    pub const ALL: [Self; 11] = [
        Self::InferenceRoutes,
        Self::CurrentUser,
        Self::StartStop,
        Self::MainProcessExit,
        Self::SubjectTokens,
        Self::SandboxTemplates,
        Self::RootfsStaging,
        Self::ProviderStatus,
        Self::RequestIds,
        Self::SandboxNames,
        Self::ProviderCredentials,
    ];

    fn since(self) -> Version {
        match self {
            Self::InferenceRoutes => Version(0, 0, 88),
            Self::CurrentUser => Version(0, 0, 95),
            Self::StartStop => Version(0, 0, 105),
            Self::MainProcessExit => Version(0, 0, 111),
            Self::SubjectTokens => Version(0, 0, 113),
            Self::SandboxTemplates
            | Self::RootfsStaging
            | Self::ProviderStatus
            | Self::RequestIds
            | Self::SandboxNames => Version(0, 1, 0),
            Self::ProviderCredentials => Version(0, 1, 5),
        }
    }

    /// Returns the capability that a method requires, or `None` if every gateway has the method.
    fn for_method(path: &str) -> Option<Self> {
        Some(match path.rsplit_once('/')?.1 {
            "GetCurrentUser" => Self::CurrentUser,
            "StartSandbox" | "StopSandbox" => Self::StartStop,
            "SetInferenceRoute" | "GetInferenceRoute" | "DeleteInferenceRoute" => {
                Self::InferenceRoutes
            }
            "CreateSandboxTemplate"
            | "GetSandboxTemplate"
            | "ListSandboxTemplates"
            | "DeleteSandboxTemplate" => Self::SandboxTemplates,
            "BeginRootfsTarStaging" => Self::RootfsStaging,
            "GetSandboxProviderStatus" => Self::ProviderStatus,
            _ => return None,
        })
    }

    /// Checks whether a gateway of this effective generation and reported version has the capability.
    #[must_use]
    pub fn is_supported(self, generation: Generation, version: &str) -> bool {
        let (since, version) = (self.since(), Version::parse(version));
        let old_enough = since.1 == 0 || generation == Generation::V0_1;
        match generation {
            Generation::V0_0 => old_enough && version.is_none_or(|version| version >= since),
            Generation::V0_1 => {
                self != Self::InferenceRoutes && version.is_none_or(|version| version >= since)
            }
        }
    }
}

/// Checks whether the configured generation differs from that of the reported version. A version of no known family
/// does not contradict: that is the case for which the generation is configured.
#[must_use]
pub fn contradicts(generation: Generation, version: &str) -> bool {
    let family = Family::from_version(version);
    family != Family::Unknown && family.generation() != DetectedGeneration::Known(generation)
}

/// Rejects a method that the gateway does not have.
///
/// # Errors
/// `METHOD_NOT_SUPPORTED` if it lacks the capability.
pub fn check_method(
    path: &str,
    gateway: &str,
    generation: Generation,
    version: &str,
) -> Result<(), Error> {
    let Some(needed) = Capability::for_method(path) else { return Ok(()) };
    if needed.is_supported(generation, version) {
        return Ok(());
    }
    let method = path.rsplit('/').next().unwrap_or_default();
    let when = if needed == Capability::InferenceRoutes {
        "up to version 0.0.116".to_owned()
    } else {
        format!("since version {}", needed.since())
    };
    let why = format!(
        "`{method}` exists {when}, gateway `{gateway}` reports `{version}` and speaks generation {generation}"
    );
    Err(Error::refused(Reason::MethodNotSupported, why))
}

/// Rejects a call that could change a policy if the configured generation contradicts the reported version: it is then
/// unknown how the gateway parses the request (T09).
///
/// # Errors
/// `WIRE_CONTRADICTED` for such a call.
pub fn check_effect(
    effect: PolicyEffect,
    gateway: &str,
    generation: Generation,
    version: &str,
) -> Result<(), Error> {
    if effect == PolicyEffect::None || !contradicts(generation, version) {
        return Ok(());
    }
    let why = format!(
        "gateway `{gateway}` is set to generation {generation} by hand but reports `{version}`, so nothing that could change a policy is sent to it"
    );
    Err(Error::refused(Reason::WireContradicted, why))
}

/// Returns the reason why a version is not supported.
#[must_use]
pub fn unsupported_reason(version: &str) -> String {
    let why = match Family::from_version(version) {
        Family::Before0_0_37 => {
            "is not supported (in releases before 0.0.37, sandboxes and providers have another structure)"
        }
        Family::Before0_0_88 => "is not supported (releases 0.0.37 to 0.0.87 have no workspaces)",
        Family::V0_0 | Family::V0_1 | Family::Unknown => {
            "is not supported (this server does not know the release)"
        }
    };
    format!("version `{version}` {why}: {SUPPORTED}")
}

/// Returns a note on a gateway's wire generation, or an empty string if there is no problem.
#[must_use]
pub fn generation_note(generation: DetectedGeneration, version: &str) -> String {
    match generation {
        DetectedGeneration::Unsupported => unsupported_reason(version),
        DetectedGeneration::Known(set) if contradicts(set, version) => {
            format!(
                "version `{version}` is not of generation {set}, which was set by hand: reads pass, calls that could change a policy are refused"
            )
        }
        DetectedGeneration::Known(_) | DetectedGeneration::Unknown => String::new(),
    }
}

#[cfg(test)]
#[path = "capability_tests.rs"]
mod tests;
