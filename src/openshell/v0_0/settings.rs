//! Settings in generation 0.0.

use prost::Message;

use crate::openshell::settings::{Change, Changed, Scope, Setting, Value, told};
use crate::pb::v0_0::openshell::sandbox::v1::{
    GetGatewayConfigResponse, GetSandboxConfigRequest, GetSandboxConfigResponse, SettingScope,
    SettingValue, setting_value,
};
use crate::pb::v0_0::openshell::v1 as pb;

fn value(value: Option<SettingValue>) -> Option<Value> {
    Some(match value?.value? {
        setting_value::Value::StringValue(word) => Value::Text(word),
        setting_value::Value::BoolValue(switch) => Value::Bool(switch),
        setting_value::Value::IntValue(number) => Value::Int(number),
        setting_value::Value::BytesValue(_) => Value::Opaque,
    })
}

fn to_wire(value: &Value) -> SettingValue {
    let value = match value {
        Value::Text(word) => Some(setting_value::Value::StringValue(word.clone())),
        Value::Bool(switch) => Some(setting_value::Value::BoolValue(*switch)),
        Value::Int(number) => Some(setting_value::Value::IntValue(*number)),
        Value::Opaque => None,
    };
    SettingValue { value }
}

/// Returns the settings of a gateway and their revision.
pub(in crate::openshell) fn gateway_settings(answer: &[u8]) -> Option<(Vec<Setting>, u64)> {
    let answer = GetGatewayConfigResponse::decode(answer).ok()?;
    let settings = answer.settings.into_iter();
    let settings = settings.map(|(key, set)| told(&key, value(Some(set)), Scope::Gateway));
    Some((settings.collect(), answer.settings_revision))
}

pub(in crate::openshell) fn ask_settings(id: &str) -> Vec<u8> {
    GetSandboxConfigRequest { sandbox_id: id.to_owned() }.encode_to_vec()
}

/// Returns the settings in force for a sandbox, and a revision that changes with them.
pub(in crate::openshell) fn sandbox_settings(answer: &[u8]) -> Option<(Vec<Setting>, u64)> {
    let answer = GetSandboxConfigResponse::decode(answer).ok()?;
    let settings = answer.settings.into_iter().map(|(key, set)| {
        let scope = match set.scope() {
            SettingScope::Unspecified => Scope::Unset,
            SettingScope::Sandbox => Scope::Sandbox,
            SettingScope::Global => Scope::Gateway,
        };
        told(&key, value(set.value), scope)
    });
    // Generation 0.0 reports no revision of a sandbox's settings. `config_revision` changes with each of their changes,
    // but can also change for other reasons.
    Some((settings.collect(), answer.config_revision))
}

pub(in crate::openshell) fn change_setting(change: &Change<'_>) -> Vec<u8> {
    let request = pb::UpdateConfigRequest {
        name: change.of.map(|of| of.name.clone()).unwrap_or_default(),
        workspace: change.of.map(|of| of.workspace.clone()).unwrap_or_default(),
        global: change.of.is_none(),
        setting_key: change.key.to_owned(),
        setting_value: change.value.map(to_wire),
        delete_setting: change.value.is_none(),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn setting_changed(answer: &[u8]) -> Option<Changed> {
    let answer = pb::UpdateConfigResponse::decode(answer).ok()?;
    Some(Changed { revision: answer.settings_revision, deleted: answer.deleted })
}
