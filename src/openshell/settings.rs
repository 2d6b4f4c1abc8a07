//! Settings of a gateway: the known keys, and how to read and change settings of the whole gateway or of one sandbox. And
//! what a request to set an inference route contains.
//!
//! Invariants
//! - only a known key can be set, with a value of its type: an unknown key could have any effect (T05);
//! - a change is sent once, without a request id, and without annotations, which gateways accept only for sandboxes.

use std::time::Duration;

use super::gateway::CALL_TIME;
use super::sandbox::{map_not_found, sanitize_text};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::db::types::SandboxName;
use crate::error::{Error, Reason};

const GET_GATEWAY: &str = "/openshell.v1.OpenShell/GetGatewayConfig";
const GET_SANDBOX: &str = "/openshell.v1.OpenShell/GetSandboxConfig";
const UPDATE: &str = "/openshell.v1.OpenShell/UpdateConfig";

/// Key of the setting that controls the approval of policy proposals: with `auto`, the gateway approves them itself.
pub const APPROVAL_MODE: &str = "proposal_approval_mode";
/// The value with which the gateway approves proposals automatically.
pub const APPROVAL_AUTO: &str = "auto";

/// The value with which proposals wait for a decision.
pub const APPROVAL_MANUAL: &str = "manual";
/// Key of the setting that controls the format of logs, which changes no policy.
pub const OCSF_JSON: &str = "ocsf_json_enabled";

/// Returns provider and model of a request that sets an inference route, as they are shown. Generation 0.1 has no routes.
#[must_use]
pub fn inference_route(generation: Generation, message: &[u8]) -> Option<(String, String)> {
    match generation {
        Generation::V0_0 => v0_0::decode_route(message)
            .map(|(provider, model)| (sanitize_text(&provider), sanitize_text(&model))),
        Generation::V0_1 => None,
    }
}

/// Type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettingType {
    Switch,
    OneOf(&'static [&'static str]),
}

/// Settings known to this build, the same in both generations.
const KNOWN: [(&str, SettingType); 4] = [
    ("providers_v2_enabled", SettingType::Switch),
    (OCSF_JSON, SettingType::Switch),
    ("agent_policy_proposals_enabled", SettingType::Switch),
    (APPROVAL_MODE, SettingType::OneOf(&[APPROVAL_MANUAL, APPROVAL_AUTO])),
];
/// Maximum number of stored settings per gateway.
const SETTINGS_MAX: usize = 100;

/// Whether this build knows a setting.
pub(crate) fn is_known(key: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == key)
}

/// Returns the error for a setting that this build does not know.
pub(crate) fn unknown_key(field: &str) -> Error {
    let known = KNOWN.map(|(key, _)| key).join(", ");
    Error::refused(Reason::SettingUnknown, format!("`{field}` must be one of {known}"))
}

/// Value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Boolean.
    Bool(bool),
    /// Text.
    Text(String),
    /// Integer.
    Int(i64),
    /// Bytes, which are not displayed.
    Opaque,
}

/// Scope of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Not set.
    Unset,
    /// One sandbox.
    Sandbox,
    /// The whole gateway.
    Gateway,
}

/// A setting, as reported by a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: String,
    /// Its value; `None` if it is not set.
    pub value: Option<Value>,
    /// Where it is set.
    pub scope: Scope,
}

/// A key known to this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingKey(&'static str, SettingType);

impl SettingKey {
    /// Parses a key.
    ///
    /// # Errors
    /// `SETTING_UNKNOWN` if this build does not know it.
    pub fn parse(field: &str, key: &str) -> Result<Self, Error> {
        let found = KNOWN.into_iter().find(|(known, _)| *known == key);
        found.map(|(key, kind)| Self(key, kind)).ok_or_else(|| unknown_key(field))
    }

