//! Changes under an approval workflow, from the proposal to the write, through Shoreguard's own API and through the
//! proxy.

use prost::Message;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v0_1::openshell::sandbox::v1 as new_sandbox;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::PolicyChangeOutcome as Outcome;
use shoreguard::resources::approvals::RoundState;
use shoreguard_simulator::{Generation, Script, Simulator, Times};
use tonic::{Code, Status};

use crate::approval_workflows::operators;
use crate::approvals::fact;
use crate::approved_writes::{advance_until, find_event, revisions, round, wait_for, writes};
use crate::policies::{GATEWAYS, change_directly, endpoint, get_version, seeded, with_rule};
use crate::policy_writes::merge;
use crate::proxy::for_gateway;
use crate::support::server::{Caller, TestServer};

server_tests! {
    a_proposal_is_voted_on_and_written_once,
    base_mover_is_no_author,
    payload_after_approval_starts_over,
    stale_token_shows_the_new_diff,
    applied_is_never_denied_later,
    failed_gateway_keeps_votes,
    a_proxied_policy_is_a_proposal,
    t12_the_maker_of_a_proposing_service_principal_does_not_approve,
    g07_a_weaker_rule_is_made_by_its_review,
    a_policy_for_all_sandboxes_stops_proposals,
}

/// Operators on a governed gateway.
pub(crate) struct Staff {
    pub(crate) ana: Caller,
    pub(crate) ben: Caller,
    pub(crate) dora: Caller,
}

/// Creates three operators, and a workflow of the gateway.
pub(crate) async fn govern(sg: &TestServer, gateway: &str, required: u32) -> Staff {
    let mut staff = Vec::new();
    for name in ["ana", "ben", "dora"] {
        let email = format!("{name}@example.com");
        let known = sg.app.snapshot.user_by_email(&email).is_some();
        staff.push(if known {
            sg.login(&email).await
        } else {
            sg.with_token(&sg.create_user(&email, pb::Role::Operator).await)
        });
    }
    set_workflow(&sg.admin(), gateway, required).await.unwrap();
    let [ana, ben, dora]: [Caller; 3] = staff.try_into().ok().unwrap();
    Staff { ana, ben, dora }
}

async fn set_workflow(caller: &Caller, gateway: &str, required: u32) -> Result<(), Status> {
    let request = pb::SetWorkflowRequest {
        gateway: gateway.to_owned(),
        rule: Some(operators(required)),
        ..Default::default()
    };
    caller.approval_workflows().set_workflow(request).await.map(drop)
}

/// Proposes a rule for a host. Returns the number of the approval.
async fn propose(caller: &Caller, gateway: &str, host: &str) -> i64 {
    let change = merge(caller, gateway, host).await.unwrap();
    assert_eq!(change.outcome(), Outcome::Proposed, "{change:?}");
    assert_eq!(change.approval_digest.len(), 64);
    change.approval_id
}

/// Writes another policy, without Shoreguard.
async fn move_base(simulator: &Simulator, host: &str) {
    let change = old::UpdateConfigRequest {
        name: "coder".to_owned(),
        policy: Some(with_rule("moved", endpoint(host, 443))),
        ..Default::default()
    };
    change_directly(simulator, change).await;
}

/// Waits until a proposal whose base has moved is replaced. Returns its successor.
async fn successor(sg: &TestServer, id: i64) -> i64 {
    wait_for(&sg.app, ApprovalRoundId(id), RoundState::Superseded).await;
    let successor = sg.admin().approval(id).await.successor_approval_id;
    assert_ne!(successor, 0);
    successor
}

