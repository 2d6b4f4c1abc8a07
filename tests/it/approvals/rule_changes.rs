//! Reviews of weaker workflows and pins, as the rpcs open them.

use shoreguard::access::principal::PrincipalId;
use shoreguard::governance::VoterSet;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::{Content, RuleContent};
use shoreguard::role::Role;

use super::{fact, named, people, proposal, propose, require, rule, user};
use crate::boot_hooks::last_event;
use crate::support::server::{Caller, TestServer};

server_tests! {
    t12_the_owner_of_a_sandbox_does_not_approve_a_change_of_its_rules,
    a_rule_that_cannot_be_met_any_more_is_not_stored,
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
