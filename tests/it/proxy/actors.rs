//! The gateway's own record names the actor: in the annotations of sandboxes and the provenance of policies.

use std::collections::BTreeMap;

use shoreguard::pb::v0_0::openshell::sandbox::v1 as old_policy;
use shoreguard::pb::v0_1::openshell::sandbox::v1 as new_policy;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;
use tonic::Status;

use super::*;

const ACTOR: &str = "shoreguard/actor";

const GATEWAYS: [(&str, Generation); 2] = [("old", Generation::V0_0), ("new", Generation::V0_1)];

type Map = BTreeMap<String, String>;

fn noted(key: &str, value: &str) -> Map {
    [(key.to_owned(), value.to_owned())].into()
}

/// A gateway, and a caller who uses its generation.
struct At<'a> {
    gateway: &'a str,
    generation: Generation,
    caller: Caller,
}

impl At<'_> {
    fn by(&self, caller: Caller) -> Self {
        Self { gateway: self.gateway, generation: self.generation, caller }
    }

    /// Creates a sandbox. Returns its annotations.
    async fn create(&self, name: &str, annotations: Map) -> Result<Map, Status> {
        Ok(match self.generation {
            Generation::V0_0 => {
                let request = old::CreateSandboxRequest { annotations, ..create_request(name) };
                let mut client = self.caller.openshell_v0_0();
                let made = client.create_sandbox(for_gateway(self.gateway, request));
                made.await?.into_inner().sandbox.unwrap().metadata.unwrap().annotations
            }
            Generation::V0_1 => {
                let request =
                    new::CreateSandboxRequest { annotations, ..create_request_v0_1(name) };
                let mut client = self.caller.openshell_v0_1();
                let made = client.create_sandbox(for_gateway(self.gateway, request));
                made.await?.into_inner().sandbox.unwrap().metadata.unwrap().annotations
            }
        })
    }

    /// Adds a rule to the policy of `one`. Returns the version of the revision.
    async fn add_rule(&self, annotations: Map) -> Result<u32, Status> {
        let (name, host, rule_name) =
            ("one".to_owned(), "example.com".to_owned(), "web".to_owned());
        Ok(match self.generation {
            Generation::V0_0 => {
                let endpoint =
                    old_policy::NetworkEndpoint { host, port: 443, ..Default::default() };
                let rule = Some(old_policy::NetworkPolicyRule {
                    name: rule_name.clone(),
                    endpoints: vec![endpoint],
                    binaries: Vec::new(),
                });
                let add = old::AddNetworkRule { rule_name, rule };
                let operation = Some(old::policy_merge_operation::Operation::AddRule(add));
                let merge_operations = vec![old::PolicyMergeOperation { operation }];
                let request = old::UpdateConfigRequest {
                    name,
                    merge_operations,
                    annotations,
                    ..Default::default()
                };
                let mut client = self.caller.openshell_v0_0();
                let update = client.update_config(for_gateway(self.gateway, request));
                update.await?.into_inner().version
            }
            Generation::V0_1 => {
                let endpoint =
                    new_policy::NetworkEndpoint { host, port: 443, ..Default::default() };
                let rule = Some(new_policy::NetworkPolicyRule {
                    name: rule_name.clone(),
                    endpoints: vec![endpoint],
                    binaries: Vec::new(),
                });
                let add = new::AddNetworkRule { rule_name, rule };
                let operation = Some(new::policy_merge_operation::Operation::AddRule(add));
                let merge_operations = vec![new::PolicyMergeOperation { operation }];
                let request = new::UpdateConfigRequest {
                    sandbox: name,
                    merge_operations,
                    annotations,
                    ..Default::default()
                };
                let mut client = self.caller.openshell_v0_1();
                let update = client.update_config(for_gateway(self.gateway, request));
                update.await?.into_inner().version
            }
        })
    }

    /// Updates the global policy, or a setting of `one`.
    async fn update(&self, setting: bool, annotations: Map) -> Result<(), Status> {
        let value = new_policy::setting_value::Value::BoolValue(true);
        let policy = new_policy::SandboxPolicy { version: 1, ..Default::default() };
        let setting_key = if setting { "ocsf_json_enabled" } else { "" }.to_owned();
        let setting_value = setting.then_some(new_policy::SettingValue { value: Some(value) });
        // Both generations have these fields with the same numbers, and no other field is set.
        let request = new::UpdateConfigRequest {
            sandbox: if setting { "one" } else { "" }.to_owned(),
            policy: (!setting).then_some(policy),
            setting_key,
            setting_value,
            global: !setting,
            annotations,
            ..Default::default()
        };
        let mut client = self.caller.openshell_v0_1();
        client.update_config(for_gateway(self.gateway, request)).await.map(|_| ())
    }

    /// Returns the provenance of each revision, newest first.
    async fn provenances(&self, global: bool) -> Vec<Map> {
        let name = if global { String::new() } else { "one".to_owned() };
        match self.generation {
            Generation::V0_0 => {
                let list = old::ListSandboxPoliciesRequest { name, global, ..Default::default() };
                let mut client = self.caller.openshell_v0_0();
                let listed = client.list_sandbox_policies(for_gateway(self.gateway, list));
                let revisions = listed.await.unwrap().into_inner().revisions;
                revisions.into_iter().map(|revision| revision.provenance).collect()
            }
            Generation::V0_1 => {
                let list =
                    new::ListSandboxPoliciesRequest { sandbox: name, global, ..Default::default() };
                let mut client = self.caller.openshell_v0_1();
                let listed = client.list_sandbox_policies(for_gateway(self.gateway, list));
                let revisions = listed.await.unwrap().into_inner().revisions;
                revisions.into_iter().map(|revision| revision.provenance).collect()
            }
        }
    }
}

