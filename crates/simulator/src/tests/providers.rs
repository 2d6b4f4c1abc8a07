//! Providers and policies: rules of profiles, marks on what gets credentials, and review tokens.

use tonic::transport::Channel;

use super::{OldClient, old, old_gateway, old_sandbox};
use crate::Proposal;
use shoreguard_proto::v0_0::openshell::datamodel::v1 as dm;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;

/// Creates a provider and attaches it to the sandbox `a`.
async fn attach_provider(client: &mut OldClient<Channel>, name: &str) {
    let metadata = dm::ObjectMeta { name: name.to_owned(), ..Default::default() };
    let provider = dm::Provider {
        metadata: Some(metadata),
        r#type: "github".to_owned(),
        credentials: [("token".to_owned(), "one".to_owned())].into(),
        ..Default::default()
    };
    let request = old::CreateProviderRequest { provider: Some(provider), ..Default::default() };
    client.create_provider(request).await.unwrap();
    let request = old::AttachSandboxProviderRequest {
        sandbox_name: "a".to_owned(),
        provider_name: name.to_owned(),
        ..Default::default()
    };
    client.attach_sandbox_provider(request).await.unwrap();
}

async fn set_switch(client: &mut OldClient<Channel>, key: &str) {
    let value = sb::setting_value::Value::BoolValue(true);
    let request = old::UpdateConfigRequest {
        global: true,
        setting_key: key.to_owned(),
        setting_value: Some(sb::SettingValue { value: Some(value) }),
        ..Default::default()
    };
    client.update_config(request).await.unwrap();
}

async fn config(client: &mut OldClient<Channel>, sandbox_id: &str) -> sb::GetSandboxConfigResponse {
    let request = sb::GetSandboxConfigRequest { sandbox_id: sandbox_id.to_owned() };
    client.get_sandbox_config(request).await.unwrap().into_inner()
}

async fn chunk(client: &mut OldClient<Channel>) -> old::PolicyChunk {
    let request = old::GetDraftPolicyRequest { name: "a".to_owned(), ..Default::default() };
    client.get_draft_policy(request).await.unwrap().into_inner().chunks.remove(0)
}

#[tokio::test]
async fn a_provider_adds_its_rule_only_to_the_effective_policy() {
    let (simulator, mut client) = old_gateway().await;
    let id = old_sandbox(&mut client, "a").await;
    attach_provider(&mut client, "my-github").await;
    assert!(config(&mut client, &id).await.policy.unwrap().network_policies.is_empty());
    set_switch(&mut client, "providers_v2_enabled").await;
    let before = config(&mut client, &id).await;
    let policy = before.policy.unwrap();
    let rule = &policy.network_policies["_provider_my_github"];
    assert_eq!(rule.endpoints[0].host, "api.github.com");
    assert!(rule.endpoints[0].provider_credentialed);

    simulator
        .change_profile("", "github", |profile| {
            "git.example".clone_into(&mut profile.endpoints[0].host);
        })
        .unwrap();
    let after = config(&mut client, &id).await;
    assert_ne!(after.policy_hash, before.policy_hash);
    assert_ne!(after.config_revision, before.config_revision);
    assert_ne!(after.provider_env_revision, before.provider_env_revision);
    let policy = after.policy.unwrap();
    assert_eq!(policy.network_policies["_provider_my_github"].endpoints[0].host, "git.example");
    let request = old::GetSandboxPolicyStatusRequest { name: "a".to_owned(), ..Default::default() };
    let newest = client.get_sandbox_policy_status(request).await.unwrap().into_inner();
    assert!(newest.revision.unwrap().policy.unwrap().network_policies.is_empty());
    let list = old::ListProviderProfilesRequest::default();
    let listed = client.list_provider_profiles(list).await.unwrap().into_inner().profiles;
    assert_eq!(listed.iter().filter(|profile| profile.id == "github").count(), 1);
    simulator.stop().await;
}

#[tokio::test]
async fn a_new_credential_keeps_review_tokens_and_a_new_profile_outdates_them() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    attach_provider(&mut client, "github").await;
    let proposal = Proposal::allow("one.example", 443, "/bin/x");
    let id = simulator.propose("", "a", proposal.clone()).unwrap();
    let seen = chunk(&mut client).await;
    let metadata = dm::ObjectMeta { name: "github".to_owned(), ..Default::default() };
    let provider = dm::Provider {
        metadata: Some(metadata),
        credentials: [("token".to_owned(), "two".to_owned())].into(),
        ..Default::default()
    };
    let update = old::UpdateProviderRequest { provider: Some(provider), ..Default::default() };
    client.update_provider(update).await.unwrap();
    assert_eq!(simulator.propose("", "a", proposal.clone()).unwrap(), id);
    assert_eq!(chunk(&mut client).await.review_token, seen.review_token);
    simulator
        .change_profile("", "github", |profile| {
            "git.example".clone_into(&mut profile.endpoints[0].host);
        })
        .unwrap();
    simulator.propose("", "a", proposal).unwrap();
    let renewed = chunk(&mut client).await;
    assert_ne!(
        renewed.review_token, seen.review_token,
        "a repeated proposal renews the evaluation"
    );
    assert_eq!(renewed.hit_count, 3);
    let stale = old::ApproveDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: id,
        review_token: seen.review_token,
        ..Default::default()
    };
    let refused = client.approve_draft_chunk(stale).await.unwrap_err();
    assert!(refused.message().starts_with("review token does not match"));
    simulator.stop().await;
}
