//! Edits give what the gateways' own merge gives, in both generations, and no edit lifts a mark.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value as Json, json};
use shoreguard_proto::descriptors::Descriptors;
use shoreguard_proto::release::Generation;
use shoreguard_proto::wire::put_bytes;
use shoreguard_simulator::merged_policy;

use super::super::edits::Edit;
use super::super::{Policy, schema};
use super::samples::Random;
use super::{is_same_endpoint, rules};

const HOSTS: [&str; 4] = ["a.example", "A.example", "b.example", "*.c.example"];
const RULES: [&str; 4] = ["web", "api", "new", "other"];
const BINARIES: [&str; 3] = ["/bin/x", "/bin/y", "/bin/z"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "*"];
/// The words of enums, in the order of their numbers in generation 0.1.
const TLS: [&str; 4] = ["", "skip", "terminate", "passthrough"];
const ENFORCEMENT: [&str; 3] = ["", "enforce", "audit"];
const ACCESS: [&str; 4] = ["", "read-only", "read-write", "full"];

/// Makes policies and operations as JSON of a generation.
struct Generator {
    generation: Generation,
    numbers: Random,
}

impl Generator {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.numbers.below(from.len())]
    }

    /// Returns an enum value: a word in generation 0.0, a number in generation 0.1.
    fn word(&mut self, words: &[&str]) -> Json {
        let at = self.numbers.below(words.len());
        match self.generation {
            Generation::V0_0 => json!(words[at]),
            Generation::V0_1 => json!(at),
        }
    }

    fn ports(&mut self) -> Vec<u32> {
        let all = [vec![443], vec![443], vec![8443], vec![443, 8443], vec![8443, 443, 443]];
        all[self.numbers.below(all.len())].clone()
    }

    fn l7_rule(&mut self, is_wrapped: bool) -> Json {
        let rule = json!({ "method": self.pick(&METHODS), "path": self.pick(&["/**", "/v1"]) });
        if is_wrapped { json!({ "allow": rule }) } else { rule }
    }

    fn l7_rules(&mut self, is_wrapped: bool) -> Vec<Json> {
        (0..self.numbers.below(3)).map(|_| self.l7_rule(is_wrapped)).collect()
    }

    fn endpoint(&mut self) -> Json {
        let mut endpoint = json!({
            "host": self.pick(&HOSTS),
            "protocol": self.pick(&["", "rest", "rest", "websocket", "sql"]),
            "advisor_proposed": self.numbers.one_in(4),
        });
        match (self.numbers.below(8), self.ports()) {
            (0, _) => {}
            (1 | 2, ports) => endpoint["port"] = json!(ports[0]),
            (3, ports) => {
                endpoint["port"] = json!(80);
                endpoint["ports"] = json!(ports);
            }
            (_, ports) => endpoint["ports"] = json!(ports),
        }
        if self.numbers.one_in(2) {
            endpoint["access"] = self.word(&ACCESS);
        } else {
            endpoint["rules"] = Json::Array(self.l7_rules(true));
        }
        if self.numbers.one_in(4) {
            endpoint["path"] = json!("/v1");
        }
        if self.numbers.one_in(3) {
            endpoint["tls"] = self.word(&TLS);
            endpoint["enforcement"] = self.word(&ENFORCEMENT);
        }
        if self.numbers.one_in(4) {
            endpoint["deny_rules"] = Json::Array(self.l7_rules(false));
            endpoint["allowed_ips"] = json!([self.pick(&["10.0.0.0/8", "10.1.0.0/16"])]);
        }
        if self.numbers.one_in(6) {
            self.add_rare_fields(&mut endpoint);
        }
        endpoint
    }

    fn add_rare_fields(&mut self, endpoint: &mut Json) {
        if self.numbers.one_in(2) {
            endpoint["protocol"] = json!(self.pick(&["mcp", "MCP"]));
            endpoint["mcp"] = json!({ "strict_tool_names": self.numbers.one_in(2) });
        }
        endpoint["json_rpc_max_body_bytes"] = json!(self.numbers.below(2) * 65_536);
        endpoint["graphql_max_body_bytes"] = json!(self.numbers.below(3));
        endpoint["credential_signing"] = json!(self.pick(&["", "x"]));
        endpoint["persisted_queries"] = json!(self.pick(&["", "x"]));
        for flag in [
            "allow_encoded_slash",
            "websocket_credential_rewrite",
            "request_body_credential_rewrite",
            "allow_uninspected_credentials",
        ] {
            endpoint[flag] = json!(self.numbers.one_in(2));
        }
    }

    fn binary(&mut self) -> Json {
        let mut binary = json!({ "path": self.pick(&BINARIES) });
        if self.generation == Generation::V0_0 {
            binary["harness"] = json!(self.numbers.one_in(3));
        }
        binary
    }

    fn binaries(&mut self) -> Vec<Json> {
        (0..self.numbers.below(4)).map(|_| self.binary()).collect()
    }

    fn rule(&mut self) -> Json {
        let endpoints: Vec<Json> = (0..=self.numbers.below(2)).map(|_| self.endpoint()).collect();
        json!({
            "name": self.pick(&["", "shown"]),
            "endpoints": endpoints,
            "binaries": self.binaries(),
        })
    }

    fn policy(&mut self) -> Json {
        let mut rules = serde_json::Map::new();
        for name in &RULES[..=self.numbers.below(3)] {
            rules.insert((*name).to_owned(), self.rule());
        }
        json!({ "version": 1, "network_policies": rules })
    }

    /// Returns an operation. Half of its endpoints are those of the policy.
    fn operation(&mut self, policy: &Json) -> Json {
        let name = self.pick(&RULES);
        let (known, rule) = self.known_rule(policy);
        match self.numbers.below(8) {
            0..3 => json!({ "add_rule": { "rule_name": name, "rule": rule } }),
            3 => json!({ "remove_rule": { "rule_name": name } }),
            4 => {
                let name = self.pick(&["", "web", "api"]);
                let host = self.pick(&HOSTS);
                json!({ "remove_endpoint": { "rule_name": name, "host": host, "port": 443 } })
            }
            5 => {
                let path = self.pick(&BINARIES);
                json!({ "remove_binary": { "rule_name": name, "binary_path": path } })
            }
            6 => {
                let mut add = self.target(&known, &rule);
                add["deny_rules"] = Json::Array(self.l7_rules(false));
                json!({ "add_deny_rules": add })
            }
            _ => {
                let mut add = self.target(&known, &rule);
                add["rules"] = Json::Array(self.l7_rules(true));
                json!({ "add_allow_rules": add })
            }
        }
    }

    /// Returns the name of a rule of the policy, and a rule that is that one or another.
    fn known_rule(&mut self, policy: &Json) -> (String, Json) {
        let rules = policy["network_policies"].as_object().unwrap();
        let names: Vec<&String> = rules.keys().collect();
        let name = names[self.numbers.below(names.len())];
        let mut rule = rules[name].clone();
        match self.numbers.below(4) {
            0 => {}
            1 => rule["endpoints"][0]["deny_rules"] = Json::Array(self.l7_rules(false)),
            _ => rule = self.rule(),
        }
        (name.clone(), rule)
    }

    fn target(&mut self, name: &str, rule: &Json) -> Json {
        let endpoint = &rule["endpoints"][0];
        let host = endpoint["host"].clone();
        let ports = endpoint.get("ports").cloned().unwrap_or_else(|| json!([443]));
        if self.generation == Generation::V0_0 {
            return json!({ "host": host, "port": ports[0] });
        }
        let mut target = json!({ "rule_name": name, "host": host, "ports": ports });
        match rule["binaries"].as_array().filter(|all| !all.is_empty()) {
            Some(binaries) => target["binaries"] = json!(binaries),
            None => target["any_binary"] = json!(true),
        }
        if self.numbers.one_in(2) {
            target["path"] = endpoint.get("path").cloned().unwrap_or_else(|| json!(""));
        }
        json!({ "target": target })
    }
}

