//! Keeps the marks of a policy in the policy that replaces it.
//!
//! Invariant: a mark is never lost because of the spelling of a host or path, or because an endpoint has more ports or
//! another rule. An endpoint that is marked for one of its ports is marked for all.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::normal;
use super::schema::{self, FieldOwner};
use super::walk;

/// A mark: its field, and what identifies the endpoint or binary.
type Mark = (String, String);

/// Sets the marks of `base` on the endpoints and binaries of `candidate` that `base` has, too.
pub(super) fn keep(base: &DynamicMessage, candidate: &mut DynamicMessage) {
    let mut marked = BTreeSet::new();
    collect(base, &mut marked);
    if !marked.is_empty() {
        mark(candidate, &marked);
    }
}

fn collect(message: &DynamicMessage, marked: &mut BTreeSet<Mark>) {
    for (field, value) in message.fields() {
        if schema::owner(&field) == FieldOwner::Mark && *value == Value::Bool(true) {
            let identities = identities(message).into_iter();
            marked.extend(identities.map(|identity| (field.full_name().to_owned(), identity)));
        }
        walk::for_messages(value, &mut |message| collect(message, marked));
    }
}

fn mark(message: &mut DynamicMessage, marked: &BTreeSet<Mark>) {
    let descriptor = message.descriptor();
    for field in descriptor.fields().filter(|field| schema::owner(field) == FieldOwner::Mark) {
        let of_field = |identity| (field.full_name().to_owned(), identity);
        if identities(message).into_iter().map(of_field).any(|mark| marked.contains(&mark)) {
            *message.get_field_mut(&field) = Value::Bool(true);
        }
    }
    for (_, value) in message.fields_mut() {
        walk::for_messages_mut(value, &mut |message| mark(message, marked));
    }
}

/// Returns what identifies an endpoint, once per port, or a binary.
fn identities(message: &DynamicMessage) -> Vec<String> {
    let text = |name: &str| {
        let value = message.get_field_by_name(name);
        value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    if message.descriptor().full_name() != schema::ENDPOINT {
        return vec![text("path")];
    }
    let (host, path) = (normal::host(&text("host")), normal::url_path(&text("path")));
    let ports = normal::ports(message);
    let ports = if ports.is_empty() { BTreeSet::from([0]) } else { ports };
    ports.into_iter().map(|port| format!("{host}\n{port}\n{path}")).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use shoreguard_proto::release::Generation;
    use shoreguard_proto::v0_0::openshell::sandbox::v1 as proto;

    use super::super::Policy;

    fn endpoint(host: &str, ports: &[u32], path: &str, marked: bool) -> proto::NetworkEndpoint {
        proto::NetworkEndpoint {
            host: host.to_owned(),
            ports: ports.to_vec(),
            path: path.to_owned(),
            advisor_proposed: marked,
            ..Default::default()
        }
    }

    fn policy(endpoint: proto::NetworkEndpoint, binary: &str, harness: bool) -> Policy {
        let binaries = vec![proto::NetworkBinary { path: binary.to_owned(), harness }];
        let endpoints = vec![endpoint];
        let rule = proto::NetworkPolicyRule { endpoints, binaries, ..Default::default() };
        let network_policies = [(binary.to_owned(), rule)].into();
        let sent = proto::SandboxPolicy { network_policies, ..Default::default() };
        Policy::decode(Generation::V0_0, &sent.encode_to_vec()).unwrap()
    }

    #[test]
    fn a_policy_keeps_the_marks_of_the_same_endpoints_and_binaries() {
        let base = policy(endpoint("a.example", &[443], "/x", true), "/bin/a", true);
        for (host, ports, path, is_kept) in [
            ("a.example", vec![443], "/x", true),
            ("A.Example.", vec![80, 443], "/%78", true),
            ("a.example", vec![80], "/x", false),
            ("a.example", vec![], "/x", false),
            ("a.example", vec![443], "", false),
            ("b.example", vec![443], "/x", false),
        ] {
            let candidate = policy(endpoint(host, &ports, path, false), "/bin/b", false);
            let kept = candidate.with_marks_of(&base).unwrap();
            assert_eq!(kept.marks().len(), usize::from(is_kept), "{host} {ports:?} {path}");
            assert_eq!(kept.to_yaml(), candidate.to_yaml());
        }
        let candidate = policy(endpoint("b", &[], "", false), "/bin/a", false);
        let kept = candidate.with_marks_of(&base).unwrap().marks();
        assert_eq!(kept, ["network_policies[\"/bin/a\"].binaries[0].harness"]);
    }
}
