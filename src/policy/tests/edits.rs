//! Edits: documents and presets that are merged, additional paths, and what is refused with which field.

use prost::Message as _;
use shoreguard_proto::release::Generation;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as proto;
use shoreguard_proto::wire::put_bytes;

use super::super::edits::{EDITED_BYTES_MAX, EDITS_MAX};
use super::super::{Edit, EditTarget, ExactTarget, PathAccess, Policy, Presets};

const BASE: &str = "
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr], read_write: [/tmp]}
process: {run_as_user: sandbox}
network_policies:
  web:
    name: web
    endpoints: [{host: a.example, port: 443, ports: [443], protocol: rest, access: read-only}]
    binaries: [{path: /bin/x}]
";

fn read(generation: Generation, text: &str) -> Policy {
    Policy::from_yaml(generation, "yaml", text).unwrap()
}

/// Merges a document into a policy.
fn merge(base: &Policy, text: &str) -> Result<Policy, crate::error::Error> {
    let document = Policy::from_yaml(base.generation(), "yaml", text)?;
    base.edited(&Edit::of_document("yaml", &document)?)
}

fn target() -> EditTarget {
    EditTarget::Exact(ExactTarget {
        rule_name: "web".to_owned(),
        host: "a.example".to_owned(),
        ports: vec![443],
        path: None,
        binaries: Some(vec!["/bin/x".to_owned()]),
    })
}

#[test]
fn each_edit_changes_what_it_says() {
    for generation in Generation::ALL {
        let base = read(generation, BASE);
        let rule = "{endpoints: [{host: b.example, port: 80}], binaries: [{path: /bin/y}]}";
        let allow = "[{allow: {method: PUT, path: /v1}}]";
        let first = EditTarget::First { host: "A.example".to_owned(), port: 443 };
        let deny = "[{method: DELETE, path: /**}]";
        for (edit, has, lacks) in [
            (Edit::add_rule(generation, "edits[0]", "new", rule), "host: b.example", "@"),
            (Edit::remove_rule("edits[0]", " web "), "process:", "a.example"),
            (Edit::remove_endpoint("edits[0]", "", "A.example", 443), "process:", "a.example"),
            (Edit::remove_binary("edits[0]", "web", "/bin/x"), "process:", "a.example"),
            (Edit::add_allow_rules(generation, "edits[0]", target(), allow), "PUT", "access"),
            (Edit::add_deny_rules(generation, "edits[0]", first, deny), "DELETE", "@"),
            (
                Edit::add_paths(
                    "edits[0]",
                    PathAccess::ReadOnly,
                    vec!["/usr".to_owned(), "/srv".to_owned()],
                ),
                "    - /usr\n    - /srv\n",
                "@",
            ),
        ] {
            let edited = base.edited(&[edit.unwrap()]).unwrap().to_yaml();
            assert!(edited.contains(has) && !edited.contains(lacks), "{edited}");
        }
        assert_eq!(base.edited(&[]).unwrap().digest(), base.digest());
    }
}

#[test]
fn all_edits_are_applied_in_their_order_or_none() {
    let base = read(Generation::V0_0, BASE);
    let rule = "{endpoints: [{host: b.example, port: 80}], binaries: [{path: /bin/y}]}";
    let add = Edit::add_rule(Generation::V0_0, "edits[0]", "new", rule).unwrap();
    let remove = Edit::remove_rule("edits[1]", "new").unwrap();
    let both = base.edited(&[add.clone(), remove.clone()]).unwrap();
    assert_eq!(both.digest(), base.digest());
    assert!(base.edited(&[remove, add.clone()]).unwrap().to_yaml().contains("b.example"));
    let none = EditTarget::First { host: "none.example".to_owned(), port: 443 };
    let deny = "[{method: DELETE, path: /**}]";
    let deny = Edit::add_deny_rules(Generation::V0_0, "edits[1]", none, deny).unwrap();
    let why = base.edited(&[add, deny]).unwrap_err().to_string();
    assert!(why.starts_with("`edits[1]` has an unknown target"), "{why}");
}

#[test]
fn a_document_is_merged_by_rule_path_and_value() {
    for generation in Generation::ALL {
        let base = read(generation, BASE);
        let merged = merge(
            &base,
            "filesystem_policy: {read_only: [/usr, /srv]}\nprocess: {run_as_group: sandbox}\n\
             network_middlewares: {log: {middleware: log}}\nnetwork_policies:\n  \
             new: {endpoints: [{host: b.example, port: 80}], binaries: [{path: /bin/y}]}\n  \
             web: {endpoints: [{host: a.example, port: 443, protocol: rest}], binaries: [{path: /bin/x}]}\n",
        );
        let expected = BASE
            .replace("[/usr]", "[/usr, /srv]")
            .replace("run_as_user: sandbox", "run_as_user: sandbox, run_as_group: sandbox");
        let expected = format!(
            "{expected}  new: {{name: new, endpoints: [{{host: b.example, port: 80, ports: [80]}}], \
             binaries: [{{path: /bin/y}}]}}\nnetwork_middlewares: {{log: {{middleware: log}}}}\n"
        );
        let merged = merged.unwrap();
        assert_eq!(merged.to_yaml(), read(generation, &expected).to_yaml());
        assert_eq!(merged.static_changes(&base), ["process.run_as_group"]);
        assert_eq!(merge(&base, BASE).unwrap().digest(), base.digest());
        assert_eq!(merge(&base, "{}").unwrap().digest(), base.digest());
    }
}