fn encode(descriptor: MessageDescriptor, json: Json) -> Vec<u8> {
    DynamicMessage::deserialize(descriptor, json).unwrap().encode_to_vec()
}

fn operation_kind(generation: Generation) -> MessageDescriptor {
    Descriptors::for_generation(generation)
        .pool()
        .get_message_by_name("openshell.v1.PolicyMergeOperation")
        .unwrap()
}

/// Returns the edits of encoded operations, read from an `UpdateConfig` request.
fn edits(generation: Generation, operations: &[Vec<u8>]) -> Result<Vec<Edit>, crate::error::Error> {
    let mut request = Vec::new();
    put_bytes(&mut request, 1, b"coder");
    for operation in operations {
        put_bytes(&mut request, 7, operation);
    }
    Edit::of_update_config(generation, &request)
}

#[test]
fn edits_give_what_the_merge_of_a_gateway_gives() {
    for generation in Generation::ALL {
        let (mut merged, mut refused) = (0, 0);
        for seed in 0..3_000 {
            let mut generator = Generator { generation, numbers: Random::new(seed) };
            let policy = generator.policy();
            let count = generator.numbers.below(3) + 1;
            let operations: Vec<Json> = (0..count).map(|_| generator.operation(&policy)).collect();
            let shown = format!("{generation} {seed}: {policy} and {operations:?}");
            let base = encode(schema::policy(generation), policy);
            let base = Policy::decode(generation, &base).unwrap();
            let kind = operation_kind(generation);
            let operations: Vec<Vec<u8>> =
                operations.into_iter().map(|one| encode(kind.clone(), one)).collect();
            let own = edits(generation, &operations).and_then(|edits| base.edited(&edits));
            match (own, merged_policy(generation, base.encoded(), &operations)) {
                (Ok(own), Ok(gateway)) => {
                    let gateway = Policy::decode(generation, &gateway).unwrap();
                    assert_eq!(own.to_yaml(), gateway.to_yaml(), "{shown}");
                    let marked = gateway.with_marks_of(&base).unwrap();
                    assert_eq!(own.digest(), marked.digest(), "{shown}");
                    merged += 1;
                }
                (Err(_), Err(_)) => refused += 1,
                (own, gateway) => panic!("{shown}: {own:?} but {gateway:?}"),
            }
        }
        assert!(merged > 300 && refused > 100, "{generation}: {merged} {refused}");
    }
}

