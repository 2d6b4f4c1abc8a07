//! Proposals: approval with review tokens, and the effects on other proposals.

use tonic::Code;
use tonic::transport::Channel;

use super::{OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox};
use crate::Proposal;

async fn chunks(client: &mut OldClient<Channel>) -> Vec<old::PolicyChunk> {
    let request = old::GetDraftPolicyRequest { name: "a".to_owned(), ..Default::default() };
    client.get_draft_policy(request).await.unwrap().into_inner().chunks
}

fn approve(chunk: &old::PolicyChunk) -> old::ApproveDraftChunkRequest {
    old::ApproveDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: chunk.id.clone(),
        review_token: chunk.review_token.clone(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_review_token_expires_with_the_policy_and_a_rejected_approval_renews_it() {
    let (simulator, mut client) = old_gateway().await;
    let sandbox_id = old_sandbox(&mut client, "a").await;
    for host in ["one.example", "two.example"] {
        simulator.propose("", "a", Proposal::allow(host, 443, "/usr/bin/curl")).unwrap();
    }
    let seen = chunks(&mut client).await;
    let wrong =
        old::ApproveDraftChunkRequest { review_token: "no".to_owned(), ..approve(&seen[0]) };
    let refused = client.approve_draft_chunk(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().starts_with("review token does not match"));

    let done = client.approve_draft_chunk(approve(&seen[0])).await.unwrap().into_inner();
    assert_eq!(done.policy_version, 2);
    let config =
        shoreguard_proto::v0_0::openshell::sandbox::v1::GetSandboxConfigRequest { sandbox_id };
    let config = client.get_sandbox_config(config).await.unwrap().into_inner();
    assert_eq!(config.policy_hash, seen[0].candidate_effective_policy_hash);

    let aged = chunks(&mut client).await;
    assert_eq!(aged[1].review_token, seen[1].review_token, "the stored token is left as it is");
    let refused = client.approve_draft_chunk(approve(&aged[1])).await.unwrap_err();
    assert!(refused.message().starts_with("proposal inputs changed; evaluation refreshed"));
    let renewed = chunks(&mut client).await;
    assert_ne!(renewed[1].review_token, seen[1].review_token);
    assert_eq!(
        client.approve_draft_chunk(approve(&renewed[1])).await.unwrap().into_inner().policy_version,
        3
    );
    simulator.stop().await;
}

#[tokio::test]
async fn undo_and_reject_remove_the_approved_rule() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let id = simulator.propose("", "a", Proposal::allow("one.example", 443, "/bin/x")).unwrap();
    let before = chunks(&mut client).await;
    client.approve_draft_chunk(approve(&before[0])).await.unwrap();
    let undo = old::UndoDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: id.clone(),
        ..Default::default()
    };
    let undone = client.undo_draft_chunk(undo).await.unwrap().into_inner();
    assert_eq!(undone.policy_version, 3);
    let waiting = chunks(&mut client).await;
    assert_eq!(waiting[0].status, "pending");
    client.approve_draft_chunk(approve(&waiting[0])).await.unwrap();
    let reject = old::RejectDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: id,
        reason: "no".to_owned(),
        ..Default::default()
    };
    client.reject_draft_chunk(reject).await.unwrap();
    let request = old::GetSandboxPolicyStatusRequest { name: "a".to_owned(), ..Default::default() };
    let newest = client.get_sandbox_policy_status(request).await.unwrap().into_inner();
    assert_eq!(newest.active_version, 5);
    assert!(newest.revision.unwrap().policy.unwrap().network_policies.is_empty());
    let request = old::GetDraftHistoryRequest { name: "a".to_owned(), ..Default::default() };
    let history = client.get_draft_history(request).await.unwrap().into_inner().entries;
    let events: Vec<_> = history.iter().map(|entry| entry.event_type.as_str()).collect();
    assert_eq!(events, ["proposed", "rejected"], "it is made up from what is, not from what was");
    simulator.stop().await;
}

#[tokio::test]
async fn equal_proposals_are_merged_and_newer_proposals_supersede_older_ones() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let again = || Proposal::allow("one.example", 443, "/bin/x");
    let first = simulator.propose("", "a", again()).unwrap();
    assert_eq!(simulator.propose("", "a", again()).unwrap(), first);
    assert_eq!(chunks(&mut client).await[0].hit_count, 2);
    let authored = Proposal { agent_authored: true, ..again() };
    let second = simulator.propose("", "a", authored.clone()).unwrap();
    let seen = chunks(&mut client).await;
    assert_eq!(seen[0].rejection_reason, format!("superseded by chunk {second}"));
    client.approve_draft_chunk(approve(&seen[1])).await.unwrap();
    let many = Proposal { hits: 500, ..again() };
    assert_eq!(simulator.propose("", "a", many).unwrap(), first, "even after its decision");
    let late = chunks(&mut client).await;
    assert_eq!((late.len(), late[0].hit_count, late[0].status.as_str()), (2, 102, "rejected"));
    let third = simulator.propose("", "a", authored).unwrap();
    assert_ne!(third, second, "what an agent proposes is never counted together");
    simulator.stop().await;
}

