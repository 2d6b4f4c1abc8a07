//! Tests of policies as a whole: documents, digests and differences of every field of both generations.

mod documents;
mod edits;
mod merges;
mod samples;

use proptest::prelude::*;
use std::collections::BTreeSet;

use prost::Message as _;
use prost_reflect::DynamicMessage;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as proto;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as proto_v0_1;

use self::samples::{Random, full, mutations, random};
use super::diff::{DifferenceKind, compare};
use super::schema::{self, FieldOwner};
use super::{Policy, canonical};

fn policy(generation: Generation, message: &DynamicMessage) -> Policy {
    Policy::decode(generation, &message.encode_to_vec()).unwrap()
}

/// Returns a policy without its marks, as a document has it.
fn unmarked(generation: Generation, message: &DynamicMessage) -> Policy {
    let mut message = message.clone();
    canonical::clear_fields(&mut message, FieldOwner::Mark);
    policy(generation, &message)
}

fn assert_survives(generation: Generation, message: &DynamicMessage, what: &str) {
    let (written, expected) = (policy(generation, message), unmarked(generation, message));
    let metadata = [("version", "7".to_owned()), ("digest", written.digest())];
    for text in [written.to_yaml(), written.to_document(&metadata)] {
        let read = Policy::from_yaml(generation, "yaml", &text);
        let read = read.unwrap_or_else(|error| panic!("{what}: {error}\n{text}"));
        assert_eq!(read.digest(), expected.digest(), "{what}:\n{text}");
        assert_eq!(read.to_yaml(), written.to_yaml(), "{what}");
    }
}

#[test]
fn every_field_of_every_message_survives_export_and_apply() {
    for generation in Generation::ALL {
        let full = full(&schema::policy(generation), 1);
        assert_survives(generation, &full, "everything");
        let mutations = mutations(&full);
        assert!(mutations.len() > 100, "{}", mutations.len());
        for (what, mutated) in mutations {
            assert_survives(generation, &mutated, &what);
        }
    }
}

#[test]
fn a_change_of_any_field_is_a_difference_and_another_digest() {
    for generation in Generation::ALL {
        let full = full(&schema::policy(generation), 1);
        let old = policy(generation, &full);
        assert!(compare(&old, &policy(generation, &full)).is_empty());
        for (what, mutated) in mutations(&full) {
            let new = policy(generation, &mutated);
            let (forward, backward) = (compare(&old, &new), compare(&new, &old));
            assert!(!forward.is_empty() && forward.len() == backward.len(), "{what}: {forward:?}");
            assert_ne!(old.digest(), new.digest(), "{what}");
            for difference in &forward {
                let is_shown = match difference.kind {
                    DifferenceKind::Added => difference.old.is_empty(),
                    DifferenceKind::Removed => difference.new.is_empty(),
                    DifferenceKind::Changed => difference.old != difference.new,
                };
                assert!(is_shown, "{what}: {difference:?}");
                assert!(difference.path.starts_with(&difference.section), "{difference:?}");
            }
        }
    }
}

#[test]
fn only_a_policy_that_lacks_nothing_but_marks_has_lost_them() {
    for generation in Generation::ALL {
        let full = full(&schema::policy(generation), 1);
        let (old, rest) = (policy(generation, &full), unmarked(generation, &full).digest());
        let mut lacking = 0;
        for (what, mutated) in mutations(&full) {
            let new = policy(generation, &mutated);
            let is_rest_equal = unmarked(generation, &mutated).digest() == rest;
            let lost = old.marks_lost_in(&new).map(|lost| lost.total);
            assert_eq!(lost, is_rest_equal.then_some(1), "{what}");
            assert_eq!(new.marks_lost_in(&old), None, "{what}");
            lacking += usize::from(is_rest_equal);
        }
        assert!(lacking > 0);
    }
}

/// Returns the rules of a policy with what concerns marks, as messages of generation 0.0.
fn rules(policy: &Policy) -> Vec<proto::NetworkPolicyRule> {
    if policy.generation() == Generation::V0_0 {
        let policy = proto::SandboxPolicy::decode(policy.encoded()).unwrap();
        return policy.network_policies.into_values().collect();
    }
    let policy = proto_v0_1::SandboxPolicy::decode(policy.encoded()).unwrap();
    let endpoint = |endpoint: proto_v0_1::NetworkEndpoint| proto::NetworkEndpoint {
        host: endpoint.host,
        port: endpoint.port,
        ports: endpoint.ports,
        path: endpoint.path,
        advisor_proposed: endpoint.advisor_proposed,
        ..Default::default()
    };
    let rules = policy.network_policies.into_values();
    rules
        .map(|rule| proto::NetworkPolicyRule {
            name: rule.name,
            endpoints: rule.endpoints.into_iter().map(endpoint).collect(),
            binaries: Vec::new(),
        })
        .collect()
}

fn is_same_endpoint(one: &proto::NetworkEndpoint, other: &proto::NetworkEndpoint) -> bool {
    let ports = |of: &proto::NetworkEndpoint| -> BTreeSet<u32> {
        of.ports.iter().chain([&of.port]).copied().filter(|port| *port != 0).collect()
    };
    let (one_ports, other_ports) = (ports(one), ports(other));
    one.host == other.host
        && one.path == other.path
        && (one_ports == other_ports || !one_ports.is_disjoint(&other_ports))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_policies_survive_and_differ_as_their_digests_do(seed in any::<u64>()) {
        for generation in Generation::ALL {
            let mut numbers = Random::new(seed);
            let descriptor = schema::policy(generation);
            let (one, other) = (random(&descriptor, &mut numbers), random(&descriptor, &mut numbers));
            assert_survives(generation, &one, "one");
            let (one, other) = (policy(generation, &one), policy(generation, &other));
            prop_assert_eq!(compare(&one, &other).is_empty(), one.digest() == other.digest());
            prop_assert!(compare(&one, &one).is_empty());
            prop_assert!(one.is_equivalent(&one));
        }
    }

    #[test]
    fn no_document_lifts_a_mark(seed in any::<u64>()) {
        let generation = Generation::V0_0;
        let (descriptor, mut numbers) = (schema::policy(generation), Random::new(seed));
        let base = policy(generation, &random(&descriptor, &mut numbers));
        let candidate = unmarked(generation, &random(&descriptor, &mut numbers));
        let kept = candidate.with_marks_of(&base).unwrap();
        prop_assert_eq!(kept.to_yaml(), candidate.to_yaml());
        let (base, kept) = (rules(&base), rules(&kept));
        for (before, after) in base.iter().flat_map(|rule| kept.iter().map(move |k| (rule, k))) {
            for old in before.endpoints.iter().filter(|old| old.advisor_proposed) {
                let same = after.endpoints.iter().filter(|new| is_same_endpoint(old, new));
                prop_assert!(same.into_iter().all(|new| new.advisor_proposed));
            }
            for old in before.binaries.iter().filter(|old| old.harness) {
                let same = after.binaries.iter().filter(|new| new.path == old.path);
                prop_assert!(same.into_iter().all(|new| new.harness));
            }
        }
    }

    #[test]
    fn no_text_causes_a_panic(text in "[ -~\n]{0,200}") {
        for generation in Generation::ALL {
            let _ = Policy::from_yaml(generation, "yaml", &text);
        }
    }
}
