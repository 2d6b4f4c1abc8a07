//! The messages of policies in both generations: their descriptors, and who sets which field.

use std::sync::LazyLock;

use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor};
use shoreguard_proto::descriptors::{self, Descriptors};
use shoreguard_proto::release::Generation;

pub(super) const POLICY: &str = "openshell.sandbox.v1.SandboxPolicy";
pub(super) const RULE: &str = "openshell.sandbox.v1.NetworkPolicyRule";
pub(super) const ENDPOINT: &str = "openshell.sandbox.v1.NetworkEndpoint";
pub(super) const BINARY: &str = "openshell.sandbox.v1.NetworkBinary";
pub(super) const ALLOW: &str = "openshell.sandbox.v1.L7Allow";
pub(super) const DENY: &str = "openshell.sandbox.v1.L7DenyRule";
pub(super) const MATCHER: &str = "openshell.sandbox.v1.L7QueryMatcher";
pub(super) const SELECTOR: &str = "openshell.sandbox.v1.MiddlewareEndpointSelector";
pub(super) const STRUCT: &str = "google.protobuf.Struct";
pub(super) const LIST_VALUE: &str = "google.protobuf.ListValue";
const VALUE: &str = "google.protobuf.Value";

/// Fields that the gateway sets when it composes the policy in force.
const GATEWAY_FIELDS: [(&str, &str); 2] =
    [(ENDPOINT, "provider_credentialed"), (ENDPOINT, "token_grant_owner")];

/// Marks: they make the sandbox refuse private addresses for what an agent proposed.
const MARKS: [(&str, &str); 2] = [(ENDPOINT, "advisor_proposed"), (BINARY, "harness")];

/// Names of fields in the files of the OpenShell command line, if the messages have other names.
const FILE_KEYS: &[(&str, &str, &str)] = &[(POLICY, "filesystem", "filesystem_policy")];

static V0_0: LazyLock<MessageDescriptor> = LazyLock::new(|| policy_of(&descriptors::V0_0));
static V0_1: LazyLock<MessageDescriptor> = LazyLock::new(|| policy_of(&descriptors::V0_1));

fn policy_of(descriptors: &Descriptors) -> MessageDescriptor {
    descriptors.pool().get_message_by_name(POLICY).expect("it is in the set")
}

/// Returns the message of policies of a generation.
pub(super) fn policy(generation: Generation) -> MessageDescriptor {
    match generation {
        Generation::V0_0 => V0_0.clone(),
        Generation::V0_1 => V0_1.clone(),
    }
}

/// Who sets a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldOwner {
    /// The author of the policy.
    Author,
    /// The gateway. An author does not write it.
    Gateway,
    /// The gateway, and it stays. A document neither sets nor removes it.
    Mark,
}

/// Returns who sets a field.
pub(super) fn owner(field: &FieldDescriptor) -> FieldOwner {
    let names = (field.parent_message().full_name(), field.name());
    if GATEWAY_FIELDS.contains(&names) {
        FieldOwner::Gateway
    } else if MARKS.contains(&names) {
        FieldOwner::Mark
    } else {
        FieldOwner::Author
    }
}

/// Returns the key of a field in a document.
pub(super) fn key(field: &FieldDescriptor) -> &str {
    let of = field.parent_message().full_name();
    let found = FILE_KEYS.iter().find(|(message, name, _)| *message == of && *name == field.name());
    found.map_or_else(|| field.name(), |(_, _, key)| *key)
}

/// Returns the field with a key. The names of the messages are accepted, too.
pub(super) fn field(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    let of = message.full_name();
    let found = FILE_KEYS.iter().find(|(message, _, file_key)| *message == of && *file_key == key);
    message.get_field_by_name(found.map_or(key, |(_, name, _)| *name))
}

/// Whether a message is a JSON value: the configuration of a middleware, which only the middleware interprets.
pub(super) fn is_json(message: &MessageDescriptor) -> bool {
    [STRUCT, VALUE, LIST_VALUE].contains(&message.full_name())
}

/// Returns the word of an enum value in a document, such as `read-only`; `None` if the number is unknown.
pub(super) fn word(kind: &EnumDescriptor, number: i32) -> Option<String> {
    let (zero, value) = (kind.default_value(), kind.get_value(number)?);
    let prefix = zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default();
    let name = value.name();
    let name = name.strip_prefix(prefix).unwrap_or(name);
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

/// Returns the words that a document can have for an enum, with their numbers.
pub(super) fn words(kind: &EnumDescriptor) -> Vec<(String, i32)> {
    let numbers = kind.values().map(|value| value.number()).filter(|number| *number != 0);
    numbers.filter_map(|number| Some((word(kind, number)?, number))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use prost_reflect::Kind;

    use super::*;

    /// Returns every message of a policy, by name.
    fn messages(generation: Generation) -> BTreeMap<String, MessageDescriptor> {
        let (mut found, mut queue) = (BTreeMap::new(), VecDeque::from([policy(generation)]));
        while let Some(message) = queue.pop_front() {
            let nested = message.fields().filter_map(|field| field.kind().as_message().cloned());
            queue.extend(nested.filter(|nested| !found.contains_key(nested.full_name())));
            found.insert(message.full_name().to_owned(), message);
        }
        found
    }

    #[test]
    fn every_named_field_exists_in_a_generation() {
        let all: Vec<_> = Generation::ALL.into_iter().flat_map(messages).collect();
        let named = GATEWAY_FIELDS.iter().chain(&MARKS).copied();
        let named = named.chain(FILE_KEYS.iter().map(|(message, name, _)| (*message, *name)));
        for (message, name) in named {
            let exists = all.iter().any(|(full_name, descriptor)| {
                full_name == message && descriptor.get_field_by_name(name).is_some()
            });
            assert!(exists, "{message}.{name}");
        }
        for message in [RULE, ALLOW, DENY, MATCHER, SELECTOR, STRUCT, LIST_VALUE, VALUE] {
            assert!(all.iter().any(|(full_name, _)| full_name == message), "{message}");
        }
    }

    #[test]
    fn documents_can_express_every_kind_of_field() {
        for generation in Generation::ALL {
            for (name, message) in messages(generation) {
                for field in message.fields() {
                    let kind = field.kind();
                    assert!(kind != Kind::Bytes, "{name}.{}: bytes", field.name());
                    if let (true, Some(entry)) = (field.is_map(), kind.as_message()) {
                        let key = entry.map_entry_key_field().kind();
                        assert!(key == Kind::String, "{name}.{}: a key", field.name());
                    }
                }
            }
        }
    }

    #[test]
    fn enum_values_are_words_in_documents() {
        let endpoint = messages(Generation::V0_1)[ENDPOINT].clone();
        let kind = endpoint.get_field_by_name("access").unwrap().kind();
        let words = words(kind.as_enum().unwrap());
        let words: Vec<(&str, i32)> = words.iter().map(|(word, n)| (word.as_str(), *n)).collect();
        assert_eq!(words, [("read-only", 1), ("read-write", 2), ("full", 3)]);
        assert_eq!(word(kind.as_enum().unwrap(), 99), None);
    }
}