#[test]
fn the_annotations_of_a_gateway_name_the_actor() {
    run_on_sqlite(|sg| async move {
        let admin = sg.admin();
        let ana = sg.with_token(&admin.create_key("ana", pb::Role::Operator).await);
        let ben = sg.with_token(&admin.create_key("ben", pb::Role::Operator).await);
        for (gateway, generation) in GATEWAYS {
            let simulator = start_simulator(generation).await;
            sg.register_gateway(gateway, simulator.addr()).await;
            let at = At { gateway, generation, caller: ana.clone() };
            let made = at.create("one", noted("team", "ml")).await.unwrap();
            assert_eq!(made[ACTOR], "sp:ana");
            assert_eq!(made["team"], "ml");

            let version = at.add_rule(noted("ticket", "7")).await.unwrap();
            let newest = at.provenances(false).await.remove(0);
            assert_eq!((newest[ACTOR].as_str(), newest["ticket"].as_str()), ("sp:ana", "7"));
            assert_eq!(newest.len(), 2);
            let again = at.add_rule(noted("ticket", "7")).await.unwrap();
            assert_eq!(again, version, "the same by the same actor is nothing new");
            let other = at.by(ben.clone()).add_rule(noted("ticket", "7")).await.unwrap();
            assert_eq!(other, version + 1);
            let all = at.provenances(false).await;
            assert_eq!(all[0][ACTOR], "sp:ben");
            assert_eq!(all[1][ACTOR], "sp:ana", "what was recorded stays");

            at.by(admin.clone()).update(true, Map::new()).await.unwrap();
            assert_eq!(at.provenances(false).await.len(), all.len(), "a setting makes no revision");
            // Gateways accept annotations only for sandboxes, and refuse a global policy with annotations.
            at.by(admin.clone()).update(false, Map::new()).await.unwrap();
            assert_eq!(at.provenances(true).await, [Map::new()]);
            let noted = at.by(admin.clone()).update(false, noted("team", "ml")).await;
            let noted = noted.unwrap_err();
            assert_eq!(noted.code(), tonic::Code::InvalidArgument, "as the gateway says it");
            assert!(noted.message().contains("sandbox-scoped"), "{noted:?}");
            sg.app.audit.wait_settled().await;
            let entries = admin.audit_entries("", "policy.apply").await;
            assert_eq!(entries[1].actor, "sp:root", "our own record names the actor: {entries:?}");
            simulator.stop().await;
        }
        sg.finish().await;
    });
}

#[test]
fn t19_callers_cannot_forge_the_actor_annotation_of_a_gateway() {
    run_on_sqlite(|sg| async move {
        let ana = sg.with_token(&sg.admin().create_key("ana", pb::Role::Operator).await);
        for (gateway, generation) in GATEWAYS {
            let simulator = start_simulator(generation).await;
            sg.register_gateway(gateway, simulator.addr()).await;
            let at = At { gateway, generation, caller: ana.clone() };
            at.create("one", Map::new()).await.unwrap();
            // Counts only these methods, since Shoreguard makes other calls after a creation.
            let changes = || {
                let calls = simulator.calls();
                ["CreateSandbox", "UpdateConfig"]
                    .map(|method| calls.get(&format!("/openshell.v1.OpenShell/{method}")).copied())
            };
            let before = changes();
            for key in [ACTOR, "shoreguard/operation", "Shoreguard/Actor", " shoreguard/actor"] {
                let refused = at.create("two", noted(key, "sp:root")).await;
                let refused = assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
                assert!(refused.message().starts_with("`annotations` must have no key"), "{key}");
                let refused = at.add_rule(noted(key, "sp:root")).await;
                assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
            }
            assert_eq!(changes(), before, "nothing of it has reached the gateway");
            simulator.stop().await;
        }
        sg.finish().await;
    });
}
