//! What a gateway can do, from the version that it reports and the generation that it is taken for.
//!
//! The schemas of the upstream come in four families: before 0.0.37, up to 0.0.87, up to 0.0.116, and from 0.1.0 on. The
//! last two are the generations that we speak; within them methods were added.
//!
//! Invariants
//! - pure: nothing here asks a gateway;
//! - a version that says nothing takes nothing away: what the gateway then doesn't know it refuses itself. A build on the
//!   way to a release counts as that release.

use super::generation::{Detected, Generation};
use crate::access::policy::PolicyEffect;
use crate::error::{Error, Reason};
use crate::pb::release::Version;

/// The releases that we speak, in words.
const SPOKEN: &str = "releases 0.0.88 to 0.0.116 and 0.1 are spoken";

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
    /// None that this build knows.
    Unknown,
}

impl Family {
    /// The family of a version.
    #[must_use]
    pub fn of(version: &str) -> Self {
        match Version::parse(version) {
            Some(Version(0, 0, 0..=36)) => Self::Before0_0_37,
            Some(Version(0, 0, 37..=87)) => Self::Before0_0_88,
            Some(Version(0, 0, 88..=116)) => Self::V0_0,
            Some(Version(0, 1, _)) => Self::V0_1,
            Some(_) | None => Self::Unknown,
        }
    }

    /// The generation that it is spoken to in.
    #[must_use]
    pub fn generation(self) -> Detected {
        match self {
            Self::V0_0 => Detected::Known(Generation::V0_0),
            Self::V0_1 => Detected::Known(Generation::V0_1),
            Self::Before0_0_37 | Self::Before0_0_88 | Self::Unknown => Detected::Unsupported,
        }
    }
}

/// Something that not every gateway can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// It tells who its caller is.
    CurrentUser,
    /// It stops and starts sandboxes.
    StartStop,
    /// Its sandboxes tell how their command has ended.
    MainProcessExit,
    /// Its sandboxes exchange tokens of their providers.
    SubjectTokens,
    /// It routes inference by workspace. Generation 0.1 has none of it.
    InferenceRoutes,
    /// It keeps templates of sandboxes.
    SandboxTemplates,
    /// It takes file systems for sandboxes as archives.
    RootfsStaging,
    /// It tells how the providers of a sandbox are.
    ProviderStatus,
    /// It tells a repeated request by its `request_id`.
    RequestIds,
    /// Every call names sandboxes by name, none by id.
    SandboxNames,
    /// It gives credentials of providers out, which we never pass on.
    ProviderCredentials,
}

impl Capability {
    /// Every capability, the oldest first.
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

    /// What a method takes, where not every gateway has it.
    fn of_method(path: &str) -> Option<Self> {
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

    /// Whether a gateway has it that is taken for a generation and reports a version.
    #[must_use]
    pub fn is_held(self, generation: Generation, version: &str) -> bool {
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

/// Whether a generation that was set by hand is another one than the version tells. A version that tells none is what
/// setting it by hand is for.
#[must_use]
pub fn contradicts(taken_for: Generation, version: &str) -> bool {
    let family = Family::of(version);
    family != Family::Unknown && family.generation() != Detected::Known(taken_for)
}

/// Refuses a method that the gateway does not have.
///
/// # Errors
/// `METHOD_NOT_SUPPORTED`.
pub fn needs(path: &str, gateway: &str, taken_for: Generation, version: &str) -> Result<(), Error> {
    let Some(needed) = Capability::of_method(path) else { return Ok(()) };
    if needed.is_held(taken_for, version) {
        return Ok(());
    }
    let method = path.rsplit('/').next().unwrap_or_default();
    let when = if needed == Capability::InferenceRoutes {
        "up to version 0.0.116".to_owned()
    } else {
        format!("since version {}", needed.since())
    };
    let why = format!(
        "`{method}` exists {when}, gateway `{gateway}` reports `{version}` and speaks generation {taken_for}"
    );
    Err(Error::refused(Reason::MethodNotSupported, why))
}

/// Refuses a call that could change a policy where the generation was set by hand and the version tells another: how
/// the gateway reads it is not known (T09).
///
/// # Errors
/// `WIRE_CONTRADICTED`.
pub fn governable(
    effect: PolicyEffect,
    gateway: &str,
    taken_for: Generation,
    version: &str,
) -> Result<(), Error> {
    if effect == PolicyEffect::None || !contradicts(taken_for, version) {
        return Ok(());
    }
    let why = format!(
        "gateway `{gateway}` is set to generation {taken_for} by hand but reports `{version}`, so nothing that could change a policy is sent to it"
    );
    Err(Error::refused(Reason::WireContradicted, why))
}

/// Why a gateway of a version is not spoken to.
#[must_use]
pub fn unsupported(version: &str) -> String {
    let why = match Family::of(version) {
        Family::Before0_0_37 => {
            "is of the family before 0.0.37, whose sandboxes and providers have another structure"
        }
        Family::Before0_0_88 => "is of the family 0.0.37 to 0.0.87, which has no workspaces",
        Family::V0_0 | Family::V0_1 | Family::Unknown => "is of no family that this server knows",
    };
    format!("version `{version}` {why}: {SPOKEN}")
}

/// What is to be said of a gateway's wire; empty where all is as it should be.
#[must_use]
pub fn note(taken_for: Detected, version: &str) -> String {
    match taken_for {
        Detected::Unsupported => unsupported(version),
        Detected::Known(set) if contradicts(set, version) => {
            format!(
                "version `{version}` is not of generation {set}, which was set by hand: reads pass, calls that could change a policy are refused"
            )
        }
        Detected::Known(_) | Detected::Unknown => String::new(),
    }
}

#[cfg(test)]
#[path = "capability_tests.rs"]
mod tests;
