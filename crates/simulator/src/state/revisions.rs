//! The policy of a sandbox: its revisions, the global policy that overrides them, and all changes to either.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::meta::{check_map_size, hex, now_ms};
use super::settings::{self, PROVIDERS_V2};
use super::{MergeOperation, ObjectKey, ScheduledChange, State, merge, policy};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    EffectiveSetting, NetworkPolicyRule, SandboxPolicy, SettingValue, setting_value,
};
use shoreguard_proto::v0_0::openshell::v1::PolicyStatus;

/// Maximum number of revisions of a sandbox or of the global policy; the oldest are removed first.
const REVISIONS_MAX: usize = 1_000;

/// The setting key for deleting the global policy.
const POLICY_KEY: &str = "policy";

/// A revision of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    /// Version number, starting at 1.
    pub(crate) version: u32,
    /// The policy.
    pub(crate) policy: SandboxPolicy,
    /// Hash of the policy.
    pub(crate) hash: String,
    /// Whether the sandbox has loaded it.
    pub(crate) status: PolicyStatus,
    /// Milliseconds since 1970.
    pub(crate) created_ms: i64,
    /// Milliseconds since 1970; 0 if it was not loaded yet.
    pub(crate) loaded_ms: i64,
    /// Annotations of the request that created it.
    pub(crate) provenance: BTreeMap<String, String>,
}

/// The change of a request.
#[derive(Debug)]
pub(crate) enum ConfigChange {
    /// Replaces the policy.
    Policy(SandboxPolicy),
    /// Changes single rules.
    Merge(Vec<MergeOperation>),
    /// Changes a setting; `None` deletes it.
    Setting(String, Option<SettingValue>),
}

