//! Settings in generation 0.0.

use prost::Message;

use crate::openshell::settings::{
    Scope, Setting, SettingChange, SettingChangeResult, Value, setting_from_wire,
};
use crate::pb::v0_0::openshell::inference::v1::SetInferenceRouteRequest;
use crate::pb::v0_0::openshell::sandbox::v1::{
    GetGatewayConfigResponse, GetSandboxConfigRequest, GetSandboxConfigResponse, SettingScope,
    SettingValue, setting_value,
};
use crate::pb::v0_0::openshell::v1 as pb;

fn value_from_wire(value: Option<SettingValue>) -> Option<Value> {
    Some(match value?.value? {
        setting_value::Value::StringValue(word) => Value::Text(word),
        setting_value::Value::BoolValue(switch) => Value::Bool(switch),
        setting_value::Value::IntValue(number) => Value::Int(number),
        setting_value::Value::BytesValue(_) => Value::Opaque,
    })
}

fn value_to_wire(value: &Value) -> SettingValue {
    let value = match value {
        Value::Text(word) => Some(setting_value::Value::StringValue(word.clone())),
        Value::Bool(switch) => Some(setting_value::Value::BoolValue(*switch)),
        Value::Int(number) => Some(setting_value::Value::IntValue(*number)),
        Value::Opaque => None,
    };
    SettingValue { value }
}

/// Returns provider and model of a request that sets an inference route.
pub(in crate::openshell) fn decode_route(message: &[u8]) -> Option<(String, String)> {
    let request = SetInferenceRouteRequest::decode(message).ok()?;
    Some((request.provider_name, request.model_id))
}

/// Returns the settings of a gateway and their revision.
pub(in crate::openshell) fn decode_gateway_settings(answer: &[u8]) -> Option<(Vec<Setting>, u64)> {
    let answer = GetGatewayConfigResponse::decode(answer).ok()?;
    let settings = answer.settings.into_iter();
    let settings = settings
        .map(|(key, set)| setting_from_wire(&key, value_from_wire(Some(set)), Scope::Gateway));
    Some((settings.collect(), answer.settings_revision))
}

pub(in crate::openshell) fn encode_get_settings(id: &str) -> Vec<u8> {
    GetSandboxConfigRequest { sandbox_id: id.to_owned() }.encode_to_vec()
}

/// Returns the settings in force for a sandbox, and a revision that changes with them.
pub(in crate::openshell) fn decode_sandbox_settings(answer: &[u8]) -> Option<(Vec<Setting>, u64)> {
    let answer = GetSandboxConfigResponse::decode(answer).ok()?;
    let settings = answer.settings.into_iter().map(|(key, set)| {
        let scope = match set.scope() {
            SettingScope::Unspecified => Scope::Unset,
            SettingScope::Sandbox => Scope::Sandbox,
            SettingScope::Global => Scope::Gateway,
        };
        setting_from_wire(&key, value_from_wire(set.value), scope)
    });
    // Generation 0.0 reports no revision of a sandbox's settings. `config_revision` changes with each of their changes,
    // but can also change for other reasons.
    Some((settings.collect(), answer.config_revision))
}

pub(in crate::openshell) fn encode_change_setting(change: &SettingChange<'_>) -> Vec<u8> {
    let request = pb::UpdateConfigRequest {
        name: change.sandbox.map(|sandbox| sandbox.name.clone()).unwrap_or_default(),
        workspace: change.sandbox.map(|sandbox| sandbox.workspace.clone()).unwrap_or_default(),
        global: change.sandbox.is_none(),
        setting_key: change.key.to_owned(),
        setting_value: change.value.map(value_to_wire),
        delete_setting: change.value.is_none(),
        ..Default::default()
    };
    request.encode_to_vec()
}

pub(in crate::openshell) fn decode_setting_changed(answer: &[u8]) -> Option<SettingChangeResult> {
    let answer = pb::UpdateConfigResponse::decode(answer).ok()?;
    Some(SettingChangeResult { revision: answer.settings_revision, deleted: answer.deleted })
}
