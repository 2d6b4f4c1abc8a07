//! Every field of every message about providers: whether a request with it replaces nothing but values of credentials.
//!
//! The messages are those of the descriptors, so that a field of a new schema fails here until it is decided.

use prost::Message as _;
use prost_reflect::{FieldDescriptor, Kind};

use super::*;

const HANDLE: &str = "openshell.datamodel.v1.CredentialHandle";

/// The decision about each field, in any generation.
const DECIDED: &[(&str, &str, FieldRule)] = &[
    (UPDATE, "provider", FieldRule::Nested),
    (UPDATE, "workspace", FieldRule::Any),
    (UPDATE, "workspace_scope", FieldRule::Any),
    (UPDATE, "request_id", FieldRule::Any),
    (UPDATE, "credential_expires_at_ms", FieldRule::Keys),
    (UPDATE, "credential_expiration_times", FieldRule::Keys),
    (UPDATE, "clear_credential_expiration_keys", FieldRule::Keys),
    (PROVIDER, "metadata", FieldRule::Nested),
    (PROVIDER, "type", FieldRule::Same),
    (PROVIDER, "credentials", FieldRule::Values),
    (PROVIDER, "config", FieldRule::Same),
    (PROVIDER, "credential_expires_at_ms", FieldRule::Keys),
    (PROVIDER, "credential_expiration_times", FieldRule::Keys),
    (PROVIDER, "profile_workspace", FieldRule::Same),
    (PROVIDER, "credential_handles", FieldRule::Same),
    (META, "id", FieldRule::Same),
    (META, "name", FieldRule::Same),
    (META, "created_at_ms", FieldRule::Same),
    (META, "created_time", FieldRule::Same),
    (META, "labels", FieldRule::Same),
    (META, "resource_version", FieldRule::Any),
    (META, "annotations", FieldRule::Same),
    (META, "workspace", FieldRule::Same),
    (META, "deletion_timestamp_ms", FieldRule::Same),
    (META, "deletion_time", FieldRule::Same),
    // Compared as a whole, with the handles of the provider.
    (HANDLE, "driver", FieldRule::Same),
    (HANDLE, "handle", FieldRule::Same),
    (HANDLE, "metadata", FieldRule::Same),
    (CONFIGURE, "provider", FieldRule::Any),
    (CONFIGURE, "credential_key", FieldRule::Key),
    (CONFIGURE, "strategy", FieldRule::Any),
    (CONFIGURE, "material", FieldRule::Any),
    (CONFIGURE, "secret_material_keys", FieldRule::Any),
    (CONFIGURE, "expires_at_ms", FieldRule::Any),
    (CONFIGURE, "expiration_time", FieldRule::Any),
    (CONFIGURE, "workspace", FieldRule::Any),
    (CONFIGURE, "workspace_scope", FieldRule::Any),
    (CONFIGURE, "request_id", FieldRule::Any),
    (ROTATE, "provider", FieldRule::Any),
    (ROTATE, "credential_key", FieldRule::Key),
    (ROTATE, "workspace", FieldRule::Any),
    (ROTATE, "workspace_scope", FieldRule::Any),
    (ROTATE, "request_id", FieldRule::Any),
    (DELETE_REFRESH, "provider", FieldRule::Any),
    (DELETE_REFRESH, "credential_key", FieldRule::Key),
    (DELETE_REFRESH, "workspace", FieldRule::Any),
    (DELETE_REFRESH, "workspace_scope", FieldRule::Any),
    (DELETE_REFRESH, "allow_missing", FieldRule::Any),
    (DELETE_REFRESH, "request_id", FieldRule::Any),
];

/// The messages, each with the fields that lead to it in a request.
const MESSAGES: [(&str, &str, &[&str]); 6] = [
    (UPDATE, UPDATE, &[]),
    (PROVIDER, UPDATE, &["provider"]),
    (META, UPDATE, &["provider", "metadata"]),
    (CONFIGURE, CONFIGURE, &[]),
    (ROTATE, ROTATE, &[]),
    (DELETE_REFRESH, DELETE_REFRESH, &[]),
];

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn map(key: &str, value: Value) -> Value {
    Value::Map([(MapKey::String(key.to_owned()), value)].into())
}

/// Returns one of two values of a field, neither of which is its default.
fn value(field: &FieldDescriptor, first: bool) -> Value {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { panic!("an entry") };
        return map("key", value(&entry.map_entry_value_field(), first));
    }
    let word = if first { "first" } else { "second" };
    let one = match field.kind() {
        Kind::String => text(word),
        Kind::Bool => Value::Bool(true),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(if first { 1 } else { 2 }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(if first { 1 } else { 2 }),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(if first { 1 } else { 2 }),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(if first { 1 } else { 2 }),
        Kind::Double => Value::F64(if first { 1.0 } else { 2.0 }),
        Kind::Float => Value::F32(if first { 1.0 } else { 2.0 }),
        Kind::Bytes => Value::Bytes(word.to_owned().into()),
        Kind::Enum(_) => Value::EnumNumber(if first { 1 } else { 2 }),
        Kind::Message(message) => {
            let mut nested = DynamicMessage::new(message.clone());
            let field = message.fields().next().unwrap();
            nested.set_field(&field, value(&field, first));
            Value::Message(nested)
        }
    };
    if field.is_list() { Value::List(vec![one]) } else { one }
}

