//! Submissions of supervisors: what is refused, how rules are stored, and automatic approvals.

use tonic::Code;
use tonic::transport::Channel;

use super::{NewClient, OldClient, new, new_create, new_gateway, old, old_gateway, old_sandbox};
use crate::Proposal;
use shoreguard_proto::v0_0::openshell::sandbox::v1 as sb;

async fn old_chunks(client: &mut OldClient<Channel>) -> Vec<old::PolicyChunk> {
    let request = old::GetDraftPolicyRequest { name: "a".to_owned(), ..Default::default() };
    client.get_draft_policy(request).await.unwrap().into_inner().chunks
}

async fn new_chunks(client: &mut NewClient<Channel>) -> Vec<new::PolicyChunk> {
    let request = new::GetDraftPolicyRequest { sandbox: "a".to_owned(), ..Default::default() };
    client.get_draft_policy(request).await.unwrap().into_inner().chunks
}

fn authored(host: &str, binary: &str) -> Proposal {
    Proposal { agent_authored: true, ..Proposal::allow(host, 443, binary) }
}

async fn approve(
    client: &mut OldClient<Channel>,
    chunk: &old::PolicyChunk,
) -> Result<old::ApproveDraftChunkResponse, tonic::Status> {
    let request = old::ApproveDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: chunk.id.clone(),
        review_token: chunk.review_token.clone(),
        ..Default::default()
    };
    client.approve_draft_chunk(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_submission_reports_what_it_stores_and_why_it_refuses_the_rest() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let good = authored("one.example", "/bin/x");
    let named = |name: &str| Proposal { rule_name: name.to_owned(), ..good.clone() };
    let mut empty = named("empty");
    empty.rule.endpoints.clear();
    let all = vec![named(""), named("_provider_github"), empty.clone(), good.clone()];
    let done = simulator.submit_analysis("", "a", all).unwrap();
    assert_eq!(done.accepted_ids, [old_chunks(&mut client).await[0].id.clone()]);
    let reasons = [
        "chunk missing rule_name",
        "chunk '_provider_github' uses reserved '_provider_' rule-name prefix",
        "chunk 'empty': merge failed: merge operation 0 add-rule 'empty' must contain at least one endpoint",
    ];
    assert_eq!(done.rejection_reasons, reasons);
    let refused = simulator.propose("", "a", empty.clone()).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);

    let observed = Proposal { agent_authored: false, ..empty };
    simulator.propose("", "a", observed).unwrap();
    let stored = old_chunks(&mut client).await.pop().unwrap();
    assert_eq!(stored.status, "pending");
    assert!(stored.application_error.starts_with("merge failed"), "{stored:?}");
    let refused = approve(&mut client, &stored).await.unwrap_err();
    assert!(refused.message().starts_with("proposal is not applicable"), "{refused:?}");
    let missing = simulator.propose("", "b", good).unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    simulator.stop().await;
}

#[tokio::test]
async fn what_an_agent_proposes_is_marked_in_generation_0_1() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    simulator.propose("", "a", authored("one.example", "/bin/x")).unwrap();
    let refused_connection = Proposal::allow("two.example", 443, "/bin/x");
    simulator.propose("", "a", refused_connection.clone()).unwrap();
    let rules: Vec<_> = old_chunks(&mut client).await;
    let marks = |chunk: &old::PolicyChunk| {
        let rule = chunk.proposed_rule.as_ref().unwrap();
        (rule.endpoints[0].advisor_proposed, rule.binaries[0].harness)
    };
    assert_eq!((marks(&rules[0]), marks(&rules[1])), ((false, false), (true, true)));
    simulator.stop().await;

    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    simulator.propose("", "a", authored("one.example", "/bin/x")).unwrap();
    simulator.propose("", "a", refused_connection).unwrap();
    for chunk in new_chunks(&mut client).await {
        assert!(chunk.proposed_rule.unwrap().endpoints[0].advisor_proposed);
        assert!(chunk.stage.is_empty(), "a gateway does not set it");
    }
    simulator.stop().await;
}

#[tokio::test]
async fn a_refused_connection_gets_the_inspection_of_its_destination() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let add = |rule: &str, access: &str| {
        let (rule, access) = (rule.to_owned(), access.to_owned());
        move |policy: &mut sb::SandboxPolicy| {
            let endpoint = sb::NetworkEndpoint {
                host: "one.example".to_owned(),
                port: 443,
                protocol: "rest".to_owned(),
                access,
                ..Default::default()
            };
            let binary = sb::NetworkBinary { path: "/bin/y".to_owned(), harness: false };
            let content = sb::NetworkPolicyRule {
                name: rule.clone(),
                endpoints: vec![endpoint],
                binaries: vec![binary],
            };
            policy.network_policies.insert(rule, content);
        }
    };
    simulator.change_policy("", "a", add("web", "read-only")).unwrap();
    simulator.propose("", "a", Proposal::allow("one.example", 443, "/bin/x")).unwrap();
    let stored = old_chunks(&mut client).await.remove(0);
    let endpoint = &stored.proposed_rule.as_ref().unwrap().endpoints[0];
    assert_eq!((endpoint.protocol.as_str(), endpoint.access.as_str()), ("rest", "read-only"));
    simulator.change_policy("", "a", add("other", "full")).unwrap();
    simulator.propose("", "a", Proposal::allow("one.example", 443, "/bin/z")).unwrap();
    let stored = old_chunks(&mut client).await.pop().unwrap();
    let why = "candidate canonicalization failed: cannot infer one existing endpoint contract for one.example:443";
    assert_eq!(stored.application_error, why);
    simulator.stop().await;
}

