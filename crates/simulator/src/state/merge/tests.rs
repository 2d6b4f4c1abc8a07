//! Tests of merges: their results, their refusals, and what the generations do differently.

use tonic::Code;

use super::Generation::{V0_0, V0_1};
use super::MergeOperation::{
    AddAllowRules, AddDenyRules, AddRule, RemoveBinary, RemoveEndpoint, RemoveRule,
};
use super::*;
use shoreguard_proto::v0_0::openshell::sandbox::v1::{
    L7Allow, McpOptions, NetworkBinary, NetworkEndpoint,
};

fn endpoint(host: &str, ports: &[u32]) -> NetworkEndpoint {
    let port = ports.first().copied().unwrap_or_default();
    NetworkEndpoint { host: host.to_owned(), port, ports: ports.to_vec(), ..Default::default() }
}

fn rest(host: &str, access: &str) -> NetworkEndpoint {
    let (protocol, access) = ("rest".to_owned(), access.to_owned());
    NetworkEndpoint { protocol, access, ..endpoint(host, &[443]) }
}

fn rule(endpoints: Vec<NetworkEndpoint>, binaries: &[&str]) -> NetworkPolicyRule {
    let binaries = binaries
        .iter()
        .map(|path| NetworkBinary { path: (*path).to_owned(), harness: false })
        .collect();
    NetworkPolicyRule { name: "web".to_owned(), endpoints, binaries }
}

/// Returns a policy with a rule `web`.
fn policy(endpoints: Vec<NetworkEndpoint>, binaries: &[&str]) -> SandboxPolicy {
    let mut policy = SandboxPolicy::default();
    policy.network_policies.insert("web".to_owned(), rule(endpoints, binaries));
    policy
}

fn add(name: &str, endpoints: Vec<NetworkEndpoint>, binaries: &[&str]) -> MergeOperation {
    AddRule(name.to_owned(), rule(endpoints, binaries))
}

fn allow(method: &str) -> L7Rule {
    let allow = L7Allow { method: method.to_owned(), path: "/".to_owned(), ..Default::default() };
    L7Rule { allow: Some(allow) }
}

fn deny() -> L7DenyRule {
    L7DenyRule { method: "DELETE".to_owned(), ..Default::default() }
}

/// Returns the code and the message of a refusal.
fn refusal(
    policy: &SandboxPolicy,
    operation: MergeOperation,
    generation: Generation,
) -> (Code, String) {
    let refused = apply_permitted(policy, &[operation], generation).unwrap_err();
    (refused.code(), refused.message().to_owned())
}

fn merged(
    policy: &SandboxPolicy,
    operation: MergeOperation,
    generation: Generation,
) -> SandboxPolicy {
    apply_permitted(policy, &[operation], generation).unwrap()
}

fn names(policy: &SandboxPolicy) -> Vec<&str> {
    policy.network_policies.keys().map(String::as_str).collect()
}

fn methods(endpoint: &NetworkEndpoint) -> Vec<&str> {
    endpoint.rules.iter().map(|rule| rule.allow.as_ref().unwrap().method.as_str()).collect()
}

#[test]
fn an_added_rule_is_stored_in_normal_form() {
    let mut given = rule(vec![endpoint("a.example", &[8443, 443, 443])], &["/bin/x", "/bin/x"]);
    given.name = String::new();
    let next = merged(&SandboxPolicy::default(), AddRule("new".to_owned(), given), V0_0);
    let stored = &next.network_policies["new"];
    assert_eq!(stored.name, "new");
    assert_eq!((stored.endpoints[0].port, &stored.endpoints[0].ports[..]), (443, &[443, 8443][..]));
    assert_eq!(stored.binaries.len(), 1);
    let plain = NetworkEndpoint { ports: Vec::new(), ..endpoint("b.example", &[443]) };
    let next = merged(&next, add("other", vec![plain], &[]), V0_0);
    assert_eq!(next.network_policies["other"].endpoints[0].ports, [443]);
}

#[test]
fn a_rule_is_merged_into_another_with_the_same_endpoint() {
    for generation in [V0_0, V0_1] {
        let base = policy(vec![endpoint("a.example", &[443])], &["/bin/x"]);
        let same =
            merged(&base, add("new", vec![endpoint("A.example", &[443])], &["/bin/x"]), generation);
        assert_eq!(same, base, "host names are compared without case");
        let new = add("new", vec![rest("a.example", "read-only")], &["/bin/x"]);
        let next = merged(&base, new, generation);
        assert_eq!(names(&next), ["web"]);
        let stored = &next.network_policies["web"].endpoints[0];
        assert_eq!((stored.protocol.as_str(), stored.access.as_str()), ("rest", "read-only"));
        let late = add("new", vec![rest("a.example", "full")], &["/bin/x"]);
        let kept = merged(&next, late, generation);
        assert_eq!(kept, next, "values that are already set stay");
        let path = NetworkEndpoint { path: "/v1".to_owned(), ..endpoint("a.example", &[443]) };
        let next = merged(&base, add("new", vec![path], &["/bin/x"]), generation);
        assert_eq!(names(&next), ["new", "web"], "another path is another endpoint");
    }
}