    /// Returns the key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Checks that a value is valid for this setting.
    ///
    /// # Errors
    /// `Invalid` if it has another type or is not one of the allowed words.
    pub fn check(self, field: &str, value: &Value) -> Result<(), Error> {
        match (self.1, value) {
            (SettingType::Switch, Value::Bool(_)) => Ok(()),
            (SettingType::OneOf(words), Value::Text(word)) if words.contains(&word.as_str()) => {
                Ok(())
            }
            (SettingType::Switch, _) => {
                Err(Error::invalid(field, format!("must be true or false for `{}`", self.0)))
            }
            (SettingType::OneOf(words), _) => {
                let words = words.join("` or `");
                Err(Error::invalid(field, format!("must be `{words}` for `{}`", self.0)))
            }
        }
    }
}

/// The approval mode that a gateway has in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalMode {
    /// Proposals wait for a decision.
    Manual,
    /// The gateway approves them by itself.
    Auto,
    /// The gateway did not report it, or reports a mode that this build does not know.
    Unknown,
}

impl ApprovalMode {
    /// Reads the mode from settings in force. Without the setting, gateways do not approve by themselves.
    fn of(settings: &[Setting]) -> Self {
        let found = settings.iter().find(|setting| setting.key == APPROVAL_MODE);
        match found.and_then(|setting| setting.value.as_ref()) {
            None => Self::Manual,
            Some(Value::Text(mode)) if mode == APPROVAL_AUTO => Self::Auto,
            Some(Value::Text(mode)) if mode == APPROVAL_MANUAL => Self::Manual,
            Some(Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Opaque) => Self::Unknown,
        }
    }
}

/// Result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingChangeResult {
    /// Revision of the settings in the scope.
    pub revision: u64,
    /// Whether a setting was removed.
    pub deleted: bool,
}

/// A change to be sent.
#[derive(Debug)]
pub(super) struct SettingChange<'a> {
    pub(super) sandbox: Option<&'a SandboxName>,
    pub(super) key: &'static str,
    /// `None` removes the setting.
    pub(super) value: Option<&'a Value>,
}

impl Gateway {
    /// Returns the settings of the gateway, or those in force for one of its sandboxes, sorted by key, and their
    /// revision. Reading those of a new sandbox makes some gateways create the first revision of its policy.
    pub async fn settings(
        &self,
        sandbox: Option<&SandboxName>,
    ) -> Result<(Vec<Setting>, u64), Error> {
        let (settings, revision) = self.all_settings(sandbox).await?;
        let mut settings: Vec<Setting> = settings.into_iter().take(SETTINGS_MAX).collect();
        settings.sort_by(|a, b| a.key.cmp(&b.key));
        Ok((settings, revision))
    }

    /// Returns the approval mode of the gateway, or that in force for one of its sandboxes. It is found among any
    /// number of settings.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist; those of the call.
    pub async fn approval_mode(
        &self,
        sandbox: Option<&SandboxName>,
    ) -> Result<ApprovalMode, Error> {
        Ok(ApprovalMode::of(&self.all_settings(sandbox).await?.0))
    }