#[test]
fn no_edit_lifts_a_mark() {
    let mut kept = 0;
    for generation in Generation::ALL {
        for seed in 0..2_000 {
            let mut generator = Generator { generation, numbers: Random::new(seed) };
            let policy = generator.policy();
            let operation = generator.operation(&policy);
            let operation = encode(operation_kind(generation), operation);
            let base = encode(schema::policy(generation), policy);
            let base = Policy::decode(generation, &base).unwrap();
            let edited = edits(generation, &[operation]).and_then(|edits| base.edited(&edits));
            let Ok(edited) = edited else { continue };
            let (before, after) = (rules(&base), rules(&edited));
            for old in before.iter().flat_map(|rule| &rule.endpoints) {
                let endpoints = after.iter().flat_map(|rule| &rule.endpoints);
                for new in endpoints.filter(|new| is_same_endpoint(old, new)) {
                    assert!(new.advisor_proposed || !old.advisor_proposed, "{seed}: {old:?}");
                    kept += usize::from(old.advisor_proposed);
                }
            }
            for old in before.iter().flat_map(|rule| &rule.binaries) {
                let mut same = after.iter().flat_map(|rule| &rule.binaries);
                let is_kept = same.all(|new| new.path != old.path || new.harness || !old.harness);
                assert!(is_kept, "{seed}: {old:?}");
            }
        }
    }
    assert!(kept > 300, "{kept}");
}
