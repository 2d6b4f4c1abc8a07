//! Policies and settings: permitted changes and their effects.

use std::collections::BTreeMap;

use tonic::Code;
use tonic::transport::Channel;

use super::{OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox};
use crate::{PolicyCounts, Proposal};
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as new_sb;

async fn newest(client: &mut OldClient<Channel>) -> old::SandboxPolicyRevision {
    let request = old::GetSandboxPolicyStatusRequest { name: "a".to_owned(), ..Default::default() };
    client.get_sandbox_policy_status(request).await.unwrap().into_inner().revision.unwrap()
}

fn update(policy: sb::SandboxPolicy) -> old::UpdateConfigRequest {
    old::UpdateConfigRequest { name: "a".to_owned(), policy: Some(policy), ..Default::default() }
}

#[tokio::test]
async fn static_sections_cannot_change_and_paths_can_only_be_added() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let base = newest(&mut client).await.policy.unwrap();
    let changed = |change: &dyn Fn(&mut sb::SandboxPolicy)| {
        let mut policy = base.clone();
        change(&mut policy);
        update(policy)
    };
    let refused = [
        changed(&|policy| policy.landlock = None),
        changed(&|policy| policy.process.as_mut().unwrap().run_as_user = "1000".to_owned()),
        changed(&|policy| policy.process.as_mut().unwrap().run_as_user = "root".to_owned()),
        changed(&|policy| policy.filesystem.as_mut().unwrap().read_only.clear()),
        changed(&|policy| policy.filesystem.as_mut().unwrap().read_write.push("/".to_owned())),
        changed(&|policy| policy.filesystem.as_mut().unwrap().read_only.push("/a/../b".to_owned())),
        changed(&|policy| {
            policy
                .network_policies
                .insert("_provider_x".to_owned(), sb::NetworkPolicyRule::default());
        }),
        old::UpdateConfigRequest { setting_key: "x".to_owned(), ..update(base.clone()) },
        old::UpdateConfigRequest { name: "a".to_owned(), ..Default::default() },
    ];
    for request in refused {
        assert_eq!(client.update_config(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let more = changed(&|policy| {
        policy.filesystem.as_mut().unwrap().read_only.push("/opt".to_owned());
    });
    assert_eq!(client.update_config(more).await.unwrap().into_inner().version, 2);
    simulator.stop().await;
}

#[tokio::test]
async fn a_policy_over_256_kib_and_an_unknown_sandbox_are_refused() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let mut policy = newest(&mut client).await.policy.unwrap();
    let elsewhere = old::UpdateConfigRequest { name: "b".to_owned(), ..update(policy.clone()) };
    assert_eq!(client.update_config(elsewhere).await.unwrap_err().code(), Code::NotFound);
    let name = "x".repeat(256 * 1024);
    policy.network_policies.insert(name, sb::NetworkPolicyRule::default());
    let refused = client.update_config(update(policy)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "policy is larger than 262144 bytes");
    simulator.stop().await;
}

#[tokio::test]
async fn an_equal_policy_makes_a_new_revision_only_with_other_annotations() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let first = newest(&mut client).await;
    assert_eq!((first.version, first.status()), (1, old::PolicyStatus::Loaded));
    let same = update(first.policy.unwrap());
    let again = client.update_config(same.clone()).await.unwrap().into_inner();
    assert_eq!((again.version, &again.policy_hash), (1, &first.policy_hash));
    let noted = old::UpdateConfigRequest {
        annotations: BTreeMap::from([("by".to_owned(), "ana".to_owned())]),
        ..same
    };
    let repeated = noted.clone();
    let noted = client.update_config(noted).await.unwrap().into_inner();
    assert_eq!((noted.version, &noted.policy_hash), (2, &first.policy_hash));
    assert_eq!(newest(&mut client).await.provenance["by"], "ana");
    let mut other = newest(&mut client).await.policy.unwrap();
    other.filesystem.as_mut().unwrap().read_only.push("/opt".to_owned());
    let stale = old::UpdateConfigRequest { expected_resource_version: 1, ..update(other) };
    assert_eq!(client.update_config(stale).await.unwrap_err().code(), Code::Aborted);
    let repeated = old::UpdateConfigRequest { expected_resource_version: 1, ..repeated };
    let repeated = client.update_config(repeated).await.unwrap().into_inner();
    assert_eq!(repeated.version, 2, "a write that changes nothing compares no version");
    let counts = simulator.policy_counts("", "a").unwrap();
    assert_eq!(counts, PolicyCounts { writes: 3, revisions: 2 });
    let request = old::ListSandboxPoliciesRequest { name: "a".to_owned(), ..Default::default() };
    let all = client.list_sandbox_policies(request).await.unwrap().into_inner().revisions;
    assert!(all.iter().all(|one| one.policy.is_none()), "a list has no policies");
    let statuses: Vec<_> = all.iter().map(|one| (one.version, one.status())).collect();
    assert_eq!(statuses, [(2, old::PolicyStatus::Loaded), (1, old::PolicyStatus::Superseded)]);
    simulator.stop().await;
}

