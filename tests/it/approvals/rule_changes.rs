//! Reviews of weaker workflows and pins, as the rpcs open them.

use shoreguard::access::principal::PrincipalId;
use shoreguard::governance::VoterSet;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::{Content, RuleContent};
use shoreguard::resources::policy_pins::worker::CLOCK;
use shoreguard::role::Role;
use shoreguard::workers;

use super::{fact, named, people, proposal, propose, require, rule, user};
use crate::approval_workflows::{request as workflow_request, rule as workflow_rule};
use crate::boot_hooks::last_event;
use crate::support::server::{Caller, TestServer};

server_tests! {
    t12_the_owner_of_a_sandbox_does_not_approve_a_change_of_its_rules,
    a_rule_that_cannot_be_met_any_more_is_not_stored,
}

server_tests_without_jobs! {
    a_review_of_a_rule_ends_with_its_version,
}

/// Returns the data of the last event of a type.
async fn payload(sg: &TestServer, name: &str) -> serde_json::Value {
    let event = last_event(&sg.admin(), name).await;
    serde_json::from_str(&event.payload_json).unwrap()
}

/// Pins `box` on `edge` as an earlier call of an operator would have.
async fn pin(sg: &TestServer) {
    sg.sql(
        "INSERT INTO policy_pins (gateway_name, workspace, sandbox_name, pinned_version, pinned_by, pinned_at, \
         setter_role) VALUES ('edge', 'default', 'box', 4, 'ops', '2026-01-01 00:00:00.000000', 'operator')",
    )
    .await;
}

/// Removes the pin. Returns the review that decides about it.
async fn unpin(caller: &Caller) -> i64 {
    let (gateway, sandbox) = ("edge".to_owned(), "box".to_owned());
    let request = pb::UnpinPolicyRequest { gateway, sandbox, ..Default::default() };
    let refused = caller.policies().unpin_policy(request).await;
    let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
    fact(&refused, "approval").parse().unwrap()
}

async fn t12_the_owner_of_a_sandbox_does_not_approve_a_change_of_its_rules(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let owner = PrincipalId::User(user(&sg, "ana").into());
    sg.sql(&format!(
        "INSERT INTO sandbox_meta (gateway_name, workspace, sandbox_name, created_at, owner) \
         VALUES ('edge', 'default', 'box', '2026-01-01 00:00:00.000000', '{owner}')"
    ))
    .await;
    pin(&sg).await;
    let id = unpin(&sg.with_token(&of.dora)).await;
    let ana = sg.with_token(&of.ana);
    // The pin does not stop its own removal.
    assert_eq!(ana.approval(id).await.blockers, Vec::<String>::new());
    let refused = assert_refused!(ana.approve(id).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "owner");
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!(ben.state(), pb::ApprovalState::Applied);
    // The event is that of a pin which is removed without a review, and names the approval.
    let payload = payload(&sg, "policy.unpinned").await;
    assert_eq!((payload["approval"].as_i64(), payload["version"].as_i64()), (Some(id), Some(4)));
    for (key, value) in [("gateway", "edge"), ("workspace", "default"), ("sandbox", "box")] {
        assert_eq!(payload[key], value);
    }
    // The change is that of the voter who has decided.
    sg.app.audit.wait_settled().await;
    let entries = sg.admin().audit_entries("box", "policy.unpin").await;
    let by_voter = entries.iter().filter(|entry| entry.actor == "ben@example.com");
    assert_eq!(by_voter.count(), 1, "{entries:?}");
    sg.finish().await;
}

