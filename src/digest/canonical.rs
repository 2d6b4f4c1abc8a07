//! Encodes a message to bytes that are equal for equal messages, independent of the order of map entries.
//!
//! This is not the protobuf wire format: only the digest uses these bytes.

use prost::bytes::BufMut;
use prost_reflect::{DynamicMessage, MapKey, Value};

/// Encodes a whole message: its fields by number, then unknown fields as they were received.
pub(super) fn encode_message(message: &DynamicMessage) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, value) in message.fields() {
        out.put_u32(field.number());
        push_bytes(&mut out, &encode_value(value));
    }
    for unknown in message.unknown_fields() {
        unknown.encode(&mut out);
    }
    out
}

/// Appends bytes with a length prefix, so that different inputs cannot produce the same bytes.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u64(bytes.len() as u64);
    out.put_slice(bytes);
}

fn encode_value(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Bool(value) => out.put_u8((*value).into()),
        Value::I32(value) | Value::EnumNumber(value) => out.put_i32(*value),
        Value::I64(value) => out.put_i64(*value),
        Value::U32(value) => out.put_u32(*value),
        Value::U64(value) => out.put_u64(*value),
        Value::F32(value) => out.put_u32(value.to_bits()),
        Value::F64(value) => out.put_u64(value.to_bits()),
        Value::String(value) => out.put_slice(value.as_bytes()),
        Value::Bytes(value) => out.put_slice(value),
        Value::Message(inner) => out = encode_message(inner),
        Value::List(list) => {
            for value in list {
                push_bytes(&mut out, &encode_value(value));
            }
        }
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            for (key, value) in entries {
                push_bytes(&mut out, &encode_key(key));
                push_bytes(&mut out, &encode_value(value));
            }
        }
    }
    out
}

fn encode_key(key: &MapKey) -> Vec<u8> {
    encode_value(&match key {
        MapKey::Bool(key) => Value::Bool(*key),
        MapKey::I32(key) => Value::I32(*key),
        MapKey::I64(key) => Value::I64(*key),
        MapKey::U32(key) => Value::U32(*key),
        MapKey::U64(key) => Value::U64(*key),
        MapKey::String(key) => Value::String(key.clone()),
    })
}