#[tokio::test]
async fn a_global_policy_overrides_sandbox_policies_and_blocks_approvals() {
    let (simulator, mut client) = old_gateway().await;
    let sandbox_id = old_sandbox(&mut client, "a").await;
    simulator.propose("", "a", Proposal::allow("one.example", 443, "/bin/x")).unwrap();
    let policy = newest(&mut client).await.policy.unwrap();
    let global =
        old::UpdateConfigRequest { name: String::new(), global: true, ..update(policy.clone()) };
    assert_eq!(client.update_config(global.clone()).await.unwrap().into_inner().version, 1);
    assert_eq!(client.update_config(global.clone()).await.unwrap().into_inner().version, 1);
    let request = sb::GetSandboxConfigRequest { sandbox_id };
    let config = client.get_sandbox_config(request.clone()).await.unwrap().into_inner();
    assert_eq!(config.policy_source(), sb::PolicySource::Global);
    assert_eq!((config.global_policy_version, config.version), (1, 1));
    let refused = client.update_config(update(policy)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let all = old::ApproveAllDraftChunksRequest { name: "a".to_owned(), ..Default::default() };
    let refused = client.approve_all_draft_chunks(all).await.unwrap_err();
    assert!(refused.message().starts_with("cannot approve rules while a global policy is active"));
    let remove = old::UpdateConfigRequest {
        global: true,
        setting_key: "policy".to_owned(),
        delete_setting: true,
        ..Default::default()
    };
    assert!(client.update_config(remove).await.unwrap().into_inner().deleted);
    let config = client.get_sandbox_config(request).await.unwrap().into_inner();
    assert_eq!(config.policy_source(), sb::PolicySource::Sandbox);
    simulator.stop().await;
}

#[tokio::test]
async fn a_global_setting_locks_its_key_for_sandboxes() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let set = |global, key: &str| old::UpdateConfigRequest {
        name: if global { String::new() } else { "a".to_owned() },
        global,
        setting_key: key.to_owned(),
        setting_value: Some(sb::SettingValue {
            value: Some(sb::setting_value::Value::BoolValue(true)),
        }),
        ..Default::default()
    };
    let unknown = client.update_config(set(true, "no_such_key")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    client.update_config(set(false, "ocsf_json_enabled")).await.unwrap();
    let done = client.update_config(set(true, "ocsf_json_enabled")).await.unwrap().into_inner();
    assert_eq!(done.settings_revision, 1);
    let locked = client.update_config(set(false, "ocsf_json_enabled")).await.unwrap_err();
    assert_eq!(locked.code(), Code::FailedPrecondition);
    simulator.stop().await;
}

#[tokio::test]
async fn generation_0_1_preserves_its_enumerations_and_merges_rules_by_target() {
    use new::policy_merge_operation::Operation;
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let endpoint = new_sb::NetworkEndpoint {
        host: "one.example".to_owned(),
        port: 443,
        ports: vec![443],
        protocol: "rest".to_owned(),
        tls: new_sb::NetworkTlsMode::Terminate.into(),
        access: new_sb::NetworkAccessPreset::ReadOnly.into(),
        ..Default::default()
    };
    let rule = |endpoint: &new_sb::NetworkEndpoint| new_sb::NetworkPolicyRule {
        name: "one".to_owned(),
        endpoints: vec![endpoint.clone()],
        binaries: vec![new_sb::NetworkBinary { path: "/bin/x".to_owned() }],
    };
    let merge = |operation| new::UpdateConfigRequest {
        sandbox: "a".to_owned(),
        merge_operations: vec![new::PolicyMergeOperation { operation: Some(operation) }],
        ..Default::default()
    };
    let add = |endpoint: &new_sb::NetworkEndpoint| {
        let add = new::AddNetworkRule { rule_name: "one".to_owned(), rule: Some(rule(endpoint)) };
        merge(Operation::AddRule(add))
    };
    let unknown = new_sb::NetworkEndpoint { enforcement: 7, ..endpoint.clone() };
    let refused = client.update_config(add(&unknown)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "unknown value 7 of `enforcement`");
    client.update_config(add(&endpoint)).await.unwrap();
    let request = new_sb::GetSandboxConfigRequest { name: "a".to_owned(), ..Default::default() };
    let policy = client.get_sandbox_config(request).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(policy.network_policies["one"].endpoints, [endpoint]);
    let deny = |host: &str, any_binary| {
        let binaries = vec![new_sb::NetworkBinary { path: "/bin/x".to_owned() }];
        merge(Operation::AddDenyRules(new::AddDenyRules {
            deny_rules: vec![new_sb::L7DenyRule {
                method: "DELETE".to_owned(),
                ..Default::default()
            }],
            target: Some(new::L7RuleTarget {
                rule_name: "one".to_owned(),
                host: host.to_owned(),
                ports: vec![443],
                binaries,
                any_binary,
                ..Default::default()
            }),
        }))
    };
    let done = client.update_config(deny("one.example", false)).await.unwrap().into_inner();
    assert_eq!(done.version, 3);
    let missing = client.update_config(deny("two.example", false)).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let both = client.update_config(deny("one.example", true)).await.unwrap_err();
    assert_eq!(both.code(), Code::InvalidArgument);
    simulator.stop().await;
}

#[tokio::test]
async fn generation_0_1_refuses_a_workspace_selector_that_does_not_fit() {
    use shoreguard_proto::v0_1::openshell::datamodel::v1::WorkspaceSelector;
    use shoreguard_proto::v0_1::openshell::datamodel::v1::workspace_selector::Selection;
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let select = |name: &str| {
        let selection = Some(Selection::Workspace(name.to_owned()));
        Some(WorkspaceSelector { selection })
    };
    let list = new::ListSandboxPoliciesRequest { sandbox: "a".to_owned(), ..Default::default() };
    let other = new::ListSandboxPoliciesRequest { workspace_scope: select("none"), ..list.clone() };
    assert_eq!(client.list_sandbox_policies(other).await.unwrap_err().code(), Code::NotFound);
    let global = new::ListSandboxPoliciesRequest {
        workspace_scope: select("default"),
        global: true,
        ..list.clone()
    };
    let refused = client.list_sandbox_policies(global).await.unwrap_err();
    assert_eq!(refused.message(), "workspace_scope must be omitted when global is true");
    let unknown = new::ListSandboxPoliciesRequest { sandbox: "b".to_owned(), ..list };
    let refused = client.list_sandbox_policies(unknown).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "sandbox not found"));
    simulator.stop().await;
}