#[tokio::test]
async fn an_agent_never_changes_an_existing_rule_in_generation_0_1() {
    let (simulator, mut client) = new_gateway().await;
    client.create_sandbox(new_create("a")).await.unwrap();
    let proposal = authored("one.example", "/bin/x");
    let name = proposal.rule_name.clone();
    simulator
        .change_policy("", "a", |policy| {
            policy.network_policies.insert(name.clone(), sb::NetworkPolicyRule::default());
        })
        .unwrap();
    simulator.propose("", "a", proposal).unwrap();
    assert_eq!(new_chunks(&mut client).await[0].rule_name, format!("{name}_2"));
    simulator.stop().await;
}

#[tokio::test]
async fn automatic_approval_skips_proposals_with_findings_or_notes() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    let value = sb::setting_value::Value::StringValue("auto".to_owned());
    let set = old::UpdateConfigRequest {
        name: "a".to_owned(),
        setting_key: "proposal_approval_mode".to_owned(),
        setting_value: Some(sb::SettingValue { value: Some(value) }),
        ..Default::default()
    };
    client.update_config(set).await.unwrap();
    simulator.propose("", "a", Proposal::allow("*.example", 443, "/bin/x")).unwrap();
    simulator.set_validation_result(Some("prover: 1 new finding\n  made up"));
    simulator.propose("", "a", Proposal::allow("two.example", 443, "/bin/x")).unwrap();
    simulator.set_validation_result(None);
    simulator.propose("", "a", Proposal::allow("three.example", 443, "/bin/x")).unwrap();
    let found = old_chunks(&mut client).await;
    let statuses: Vec<_> = found.iter().map(|chunk| chunk.status.as_str()).collect();
    assert_eq!(statuses, ["pending", "pending", "approved"]);
    assert!(found[0].security_notes.starts_with("Host '*.example' contains a wildcard"));
    let counts = simulator.policy_counts("", "a").unwrap();
    assert_eq!((counts.writes, counts.revisions), (0, 2), "no caller has approved it");
    simulator.stop().await;
}

#[tokio::test]
async fn a_proposal_that_the_policy_already_allows_is_rejected_with_the_next_submission() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    simulator.propose("", "a", authored("one.example", "/bin/x")).unwrap();
    let rule = Proposal::allow("one.example", 443, "/bin/x").rule;
    simulator
        .change_policy("", "a", |policy| {
            policy.network_policies.insert("web".to_owned(), rule);
        })
        .unwrap();
    assert_eq!(old_chunks(&mut client).await[0].status, "pending");
    simulator.propose("", "a", authored("two.example", "/bin/x")).unwrap();
    let covered = old_chunks(&mut client).await.remove(0);
    assert_eq!(covered.rejection_reason, "covered by active policy revision 2");
    simulator.stop().await;
}

#[tokio::test]
async fn a_decision_in_a_wrong_status_or_for_an_unreachable_host_is_refused() {
    let (simulator, mut client) = old_gateway().await;
    old_sandbox(&mut client, "a").await;
    simulator.propose("", "a", authored("169.254.169.254", "/bin/x")).unwrap();
    let chunk = old_chunks(&mut client).await.remove(0);
    let refused = approve(&mut client, &chunk).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let noted = old_chunks(&mut client).await.remove(0);
    assert!(noted.application_error.contains("always-blocked address"), "{noted:?}");
    let undo = old::UndoDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: chunk.id.clone(),
        ..Default::default()
    };
    let refused = client.undo_draft_chunk(undo.clone()).await.unwrap_err();
    assert_eq!(refused.message(), "chunk status is 'pending', expected 'approved'");
    let unknown = old::UndoDraftChunkRequest { chunk_id: "x".to_owned(), ..undo.clone() };
    let refused = client.undo_draft_chunk(unknown).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "chunk not found"));
    let reject = old::RejectDraftChunkRequest {
        name: "a".to_owned(),
        chunk_id: chunk.id.clone(),
        ..Default::default()
    };
    client.reject_draft_chunk(reject.clone()).await.unwrap();
    let refused = client.reject_draft_chunk(reject).await.unwrap_err();
    assert_eq!(refused.message(), "chunk status is 'rejected', expected 'pending' or 'approved'");
    simulator.stop().await;
}
