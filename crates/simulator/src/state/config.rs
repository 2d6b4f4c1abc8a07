//! The effective configuration of a sandbox.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta::hex;
use super::{ObjectKey, State, policy, settings};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{EffectiveSetting, SandboxPolicy};

/// The effective configuration of a sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The policy, including the global policy and the rules of providers; `None` before the sandbox has a policy.
    pub(crate) policy: Option<SandboxPolicy>,
    /// Version of the sandbox's newest revision; 0 before the first.
    pub(crate) version: u32,
    /// Hash of the policy.
    pub(crate) hash: String,
    /// Effective value of each setting.
    pub(crate) settings: BTreeMap<String, EffectiveSetting>,
    /// Changes whenever the policy or a setting changes.
    pub(crate) revision: u64,
    /// Version of the global policy; `None` if none is in effect.
    pub(crate) global_version: Option<u32>,
    /// Changes whenever the attached providers change.
    pub(crate) provider_revision: u64,
}

impl State {
    /// Returns the configuration of a sandbox. Writes revision 1 if it does not exist yet.
    pub(crate) fn config(&mut self, at: &ObjectKey) -> Result<Config, Status> {
        self.ensure_first_revision(at)?;
        let global_version = self.active_global().map(|global| global.version);
        let sandbox = self.sandbox(at)?;
        let (place, providers) = (sandbox.key(), sandbox.spec.providers.clone());
        let own = sandbox.settings.clone();
        let newest = sandbox.revisions.last().map_or(0, |newest| newest.version);
        let policy = match (newest, global_version) {
            (0, None) => None,
            (_, _) => Some(self.current_effective(&place)?),
        };
        let hash = policy.as_ref().map(policy::hash).unwrap_or_default();
        let settings = settings::effective_settings(&self.settings, &own);
        let provider_revision =
            fingerprint(self.provider_versions(&place.0, &providers).as_bytes());
        let revision = fingerprint(format!("{global_version:?}{hash}{settings:?}").as_bytes());
        let version = if global_version.is_some() { newest.max(1) } else { newest };
        Ok(Config { policy, version, hash, settings, revision, global_version, provider_revision })
    }
}

/// Returns eight bytes of a hash.
fn fingerprint(bytes: &[u8]) -> u64 {
    let digest = hex(&Sha256::digest(bytes));
    u64::from_str_radix(&digest[..16], 16).unwrap_or_default()
}