async fn a_proposal_is_voted_on_and_written_once(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let Staff { ana, ben, dora } = govern(&sg, name, 2).await;
        let (before, written) = (revisions(&simulator), writes(&simulator));
        let id = propose(&dora, name, "one.example").await;
        assert_eq!(propose(&dora, name, "one.example").await, id, "it is the same content");
        let own = dora.approve(id).await;
        assert_refused!(own, PermissionDenied, "OWN_CHANGE");
        assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Open);
        assert_eq!(writes(&simulator), written);
        ben.approve(id).await.unwrap();
        let id = ApprovalRoundId(id);
        wait_for(&sg.app, id, RoundState::Applied).await;
        assert_eq!((revisions(&simulator) - before, writes(&simulator) - written), (1, 1));
        let policy = get_version(&ana, name, 0).await.unwrap();
        assert!(policy.yaml.contains("one.example"), "{policy:?}");
        assert_eq!(policy.revision.unwrap().provenance["shoreguard/actor"], "dora@example.com");
        for event in
            ["approval.pending", "approval.quorum_met", "approval.approved", "policy.applied"]
        {
            find_event(&sg.admin(), event, id).await;
        }
        simulator.stop().await;
    }
    sg.app.audit.wait_settled().await;
    let entries = sg.admin().audit_entries("coder", "policy.apply").await;
    assert!(entries.iter().all(|entry| entry.detail_json.contains("\"outcome\":\"proposed\"")));
    sg.finish().await;
}

async fn base_mover_is_no_author(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let Staff { ana, ben, dora } = govern(&sg, name, 1).await;
    let first = propose(&dora, name, "one.example").await;
    let other = propose(&ben, name, "two.example").await;
    ana.approve(other).await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(other), RoundState::Applied).await;
    ana.approve(first).await.unwrap();
    let next = successor(&sg, first).await;
    let shown = ben.approval(next).await.approval.unwrap();
    assert_eq!((shown.state(), shown.votes), (pb::ApprovalState::Open, 0));
    assert_eq!(shown.authors, ["dora@example.com"]);
    // Who moved the base can approve.
    ben.approve(next).await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(next), RoundState::Applied).await;
    let policy = get_version(&ana, name, 0).await.unwrap().yaml;
    assert!(policy.contains("one.example") && policy.contains("two.example"), "{policy}");
    assert_eq!(writes(&simulator), 2);
    sg.finish().await;
}

async fn payload_after_approval_starts_over(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let Staff { ana, ben, dora } = govern(&sg, name, 2).await;
        let id = propose(&dora, name, "one.example").await;
        ana.approve(id).await.unwrap();
        move_base(&simulator, "moved.example").await;
        let written = writes(&simulator);
        ben.approve(id).await.unwrap();
        let next = successor(&sg, id).await;
        assert!(ana.votes(next).await.is_empty());
        assert_eq!(ana.votes(id).await.len(), 2, "the votes stay in the history");
        let shown = ana.approval(next).await.approval.unwrap();
        assert_eq!((shown.votes, shown.needed), (0, 2));
        assert_eq!(writes(&simulator), written);
        find_event(&sg.admin(), "approval.superseded", ApprovalRoundId(id)).await;
        find_event(&sg.admin(), "approval.pending", ApprovalRoundId(next)).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn stale_token_shows_the_new_diff(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let Staff { ana, ben, dora } = govern(&sg, name, 1).await;
    let id = propose(&dora, name, "one.example").await;
    let seen = ben.approval(id).await.approval.unwrap().digest;
    move_base(&simulator, "moved.example").await;
    ana.approve(id).await.unwrap();
    let next = successor(&sg, id).await;
    let vote = |approval_id| pb::VoteRequest {
        approval_id,
        digest: seen.clone(),
        decision: pb::VoteDecision::Approve.into(),
        ..Default::default()
    };
    let closed = ben.approvals().vote(vote(id)).await;
    let closed = assert_refused!(closed, FailedPrecondition, "ROUND_CLOSED");
    assert_eq!(fact(&closed, "successor"), next.to_string());
    let stale = ben.approvals().vote(vote(next)).await;
    let stale = assert_refused!(stale, Aborted, "REVIEW_STALE");
    let detail = ben.approval(next).await;
    assert_eq!(fact(&stale, "digest"), detail.approval.unwrap().digest);
    let shown = format!("{:?}", detail.content.unwrap());
    assert!(shown.contains("one.example") && shown.contains("moved.example"), "{shown}");
    sg.finish().await;
}

async fn applied_is_never_denied_later(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let _simulator = seeded(&sg, name, generation).await;
    let Staff { ana, ben, dora } = govern(&sg, name, 1).await;
    let id = propose(&dora, name, "one.example").await;
    ana.approve(id).await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(id), RoundState::Applied).await;
    for decision in [pb::VoteDecision::Reject, pb::VoteDecision::Approve] {
        assert_refused!(ben.vote(id, decision).await, FailedPrecondition, "ROUND_CLOSED");
    }
    let withdraw = pb::WithdrawProposalRequest { approval_id: id, ..Default::default() };
    let withdrawn = dora.approvals().withdraw_proposal(withdraw).await;
    assert_refused!(withdrawn, FailedPrecondition, "ROUND_CLOSED");
    set_workflow(&sg.admin(), name, 2).await.unwrap();
    let shown = ana.approval(id).await.approval.unwrap();
    assert_eq!(shown.state(), pb::ApprovalState::Applied);
    assert_eq!(ana.votes(id).await.len(), 1);
    sg.finish().await;
}