#[test]
fn a_merge_that_grants_more_than_it_declares_is_refused_or_kept_as_its_own_rule() {
    let two = vec![endpoint("a.example", &[443]), endpoint("b.example", &[443])];
    let base = policy(two, &["/bin/x"]);
    let wanted = || vec![endpoint("a.example", &[443])];
    let prefix = "merge operation 0 add-rule 'web' would";
    let grant = "undeclared authorization for b.example on ports [443]";
    let old = refusal(&base, add("web", wanted(), &["/bin/y"]), V0_0);
    let why = format!("{prefix} grant new binary '/bin/y' {grant}");
    assert_eq!(old, (Code::FailedPrecondition, why));
    let new = refusal(&base, add("web", wanted(), &["/bin/y"]), V0_1);
    let why = format!("{prefix} grant binary '/bin/y' {grant}");
    assert_eq!(new, (Code::FailedPrecondition, why));

    let other = add("new", wanted(), &["/bin/y"]);
    let (code, _) = refusal(&base, other.clone(), V0_0);
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(names(&merged(&base, other, V0_1)), ["new", "web"]);

    let more = add("web", vec![endpoint("c.example", &[443])], &["/bin/z"]);
    let base = policy(vec![endpoint("a.example", &[443])], &["/bin/x"]);
    for generation in [V0_0, V0_1] {
        let (code, _) = refusal(&base, more.clone(), generation);
        assert_eq!(code, Code::FailedPrecondition);
    }
    let undeclared = add("web", vec![endpoint("c.example", &[443])], &[]);
    assert_eq!(merged(&base, undeclared.clone(), V0_0).network_policies["web"].binaries.len(), 1);
    let (_, why) = refusal(&base, undeclared, V0_1);
    assert!(why.contains("would grant any binary undeclared authorization"), "{why}");
}

#[test]
fn a_change_of_one_port_must_name_the_other_ports_in_generation_0_1() {
    let base =
        policy(vec![NetworkEndpoint { ports: vec![443, 8443], ..rest("a.example", "") }], &[]);
    let change = || {
        let given = NetworkEndpoint { deny_rules: vec![deny()], ..rest("a.example", "") };
        add("web", vec![given], &[])
    };
    let (code, why) = refusal(&base, change(), V0_1);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(why.contains("on undeclared ports [8443]"), "{why}");
    merged(&base, change(), V0_0);
}

#[test]
fn programs_of_a_rule_for_every_program_are_treated_differently() {
    let base = policy(vec![endpoint("a.example", &[443])], &[]);
    let narrow = || add("web", vec![endpoint("a.example", &[443])], &["/bin/x"]);
    assert_eq!(merged(&base, narrow(), V0_0).network_policies["web"].binaries.len(), 1);
    assert_eq!(merged(&base, narrow(), V0_1), base, "the wider scope is kept");
    let base = policy(vec![endpoint("a.example", &[443])], &["/bin/x"]);
    let widen = || add("web", vec![endpoint("a.example", &[443])], &[]);
    assert_eq!(merged(&base, widen(), V0_0), base);
    assert!(merged(&base, widen(), V0_1).network_policies["web"].binaries.is_empty());
}

#[test]
fn marks_of_an_advisor_are_kept_and_lifted_as_each_generation_does() {
    let mut base = policy(vec![endpoint("a.example", &[443])], &["/bin/x"]);
    let web = base.network_policies.get_mut("web").unwrap();
    web.endpoints[0].advisor_proposed = true;
    web.binaries[0].harness = true;
    let plain = || add("web", vec![endpoint("a.example", &[443])], &["/bin/x"]);
    let old = merged(&base, plain(), V0_0);
    assert!(old.network_policies["web"].endpoints[0].advisor_proposed);
    assert!(!old.network_policies["web"].binaries[0].harness, "declared by its user");
    let new = merged(&base, plain(), V0_1);
    assert!(!new.network_policies["web"].endpoints[0].advisor_proposed);

    let base = policy(vec![endpoint("a.example", &[443])], &["/bin/x"]);
    let marked = || {
        let given = NetworkEndpoint { advisor_proposed: true, ..endpoint("a.example", &[443]) };
        add("advised", vec![given], &["/bin/x"])
    };
    assert_eq!(names(&merged(&base, marked(), V0_0)), ["web"]);
    assert_eq!(names(&merged(&base, marked(), V0_1)), ["advised", "web"]);
}