async fn a_rule_that_cannot_be_met_any_more_is_not_stored(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    // A known id.
    sg.sql("UPDATE approval_workflows SET id = 77").await;
    let to_voters = |voters: VoterSet| {
        let before = rule(&[("reviewers", 2, VoterSet::of_role(Role::Operator))]);
        let after = Some(rule(&[("reviewers", 1, voters)]));
        Content::Rule(Box::new(RuleContent::Workflow { id: 77, version: 1, before, after }))
    };
    let mut unmet = proposal("a.example.com");
    unmet.content = Some(to_voters(named(vec![user(&sg, "ana")], vec![])));
    let mut met = proposal("a.example.com");
    met.content = Some(to_voters(named(vec![user(&sg, "cleo")], vec![])));
    let (unmet, _) = propose(&sg, &of.dora, &unmet).await.unwrap();
    let (met, _) = propose(&sg, &of.dora, &met).await.unwrap();
    let request = pb::DeleteUserRequest { user: "ana@example.com".into(), ..Default::default() };
    sg.admin().users().delete_user(request).await.unwrap();
    let (ben, cleo) = (sg.with_token(&of.ben), sg.with_token(&of.cleo));
    ben.approve(unmet).await.unwrap();
    let found = cleo.approve(unmet).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Superseded);
    assert!(found.close_reason.contains("cannot be met any more"), "{}", found.close_reason);
    assert_eq!(sg.sql("UPDATE approval_workflows SET id = id WHERE version = 1").await, 1);
    ben.approve(met).await.unwrap();
    assert_eq!(cleo.approve(met).await.unwrap().state(), pb::ApprovalState::Applied);
    assert_eq!(sg.sql("UPDATE approval_workflows SET id = id WHERE version = 2").await, 1);
    let payload = payload(&sg, "approval_workflow.set").await;
    assert_eq!(payload["approval_workflow_id"].as_i64(), Some(77));
    assert_eq!(payload["approval"].as_i64(), Some(met));
    sg.finish().await;
}

async fn a_review_of_a_rule_ends_with_its_version(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    pin(&sg).await;
    let (admin, dora) = (sg.admin(), sg.with_token(&of.dora));
    let state = async |id| admin.approval(id).await.approval.unwrap().state();
    let edge = || "edge".to_owned();
    let repeat = async |reason: &str| {
        let (gateway, sandbox, reason) = (edge(), "box".to_owned(), reason.to_owned());
        let request = pb::PinPolicyRequest { gateway, sandbox, reason, ..Default::default() };
        admin.policies().pin_policy(request).await.unwrap();
    };
    // A pin that is changed.
    let changed = unpin(&dora).await;
    repeat("").await;
    assert_eq!(state(changed).await, pb::ApprovalState::Open, "nothing was changed");
    repeat("an audit").await;
    let found = admin.approval(changed).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Superseded);
    assert!(found.close_reason.contains("was changed"), "{}", found.close_reason);
    // A pin that has expired.
    let expired = unpin(&dora).await;
    sg.sql("UPDATE policy_pins SET expires_at = '2020-01-01 00:00:00.000000'").await;
    workers::run_once(&sg.app, &CLOCK).await.unwrap().expect("no other holder of the lease");
    assert_eq!(state(expired).await, pb::ApprovalState::Superseded);
    // A workflow that is replaced. Reviews of something else stay.
    let by_operators = |required| {
        let reviewers = [("reviewers", required, pb::VoterSet::default())];
        workflow_request("", "", workflow_rule(&reviewers))
    };
    let delete = async || {
        let request = pb::DeleteWorkflowRequest { gateway: edge(), ..Default::default() };
        let refused = admin.approval_workflows().delete_workflow(request).await;
        let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
        fact(&refused, "approval").parse::<i64>().unwrap()
    };
    let outdated = delete().await;
    let (other, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let stricter = admin.approval_workflows().set_workflow(by_operators(2)).await;
    assert_eq!(stricter.unwrap().into_inner().open_approval_ids, [other]);
    assert_eq!(state(outdated).await, pb::ApprovalState::Superseded);
    // Two changes of one version: the first that is made ends the other.
    let deletion = delete().await;
    let weaker = admin.approval_workflows().set_workflow(by_operators(1)).await;
    let weaker = assert_refused!(weaker, FailedPrecondition, "APPROVAL_REQUIRED");
    let weaker = fact(&weaker, "approval").parse().unwrap();
    sg.with_token(&of.ana).approve(deletion).await.unwrap();
    assert_eq!(state(weaker).await, pb::ApprovalState::Open);
    sg.with_token(&of.ben).approve(deletion).await.unwrap();
    assert_eq!(state(deletion).await, pb::ApprovalState::Applied);
    assert_eq!(state(weaker).await, pb::ApprovalState::Superseded);
    sg.finish().await;
}