/// A request to change a policy or a setting.
#[derive(Debug)]
pub(crate) struct ConfigUpdate {
    /// The sandbox; `None` for the whole gateway.
    pub(crate) sandbox: Option<ObjectKey>,
    /// The change.
    pub(crate) change: ConfigChange,
    /// Expected resource version of the sandbox, or 0.
    pub(crate) expected_version: u64,
    /// Stored with the revision.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The result of a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigOutcome {
    /// Version of the newest revision.
    pub(crate) version: u32,
    /// Hash of the newest revision.
    pub(crate) hash: String,
    /// Revision of the settings in the scope that was changed.
    pub(crate) settings_revision: u64,
    /// Whether something was deleted.
    pub(crate) deleted: bool,
    /// Annotations of the sandbox after the change.
    pub(crate) annotations: BTreeMap<String, String>,
}

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
    /// Changes a policy or a setting.
    pub(crate) fn update_config(&mut self, update: ConfigUpdate) -> Result<ConfigOutcome, Status> {
        check_map_size("annotations", &update.annotations)?;
        let Some(at) = &update.sandbox else {
            if !update.annotations.is_empty() {
                let why = "annotations are only supported for sandbox-scoped updates";
                return Err(Status::invalid_argument(why));
            }
            return self.update_global(update.change);
        };
        let sandbox = self.sandbox(at)?;
        let at = sandbox.key();
        sandbox.meta.check_version(update.expected_version)?;
        match update.change {
            ConfigChange::Setting(key, value) => {
                settings::is_boolean_key(&key)?;
                if self.settings.values.contains_key(&key) {
                    return Err(Status::failed_precondition(format!(
                        "setting '{key}' is managed globally"
                    )));
                }
                let sandbox = self.sandbox(&at)?;
                let deleted = sandbox.settings.set_or_remove(&key, value)?;
                let settings_revision = sandbox.settings.revision;
                self.mark_changed(&at);
                let newest = self.newest_revision(&at)?;
                Ok(ConfigOutcome { settings_revision, deleted, ..newest })
            }
            ConfigChange::Policy(next) => {
                self.check_no_global_policy("cannot update the policy")?;
                policy::validate(&next)?;
                self.ensure_first_revision(&at)?;
                self.write_revision(&at, next, &update.annotations)?;
                self.newest_revision(&at)
            }
            ConfigChange::Merge(changes) => {
                self.check_no_global_policy("cannot update the policy")?;
                self.ensure_first_revision(&at)?;
                let next = merge::apply_merges(&self.base_policy(&at)?, &changes)?;
                policy::validate(&next)?;
                self.write_revision(&at, next, &update.annotations)?;
                self.newest_revision(&at)
            }
        }
    }

    fn update_global(&mut self, change: ConfigChange) -> Result<ConfigOutcome, Status> {
        match change {
            ConfigChange::Merge(_) => {
                Err(Status::invalid_argument("merge_operations cannot be global"))
            }
            ConfigChange::Setting(key, None) if key == POLICY_KEY => {
                let deleted = std::mem::take(&mut self.global_active);
                self.mark_all_changed();
                let settings_revision = self.settings.revision;
                Ok(ConfigOutcome { settings_revision, deleted, ..ConfigOutcome::default() })
            }
            ConfigChange::Setting(key, value) => {
                settings::is_boolean_key(&key)?;
                let deleted = self.settings.set_or_remove(&key, value)?;
                let settings_revision = self.settings.revision;
                self.mark_all_changed();
                Ok(ConfigOutcome { settings_revision, deleted, ..ConfigOutcome::default() })
            }
            ConfigChange::Policy(next) => {
                policy::validate(&next)?;
                let hash = policy::hash(&next);
                let same = self.global_active
                    && self.global.last().is_some_and(|newest| newest.hash == hash);
                if !same {
                    push_revision(&mut self.global, next, &BTreeMap::new());
                    mark_loaded(&mut self.global);
                    self.global_active = true;
                    self.mark_all_changed();
                }
                let version = self.global.last().map_or(0, |newest| newest.version);
                let settings_revision = self.settings.revision;
                Ok(ConfigOutcome { version, hash, settings_revision, ..ConfigOutcome::default() })
            }
        }
    }

    /// Refuses a change of a sandbox's policy while a global policy is in effect.
    pub(super) fn check_no_global_policy(&self, what: &str) -> Result<(), Status> {
        if self.global_active {
            return Err(Status::failed_precondition(format!(
                "{what} while a global policy is active"
            )));
        }
        Ok(())
    }

    /// Writes a revision of a sandbox's policy, unless it equals the newest one.
    pub(super) fn write_revision(
        &mut self,
        at: &ObjectKey,
        next: SandboxPolicy,
        annotations: &BTreeMap<String, String>,
    ) -> Result<(), Status> {
        let sandbox = self.sandbox(at)?;
        match &sandbox.spec.policy {
            Some(base) => policy::check_static_sections(base, &next)?,
            None => sandbox.spec.policy = Some(next.clone()),
        }
        let hash = policy::hash(&next);
        let same = |newest: &Revision| newest.hash == hash && newest.provenance == *annotations;
        if sandbox.revisions.last().is_some_and(same) {
            return Ok(());
        }
        sandbox.meta.annotations.extend(annotations.clone());
        push_revision(&mut sandbox.revisions, next, annotations);
        let id = sandbox.meta.id.clone();
        self.pending_changes.push(ScheduledChange::Loaded(id));
        self.reject_covered(at)?;
        self.mark_changed(at);
        Ok(())
    }

    /// Writes revision 1 from the spec, as a gateway does when the configuration is first read.
    pub(super) fn ensure_first_revision(&mut self, at: &ObjectKey) -> Result<(), Status> {
        let sandbox = self.sandbox(at)?;
        if !sandbox.revisions.is_empty() {
            return Ok(());
        }
        if let Some(base) = sandbox.spec.policy.clone() {
            push_revision(&mut sandbox.revisions, base, &BTreeMap::new());
            mark_loaded(&mut sandbox.revisions);
        }
        Ok(())
    }

    /// Simulates a supervisor after it has connected: it sets a policy if the sandbox has none, and loads the newest
    /// revision.
    pub(crate) fn simulate_supervisor(&mut self, at: &ObjectKey) {
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        sandbox.spec.policy.get_or_insert_with(policy::default_policy);
        if self.ensure_first_revision(at).is_ok() {
            self.load_newest(at);
        }
    }

    /// Marks the newest revision as loaded, as reported by the supervisor.
    pub(super) fn load_newest(&mut self, at: &ObjectKey) {
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        if sandbox.revisions.last().is_some_and(|last| last.status == PolicyStatus::Pending) {
            mark_loaded(&mut sandbox.revisions);
            self.mark_changed(at);
        }
    }

    /// Returns the policy that the next change is applied to: the newest revision, without generated rules.
    pub(super) fn base_policy(&mut self, at: &ObjectKey) -> Result<SandboxPolicy, Status> {
        let sandbox = self.sandbox(at)?;
        Ok(sandbox.revisions.last().map(|last| last.policy.clone()).unwrap_or_default())
    }

    /// Returns the policy as the sandbox gets it: with a rule for each attached provider, if provider rules are
    /// enabled.
    pub(super) fn effective_policy(
        &mut self,
        at: &ObjectKey,
        base: &SandboxPolicy,
    ) -> Result<SandboxPolicy, Status> {
        let sandbox = self.sandbox(at)?;
        let (place, providers) = (sandbox.key(), sandbox.spec.providers.clone());
        let own = sandbox.settings.clone();
        let on = setting_value::Value::BoolValue(true);
        let mut policy = base.clone();
        if !settings::has_value(&self.settings, &own, PROVIDERS_V2, &on) {
            return Ok(policy);
        }
        for name in &providers {
            let Some(provider) = self.providers.get(&(place.0.clone(), name.clone())) else {
                continue;
            };
            let Some(profile) = self.profile(&place.0, &provider.kind) else {
                continue;
            };
            let mut endpoints = profile.endpoints.clone();
            for endpoint in &mut endpoints {
                endpoint.provider_credentialed = true;
            }
            let key = format!("{}{name}", policy::RESERVED_PREFIX);
            let rule = NetworkPolicyRule {
                name: key.clone(),
                endpoints,
                binaries: profile.binaries.clone(),
            };
            policy.network_policies.insert(key, rule);
        }
        Ok(policy)
    }

    /// Returns the configuration of a sandbox. Writes revision 1 if it does not exist yet.
    pub(crate) fn config(&mut self, at: &ObjectKey) -> Result<Config, Status> {
        self.ensure_first_revision(at)?;
        let sandbox = self.sandbox(at)?;
        let (place, providers) = (sandbox.key(), sandbox.spec.providers.clone());
        let (newest, own) = (sandbox.revisions.last().cloned(), sandbox.settings.clone());
        let global = self.global.last().filter(|_| self.global_active).cloned();
        let policy = match (&global, &newest) {
            (Some(global), _) => Some(global.policy.clone()),
            (None, Some(newest)) => Some(self.effective_policy(&place, &newest.policy)?),
            (None, None) => None,
        };
        let hash = policy.as_ref().map(policy::hash).unwrap_or_default();
        let settings = settings::effective_settings(&self.settings, &own);
        let provider_revision =
            fingerprint(self.provider_versions(&place.0, &providers).as_bytes());
        let revision = fingerprint(format!("{hash}{settings:?}").as_bytes());
        Ok(Config {
            policy,
            version: newest.map_or(0, |newest| newest.version),
            hash,
            settings,
            revision,
            global_version: global.map(|global| global.version),
            provider_revision,
        })
    }

    /// Returns a sandbox's newest revision as the result of a change.
    pub(super) fn newest_revision(&mut self, at: &ObjectKey) -> Result<ConfigOutcome, Status> {
        let sandbox = self.sandbox(at)?;
        let newest = sandbox.revisions.last();
        Ok(ConfigOutcome {
            version: newest.map_or(0, |newest| newest.version),
            hash: newest.map(|newest| newest.hash.clone()).unwrap_or_default(),
            settings_revision: sandbox.settings.revision,
            deleted: false,
            annotations: sandbox.meta.annotations.clone(),
        })
    }

    /// Returns the revisions of a sandbox, or of the global policy, newest first.
    pub(crate) fn revisions(&mut self, at: Option<&ObjectKey>) -> Result<Vec<Revision>, Status> {
        let revisions = match at {
            Some(at) => &self.sandbox(at)?.revisions,
            None => &self.global,
        };
        Ok(revisions.iter().rev().cloned().collect())
    }

    fn mark_all_changed(&mut self) {
        let keys: Vec<ObjectKey> = self.sandboxes.keys().cloned().collect();
        for at in keys {
            self.mark_changed(&at);
        }
    }
}

