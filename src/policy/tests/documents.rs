//! Documents: what they accept in each generation, and what they refuse with which path.

use prost::Message as _;
use shoreguard_proto::release::Generation;
use shoreguard_proto::{v0_0, v0_1};

use super::super::Policy;

const FILE: &str = r"
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

fn read(generation: Generation, text: &str) -> Policy {
    Policy::from_yaml(generation, "yaml", text).unwrap()
}

fn refusal(generation: Generation, text: &str) -> String {
    Policy::from_yaml(generation, "yaml", text).unwrap_err().to_string()
}

/// Returns a document with one endpoint.
fn endpoint(fields: &str) -> String {
    format!("network_policies: {{a: {{endpoints: [{{host: x, {fields}}}]}}}}")
}

#[test]
fn a_policy_file_is_read_in_either_generation() {
    let old = read(Generation::V0_0, FILE);
    let old = v0_0::openshell::sandbox::v1::SandboxPolicy::decode(old.encoded()).unwrap();
    let new = read(Generation::V0_1, FILE);
    let new = v0_1::openshell::sandbox::v1::SandboxPolicy::decode(new.encoded()).unwrap();
    assert_eq!(old.filesystem.unwrap().read_only, ["/usr", "/lib"]);
    assert_eq!(new.filesystem.unwrap().read_write, ["/tmp"]);
    let (old, new) = (&old.network_policies["pypi"], &new.network_policies["pypi"]);
    assert_eq!(old.endpoints[0].access, "read-only");
    let read_only = v0_1::openshell::sandbox::v1::NetworkAccessPreset::ReadOnly;
    assert_eq!(new.endpoints[0].access(), read_only);
    assert_eq!(old.binaries[0].path, "/usr/bin/python3");
    let allow = old.endpoints[0].rules[0].allow.clone().unwrap();
    assert_eq!(allow.query["slug"].glob, "my-*");
}

#[test]
fn a_file_is_printed_as_it_was_written() {
    for generation in Generation::ALL {
        let printed = read(generation, FILE).to_yaml();
        assert!(printed.starts_with("version: 1\nfilesystem_policy:\n  include_workdir: true\n"));
        assert!(printed.contains("        access: read-only\n"), "{printed}");
        assert!(printed.contains("                slug: my-*\n"), "{printed}");
    }
}

#[test]
fn metadata_are_accepted_beside_the_policy_and_change_nothing() {
    for generation in Generation::ALL {
        let bare = read(generation, "version: 1");
        let text = "metadata: {gateway: edge, version: 7, exported_at: x}\npolicy: {version: 1}";
        assert_eq!(read(generation, text).digest(), bare.digest());
        for (text, path) in [
            ("policy: {}\nmetadata: {colour: red}", "`metadata.colour`"),
            ("policy: {}\nmetadata: {version: [1]}", "`metadata.version`"),
            ("policy: {}\nversion: 1", "`version`"),
            ("policy: []", "`policy` must be a mapping"),
            ("policy: {process: {run_as: x}}", "`policy.process.run_as`"),
        ] {
            assert!(refusal(generation, text).contains(path), "{}", refusal(generation, text));
        }
    }
}

#[test]
fn every_refusal_names_the_path() {
    for (text, named) in [
        ("netwrok_policies: {}", "`netwrok_policies` is not a key"),
        ("process: {run_as: root}", "`process.run_as`"),
        ("process: {run_as_user: 1000}", "`process.run_as_user` must be text"),
        ("process: {run_as_user: \"a\\0\"}", "`process.run_as_user` must not contain NUL"),
        ("version: '1'", "`version` must be an integer"),
        ("version: -1", "`version` is out of range"),
        ("landlock:", "`landlock` must be a mapping, not nothing"),
        ("network_policies: {a: {binaries: [/x]}}", "`network_policies.a.binaries[0]`"),
        ("filesystem: {}\nfilesystem_policy: {}", "`filesystem_policy` is given twice"),
        ("version: 1\nversion: 2", "`version` is given twice"),
        ("[]", "must be a mapping, not a list"),
        ("a: b: c", "is not valid"),
    ] {
        for generation in Generation::ALL {
            let why = refusal(generation, text);
            assert!(why.starts_with("`yaml` ") && why.contains(named), "{text}: {why}");
        }
    }
    let odd = endpoint("access: everything");
    let why = refusal(Generation::V0_1, &odd);
    assert!(why.contains("must be `read-only`, `read-write`, `full`"), "{why}");
    assert!(why.contains("`network_policies.a.endpoints[0].access`"), "{why}");
}

#[test]
fn fields_of_the_gateway_and_marks_are_refused() {
    for generation in Generation::ALL {
        let why = refusal(generation, &endpoint("advisor_proposed: false"));
        assert!(why.contains("endpoints[0].advisor_proposed` is a mark"), "{why}");
        let why = refusal(generation, &endpoint("provider_credentialed: true"));
        assert!(why.contains("provider_credentialed` can be set by the gateway only"), "{why}");
    }
    let binary = "network_policies: {a: {binaries: [{path: /x, harness: true}]}}";
    assert!(refusal(Generation::V0_0, binary).contains("binaries[0].harness` is a mark"));
    assert!(refusal(Generation::V0_1, binary).contains("binaries[0].harness` is not a key"));
    assert!(refusal(Generation::V0_1, &endpoint("token_grant_owner: x")).contains("gateway only"));
}