#[test]
fn added_rules_replace_an_access_preset_by_its_meaning() {
    let base = policy(vec![rest("a.example", "read-only")], &[]);
    let given = NetworkEndpoint { rules: vec![allow("POST")], ..rest("a.example", "") };
    let next = merged(&base, add("web", vec![given], &[]), V0_0);
    let stored = &next.network_policies["web"].endpoints[0];
    assert_eq!(methods(stored), ["GET", "HEAD", "OPTIONS", "POST"]);
    assert!(stored.access.is_empty());
    let base = policy(vec![rest("a.example", "odd")], &[]);
    let first = |host: &str| RuleTarget::First(host.to_owned(), 443);
    let (code, why) = refusal(&base, AddAllowRules(first("a.example"), vec![allow("PUT")]), V0_0);
    let expected = "endpoint a.example:443 uses unsupported access preset 'odd'";
    assert_eq!((code, why.as_str()), (Code::InvalidArgument, expected));
}

#[test]
fn a_removal_of_what_does_not_exist_is_ignored() {
    let base = policy(vec![endpoint("a.example", &[443, 8443])], &["/bin/x", "/bin/y"]);
    for operation in [
        RemoveRule("none".to_owned()),
        RemoveEndpoint(None, "b.example".to_owned(), 443),
        RemoveEndpoint(Some("none".to_owned()), "a.example".to_owned(), 443),
        RemoveBinary("web".to_owned(), "/bin/z".to_owned()),
        RemoveBinary("none".to_owned(), "/bin/x".to_owned()),
    ] {
        assert_eq!(merged(&base, operation, V0_1), base);
    }
    let without = |port| RemoveEndpoint(None, "A.example".to_owned(), port);
    let next = merged(&base, without(443), V0_0);
    assert_eq!(next.network_policies["web"].endpoints[0].ports, [8443]);
    assert!(names(&merged(&next, without(8443), V0_0)).is_empty());
    let remove = |path: &str| RemoveBinary("web".to_owned(), path.to_owned());
    let next = apply(&base, &[remove("/bin/x"), remove("/bin/y")], V0_0).unwrap();
    assert!(names(&next).is_empty(), "a rule without programs would apply to all");
    let open = policy(vec![endpoint("a.example", &[443])], &[]);
    assert_eq!(merged(&open, remove("/bin/x"), V0_0), open);
    let (code, why) = refusal(&open, remove("/bin/x"), V0_1);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(why.contains("because the rule authorizes any binary"), "{why}");
}

#[test]
fn rules_are_added_to_the_first_endpoint_of_a_host_in_generation_0_0() {
    let first = || RuleTarget::First("a.example".to_owned(), 443);
    let why = |endpoint| {
        let (code, why) =
            refusal(&policy(vec![endpoint], &[]), AddDenyRules(first(), vec![deny()]), V0_0);
        assert_eq!(code, Code::FailedPrecondition);
        why
    };
    assert!(why(endpoint("b.example", &[443])).contains("was not found in the current policy"));
    assert!(why(endpoint("a.example", &[443])).contains("has no L7 inspection configured"));
    assert!(why(rest("a.example", "")).contains("has no base allow set"));
    let sql = NetworkEndpoint { protocol: "sql".to_owned(), ..endpoint("a.example", &[443]) };
    assert!(why(sql).contains("uses unsupported protocol 'sql'"));
    let base = policy(vec![rest("a.example", "full")], &[]);
    let twice = AddDenyRules(first(), vec![deny(), deny()]);
    let next = merged(&base, twice, V0_0);
    assert_eq!(next.network_policies["web"].endpoints[0].deny_rules, [deny()]);
}