/// Returns the version that was loaded last; 0 before the first.
pub(crate) fn active_version(revisions: &[Revision]) -> u32 {
    let loaded = |revision: &&Revision| revision.status == PolicyStatus::Loaded;
    revisions.iter().rev().find(loaded).map_or(0, |revision| revision.version)
}

fn push_revision(
    revisions: &mut Vec<Revision>,
    policy: SandboxPolicy,
    annotations: &BTreeMap<String, String>,
) {
    let version = revisions.last().map_or(1, |newest| newest.version + 1);
    if revisions.len() == REVISIONS_MAX {
        revisions.remove(0);
    }
    revisions.push(Revision {
        version,
        hash: policy::hash(&policy),
        policy,
        status: PolicyStatus::Pending,
        created_ms: now_ms(),
        loaded_ms: 0,
        provenance: annotations.clone(),
    });
}

fn mark_loaded(revisions: &mut [Revision]) {
    let Some((newest, older)) = revisions.split_last_mut() else { return };
    newest.status = PolicyStatus::Loaded;
    newest.loaded_ms = now_ms();
    for revision in older {
        revision.status = PolicyStatus::Superseded;
    }
}

/// Returns eight bytes of a hash.
fn fingerprint(bytes: &[u8]) -> u64 {
    let digest = hex(&Sha256::digest(bytes));
    u64::from_str_radix(&digest[..16], 16).unwrap_or_default()
}