#[tokio::test]
async fn a_refused_connection_that_is_already_approved_is_rejected() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let wanted = || Proposal::allow("one.example", 443, "/bin/x");
    let authored = Proposal { agent_authored: true, ..wanted() };
    let first = simulator.propose("", "a", authored).unwrap();
    let seen = chunks(&mut client).await;
    client.approve_draft_chunk(approve(&seen[0])).await.unwrap();
    simulator.propose("", "a", wanted()).unwrap();
    let late = chunks(&mut client).await.pop().unwrap();
    let reason = format!(
        "already covered by approved chunk {first} (agent_authored or prior auto-approval)"
    );
    assert_eq!((late.status.as_str(), late.rejection_reason), ("rejected", reason));
    simulator.stop().await;
}

#[tokio::test]
async fn approve_all_checks_one_policy_and_writes_one_revision() {
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    for host in ["one.example", "two.example", "*.example"] {
        simulator.propose("", "a", Proposal::allow(host, 443, "/bin/x")).unwrap();
    }
    let request = new::GetDraftPolicyRequest { sandbox: "a".to_owned(), ..Default::default() };
    let seen = client.get_draft_policy(request).await.unwrap().into_inner();
    assert_eq!(seen.draft_version, 3);
    let mut approvals: Vec<_> = seen
        .chunks
        .iter()
        .map(|chunk| new::DraftChunkApproval {
            chunk_id: chunk.id.clone(),
            review_token: chunk.review_token.clone(),
        })
        .collect();
    approvals[1].review_token = "stale".to_owned();
    let request = new::ApproveAllDraftChunksRequest {
        sandbox: "a".to_owned(),
        approvals,
        ..Default::default()
    };
    let done = client.approve_all_draft_chunks(request).await.unwrap().into_inner();
    assert_eq!((done.chunks_approved, done.chunks_skipped, done.policy_version), (1, 2, 2));
    let request =
        new::ApproveAllDraftChunksRequest { sandbox: "a".to_owned(), ..Default::default() };
    let stale = client.approve_all_draft_chunks(request.clone()).await.unwrap().into_inner();
    assert_eq!((stale.chunks_approved, stale.chunks_skipped, stale.policy_version), (0, 2, 0));
    let done = client.approve_all_draft_chunks(request.clone()).await.unwrap().into_inner();
    assert_eq!((done.chunks_approved, done.chunks_skipped, done.policy_version), (1, 1, 3));
    let clear = new::ClearDraftChunksRequest { sandbox: "a".to_owned(), ..Default::default() };
    assert_eq!(client.clear_draft_chunks(clear).await.unwrap().into_inner().chunks_cleared, 1);
    let none = client.approve_all_draft_chunks(request).await.unwrap_err();
    assert_eq!(none.message(), "no pending chunks to approve");
    simulator.stop().await;
}

#[tokio::test]
async fn an_edit_issues_a_new_review_token_and_auto_approval_needs_no_reviewer() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let proposal = Proposal::allow("169.254.169.254", 80, "/bin/x");
    let id = simulator.propose("", "a", proposal).unwrap();
    let before = chunks(&mut client).await;
    assert!(before[0].validation_result.starts_with("prover: 1 new finding"));
    let edit = old::EditDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: id,
        proposed_rule: Some(Proposal::allow("ok.example", 80, "/bin/x").rule),
        ..Default::default()
    };
    client.edit_draft_chunk(edit).await.unwrap();
    let after = chunks(&mut client).await;
    assert_ne!(after[0].review_token, before[0].review_token);
    assert_eq!(after[0].validation_result, "prover: no new findings");

    let auto = shoreguard_proto::v0_0::openshell::sandbox::v1::setting_value::Value::StringValue;
    let set = old::UpdateConfigRequest {
        global: true,
        setting_key: "proposal_approval_mode".to_owned(),
        setting_value: Some(shoreguard_proto::v0_0::openshell::sandbox::v1::SettingValue {
            value: Some(auto("auto".to_owned())),
        }),
        ..Default::default()
    };
    client.update_config(set).await.unwrap();
    simulator.propose("", "a", Proposal::allow("auto.example", 443, "/bin/x")).unwrap();
    assert_eq!(chunks(&mut client).await[1].status, "approved");
    simulator.stop().await;
}
