//! Updates of policies and settings, for one sandbox or for the gateway.

use std::collections::BTreeMap;

use tonic::Status;

use super::meta::check_map_size;
use super::revisions::{mark_loaded, push_revision, supersede};
use super::{MergeOperation, ObjectKey, State, merge, policy, settings};
use shoreguard_proto::v0_0::openshell::sandbox::v1::{SandboxPolicy, SettingValue};

/// The setting key for deleting the global policy.
const POLICY_KEY: &str = "policy";

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
    /// Version of the newest revision; 0 for a setting.
    pub(crate) version: u32,
    /// Hash of the newest revision; empty for a setting.
    pub(crate) hash: String,
    /// Revision of the settings in the scope that was changed; 0 for a policy of a sandbox.
    pub(crate) settings_revision: u64,
    /// Whether something was deleted.
    pub(crate) deleted: bool,
    /// Annotations of the sandbox after the change.
    pub(crate) annotations: BTreeMap<String, String>,
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
        let at = self.sandbox(at)?.key();
        match update.change {
            ConfigChange::Setting(key, value) => {
                self.update_setting(&at, &key, value, &update.annotations, update.expected_version)
            }
            ConfigChange::Policy(next) => {
                self.update_policy(&at, next, &update.annotations, update.expected_version)
            }
            ConfigChange::Merge(operations) => {
                let version = update.expected_version;
                self.merge_policy(&at, &operations, &update.annotations, version)
            }
        }
    }

    /// Changes a setting of a sandbox. The resource version is compared only if annotations are written.
    fn update_setting(
        &mut self,
        at: &ObjectKey,
        key: &str,
        value: Option<SettingValue>,
        annotations: &BTreeMap<String, String>,
        expected_version: u64,
    ) -> Result<ConfigOutcome, Status> {
        if key == POLICY_KEY {
            let why = "reserved key 'policy' must be set via policy commands";
            return Err(Status::invalid_argument(why));
        }
        if self.settings.values.contains_key(key) {
            let first = match value {
                Some(_) => "delete the global setting before sandbox update",
                None => "delete the global setting first",
            };
            let why = format!("setting '{key}' is managed globally; {first}");
            return Err(Status::failed_precondition(why));
        }
        let sandbox = self.sandbox(at)?;
        let deleted = sandbox.settings.set_or_remove(key, value)?;
        let noted = &sandbox.meta.annotations;
        if annotations.iter().any(|(key, value)| noted.get(key) != Some(value)) {
            sandbox.meta.check_version(expected_version)?;
            sandbox.meta.annotations.extend(annotations.clone());
        }
        let settings_revision = sandbox.settings.revision;
        let annotations = sandbox.meta.annotations.clone();
        self.mark_changed(at);
        let outcome = ConfigOutcome { settings_revision, deleted, ..ConfigOutcome::default() };
        Ok(ConfigOutcome { annotations, ..outcome })
    }

    /// Replaces the policy of a sandbox. The first policy of a sandbox without one defines the static sections.
    fn update_policy(
        &mut self,
        at: &ObjectKey,
        mut next: SandboxPolicy,
        annotations: &BTreeMap<String, String>,
        expected_version: u64,
    ) -> Result<ConfigOutcome, Status> {
        policy::clear_credentialed(&mut next);
        self.check_not_managed()?;
        policy::check_not_reserved(&next)?;
        let base = self.sandbox(at)?.spec.policy.clone();
        if let Some(base) = &base {
            policy::check_static_sections(base, &next)?;
        }
        policy::validate(&next)?;
        self.write_revision(at, next.clone(), Some(annotations), expected_version)?;
        if base.is_none() {
            self.sandbox(at)?.spec.policy = Some(next);
        }
        self.count_write(at)?;
        self.newest_revision(at)
    }

    fn merge_policy(
        &mut self,
        at: &ObjectKey,
        operations: &[MergeOperation],
        annotations: &BTreeMap<String, String>,
        expected_version: u64,
    ) -> Result<ConfigOutcome, Status> {
        self.check_not_managed()?;
        let current = self.base_policy(at)?;
        let next = merge::apply_permitted(&current, operations, self.behavior.generation)?;
        let sandbox = self.sandbox(at)?;
        if let Some(base) = &sandbox.spec.policy {
            policy::check_static_sections(base, &next)?;
        }
        policy::validate(&next)?;
        if sandbox.revisions.is_empty() && next == current {
            let hash = policy::hash(&next);
            let annotations = sandbox.meta.annotations.clone();
            return Ok(ConfigOutcome { hash, annotations, ..ConfigOutcome::default() });
        }
        self.write_revision(at, next, Some(annotations), expected_version)?;
        self.count_write(at)?;
        let count = operations.len();
        let line = format!("gateway merged {count} incremental policy operation(s)");
        self.log(at, "OCSF", "gateway", &line);
        self.newest_revision(at)
    }

    fn update_global(&mut self, change: ConfigChange) -> Result<ConfigOutcome, Status> {
        match change {
            ConfigChange::Merge(_) => {
                let why = "merge_operations are not supported for global policy updates";
                Err(Status::invalid_argument(why))
            }
            ConfigChange::Setting(key, Some(_)) if key == POLICY_KEY => {
                let why = "reserved key 'policy' must be set via the policy field";
                Err(Status::invalid_argument(why))
            }
            ConfigChange::Setting(key, None) if key == POLICY_KEY => {
                Ok(self.delete_global_policy())
            }
            ConfigChange::Setting(key, value) => {
                settings::is_boolean_key(&key)?;
                let deleted = self.settings.set_or_remove(&key, value)?;
                let settings_revision = self.settings.revision;
                self.mark_all_changed();
                Ok(ConfigOutcome { settings_revision, deleted, ..ConfigOutcome::default() })
            }
            ConfigChange::Policy(next) => self.set_global_policy(next),
        }
    }

    fn set_global_policy(&mut self, mut next: SandboxPolicy) -> Result<ConfigOutcome, Status> {
        policy::clear_credentialed(&mut next);
        policy::check_not_reserved(&next)?;
        policy::validate(&next)?;
        let hash = policy::hash(&next);
        if self.active_global().is_none_or(|newest| newest.hash != hash) {
            push_revision(&mut self.global, next, &BTreeMap::new());
            mark_loaded(&mut self.global);
            self.global_active = true;
            self.settings.revision += 1;
            self.mark_all_changed();
        }
        let version = self.global.last().map_or(0, |newest| newest.version);
        let settings_revision = self.settings.revision;
        Ok(ConfigOutcome { version, hash, settings_revision, ..ConfigOutcome::default() })
    }

    fn delete_global_policy(&mut self) -> ConfigOutcome {
        let deleted = std::mem::take(&mut self.global_active);
        if deleted {
            supersede(&mut self.global, u32::MAX);
            self.settings.revision += 1;
            self.mark_all_changed();
        }
        let settings_revision = self.settings.revision;
        ConfigOutcome { settings_revision, deleted, ..ConfigOutcome::default() }
    }

    /// Refuses a change of a sandbox's policy while a global policy is in effect.
    fn check_not_managed(&self) -> Result<(), Status> {
        if self.global_active {
            let why =
                "policy is managed globally; delete global policy before sandbox policy update";
            return Err(Status::failed_precondition(why));
        }
        Ok(())
    }

    /// Changes the policy of a sandbox without a request. Returns the version of the newest revision.
    pub(crate) fn change_policy(
        &mut self,
        at: &ObjectKey,
        change: impl FnOnce(&mut SandboxPolicy),
    ) -> Result<u32, Status> {
        let at = self.sandbox(at)?.key();
        let mut next = self.base_policy(&at)?;
        change(&mut next);
        self.write_revision(&at, next, None, 0)?;
        Ok(self.newest_revision(&at)?.version)
    }

    /// Returns a sandbox's newest revision as the result of a change.
    pub(super) fn newest_revision(&mut self, at: &ObjectKey) -> Result<ConfigOutcome, Status> {
        let sandbox = self.sandbox(at)?;
        let newest = sandbox.revisions.last();
        Ok(ConfigOutcome {
            version: newest.map_or(0, |newest| newest.version),
            hash: newest.map(|newest| newest.hash.clone()).unwrap_or_default(),
            settings_revision: 0,
            deleted: false,
            annotations: sandbox.meta.annotations.clone(),
        })
    }

    fn mark_all_changed(&mut self) {
        let keys: Vec<ObjectKey> = self.sandboxes.keys().cloned().collect();
        for at in keys {
            self.mark_changed(&at);
        }
    }
}
