//! The policy as a sandbox gets it: with the rules of its providers, and with marks on what gets credentials.

use tonic::Status;

use super::settings::{self, PROVIDERS_V2, Settings};
use super::{ObjectKey, State, merge, policy};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    NetworkEndpoint, NetworkPolicyRule, SandboxPolicy, setting_value,
};
use shoreguard_proto::v0_0::openshell::v1::ProviderProfile;

impl State {
    /// Returns the current policy of a sandbox as the sandbox gets it.
    pub(super) fn current_effective(&mut self, at: &ObjectKey) -> Result<SandboxPolicy, Status> {
        let global = self.active_global().map(|global| global.policy.clone());
        let base = match global {
            Some(policy) => policy,
            None => self.base_policy(at)?,
        };
        self.compose(at, &base)
    }

    /// Returns a policy as a sandbox would get it. Providers add no rules while a global policy is in effect.
    pub(super) fn compose(
        &mut self,
        at: &ObjectKey,
        base: &SandboxPolicy,
    ) -> Result<SandboxPolicy, Status> {
        let providers = self.attached_profiles(at)?;
        let on = setting_value::Value::BoolValue(true);
        let adds_rules = self.active_global().is_none()
            && settings::has_value(&self.settings, &Settings::default(), PROVIDERS_V2, &on);
        let mut policy = base.clone();
        policy::clear_credentialed(&mut policy);
        if adds_rules {
            for (name, profile) in &providers {
                add_provider_rule(&mut policy, name, profile);
            }
        }
        let credentialed: Vec<_> = providers
            .iter()
            .filter(|(_, profile)| !profile.credentials.is_empty())
            .flat_map(|(_, profile)| &profile.endpoints)
            .collect();
        for endpoint in policy::endpoints_mut(&mut policy) {
            endpoint.provider_credentialed =
                credentialed.iter().any(|known| gets_credentials_of(endpoint, known));
        }
        Ok(policy)
    }

    /// Returns the names and profiles of a sandbox's providers; those without a profile are left out.
    fn attached_profiles(
        &mut self,
        at: &ObjectKey,
    ) -> Result<Vec<(String, ProviderProfile)>, Status> {
        let sandbox = self.sandbox(at)?;
        let (place, names) = (sandbox.meta.workspace.clone(), sandbox.spec.providers.clone());
        let profile_of = |name: String| {
            let provider = self.providers.get(&(place.clone(), name.clone()))?;
            let profile = self.profile(&place, &provider.kind)?;
            Some((name, profile.clone()))
        };
        Ok(names.into_iter().filter_map(profile_of).collect())
    }

    /// Returns the providers of a sandbox with the hosts that get their credentials, as one string. New values of
    /// credentials leave it unchanged.
    pub(super) fn credential_fingerprint(&mut self, at: &ObjectKey) -> Result<String, Status> {
        let mut lines = Vec::new();
        for (name, profile) in self.attached_profiles(at)? {
            let mut hosts: Vec<_> =
                profile.endpoints.iter().map(|endpoint| endpoint.host.to_lowercase()).collect();
            hosts.sort();
            lines.push(format!("{name}\0{}\0{}", profile.id, hosts.join("\0")));
        }
        lines.sort();
        Ok(lines.join("\n"))
    }
}

fn add_provider_rule(policy: &mut SandboxPolicy, provider: &str, profile: &ProviderProfile) {
    let name = merge::free_name(&provider_rule_name(provider), policy, policy);
    let rule = NetworkPolicyRule {
        name: name.clone(),
        endpoints: profile.endpoints.clone(),
        binaries: profile.binaries.clone(),
    };
    policy.network_policies.insert(name, rule);
}

/// Returns the name of the rule of a provider.
fn provider_rule_name(provider: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = provider.chars().map(plain).collect();
    let name = name.trim_matches('_');
    let name = if name.is_empty() { "unnamed" } else { name };
    format!("{}{name}", policy::RESERVED_PREFIX)
}

/// Whether a connection to an endpoint may get the credentials for another one.
fn gets_credentials_of(endpoint: &NetworkEndpoint, known: &NetworkEndpoint) -> bool {
    let (some, others) = (merge::ports(endpoint), merge::ports(known));
    let has_port =
        some.is_empty() || others.is_empty() || some.iter().any(|port| others.contains(port));
    has_port && hosts_overlap(&endpoint.host.to_lowercase(), &known.host.to_lowercase())
}

/// Whether two patterns of hosts in lower case can match the same host. Compares what follows the last wildcard.
fn hosts_overlap(left: &str, right: &str) -> bool {
    let suffix = |host: &str| host.rsplit_once('*').map(|(_, suffix)| suffix.to_owned());
    match (suffix(left), suffix(right)) {
        (None, None) => left == right,
        (Some(suffix), None) => right.ends_with(&suffix),
        (None, Some(suffix)) => left.ends_with(&suffix),
        (Some(left), Some(right)) => left.ends_with(&right) || right.ends_with(&left),
    }
}
