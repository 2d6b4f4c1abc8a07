//! Shoreguard's own encoding of a caller's request, which is sent in place of the caller's bytes where a rule applies:
//! the gateway then reads nothing that was not checked (T09).
//!
//! Invariant: equal requests have equal bytes, since a gateway compares those of a repeated request. Map entries are
//! sorted by key.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, Value};

use super::Generation;
use super::gateway::Gateway;
use crate::error::{Error, Reason};
use crate::pb::descriptors::Descriptors;
use crate::pb::wire;
use crate::upstream::message::MESSAGE_BYTES_MAX;

const CREATE_REQUEST: &str = "openshell.v1.CreateSandboxRequest";

const POLICY: &str = "openshell.sandbox.v1.SandboxPolicy";

/// Field number of the value in an entry of a map.
const VALUE: u32 = 2;

fn decode(generation: Generation, message: &str, bytes: &[u8]) -> Result<DynamicMessage, Error> {
    let descriptor = Descriptors::for_generation(generation).pool().get_message_by_name(message);
    let descriptor = descriptor.ok_or_else(|| Error::internal("a message without a schema"))?;
    DynamicMessage::decode(descriptor, bytes)
        .map_err(|_| Error::refused(Reason::MalformedMessage, "the message cannot be decoded"))
}

impl Gateway {
    /// Returns a caller's request in Shoreguard's own encoding. Fields that this build does not know are dropped; the
    /// caller of this function has refused them. `message` is the full name of the message.
    ///
    /// # Errors
    /// `MALFORMED_MESSAGE`, or `MESSAGE_TOO_LARGE` if the gateway would not accept it.
    pub(crate) fn encode_again(&self, message: &str, request: &[u8]) -> Result<Vec<u8>, Error> {
        limited(encode(&decode(self.generation(), message, request)?))
    }

    /// Returns a caller's creation request with a policy, in Shoreguard's own encoding.
    ///
    /// # Errors
    /// Those of [`Gateway::encode_again`].
    pub(crate) fn with_policy(&self, request: &[u8], policy: &[u8]) -> Result<Vec<u8>, Error> {
        let mut request = decode(self.generation(), CREATE_REQUEST, request)?;
        let missing = || Error::internal("a creation request without a field for its policy");
        let mut spec = request
            .get_field_by_name("spec")
            .and_then(|spec| spec.as_message().cloned())
            .ok_or_else(missing)?;
        let policy = decode(self.generation(), POLICY, policy)?;
        spec.try_set_field_by_name("policy", Value::Message(policy)).map_err(|_| missing())?;
        request.try_set_field_by_name("spec", Value::Message(spec)).map_err(|_| missing())?;
        limited(encode(&request))
    }
}

fn limited(encoded: Vec<u8>) -> Result<Vec<u8>, Error> {
    let bytes = encoded.len();
    if bytes <= MESSAGE_BYTES_MAX {
        return Ok(encoded);
    }
    let why = format!("the message must have at most {MESSAGE_BYTES_MAX} bytes, got {bytes}");
    Err(Error::refused(Reason::MessageTooLarge, why))
}

/// Encodes a message without unknown fields, with its map entries sorted.
fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut to = Vec::new();
    for (field, value) in message.fields() {
        if let Some(nested) = value.as_message() {
            wire::put_bytes(&mut to, field.number(), &encode(nested));
        } else if let (Some(entries), Kind::Message(entry)) = (value.as_map(), field.kind()) {
            let mut entries: Vec<(&MapKey, &Value)> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                let mut bytes = encode_alone(&entry.map_entry_key_field(), key.clone().into());
                if let Some(nested) = value.as_message() {
                    wire::put_bytes(&mut bytes, VALUE, &encode(nested));
                } else {
                    bytes.extend(encode_alone(&entry.map_entry_value_field(), value.clone()));
                }
                wire::put_bytes(&mut to, field.number(), &bytes);
            }
        } else if let (Some(items), Kind::Message(_)) = (value.as_list(), field.kind()) {
            for nested in items.iter().filter_map(Value::as_message) {
                wire::put_bytes(&mut to, field.number(), &encode(nested));
            }
        } else {
            to.extend(encode_alone(&field, value.clone()));
        }
    }
    to
}

/// Encodes one field, which contains no message.
fn encode_alone(field: &FieldDescriptor, value: Value) -> Vec<u8> {
    let mut alone = DynamicMessage::new(field.parent_message().clone());
    alone.set_field(field, value);
    alone.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pb::v0_1::openshell::v1 as new;

    fn again(request: &[u8]) -> Vec<u8> {
        encode(&decode(Generation::V0_1, CREATE_REQUEST, request).unwrap())
    }

    #[test]
    fn equal_requests_have_one_encoding_and_keep_their_content() {
        let labels: BTreeMap<String, String> =
            (0..50).map(|n| (format!("key-{n}"), format!("value-{n}"))).collect();
        let number =
            |n: f64| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(n)) };
        let driver_config = prost_types::Struct {
            fields: [("b".to_owned(), number(1.5)), ("a".to_owned(), number(0.0))].into(),
        };
        let template = new::SandboxTemplate {
            image: "image".to_owned(),
            driver_config: Some(driver_config),
            user_namespaces: Some(false),
            ..Default::default()
        };
        let spec = new::SandboxSpec {
            template: Some(template),
            providers: vec!["one".to_owned(), String::new()],
            ..Default::default()
        };
        let request = new::CreateSandboxRequest {
            spec: Some(spec),
            labels,
            service_exposures: vec![new::SandboxServiceExposure::default(); 2],
            ..Default::default()
        };
        let first = again(&request.encode_to_vec());
        assert_eq!(new::CreateSandboxRequest::decode(first.as_slice()).unwrap(), request);
        for _ in 0..5 {
            assert_eq!(again(&request.encode_to_vec()), first);
        }
    }

    #[test]
    fn t09_a_field_that_this_build_does_not_know_is_not_sent() {
        let request = new::CreateSandboxRequest { name: "one".to_owned(), ..Default::default() };
        let mut bytes = request.encode_to_vec();
        wire::put_bytes(&mut bytes, 999, b"unknown");
        assert_eq!(again(&bytes), request.encode_to_vec());
    }
}
