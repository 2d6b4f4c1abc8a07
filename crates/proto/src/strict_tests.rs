//! Tests of the strict check: accepted and refused messages.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::v0_0::openshell::sandbox::v1 as sandbox;
use crate::v0_0::openshell::v1 as pb;
use crate::wire;

const UPDATE: &str = "openshell.v1.UpdateConfigRequest";
const INPUT: &str = "openshell.v1.ExecSandboxInput";

/// The kind of a fault, without its text.
#[derive(Debug, PartialEq, Eq)]
enum FaultKind {
    Ambiguous,
    Malformed,
    Nul,
}

fn check(name: &str, bytes: &[u8]) -> Result<usize, FaultKind> {
    kind(Schema::for_generation(Generation::V0_0).check(name, bytes, UnknownFields::Accept))
}

fn kind(checked: Result<usize, MessageFault>) -> Result<usize, FaultKind> {
    checked.map_err(|fault| match fault {
        MessageFault::Ambiguous(_) => FaultKind::Ambiguous,
        MessageFault::Malformed(_) => FaultKind::Malformed,
        MessageFault::Nul(_) => FaultKind::Nul,
        MessageFault::NoSuchMessage => panic!("no such message"),
    })
}

fn update() -> pb::UpdateConfigRequest {
    let rule = sandbox::NetworkPolicyRule { name: "web".to_owned(), ..Default::default() };
    pb::UpdateConfigRequest {
        name: "demo".to_owned(),
        workspace: "team".to_owned(),
        policy: Some(sandbox::SandboxPolicy {
            version: 1,
            network_policies: [("web".to_owned(), rule)].into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn an_encoded_message_is_accepted() {
    check(UPDATE, &update().encode_to_vec()).unwrap();
    check(UPDATE, &[]).unwrap();
}

#[test]
fn a_repeated_singular_field_is_refused() {
    let mut bytes = update().encode_to_vec();
    wire::put_bytes(&mut bytes, 1, b"other");
    assert_eq!(check(UPDATE, &bytes), Err(FaultKind::Ambiguous));
    // One decoder would merge a repeated message, another would replace it.
    let mut bytes = update().encode_to_vec();
    wire::put_bytes(&mut bytes, 2, &[]);
    assert_eq!(check(UPDATE, &bytes), Err(FaultKind::Ambiguous));
}

#[test]
fn a_duplicate_is_found_at_any_depth() {
    let mut policy = Vec::new();
    wire::put_number(&mut policy, 1, 1);
    wire::put_number(&mut policy, 1, 2);
    let mut bytes = Vec::new();
    wire::put_bytes(&mut bytes, 2, &policy);
    assert_eq!(check(UPDATE, &bytes), Err(FaultKind::Ambiguous));
}

#[test]
fn two_members_of_a_oneof_are_refused() {
    let mut bytes = Vec::new();
    wire::put_bytes(&mut bytes, 1, &[]);
    check(INPUT, &bytes).unwrap();
    wire::put_bytes(&mut bytes, 2, b"stdin");
    assert_eq!(check(INPUT, &bytes), Err(FaultKind::Ambiguous));
}

#[test]
fn a_repeated_map_key_is_refused() {
    let mut entry = Vec::new();
    wire::put_bytes(&mut entry, 1, b"web");
    let mut policy = Vec::new();
    wire::put_bytes(&mut policy, 5, &entry);
    let once = policy.clone();
    wire::put_bytes(&mut policy, 5, &entry);
    let message = |policy: &[u8]| {
        let mut bytes = Vec::new();
        wire::put_bytes(&mut bytes, 2, policy);
        bytes
    };
    check(UPDATE, &message(&once)).unwrap();
    assert_eq!(check(UPDATE, &message(&policy)), Err(FaultKind::Ambiguous));
}

#[test]
fn bytes_that_do_not_match_the_schema_are_malformed() {
    let cut = &update().encode_to_vec()[..9];
    let mut number_as_text = Vec::new();
    wire::put_number(&mut number_as_text, 1, 7);
    let mut not_text = Vec::new();
    wire::put_bytes(&mut not_text, 1, &[0xff, 0xfe]);
    let group = [(1 << 3) | 3, (1 << 3) | 4];
    let zero = [0, 0];
    let endless = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for bytes in [cut, &number_as_text, &not_text, &group, &zero, &endless, &[0x0a, 0x7f]] {
        assert_eq!(check(UPDATE, bytes), Err(FaultKind::Malformed), "{bytes:?}");
    }
}

#[test]
fn an_unknown_field_is_refused_only_in_strict_mode() {
    let mut bytes = update().encode_to_vec();
    wire::put_bytes(&mut bytes, 900, b"new");
    assert_eq!(check(UPDATE, &bytes), Ok(1));
    let schema = Schema::for_generation(Generation::V0_0);
    let strict = schema.check(UPDATE, &bytes, UnknownFields::Reject);
    assert_eq!(kind(strict), Err(FaultKind::Ambiguous));
    kind(schema.check(UPDATE, &update().encode_to_vec(), UnknownFields::Reject)).unwrap();
}

#[test]
fn nesting_depth_is_limited() {
    // A descriptor of the options is recursive: google.protobuf.DescriptorProto.nested_type.
    let mut bytes = Vec::new();
    for _ in 0..DEPTH_MAX {
        let inner = std::mem::take(&mut bytes);
        wire::put_bytes(&mut bytes, 3, &inner);
    }
    assert_eq!(check("google.protobuf.DescriptorProto", &bytes), Err(FaultKind::Malformed));
}

proptest! {
    #[test]
    fn every_message_that_prost_encodes_is_accepted(
        name in "[^\0]{0,40}",
        key in "[a-z_]{0,20}",
        value in any::<i64>(),
        global: bool,
        version in any::<u64>(),
        annotations in proptest::collection::btree_map("[^\0]{0,10}", "[^\0]{0,10}", 0..5),
        hosts in proptest::collection::vec("[a-z.]{0,20}", 0..4),
        ports in proptest::collection::vec(any::<u32>(), 0..4),
    ) {
        let endpoints = hosts.into_iter().map(|host| sandbox::NetworkEndpoint {
            host,
            ports: ports.clone(),
            ..Default::default()
        });
        let rule = sandbox::NetworkPolicyRule { endpoints: endpoints.collect(), ..Default::default() };
        let message = pb::UpdateConfigRequest {
            name,
            setting_key: key.clone(),
            setting_value: Some(sandbox::SettingValue {
                value: Some(sandbox::setting_value::Value::IntValue(value)),
            }),
            global,
            expected_resource_version: version,
            annotations,
            policy: Some(sandbox::SandboxPolicy {
                network_policies: [(key, rule)].into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let schema = Schema::for_generation(Generation::V0_0);
        prop_assert!(schema.check(UPDATE, &message.encode_to_vec(), UnknownFields::Reject).is_ok());
    }

    #[test]
    fn arbitrary_bytes_do_not_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = check(UPDATE, &bytes);
    }
}

#[test]
fn nul_is_refused_in_every_string_and_accepted_in_bytes() {
    let field = |checked: Result<(), MessageFault>| match checked {
        Err(MessageFault::Nul(field)) => field,
        other => panic!("{other:?}"),
    };
    let schema = Schema::for_generation(Generation::V0_0);
    let both = |name: &str, bytes: &[u8]| {
        let strict = field(schema.check(name, bytes, UnknownFields::Accept).map(drop));
        assert_eq!(strict, field(schema.check_text(name, bytes)));
        strict
    };
    let named = pb::UpdateConfigRequest { name: "de\0mo".to_owned(), ..update() };
    assert_eq!(both(UPDATE, &named.encode_to_vec()), "name");
    let mut nested = update();
    let policies = &mut nested.policy.as_mut().unwrap().network_policies;
    policies.get_mut("web").unwrap().name = "\0".to_owned();
    assert_eq!(both(UPDATE, &nested.encode_to_vec()), "policy.network_policies");
    let mut keyed = update();
    let policies = &mut keyed.policy.as_mut().unwrap().network_policies;
    policies.insert("\0".to_owned(), sandbox::NetworkPolicyRule::default());
    assert_eq!(both(UPDATE, &keyed.encode_to_vec()), "policy.network_policies");

    // Zero bytes that are not text: numbers, bytes, and fields that are not in the schema.
    let input = pb::ExecSandboxInput {
        payload: Some(pb::exec_sandbox_input::Payload::Stdin(vec![0; 9].into())),
    };
    let mut bytes = input.encode_to_vec();
    wire::put_number(&mut bytes, 900, 0);
    wire::put_bytes(&mut bytes, 901, b"\0");
    schema.check(INPUT, &bytes, UnknownFields::Accept).unwrap();
    schema.check_text(INPUT, &bytes).unwrap();
}

#[test]
fn nul_is_found_in_a_string_that_a_later_value_overwrites() {
    let own = Schema::for_shoreguard();
    let (mut bytes, name) = (Vec::new(), "shoreguard.v1.GetGatewayRequest");
    wire::put_bytes(&mut bytes, 1, b"a\0b");
    wire::put_bytes(&mut bytes, 1, b"edge");
    let refused = own.check_text(name, &bytes).unwrap_err();
    assert!(matches!(refused, MessageFault::Nul(_)), "{refused:?}");
    own.check_text(name, b"\x0a\x04edge").unwrap();
}
