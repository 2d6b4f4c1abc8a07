//! Assumptions of the adapters: both descriptor sets have rules for every method, and messages can be decoded across
//! generations.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use crate::Generation;
use crate::front::reserved_methods;
use shoreguard_proto::descriptors::{V0_0, V0_1};

fn pools() -> (&'static DescriptorPool, &'static DescriptorPool) {
    (V0_0.pool(), V0_1.pool())
}

#[test]
fn every_method_has_an_upstream_guard_option() {
    for pool in <[_; 2]>::from(pools()) {
        let guard = pool.get_extension_by_name("shoreguard.options.v1.upstream").unwrap();
        for service in pool.services() {
            for method in service.methods() {
                assert!(method.options().has_extension(&guard), "{}", method.full_name());
            }
        }
    }
    assert_eq!(reserved_methods(Generation::V0_0).len(), 11);
    assert_eq!(reserved_methods(Generation::V0_1).len(), 20);
}

/// The only message in which fields changed their types but kept their numbers.
const SET_BY_HAND: &str = "openshell.sandbox.v1.NetworkEndpoint";

fn compare(old: &MessageDescriptor, new: &MessageDescriptor, seen: &mut BTreeSet<String>) {
    if old.full_name() == SET_BY_HAND || !seen.insert(old.full_name().to_owned()) {
        return;
    }
    for field in old.fields() {
        let Some(other) = new.get_field(field.number()) else { continue };
        let name = field.full_name();
        assert_eq!(field.is_list(), other.is_list(), "{name}");
        match (field.kind(), other.kind()) {
            (Kind::Message(old), Kind::Message(new)) => {
                assert_eq!(old.full_name(), new.full_name(), "{name}");
                compare(&old, &new, seen);
            }
            (Kind::Enum(old), Kind::Enum(new)) => assert_eq!(old.name(), new.name(), "{name}"),
            (old, new) => assert_eq!(old, new, "{name}"),
        }
    }
}

#[test]
fn messages_shared_by_both_generations_have_equal_field_types_and_numbers() {
    let (old, new) = pools();
    let mut seen = BTreeSet::new();
    for name in [
        "openshell.datamodel.v1.Provider",
        "openshell.datamodel.v1.Workspace",
        "openshell.sandbox.v1.GetSandboxConfigResponse",
        "openshell.sandbox.v1.SandboxPolicy",
        "openshell.v1.DraftHistoryEntry",
        "openshell.v1.PlatformEvent",
        "openshell.v1.PolicyChunk",
        "openshell.v1.ProviderCredentialRefreshStatus",
        "openshell.v1.ProviderProfile",
        "openshell.v1.ProviderProfileDiagnostic",
        "openshell.v1.Sandbox",
        "openshell.v1.SandboxLogLine",
        "openshell.v1.SandboxPolicyRevision",
        "openshell.v1.ServiceEndpoint",
        "openshell.v1.WorkspaceMember",
    ] {
        let message = |pool: &DescriptorPool| pool.get_message_by_name(name).unwrap();
        compare(&message(old), &message(new), &mut seen);
    }
}