#[test]
fn rules_are_added_to_an_exact_endpoint_in_generation_0_1() {
    let scoped = NetworkEndpoint { path: "/v1".to_owned(), ..rest("a.example", "full") };
    let base = policy(vec![rest("a.example", "full"), scoped], &["/bin/x"]);
    let exact = ExactTarget {
        rule_name: "web".to_owned(),
        host: "a.example".to_owned(),
        ports: vec![443],
        path: Some("/v1".to_owned()),
        binaries: Some(vec!["/bin/x".to_owned()]),
    };
    let operation =
        |target: ExactTarget| AddAllowRules(RuleTarget::Exact(target), vec![allow("PUT")]);
    let next = merged(&base, operation(exact.clone()), V0_1);
    assert_eq!(methods(&next.network_policies["web"].endpoints[1]), ["*", "PUT"]);
    assert_eq!(next.network_policies["web"].endpoints[0].access, "full");
    let named = |name: &str| ExactTarget { rule_name: name.to_owned(), ..exact.clone() };
    for (target, code, part) in [
        (named("none"), Code::NotFound, "was not found"),
        (ExactTarget { path: None, ..exact.clone() }, Code::FailedPrecondition, "endpoint paths"),
        (
            ExactTarget { binaries: None, ..exact.clone() },
            Code::FailedPrecondition,
            "[\"any binary\"]",
        ),
        (
            ExactTarget { ports: vec![443, 80], ..exact.clone() },
            Code::FailedPrecondition,
            "port set",
        ),
    ] {
        let (found, why) = refusal(&base, operation(target), V0_1);
        assert!(found == code && why.contains(part), "{found:?} {why}");
    }
    for (target, part) in [
        (named(" web"), "rule_name must name a sandbox-owned rule"),
        (named("_provider_x"), "provider-owned rules cannot receive L7 appends"),
        (ExactTarget { host: "a/b".to_owned(), ..exact.clone() }, "host must be"),
        (ExactTarget { ports: vec![0], ..exact.clone() }, "ports must declare"),
        (ExactTarget { binaries: Some(Vec::new()), ..exact.clone() }, "restricted binary scope"),
    ] {
        let refused = operation(target).parse(3).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let why = refused.message();
        assert!(why.starts_with("merge operation 3 has an invalid L7 target"), "{why}");
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn different_mcp_inspections_of_one_endpoint_are_refused() {
    let mcp = |strict_tool_names| NetworkEndpoint {
        protocol: "mcp".to_owned(),
        mcp: Some(McpOptions { strict_tool_names, ..Default::default() }),
        ..endpoint("a.example", &[443])
    };
    let base = policy(vec![mcp(Some(true))], &[]);
    assert_eq!(merged(&base, add("web", vec![mcp(Some(true))], &[]), V0_0), base);
    let (code, why) = refusal(&base, add("web", vec![mcp(Some(false))], &[]), V0_0);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(why.contains("cannot combine MCP contracts at a.example:443"), "{why}");
    let plain = policy(vec![endpoint("a.example", &[443])], &[]);
    let next = merged(&plain, add("web", vec![mcp(None)], &[]), V0_0);
    assert_eq!(next.network_policies["web"].endpoints[0].protocol, "mcp");
}

#[test]
fn incomplete_and_forbidden_operations_are_refused() {
    let first = RuleTarget::First("a.example".to_owned(), 0);
    let target = || vec![endpoint("a.example", &[443])];
    for (operation, why) in [
        (add(" ", target(), &[]), ".add_rule.rule_name is required"),
        (add("x", Vec::new(), &[]), ".add_rule.rule must contain at least one endpoint"),
        (RemoveRule(String::new()), ".remove_rule.rule_name is required"),
        (
            RemoveEndpoint(None, "a.example".to_owned(), 0),
            ".remove_endpoint requires host and non-zero port",
        ),
        (
            RemoveBinary("web".to_owned(), String::new()),
            ".remove_binary requires rule_name and binary_path",
        ),
        (
            AddDenyRules(first, vec![deny()]),
            ".add_deny_rules requires host, non-zero port, and at least one deny rule",
        ),
    ] {
        let refused = operation.parse(1).unwrap_err();
        assert_eq!(refused.message(), format!("merge_operations[1]{why}"));
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let base = SandboxPolicy::default();
    for host in ["127.0.0.1", "169.254.169.254", "::1", "LocalHost", "metadata.google.internal"] {
        let (code, why) = refusal(&base, add("x", vec![endpoint(host, &[80])], &[]), V0_0);
        assert_eq!(code, Code::InvalidArgument, "{host}");
        assert!(why.ends_with("regardless of policy"), "{why}");
    }
    let (code, _) = refusal(&base, add("_provider_x", target(), &[]), V0_1);
    assert_eq!(code, Code::InvalidArgument);
    let many = vec![RemoveRule("x".to_owned()); OPERATIONS_MAX];
    assert!(apply_permitted(&base, &many, V0_0).is_ok());
    let more = vec![RemoveRule("x".to_owned()); OPERATIONS_MAX + 1];
    assert!(apply_permitted(&base, &more, V0_0).is_err());
}

#[test]
fn an_invalid_operation_undoes_those_before_it() {
    let base = policy(vec![rest("a.example", "")], &[]);
    let first = RuleTarget::First("b.example".to_owned(), 443);
    let operations = [RemoveRule("web".to_owned()), AddDenyRules(first, vec![deny()])];
    assert!(apply(&base, &operations, V0_0).is_err());
    assert_eq!(names(&base), ["web"]);
}
