//! Removes secrets from messages before they are displayed.
//!
//! Invariants
//! - fields with Shoreguard's `secret` option or with `debug_redact` are never displayed, at any depth;
//! - fields that are not in the descriptor may be secret and are removed;
//! - a descriptor set without Shoreguard's options cannot identify secrets, so all fields of its messages are removed.

use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, ReflectMessage as _, Value,
    prost::Message as _,
};

const SECRET_OPTION: &str = "shoreguard.options.v1.secret";
const REDACTED: &str = "***";

/// Replaces the secrets of a message with `***` if they are text or bytes, and clears secrets of other types.
pub fn redact(message: &mut DynamicMessage) {
    match message.descriptor().parent_pool().get_extension_by_name(SECRET_OPTION) {
        Some(option) => redact_fields(message, &option),
        None => message.clear(),
    }
}

fn redact_fields(message: &mut DynamicMessage, option: &ExtensionDescriptor) {
    // An `Any` contains a message that is not described here.
    if message.descriptor().full_name() == "google.protobuf.Any" {
        message.clear();
        return;
    }
    message.take_unknown_fields().for_each(drop);
    for (field, value) in message.fields_mut() {
        if is_secret(&field, option) {
            redact_value(&field, value);
        } else {
            redact_nested(value, option);
        }
    }
}

fn is_secret(field: &FieldDescriptor, option: &ExtensionDescriptor) -> bool {
    let options = field.options();
    options.get_extension(option).as_bool() == Some(true)
        || options.get_field_by_name("debug_redact").and_then(|value| value.as_bool()) == Some(true)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all but text and bytes become their default")]
fn redact_value(field: &FieldDescriptor, value: &mut Value) {
    *value = match value {
        Value::String(_) => Value::String(REDACTED.to_owned()),
        Value::Bytes(_) => Value::Bytes(Bytes::from_static(REDACTED.as_bytes())),
        _ => Value::default_value_for_field(field),
    };
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a scalar holds no fields")]
fn redact_nested(value: &mut Value, option: &ExtensionDescriptor) {
    match value {
        Value::Message(message) => redact_fields(message, option),
        Value::List(items) => items.iter_mut().for_each(|item| redact_nested(item, option)),
        Value::Map(entries) => entries.values_mut().for_each(|entry| redact_nested(entry, option)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, json: &str) -> DynamicMessage {
        let pool = crate::pb::descriptors::OWN.pool();
        let descriptor = pool.get_message_by_name(&format!("shoreguard.v1.{name}")).unwrap();
        let mut json = serde_json::Deserializer::from_str(json);
        DynamicMessage::deserialize(descriptor, &mut json).unwrap()
    }

    #[test]
    fn secrets_are_redacted_at_any_depth_and_other_fields_are_unchanged() {
        let mut request = message(
            "RegisterGatewayRequest",
            r#"{"name": "edge", "labels": {"env": "prod"}, "credentials":
                {"client_cert": "Y2VydA==", "client_key": "aHVudGVyMg==", "bearer_token": "hunter2"}}"#,
        );
        redact(&mut request);
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(json["name"], "edge");
        assert_eq!(json["labels"]["env"], "prod");
        assert_eq!(json["credentials"]["clientCert"], "Y2VydA==");
        assert_eq!(json["credentials"]["bearerToken"], "***");
        assert_eq!(json["credentials"]["clientKey"], "Kioq");
    }

    #[test]
    fn an_unset_secret_is_not_shown_as_redacted() {
        let mut request = message("RegisterGatewayRequest", r#"{"credentials": {}}"#);
        redact(&mut request);
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"credentials":{}}"#);
    }

    #[test]
    fn unknown_fields_are_removed() {
        let mut request = message("GetGatewayRequest", r#"{"gateway": "edge"}"#);
        // Field 15, a string.
        request.merge(&b"\x7a\x07hunter2"[..]).unwrap();
        assert_eq!(request.unknown_fields().count(), 1);
        redact(&mut request);
        assert_eq!(request.unknown_fields().count(), 0);
        assert_eq!(serde_json::to_string(&request).unwrap(), r#"{"gateway":"edge"}"#);
    }

    #[test]
    fn a_message_without_shoreguard_options_is_redacted_completely() {
        let descriptor = prost_reflect::DescriptorPool::global()
            .get_message_by_name("google.protobuf.Duration")
            .unwrap();
        let mut duration = DynamicMessage::new(descriptor);
        duration.set_field_by_name("seconds", Value::I64(7));
        redact(&mut duration);
        assert_eq!(duration, DynamicMessage::new(duration.descriptor()));
    }
}