    /// Returns the approval mode that is set for the whole gateway, which replaces those of its sandboxes; `None` if it
    /// is not set.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn common_approval_mode(&self) -> Result<Option<ApprovalMode>, Error> {
        let (settings, _) = self.all_settings(None).await?;
        let is_set = |setting: &Setting| setting.key == APPROVAL_MODE && setting.value.is_some();
        Ok(settings.iter().any(is_set).then(|| ApprovalMode::of(&settings)))
    }

    async fn all_settings(
        &self,
        sandbox: Option<&SandboxName>,
    ) -> Result<(Vec<Setting>, u64), Error> {
        match sandbox {
            None => self.gateway_settings().await,
            Some(sandbox) => self.sandbox_settings(sandbox).await,
        }
    }

    async fn gateway_settings(&self) -> Result<(Vec<Setting>, u64), Error> {
        let answer = match self.generation() {
            Generation::V0_0 => {
                v0_0::decode_gateway_settings(&self.unary(GET_GATEWAY, &[], CALL_TIME).await?)
            }
            Generation::V0_1 => {
                v0_1::decode_gateway_settings(&self.unary(GET_GATEWAY, &[], CALL_TIME).await?)
            }
        };
        answer.ok_or_else(|| self.unreadable(GET_GATEWAY))
    }

    async fn sandbox_settings(&self, sandbox: &SandboxName) -> Result<(Vec<Setting>, u64), Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_get_settings(&self.get_sandbox(sandbox).await?.id),
            Generation::V0_1 => v0_1::encode_get_settings(sandbox),
        };
        let answer =
            self.unary(GET_SANDBOX, &request, CALL_TIME).await.map_err(map_not_found(sandbox))?;
        let settings = match self.generation() {
            Generation::V0_0 => v0_0::decode_sandbox_settings(&answer),
            Generation::V0_1 => v0_1::decode_sandbox_settings(&answer),
        };
        settings.ok_or_else(|| self.unreadable(GET_SANDBOX))
    }

    /// Sets or removes a setting of the gateway or of one of its sandboxes, `until` a time of the clock that includes
    /// sleep.
    pub async fn change_setting(
        &self,
        sandbox: Option<&SandboxName>,
        key: SettingKey,
        value: Option<&Value>,
        until: Duration,
    ) -> Result<SettingChangeResult, Error> {
        let change = SettingChange { sandbox, key: key.as_str(), value };
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_change_setting(&change),
            Generation::V0_1 => v0_1::encode_change_setting(&change),
        };
        let answer = self.unary_until(UPDATE, &request, until).await;
        let answer = match sandbox {
            None => answer?,
            Some(sandbox) => answer.map_err(map_not_found(sandbox))?,
        };
        let changed = match self.generation() {
            Generation::V0_0 => v0_0::decode_setting_changed(&answer),
            Generation::V0_1 => v0_1::decode_setting_changed(&answer),
        };
        changed.ok_or_else(|| self.unreadable(UPDATE))
    }
}

/// Builds a setting from a gateway's response, with truncated text.
pub(super) fn setting_from_wire(key: &str, value: Option<Value>, scope: Scope) -> Setting {
    let value = value.map(|value| match value {
        Value::Text(word) => Value::Text(sanitize_text(&word)),
        Value::Bool(_) | Value::Int(_) | Value::Opaque => value,
    });
    let scope = if value.is_some() { scope } else { Scope::Unset };
    Setting { key: sanitize_text(key), value, scope }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g08_an_unknown_mode_is_not_taken_as_manual() {
        let set = |value| {
            let (key, scope) = (APPROVAL_MODE.to_owned(), Scope::Gateway);
            ApprovalMode::of(&[Setting { key, value, scope }])
        };
        let text = |mode: &str| Some(Value::Text(mode.to_owned()));
        assert_eq!(ApprovalMode::of(&[]), ApprovalMode::Manual);
        assert_eq!(set(None), ApprovalMode::Manual);
        assert_eq!(set(text("manual")), ApprovalMode::Manual);
        assert_eq!(set(text("auto")), ApprovalMode::Auto);
        assert_eq!(set(text("sometimes")), ApprovalMode::Unknown);
        assert_eq!(set(Some(Value::Bool(true))), ApprovalMode::Unknown);
    }

    #[test]
    fn t05_only_known_settings_with_values_of_their_type_are_accepted() {
        let text = |word: &str| Value::Text(word.to_owned());
        let table = [
            ("ocsf_json_enabled", Value::Bool(true), true),
            ("ocsf_json_enabled", text("true"), false),
            ("ocsf_json_enabled", Value::Int(1), false),
            (APPROVAL_MODE, text("auto"), true),
            (APPROVAL_MODE, text("manual"), true),
            (APPROVAL_MODE, text("Auto"), false),
            (APPROVAL_MODE, Value::Bool(true), false),
            (APPROVAL_MODE, Value::Opaque, false),
        ];
        for (key, value, good) in table {
            let key = SettingKey::parse("key", key).unwrap();
            assert_eq!(key.check("value", &value).is_ok(), good, "{key:?} {value:?}");
        }
        for bad in ["policy", "launch_mode", "", "OCSF_JSON_ENABLED"] {
            assert!(SettingKey::parse("key", bad).is_err() && !is_known(bad), "{bad}");
        }
    }
}