#[test]
fn a_merge_that_does_not_apply_names_the_path_in_the_document() {
    for generation in Generation::ALL {
        let base = read(generation, BASE);
        let rules = |rules: &str| format!("network_policies: {{{rules}}}");
        let other = "endpoints: [{host: b.example, port: 1}], binaries: [{path: /bin/z}]";
        for (text, said) in [
            (
                rules("a b: {name: x}"),
                "`network_policies[\"a b\"]` must have at least one endpoint",
            ),
            (rules("_provider_a: {endpoints: [{host: x, port: 1}]}"), "must not begin with"),
            (
                rules("a: {endpoints: [{host: 127.0.0.1, port: 1}]}"),
                "`network_policies.a` has the host",
            ),
            (rules(&format!("web: {{{other}}}")), "`network_policies.web` would give"),
            ("filesystem_policy: {read_write: [tmp]}".to_owned(), "`filesystem_policy.read_write`"),
        ] {
            let why = merge(&base, &text).unwrap_err().to_string();
            assert!(why.starts_with("`yaml` is refused: ") && why.contains(said), "{why}");
        }
    }
}

#[test]
fn every_preset_is_added_to_a_policy_of_each_generation_and_a_second_time_changes_nothing() {
    let presets = Presets::load(None).unwrap();
    for generation in Generation::ALL {
        let base = read(generation, BASE);
        for preset in &presets.0 {
            let edits = preset.edits(generation, "policy_preset").unwrap().unwrap();
            let once = base.edited(&edits).unwrap();
            assert_ne!(once.digest(), base.digest(), "{}", preset.name);
            assert!(once.static_changes(&base).is_empty(), "{}", preset.name);
            let twice = once.edited(&edits).unwrap();
            assert_eq!(twice.digest(), once.digest(), "{}", preset.name);
        }
    }
}

#[test]
fn an_incomplete_edit_is_refused_with_its_field() {
    let generation = Generation::V0_1;
    let exact = |change: fn(&mut ExactTarget)| {
        let EditTarget::Exact(mut target) = target() else { panic!("it is exact") };
        change(&mut target);
        Edit::add_allow_rules(
            generation,
            "e",
            EditTarget::Exact(target),
            "[{allow: {method: GET}}]",
        )
    };
    let add = |name: &str, yaml: &str| Edit::add_rule(generation, "e", name, yaml);
    let allow = |yaml: &str| Edit::add_allow_rules(generation, "e", target(), yaml);
    for (edit, said) in [
        (add(" ", "{endpoints: [{host: x}]}"), "`e.rule_name` is required"),
        (add("_provider_x", "{endpoints: [{host: x}]}"), "`e.rule_name` must not begin with"),
        (add("x", "{}"), "`e` must have at least one endpoint"),
        (add("x", "[]"), "`e.yaml` is not valid: `document` must be a mapping"),
        (add("x", "endpoints: [{hosts: x}]"), "`endpoints[0].hosts` is not a key"),
        (add("x", "a: ["), "`e.yaml` is not valid"),
        (add("x", "endpoints: [{host: LocalHost}]"), "`e` has the host `LocalHost`"),
        (add("x", "endpoints: [{host: x, allowed_ips: [169.254.0.0/16]}]"), "allowed_ips"),
        (Edit::remove_rule("e", " "), "`e.rule_name` is required"),
        (Edit::remove_endpoint("e", "", " ", 1), "`e.host` is required"),
        (Edit::remove_endpoint("e", "", "x", 0), "`e.port` is required"),
        (Edit::remove_binary("e", "", "/x"), "`e.rule_name` is required"),
        (Edit::remove_binary("e", "x", ""), "`e.binary_path` is required"),
        (Edit::add_paths("e", PathAccess::ReadWrite, vec!["x".to_owned()]), "not absolute: `x`"),
        (allow("[]"), "`e` must have at least one rule"),
        (allow("[{}]"), "`e` has a rule without `allow`"),
        (allow("{}"), "`rules` must be a list"),
        (exact(|target| target.rule_name.clear()), "`e.target` must name a rule"),
        (exact(|target| target.rule_name.insert_str(0, "_provider_")), "only the gateway changes"),
        (exact(|target| target.host.push('/')), "`e.target` must have the host"),
        (exact(|target| target.ports.clear()), "`e.target` must have all ports"),
        (exact(|target| target.ports.push(65_536)), "from 1 to 65535"),
        (exact(|target| target.binaries = Some(Vec::new())), "`any_binary`"),
    ] {
        let why = edit.unwrap_err().to_string();
        assert!(why.contains(said), "{said}: {why}");
    }
}