/// A provider `github` with the credential `token`, whose other fields all have their first value.
fn shown(generation: Generation) -> ShownProvider {
    let mut provider = DynamicMessage::new(descriptor(generation, PROVIDER).unwrap());
    let mut meta = DynamicMessage::new(descriptor(generation, META).unwrap());
    for message in [&mut provider, &mut meta] {
        for field in message.descriptor().fields() {
            message.set_field(&field, value(&field, true));
        }
    }
    meta.set_field_by_name("name", text("github"));
    provider.set_field_by_name("metadata", Value::Message(meta));
    provider.set_field_by_name("credentials", map("token", text("REDACTED")));
    ShownProvider(provider)
}

/// A request that replaces the credential only.
fn plain(generation: Generation, message: &str) -> DynamicMessage {
    let new = |message: &str| DynamicMessage::new(descriptor(generation, message).unwrap());
    let mut request = new(message);
    if message == UPDATE {
        let (mut provider, mut meta) = (new(PROVIDER), new(META));
        meta.set_field_by_name("name", text("github"));
        provider.set_field_by_name("metadata", Value::Message(meta));
        provider.set_field_by_name("credentials", map("token", text("new")));
        request.set_field_by_name("provider", Value::Message(provider));
    } else {
        request.set_field_by_name("provider", text("github"));
        request.set_field_by_name("credential_key", text("token"));
    }
    request
}

/// Sets a field of the message at the end of a path.
fn set(message: &mut DynamicMessage, path: &[&str], field: &FieldDescriptor, value: Value) {
    let Some((first, rest)) = path.split_first() else { return message.set_field(field, value) };
    let nested = message.get_field_by_name(first).unwrap().into_owned();
    let Value::Message(mut nested) = nested else { panic!("`{first}` is a message") };
    set(&mut nested, rest, field, value);
    message.set_field_by_name(first, Value::Message(nested));
}

/// Returns values of a field, and whether a request with each replaces nothing but values of credentials.
fn cases(field: &FieldDescriptor, rule: FieldRule, name: &str) -> Vec<(Value, bool)> {
    let listed = |key: &str| if field.is_list() { Value::List(vec![text(key)]) } else { text(key) };
    match rule {
        FieldRule::Nested => Vec::new(),
        FieldRule::Any => vec![(value(field, true), true), (value(field, false), true)],
        FieldRule::Same if name == "name" => vec![(text("github"), true), (text("gitlab"), false)],
        FieldRule::Same => vec![(value(field, true), true), (value(field, false), false)],
        FieldRule::Key => vec![(text("token"), true), (text("other"), false)],
        FieldRule::Keys if field.is_list() => {
            vec![(listed("token"), true), (listed("other"), false)]
        }
        FieldRule::Keys | FieldRule::Values => {
            let Kind::Message(entry) = field.kind() else { panic!("a map") };
            let value = || value(&entry.map_entry_value_field(), false);
            let mut cases = vec![(map("token", value()), true), (map("other", value()), false)];
            if rule == FieldRule::Values {
                // It would remove the credential.
                cases.push((map("token", text("")), false));
            }
            cases
        }
    }
}

#[test]
fn every_field_of_every_message_about_providers_is_decided() {
    for generation in Generation::ALL {
        let names = MESSAGES.iter().map(|(name, ..)| *name).chain([HANDLE]);
        for name in names {
            for field in descriptor(generation, name).unwrap().fields() {
                let field = field.name().to_owned();
                let decided = DECIDED.iter().find(|(of, is, _)| *of == name && *is == field);
                let Some((.., decided)) = decided else {
                    panic!("decide what `{field}` of {name} may hold in generation {generation}");
                };
                assert_eq!(rule(name, &field), *decided, "{name}.{field}");
            }
        }
    }
}

#[test]
fn t10_each_field_of_a_provider_write_is_compared_with_what_the_gateway_shows() {
    for generation in Generation::ALL {
        let shown = shown(generation);
        for (name, request, path) in MESSAGES {
            for field in descriptor(generation, name).unwrap().fields() {
                let rule = rule(name, field.name());
                for (value, expected) in cases(&field, rule, field.name()) {
                    let mut message = plain(generation, request);
                    set(&mut message, path, &field, value.clone());
                    let bytes = message.encode_to_vec();
                    let passes = replaces_only_credentials(generation, request, &bytes, &shown);
                    let what = format!("{generation} {name}.{} {value:?}", field.name());
                    assert_eq!(passes, expected, "{what}");
                }
            }
        }
    }
}

#[test]
fn t09_a_provider_write_with_an_unknown_field_is_no_mere_credential() {
    for generation in Generation::ALL {
        let shown = shown(generation);
        let mut bytes = plain(generation, UPDATE).encode_to_vec();
        assert!(replaces_only_credentials(generation, UPDATE, &bytes, &shown));
        crate::pb::wire::put_bytes(&mut bytes, 999, b"unknown");
        assert!(!replaces_only_credentials(generation, UPDATE, &bytes, &shown));
        assert!(!replaces_only_credentials(generation, UPDATE, b"\xff", &shown));
    }
}
