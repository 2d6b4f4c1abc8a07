//! Keeps the marks of a policy in the policy that replaces it, and finds those that a gateway has dropped.
//!
//! Invariant: a mark is never lost because of the spelling of a host or path, or because an endpoint has more ports or
//! another rule. An endpoint that is marked for one of its ports is marked for all.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage, Value};

use super::schema::{self, FieldOwner};
use super::tree::Path;
use super::{normal, walk, write};

/// Maximum number of lost marks that are named.
const NAMED_MAX: usize = 20;

/// The marks of a policy that the written policy lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LostMarks {
    /// Paths of the first 20, in the order of the policy.
    pub named: Vec<String>,
    /// Number of all.
    pub total: usize,
}

impl LostMarks {
    /// Returns whether no mark is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn add(&mut self, path: &Path<'_>) {
        self.total += 1;
        // A policy can have as many marks as its size allows.
        if self.named.len() < NAMED_MAX {
            self.named.push(path.to_string());
        }
    }
}

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

/// Returns the marks of `candidate` that `written` lacks. `None` if the policies do not differ, or differ in anything
/// else. Both are in their canonical form, which has no unknown fields.
pub(super) fn lost(candidate: &DynamicMessage, written: &DynamicMessage) -> Option<LostMarks> {
    let mut lost = LostMarks::default();
    let is_rest_equal = compare(candidate, written, &Path::ROOT, &mut lost);
    (is_rest_equal && !lost.is_empty()).then_some(lost)
}

/// Returns whether two messages differ only in marks that `written` lacks, and adds these. It compares both field by
/// field: different rules can have the same displayed path.
fn compare(
    candidate: &DynamicMessage,
    written: &DynamicMessage,
    path: &Path<'_>,
    lost: &mut LostMarks,
) -> bool {
    if written.fields().any(|(field, _)| !candidate.has_field(&field)) {
        return false;
    }
    candidate.fields().all(|(field, wanted)| {
        let path = path.key(schema::key(&field));
        if written.has_field(&field) {
            return compare_values(wanted, &written.get_field(&field), &path, lost);
        }
        let is_lost = schema::owner(&field) == FieldOwner::Mark && *wanted == Value::Bool(true);
        if is_lost {
            lost.add(&path);
        }
        is_lost
    })
}

fn compare_values(wanted: &Value, found: &Value, path: &Path<'_>, lost: &mut LostMarks) -> bool {
    if let (Value::Message(wanted), Value::Message(found)) = (wanted, found) {
        compare(wanted, found, path, lost)
    } else if let (Value::List(wanted), Value::List(found)) = (wanted, found) {
        let mut pairs = wanted.iter().zip(found).enumerate();
        wanted.len() == found.len()
            && pairs
                .all(|(at, (wanted, found))| compare_values(wanted, found, &path.index(at), lost))
    } else if let (Value::Map(wanted), Value::Map(found)) = (wanted, found) {
        wanted.len() == found.len()
            && write::sorted(wanted).into_iter().all(|(key, wanted)| {
                let found = found.get(&MapKey::String(key.clone()));
                found.is_some_and(|found| compare_values(wanted, found, &path.key(&key), lost))
            })
    } else if let (Value::F64(wanted), Value::F64(found)) = (wanted, found) {
        // As they are encoded: a number of a JSON value may be NaN.
        wanted.to_bits() == found.to_bits()
    } else {
        wanted == found
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
    use super::{LostMarks, NAMED_MAX};

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
        let lost = |candidate: &Policy, written: &Policy| {
            candidate.marks_lost_in(written).map(|lost| {
                assert_eq!(lost.total, lost.named.len());
                lost.named
            })
        };
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

    /// Returns a policy with one rule per name, whose endpoint is marked if the flag is set.
    fn with_rules(rules: &[(String, bool)]) -> Policy {
        let rule = |(name, marked): &(String, bool)| {
            let endpoints = vec![endpoint("a.example", &[443], "", *marked)];
            (name.clone(), proto::NetworkPolicyRule { endpoints, ..Default::default() })
        };
        let network_policies = rules.iter().map(rule).collect();
        let sent = proto::SandboxPolicy { network_policies, ..Default::default() };
        Policy::decode(Generation::V0_0, &sent.encode_to_vec()).unwrap()
    }

    #[test]
    fn marks_of_rules_whose_displayed_paths_are_equal_are_not_confused() {
        let names = ["a", "b"].map(|end| format!("{}{end}", "x".repeat(100)));
        let of = |marked: [bool; 2]| {
            let rules: Vec<_> = names.iter().cloned().zip(marked).collect();
            with_rules(&rules)
        };
        let both = of([true, true]);
        let paths = both.marks();
        assert_eq!(paths[0], paths[1]);
        // The mark of the other rule was written.
        assert_eq!(of([true, false]).marks_lost_in(&of([false, true])), None);
        for kept in [[true, false], [false, true]] {
            let expected = LostMarks { named: vec![paths[0].clone()], total: 1 };
            assert_eq!(both.marks_lost_in(&of(kept)), Some(expected));
        }
        assert_eq!(both.marks_lost_in(&of([false, false])).unwrap().total, 2);
    }

    #[test]
    fn all_lost_marks_are_counted_and_the_first_are_named() {
        for count in [NAMED_MAX, NAMED_MAX + 1] {
            let of = |marked: bool| {
                let rules: Vec<_> = (0..count).map(|n| (format!("{n:03}"), marked)).collect();
                with_rules(&rules)
            };
            let marked = of(true);
            let named = marked.marks()[..NAMED_MAX].to_vec();
            let expected = LostMarks { named, total: count };
            assert_eq!(marked.marks_lost_in(&of(false)), Some(expected));
        }
    }
}
