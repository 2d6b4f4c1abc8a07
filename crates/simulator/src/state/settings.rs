//! Settings: four keys, for the gateway or for one sandbox. Settings of the gateway take precedence.

use std::collections::BTreeMap;

use tonic::Status;

use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    EffectiveSetting, SettingScope, SettingValue, setting_value,
};

/// Whether providers add rules to policies.
pub(super) const PROVIDERS_V2: &str = "providers_v2_enabled";

/// How proposals are approved: `manual` or `auto`.
pub(super) const APPROVAL_MODE: &str = "proposal_approval_mode";

/// The keys, and whether their values are boolean rather than text.
const KEYS: [(&str, bool); 4] = [
    (PROVIDERS_V2, true),
    ("ocsf_json_enabled", true),
    ("agent_policy_proposals_enabled", true),
    (APPROVAL_MODE, false),
];

/// Settings of one scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// The values that are set.
    pub(crate) values: BTreeMap<String, SettingValue>,
    /// Incremented with each change.
    pub(crate) revision: u64,
}

impl Settings {
    /// Sets or deletes a key. Returns whether a value was deleted.
    pub(super) fn set_or_remove(
        &mut self,
        key: &str,
        value: Option<SettingValue>,
    ) -> Result<bool, Status> {
        let deleted = match value {
            Some(value) => {
                check_value(key, &value)?;
                self.values.insert(key.to_owned(), value);
                false
            }
            None => self.values.remove(key).is_some(),
        };
        self.revision += 1;
        Ok(deleted)
    }

    /// Returns all keys, with an empty value for those that are not set.
    pub(crate) fn all(&self) -> BTreeMap<String, SettingValue> {
        KEYS.iter()
            .map(|(key, _)| ((*key).to_owned(), self.values.get(*key).cloned().unwrap_or_default()))
            .collect()
    }
}

/// Returns the effective settings of a sandbox.
pub(super) fn effective_settings(
    global: &Settings,
    own: &Settings,
) -> BTreeMap<String, EffectiveSetting> {
    KEYS.iter()
        .map(|(key, _)| {
            let (value, scope) = match (global.values.get(*key), own.values.get(*key)) {
                (Some(value), _) => (Some(value.clone()), SettingScope::Global),
                (None, Some(value)) => (Some(value.clone()), SettingScope::Sandbox),
                (None, None) => (None, SettingScope::Unspecified),
            };
            ((*key).to_owned(), EffectiveSetting { value, scope: scope.into() })
        })
        .collect()
}

/// Whether a setting has a certain value for a sandbox.
pub(super) fn has_value(
    global: &Settings,
    own: &Settings,
    key: &str,
    wanted: &setting_value::Value,
) -> bool {
    let value = global.values.get(key).or_else(|| own.values.get(key));
    value.and_then(|value| value.value.as_ref()) == Some(wanted)
}

/// Refuses an unknown key. Returns whether its value is boolean.
pub(super) fn is_boolean_key(key: &str) -> Result<bool, Status> {
    KEYS.iter()
        .find(|(known, _)| *known == key)
        .map(|(_, switch)| *switch)
        .ok_or_else(|| Status::invalid_argument(format!("unknown setting key '{key}'")))
}

fn check_value(key: &str, value: &SettingValue) -> Result<(), Status> {
    use setting_value::Value;
    let fits = match (is_boolean_key(key)?, &value.value) {
        (true, Some(Value::BoolValue(_))) => true,
        (false, Some(Value::StringValue(mode))) => matches!(mode.as_str(), "manual" | "auto"),
        (_, _) => false,
    };
    if fits {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("invalid value for setting '{key}'")))
}
