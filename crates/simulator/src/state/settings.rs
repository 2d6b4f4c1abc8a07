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

/// The values of the approval mode.
const MODES: [&str; 2] = ["manual", "auto"];

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
    /// Sets or deletes a key. Returns whether a value was deleted. The revision changes only with a value.
    pub(super) fn set_or_remove(
        &mut self,
        key: &str,
        value: Option<SettingValue>,
    ) -> Result<bool, Status> {
        let (changed, deleted) = if let Some(value) = value {
            check_value(key, &value)?;
            let before = self.values.insert(key.to_owned(), value.clone());
            (before != Some(value), false)
        } else {
            let deleted = self.values.remove(key).is_some();
            (deleted, deleted)
        };
        self.revision += u64::from(changed);
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
    let known = KEYS.iter().find(|(known, _)| *known == key);
    known.map(|(_, is_boolean)| *is_boolean).ok_or_else(|| {
        let allowed = KEYS.map(|(known, _)| known).join(", ");
        Status::invalid_argument(format!("unknown setting key '{key}'. Allowed keys: {allowed}"))
    })
}

fn check_value(key: &str, value: &SettingValue) -> Result<(), Status> {
    use setting_value::Value;
    let why = match (is_boolean_key(key)?, &value.value) {
        (_, None) => "setting_value.value is required".to_owned(),
        (true, Some(Value::BoolValue(_))) => return Ok(()),
        (false, Some(Value::StringValue(mode))) if MODES.contains(&mode.as_str()) => return Ok(()),
        (false, Some(Value::StringValue(mode))) => {
            let allowed = MODES.join(", ");
            format!("setting '{key}' expects one of [{allowed}]; got '{mode}'")
        }
        (is_boolean, Some(_)) => {
            let kind = if is_boolean { "bool" } else { "string" };
            format!("setting '{key}' expects {kind} value")
        }
    };
    Err(Status::invalid_argument(why))
}
