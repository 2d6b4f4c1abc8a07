//! Policies and settings: permitted changes and their effects.

use std::collections::BTreeMap;

use tonic::Code;
use tonic::transport::Channel;

use super::{OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox};
use crate::Proposal;
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
    let noted = client.update_config(noted).await.unwrap().into_inner();
    assert_eq!((noted.version, &noted.policy_hash), (2, &first.policy_hash));
    assert_eq!(newest(&mut client).await.provenance["by"], "ana");
    let stale = old::UpdateConfigRequest {
        expected_resource_version: 1,
        ..update(sb::SandboxPolicy::default())
    };
    assert_eq!(client.update_config(stale).await.unwrap_err().code(), Code::Aborted);
    let request = old::ListSandboxPoliciesRequest { name: "a".to_owned(), ..Default::default() };
    let all = client.list_sandbox_policies(request).await.unwrap().into_inner().revisions;
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
    assert_eq!(refused.message(), "cannot approve rules while a global policy is active");
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
        tls: new_sb::NetworkTlsMode::Terminate.into(),
        access: new_sb::NetworkAccessPreset::ReadOnly.into(),
        ..Default::default()
    };
    let rule = new_sb::NetworkPolicyRule {
        name: "one".to_owned(),
        endpoints: vec![endpoint.clone()],
        binaries: vec![new_sb::NetworkBinary { path: "/bin/x".to_owned() }],
    };
    let merge = |operation| new::UpdateConfigRequest {
        sandbox: "a".to_owned(),
        merge_operations: vec![new::PolicyMergeOperation { operation: Some(operation) }],
        ..Default::default()
    };
    let add = new::AddNetworkRule { rule_name: "one".to_owned(), rule: Some(rule) };
    client.update_config(merge(Operation::AddRule(add))).await.unwrap();
    let request = new_sb::GetSandboxConfigRequest { name: "a".to_owned(), ..Default::default() };
    let policy = client.get_sandbox_config(request).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(policy.network_policies["one"].endpoints, [endpoint]);
    let deny = |host: &str| {
        merge(Operation::AddDenyRules(new::AddDenyRules {
            deny_rules: vec![new_sb::L7DenyRule {
                method: "DELETE".to_owned(),
                ..Default::default()
            }],
            target: Some(new::L7RuleTarget { host: host.to_owned(), ..Default::default() }),
        }))
    };
    assert_eq!(client.update_config(deny("one.example")).await.unwrap().into_inner().version, 3);
    let missing = client.update_config(deny("two.example")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    simulator.stop().await;
}
