//! Keeps the marks of a policy in the policy that replaces it, and finds those that a gateway has dropped.
//!
//! Invariant: a mark is never lost because of the spelling of a host or path, or because an endpoint has more ports or
//! another rule. An endpoint that is marked for one of its ports is marked for all.

use std::collections::{BTreeSet, HashSet};

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use shoreguard_proto::release::Generation;

use super::schema::{self, FieldOwner};
use super::{canonical, normal, walk};

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

/// Returns the paths of the marks of `candidate` that `written` lacks. `None` if the policies differ in anything else.
pub(super) fn lost(
    generation: Generation,
    candidate: &DynamicMessage,
    written: &DynamicMessage,
) -> Option<Vec<String>> {
    let wanted = walk::all_marks(candidate);
    // Most policies have no marks.
    if wanted.is_empty() || unmarked(generation, candidate)? != unmarked(generation, written)? {
        return None;
    }
    // Apart from marks the policies are equal, so a path means the same in both.
    let kept: HashSet<String> = walk::all_marks(written).into_iter().collect();
    let count = wanted.len();
    let lost: Vec<String> = wanted.into_iter().filter(|path| !kept.contains(path)).collect();
    let is_less = count - lost.len() == kept.len();
    is_less.then_some(lost)
}

/// Encodes a policy without its marks. `None` does not occur for a policy in its canonical form.
fn unmarked(generation: Generation, policy: &DynamicMessage) -> Option<Vec<u8>> {
    let mut policy = policy.clone();
    canonical::clear_fields(&mut policy, FieldOwner::Mark);
    canonical::encode(generation, &policy).ok()
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

    #[test]
    fn lost_marks_are_the_only_difference_of_a_policy_that_lacks_them() {
        let of = |host: &str, marked: bool, harness: bool| {
            policy(endpoint(host, &[443], "", marked), "/bin/a", harness)
        };
        let lost = |candidate: &Policy, written: &Policy| candidate.marks_lost_in(written);
        let (on_endpoint, on_binary) = ("endpoints[0].advisor_proposed", "binaries[0].harness");
        let path = |end: &str| format!("network_policies[\"/bin/a\"].{end}");
        let both = of("a.example", true, true);
        assert_eq!(lost(&both, &both), Some(vec![]));
        let neither = of("a.example", false, false);
        assert_eq!(lost(&both, &neither), Some(vec![path(on_endpoint), path(on_binary)]));
        assert_eq!(lost(&both, &of("a.example", true, false)), Some(vec![path(on_binary)]));
        // A mark that was not written is a difference, and so is every other field.
        assert_eq!(lost(&neither, &both), None);
        assert_eq!(lost(&of("a.example", true, false), &of("a.example", false, true)), None);
        assert_eq!(lost(&both, &of("b.example", false, false)), None);
        assert_eq!(lost(&neither, &of("b.example", false, false)), None);
    }
}