#[test]
fn an_edit_that_does_not_apply_is_refused_with_what_to_declare() {
    let generation = Generation::V0_1;
    let base = read(generation, BASE);
    let refusal = |change: fn(&mut ExactTarget)| {
        let EditTarget::Exact(mut exact) = target() else { panic!("it is exact") };
        change(&mut exact);
        let yaml = "[{allow: {method: GET}}]";
        let edit = Edit::add_allow_rules(generation, "e", EditTarget::Exact(exact), yaml);
        base.edited(&[edit.unwrap()]).unwrap_err().to_string()
    };
    for (why, said) in [
        (refusal(|exact| exact.rule_name.push('x')), "rule `webx` of the policy has no endpoint"),
        (refusal(|exact| exact.path = Some("/x".to_owned())), "has no endpoint"),
        (refusal(|exact| exact.ports.push(80)), "other ports"),
        (refusal(|exact| exact.binaries = None), "other binaries"),
    ] {
        assert!(why.starts_with("`e` ") && why.contains(said), "{why}");
    }
    let of_old = Edit::add_rule(Generation::V0_0, "e", "x", "endpoints: [{host: x, port: 1}]");
    let why = base.edited(&[of_old.unwrap()]).unwrap_err().to_string();
    assert!(why.contains("is of generation 0.0, and the policy is of 0.1"), "{why}");
    let long = format!("/{}", "x".repeat(EDITED_BYTES_MAX));
    let long = Edit::add_paths("e", PathAccess::ReadOnly, vec![long]).unwrap();
    let why = base.edited(&[long]).unwrap_err().to_string();
    assert!(why.contains("larger than 262144 bytes"), "{why}");
}

#[test]
fn operations_of_a_gateway_with_more_than_this_server_knows_are_refused() {
    for generation in Generation::ALL {
        let decode = |operations: &[&[u8]]| {
            let mut request = Vec::new();
            for operation in operations {
                put_bytes(&mut request, 7, operation);
            }
            Edit::of_update_config(generation, &request)
        };
        // `remove_rule` with the name `web`.
        let remove: &[u8] = &[0x1a, 5, 0x0a, 3, b'w', b'e', b'b'];
        assert_eq!(decode(&[remove]).unwrap().len(), 1);
        assert!(decode(&[]).unwrap().is_empty());
        for (operation, said) in [
            (&[][..], "`merge_operations[1]` is without an operation"),
            (&[0x1a, 0][..], "`merge_operations[1].remove_rule.rule_name` is required"),
            (&[0xff][..], "`merge_operations[1]` is malformed"),
            // Field 99 beside the operation.
            (&[0x1a, 3, 0x0a, 1, b'x', 0x98, 0x06, 1][..], "field 99"),
        ] {
            let why = decode(&[remove, operation]).unwrap_err().to_string();
            assert!(why.contains(said), "{said}: {why}");
        }
        assert!(decode(&[remove; EDITS_MAX]).is_ok());
        let why = decode(&[remove; EDITS_MAX + 1]).unwrap_err().to_string();
        assert!(why.contains("at most 256 operations"), "{why}");
        assert!(Edit::of_update_config(generation, &[0xff]).is_err());
    }
}

#[test]
fn a_base_with_a_part_that_this_server_does_not_know_is_not_edited() {
    let mut sent = proto::SandboxPolicy { version: 1, ..Default::default() }.encode_to_vec();
    // Field 99 with the number 1.
    sent.extend([0x98, 0x06, 0x01]);
    let base = Policy::decode(Generation::V0_0, &sent).unwrap();
    let why = base.edited(&[]).unwrap_err().to_string();
    assert!(why.contains("field 99"), "{why}");
}

/// Returns a rule with an endpoint for each of these ports of a host.
fn rule_of_ports(host: &str, ports: std::ops::Range<u32>) -> String {
    let endpoints: Vec<String> =
        ports.map(|port| format!("{{host: {host}, port: {port}}}")).collect();
    let endpoints = endpoints.join(", ");
    format!("version: 1\nnetwork_policies:\n  web:\n    endpoints: [{endpoints}]\n")
}

/// Each endpoint counts as itself and its port, for each endpoint at the place: 2 * 707 * 707 is below the limit.
#[test]
fn t16_a_merge_that_needs_too_many_comparisons_is_refused() {
    for generation in Generation::ALL {
        let base = read(generation, &rule_of_ports("a.example", 1..355));
        let merged = merge(&base, &rule_of_ports("A.example", 355..708)).unwrap();
        assert_eq!(merged.to_yaml().matches("port: ").count(), 707);
        let refused = merge(&base, &rule_of_ports("A.example", 355..709)).unwrap_err();
        let (refused, path) =
            (refused.to_string(), "`network_policies.web` needs more than 1000000 comparisons");
        assert!(refused.contains(path), "{refused}");
        // What is at another place is not compared.
        merge(&base, &rule_of_ports("b.example", 355..709)).unwrap();
    }
}