async fn failed_gateway_keeps_votes(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let Staff { ana, dora, .. } = govern(&sg, name, 1).await;
    let busy = Script::TrailersOnly { code: Code::ResourceExhausted, message: "busy".to_owned() };
    simulator.script("UpdateConfig", busy, Times::Next(1));
    let id = propose(&dora, name, "one.example").await;
    ana.approve(id).await.unwrap();
    let round_id = ApprovalRoundId(id);
    crate::support::eventually("the first attempt has failed", || async {
        let found = round(&sg.app, round_id).await;
        found.progress.attempts == 1 && found.state == RoundState::Approved
    })
    .await;
    let votes = ana.votes(id).await;
    assert!(votes.len() == 1 && votes[0].clear_time.is_none(), "{votes:?}");
    advance_until(&sg.app, round_id, RoundState::Applied).await;
    assert!(ana.votes(id).await[0].clear_time.is_some());
    assert_eq!(writes(&simulator), 1);
    sg.finish().await;
}

/// Replaces the policy of `coder` as a stock client. Returns the version.
pub(crate) async fn update(
    caller: &Caller,
    (name, generation): (&str, Generation),
    host: &str,
) -> Result<u32, Status> {
    let policy = with_rule("site", endpoint(host, 443));
    match generation {
        Generation::V0_0 => {
            let request = old::UpdateConfigRequest {
                name: "coder".to_owned(),
                policy: Some(policy),
                annotations: [("ticket".to_owned(), "7".to_owned())].into(),
                ..Default::default()
            };
            let mut client = caller.openshell_v0_0();
            let answer = client.update_config(for_gateway(name, request)).await?;
            Ok(answer.into_inner().version)
        }
        Generation::V0_1 => {
            // Its fields are the same in both generations.
            let policy = new_sandbox::SandboxPolicy::decode(&policy.encode_to_vec()[..]).unwrap();
            let request = new::UpdateConfigRequest {
                sandbox: "coder".to_owned(),
                policy: Some(policy),
                annotations: [("ticket".to_owned(), "7".to_owned())].into(),
                ..Default::default()
            };
            let mut client = caller.openshell_v0_1();
            let answer = client.update_config(for_gateway(name, request)).await?;
            Ok(answer.into_inner().version)
        }
    }
}

