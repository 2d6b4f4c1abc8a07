//! Converts policies from text, the YAML of the OpenShell command line, to the message of a gateway's generation.
//!
//! Invariants
//! - nothing is dropped silently: a key that the schema of the generation does not have is an error that names it;
//! - fields that only the gateway sets are rejected.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::Generation;
use crate::error::Error;
use crate::pb::descriptors::{self, Descriptors};
use crate::upstream::errors::sanitize_message;

const POLICY: &str = "openshell.sandbox.v1.SandboxPolicy";
const MATCHER: &str = "openshell.sandbox.v1.L7QueryMatcher";
/// Fields that only the gateway sets.
const GATEWAY_ONLY_FIELDS: [&str; 3] =
    ["advisor_proposed", "provider_credentialed", "token_grant_owner"];
/// Maximum nesting depth of a policy.
const DEPTH_MAX: usize = 16;

static V0_0: LazyLock<MessageDescriptor> = LazyLock::new(|| policy_descriptor(&descriptors::V0_0));
static V0_1: LazyLock<MessageDescriptor> = LazyLock::new(|| policy_descriptor(&descriptors::V0_1));

fn policy_descriptor(descriptors: &Descriptors) -> MessageDescriptor {
    descriptors.pool().get_message_by_name(POLICY).expect("it is in the set")
}

fn invalid(why: impl AsRef<str>) -> Error {
    Error::invalid("policy", sanitize_message(why.as_ref()))
}

/// Encodes a policy text as the message of a generation.
pub fn encode(generation: Generation, text: &str) -> Result<Vec<u8>, Error> {
    let parsed: Value = serde_saphyr::from_str(text)
        .map_err(|error| invalid(format!("is not valid YAML: {error}")))?;
    let Value::Object(mut policy) = parsed else {
        return Err(invalid("must be a mapping"));
    };
    // The files of the command line use this name, the message does not.
    if let Some(filesystem) = policy.remove("filesystem_policy")
        && policy.insert("filesystem".to_owned(), filesystem).is_some()
    {
        return Err(invalid("has `filesystem` and `filesystem_policy`"));
    }
    let descriptor = match generation {
        Generation::V0_0 => V0_0.clone(),
        Generation::V0_1 => V0_1.clone(),
    };
    normalize(&mut policy, &descriptor, 0)?;
    let message = DynamicMessage::deserialize(descriptor, Value::Object(policy))
        .map_err(|error| invalid(format!("does not fit the gateway: {error}")))?;
    Ok(message.encode_to_vec())
}

/// Converts the short forms of the file to those of the message.
fn normalize(
    object: &mut Map<String, Value>,
    descriptor: &MessageDescriptor,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(invalid("nests too deep"));
    }
    for (key, value) in object.iter_mut() {
        if GATEWAY_ONLY_FIELDS.contains(&key.as_str()) {
            return Err(invalid(format!("has `{key}`, which is the gateway's own to set")));
        }
        // Unknown keys are rejected by the decoder, which names them.
        let Some(field) = descriptor.get_field_by_name(key) else { continue };
        let values: Vec<&mut Value> = match value {
            Value::Object(entries) if field.is_map() => entries.values_mut().collect(),
            Value::Array(items) => items.iter_mut().collect(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Object(_) => vec![value],
        };
        for value in values {
            normalize_value(value, &field, depth)?;
        }
    }
    Ok(())
}

fn normalize_value(value: &mut Value, field: &FieldDescriptor, depth: usize) -> Result<(), Error> {
    let mut kind = field.kind();
    if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
        kind = entry.map_entry_value_field().kind();
    }
    if let Kind::Enum(descriptor) = &kind
        && let Value::String(word) = value
    {
        *word = enum_value_name(descriptor, word);
    }
    let Kind::Message(descriptor) = kind else { return Ok(()) };
    if descriptor.full_name() == MATCHER
        && let Value::String(glob) = value
    {
        *value = serde_json::json!({ "glob": glob });
    }
    // Well-known types are left unchanged.
    if descriptor.full_name().starts_with("google.protobuf.") {
        return Ok(());
    }
    match value {
        Value::Object(object) => normalize(object, &descriptor, depth + 1),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Ok(())
        }
    }
}

/// Returns the full name of an enum value: `read-only` is `NETWORK_ACCESS_PRESET_READ_ONLY`.
fn enum_value_name(descriptor: &EnumDescriptor, word: &str) -> String {
    let zero = descriptor.default_value();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    let name = format!("{prefix}{}", word.to_ascii_uppercase().replace('-', "_"));
    if descriptor.get_value_by_name(&name).is_some() { name } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::{v0_0, v0_1};

    const TEXT: &str = r"
version: 1
filesystem_policy:
  include_workdir: true
  read_only: [/usr, /lib]
  read_write: [/tmp]
landlock:
  compatibility: best_effort
process:
  run_as_user: sandbox
  run_as_group: sandbox
network_policies:
  pypi:
    name: pypi
    endpoints:
      - host: pypi.org
        port: 443
        protocol: rest
        tls: terminate
        enforcement: enforce
        access: read-only
        rules:
          - allow:
              method: GET
              path: /simple/**
              query:
                slug: my-*
    binaries:
      - path: /usr/bin/python3
";

    #[test]
    fn a_policy_file_is_encoded_for_either_generation() {
        let old = encode(Generation::V0_0, TEXT).unwrap();
        let old = v0_0::openshell::sandbox::v1::SandboxPolicy::decode(old.as_slice()).unwrap();
        let new = encode(Generation::V0_1, TEXT).unwrap();
        let new = v0_1::openshell::sandbox::v1::SandboxPolicy::decode(new.as_slice()).unwrap();
        assert_eq!(old.filesystem.unwrap().read_only, ["/usr", "/lib"]);
        assert_eq!(new.filesystem.unwrap().read_write, ["/tmp"]);
        let (old, new) = (&old.network_policies["pypi"], &new.network_policies["pypi"]);
        assert_eq!(old.endpoints[0].access, "read-only");
        assert_eq!(
            new.endpoints[0].access(),
            v0_1::openshell::sandbox::v1::NetworkAccessPreset::ReadOnly
        );
        assert_eq!(old.binaries[0].path, "/usr/bin/python3");
        let allow = old.endpoints[0].rules[0].allow.clone().unwrap();
        assert_eq!(allow.query["slug"].glob, "my-*");
    }

    #[test]
    fn an_unknown_policy_field_is_named_in_the_error() {
        for (text, named) in [
            ("netwrok_policies: {}", "netwrok_policies"),
            ("process: { run_as: root }", "run_as"),
            ("network_policies: { a: { endpoints: [{ host: x, prot: 1 }] } }", "prot"),
            ("filesystem: {}\nfilesystem_policy: {}", "filesystem_policy"),
            ("network_policies: { a: { endpoints: [{ advisor_proposed: true }] } }", "advisor"),
            ("[]", "mapping"),
            ("a: b: c", "YAML"),
            ("version: 1\nversion: 2", "version"),
        ] {
            for generation in [Generation::V0_0, Generation::V0_1] {
                let error = encode(generation, text).unwrap_err().to_string();
                assert!(error.contains(named), "{text}: {error}");
            }
        }
        let odd = "network_policies: { a: { endpoints: [{ host: x, access: everything }] } }";
        assert!(encode(Generation::V0_1, odd).is_err());
    }
}