#[test]
fn the_short_forms_of_files_are_accepted() {
    let generation = Generation::V0_1;
    let same = |short: &str, long: &str| {
        let (short, long) = (read(generation, &endpoint(short)), read(generation, &endpoint(long)));
        assert_eq!(short.digest(), long.digest(), "{}", short.to_yaml());
    };
    same("json_rpc: {max_body_bytes: 7}", "json_rpc_max_body_bytes: 7");
    same("mcp: {max_body_bytes: 7}", "json_rpc_max_body_bytes: 7");
    same(
        "mcp: {max_body_bytes: 7, strict_tool_names: false}",
        "json_rpc_max_body_bytes: 7, mcp: {strict_tool_names: false}",
    );
    same("rules: [{allow: {tool: t*}}]", "rules: [{allow: {params: {name: {glob: t*}}}}]");
    same(
        "deny_rules: [{tool: {any: [a]}, params: {x: y}}]",
        "deny_rules: [{params: {name: {any: [a]}, x: y}}]",
    );
    for (fields, path) in [
        ("json_rpc: {max_body_bytes: 1}, mcp: {max_body_bytes: 1}", "is given twice"),
        ("json_rpc: {max: 1}", "`network_policies.a.endpoints[0].json_rpc.max` is unknown"),
        ("rules: [{allow: {tool: a, params: {name: b}}}]", "rules[0].allow.tool` is given twice"),
        ("rules: [{allow: {params: {name: {of: {x: y}}}}}]", "params.name.of` is not a key"),
    ] {
        let why = refusal(generation, &endpoint(fields));
        assert!(why.contains(path), "{why}");
    }
}

#[test]
fn a_digest_identifies_generation_and_content() {
    let text = "network_policies: {b: {name: b}, a: {name: a}}";
    let other_order = "network_policies: {a: {name: a}, b: {name: b}}";
    let old = read(Generation::V0_0, text);
    assert_eq!(old.digest(), read(Generation::V0_0, other_order).digest());
    assert_eq!(old.encoded(), read(Generation::V0_1, text).encoded());
    assert_ne!(old.digest(), read(Generation::V0_1, text).digest());
    assert_eq!(old.digest().len(), 64);
}

#[test]
fn gateway_fields_are_dropped_and_marks_are_listed() {
    use v0_0::openshell::sandbox::v1 as proto;
    let endpoint = proto::NetworkEndpoint {
        host: "x".to_owned(),
        advisor_proposed: true,
        provider_credentialed: true,
        ..Default::default()
    };
    let binary = proto::NetworkBinary { path: "/x".to_owned(), harness: true };
    let rule = proto::NetworkPolicyRule {
        endpoints: vec![endpoint],
        binaries: vec![binary],
        ..Default::default()
    };
    let network_policies = [("a b".to_owned(), rule)].into();
    let sent = proto::SandboxPolicy { network_policies, ..Default::default() };
    let policy = Policy::decode(Generation::V0_0, &sent.encode_to_vec()).unwrap();
    assert_eq!(
        policy.marks(),
        [
            "network_policies[\"a b\"].endpoints[0].advisor_proposed",
            "network_policies[\"a b\"].binaries[0].harness",
        ]
    );
    let yaml = policy.to_yaml();
    assert!(!yaml.contains("provider_credentialed") && !yaml.contains("harness"), "{yaml}");
    let kept = proto::SandboxPolicy::decode(policy.encoded()).unwrap();
    let rule = &kept.network_policies["a b"];
    assert!(rule.endpoints[0].advisor_proposed && !rule.endpoints[0].provider_credentialed);
    assert!(policy.unknown().is_empty());
}

#[test]
fn parts_that_this_build_does_not_know_are_reported_with_their_number() {
    use v0_1::openshell::sandbox::v1 as proto;
    let endpoint = proto::NetworkEndpoint { access: 77, ..Default::default() };
    let rule = proto::NetworkPolicyRule { endpoints: vec![endpoint], ..Default::default() };
    let network_policies = [("a".to_owned(), rule)].into();
    let mut sent = proto::SandboxPolicy { network_policies, ..Default::default() }.encode_to_vec();
    // Field 99 with the number 1.
    sent.extend([0x98, 0x06, 0x01]);
    let policy = Policy::decode(Generation::V0_1, &sent).unwrap();
    assert_eq!(
        policy.unknown(),
        ["document: field 99", "network_policies.a.endpoints[0].access: value 77"]
    );
    let refused = policy.require_known().unwrap_err().to_string();
    assert!(refused.contains("field 99"), "{refused}");
    assert!(Policy::decode(Generation::V0_1, &[0xff]).is_err());
    let large = vec![0; super::super::POLICY_BYTES_MAX + 1];
    assert!(Policy::decode(Generation::V0_1, &large).is_err());
}