async fn a_proxied_policy_is_a_proposal(sg: TestServer) {
    for gateway in GATEWAYS {
        let (name, generation) = gateway;
        let simulator = seeded(&sg, name, generation).await;
        let Staff { ana, dora, .. } = govern(&sg, name, 1).await;
        let before = (revisions(&simulator), writes(&simulator));
        let refused = update(&dora, gateway, "one.example").await;
        let refused = assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
        let facts = ["state", "votes", "needed"].map(|key| fact(&refused, key));
        assert_eq!(facts, ["open", "0", "1"]);
        let again = update(&dora, gateway, "one.example").await.unwrap_err();
        assert_eq!(fact(&again, "approval"), fact(&refused, "approval"));
        assert_eq!((revisions(&simulator), writes(&simulator)), before);
        let id: i64 = fact(&refused, "approval").parse().unwrap();
        let shown = ana.approval(id).await.approval.unwrap();
        assert_eq!(shown.digest, fact(&refused, "digest"));
        ana.approve(id).await.unwrap();
        wait_for(&sg.app, ApprovalRoundId(id), RoundState::Applied).await;
        assert_eq!((revisions(&simulator), writes(&simulator)), (before.0 + 1, before.1 + 1));
        let policy = get_version(&ana, name, 0).await.unwrap();
        let revision = policy.revision.unwrap();
        assert!(!revision.provenance.contains_key("ticket"), "{revision:?}");
        // The gateway has it now.
        assert_eq!(update(&dora, gateway, "one.example").await.unwrap(), revision.version);
        assert_eq!(revisions(&simulator), before.0 + 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t12_the_maker_of_a_proposing_service_principal_does_not_approve(sg: TestServer) {
    for gateway in GATEWAYS {
        let (name, generation) = gateway;
        let simulator = seeded(&sg, name, generation).await;
        let Staff { ana, .. } = govern(&sg, name, 1).await;
        let max = format!("max-{name}@example.com");
        let max = sg.with_token(&sg.create_user(&max, pb::Role::Admin).await);
        let bot = max.create_key(&format!("bot-{name}"), pb::Role::Operator).await;
        let bot = sg.with_token(&bot);
        let own = propose(&bot, name, "one.example").await;
        let proxied = update(&bot, gateway, "two.example").await.unwrap_err();
        let proxied: i64 = fact(&proxied, "approval").parse().unwrap();
        for id in [own, proxied] {
            assert_refused!(max.approve(id).await, PermissionDenied, "OWN_CHANGE");
        }
        ana.approve(own).await.unwrap();
        wait_for(&sg.app, ApprovalRoundId(own), RoundState::Applied).await;
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g07_a_weaker_rule_is_made_by_its_review(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let _simulator = seeded(&sg, name, generation).await;
    let Staff { ana, ben, .. } = govern(&sg, name, 2).await;
    let admin = sg.admin();
    let (gateway, sandbox) = (name.to_owned(), "coder".to_owned());
    let pin = pb::PinPolicyRequest { gateway, sandbox, ..Default::default() };
    admin.policies().pin_policy(pin).await.unwrap();
    let (gateway, sandbox) = (name.to_owned(), "coder".to_owned());
    let unpin = pb::UnpinPolicyRequest { gateway, sandbox, ..Default::default() };
    let unpinned = admin.policies().unpin_policy(unpin.clone()).await;
    let unpinned = assert_refused!(unpinned, FailedPrecondition, "APPROVAL_REQUIRED");
    let weaker = set_workflow(&admin, name, 1).await;
    let weaker = assert_refused!(weaker, FailedPrecondition, "APPROVAL_REQUIRED");
    for refused in [unpinned, weaker] {
        let id = fact(&refused, "approval").parse().unwrap();
        ana.approve(id).await.unwrap();
        ben.approve(id).await.unwrap();
        let shown = ana.approval(id).await.approval.unwrap();
        assert_eq!(shown.state(), pb::ApprovalState::Applied, "{shown:?}");
    }
    assert_refused!(admin.policies().unpin_policy(unpin).await, NotFound, "NOT_FOUND");
    let request = pb::GetWorkflowRequest { gateway: name.to_owned(), ..Default::default() };
    let found = admin.approval_workflows().get_workflow(request).await.unwrap().into_inner();
    assert_eq!(found.approval_workflow.unwrap().rule.unwrap().groups[0].required, 1);
    sg.finish().await;
}

async fn a_policy_for_all_sandboxes_stops_proposals(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let global = old::UpdateConfigRequest {
        global: true,
        policy: Some(with_rule("all", endpoint("all.example", 443))),
        ..Default::default()
    };
    change_directly(&simulator, global).await;
    let refused = merge(&sg.admin(), name, "one.example").await;
    let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
    assert!(refused.message().contains("all sandboxes"), "{refused:?}");
    let Staff { dora, .. } = govern(&sg, name, 1).await;
    for refused in [
        merge(&dora, name, "one.example").await.map(drop),
        update(&dora, (name, generation), "one.example").await.map(drop),
    ] {
        assert_refused!(refused, FailedPrecondition, "GOVERNED");
    }
    sg.finish().await;
}
