//! Rejections of drafts that are approved on their gateway at the same time. The tests run each pass of the follower
//! themselves.

use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Hold, Script, Times};

use crate::approvals::events;
use crate::followers::{Edge, of_chunk};
use crate::support::server::{Caller, TestServer};

/// Read before a rejection is sent.
const REVISION: &str = "GetSandboxPolicyStatus";
const DRAFTS: &str = "GetDraftPolicy";
const REJECT: &str = "RejectDraftChunk";

server_tests_without_jobs! {
    t13_a_draft_that_was_approved_on_its_gateway_is_not_rejected,
    t13_a_rejection_that_removes_an_approved_rule_is_recorded,
    t13_a_rejection_that_removes_an_approved_rule_is_recorded_if_its_answer_is_lost,
}

/// Starts a gateway with a draft that was rejected by a vote. Returns it with its voter, the chunk and the approval.
async fn rejected(sg: &TestServer, generation: Generation) -> (Edge, Caller, String, i64) {
    let mut edge = Edge::start(sg, generation).await;
    let ana = sg.with_token(&sg.create_user("ana@example.com", pb::Role::Operator).await);
    let chunk = edge.propose("kept.example.com");
    edge.follow(sg).await;
    let review = of_chunk(&ana, &chunk).await.unwrap();
    ana.vote(review.id, pb::VoteDecision::Reject).await.unwrap();
    (edge, ana, chunk, review.id)
}

async fn removed_version(caller: &Caller, id: i64) -> i64 {
    let approval = caller.approval(id).await.approval.unwrap();
    assert_eq!(approval.state(), pb::ApprovalState::Rejected);
    approval.removed_version
}

fn calls(edge: &Edge, method: &str) -> u64 {
    let path = format!("/openshell.v1.OpenShell/{method}");
    edge.simulator.calls().get(path.as_str()).copied().unwrap_or_default()
}

fn writes(edge: &Edge) -> u64 {
    edge.simulator.policy_counts("default", "coder").unwrap().writes
}

async fn t13_a_draft_that_was_approved_on_its_gateway_is_not_rejected(sg: TestServer) {
    let (mut edge, ana, chunk, id) = rejected(&sg, Generation::V0_0).await;
    // The list of drafts, with the chunk, was read before.
    let hold = Hold::default();
    edge.simulator.script(REVISION, Script::HoldBefore(hold.clone()), Times::Next(1));
    edge.follow_while(&sg, async |simulator| {
        hold.wait_reached(1).await;
        simulator.approve_proposal("default", "coder", &chunk).unwrap();
        hold.release();
    })
    .await;
    assert_eq!(edge.status(&chunk).0, "approved");
    assert_eq!(of_chunk(&ana, &chunk).await, None);
    edge.follow(&sg).await;
    assert_eq!(edge.status(&chunk).0, "approved");
    assert_eq!(calls(&edge, REJECT), 0);
    assert_eq!(removed_version(&ana, id).await, 0);
    assert_eq!(events(&sg, "approval.rule_removed").await, 0);
    sg.finish().await;
}

async fn t13_a_rejection_that_removes_an_approved_rule_is_recorded(sg: TestServer) {
    let (mut edge, ana, chunk, id) = rejected(&sg, Generation::V0_1).await;
    let before = writes(&edge);
    let hold = Hold::default();
    edge.simulator.script(REJECT, Script::HoldBefore(hold.clone()), Times::Next(1));
    edge.follow_while(&sg, async |simulator| {
        hold.wait_reached(1).await;
        simulator.approve_proposal("default", "coder", &chunk).unwrap();
        hold.release();
    })
    .await;
    assert_eq!(edge.status(&chunk).0, "rejected");
    assert_eq!(writes(&edge), before + 2, "the approval, and the removal");
    assert!(removed_version(&ana, id).await > 0);
    assert_eq!(events(&sg, "approval.rule_removed").await, 1);
    // Once.
    edge.follow(&sg).await;
    assert_eq!(calls(&edge, REJECT), 1);
    assert_eq!(events(&sg, "approval.rule_removed").await, 1);
    sg.finish().await;
}

async fn t13_a_rejection_that_removes_an_approved_rule_is_recorded_if_its_answer_is_lost(
    sg: TestServer,
) {
    let (mut edge, ana, chunk, id) = rejected(&sg, Generation::V0_0).await;
    let (first, second) = (Hold::default(), Hold::default());
    edge.simulator.script(REVISION, Script::HoldBefore(first.clone()), Times::Next(1));
    edge.follow_while(&sg, async |simulator| {
        first.wait_reached(1).await;
        // The chunk is read as pending once more, and approved before the rejection arrives.
        simulator.script(DRAFTS, Script::HoldAfter(second.clone()), Times::Next(1));
        simulator.script(REJECT, Script::Disconnect, Times::Next(1));
        first.release();
        second.wait_reached(1).await;
        simulator.approve_proposal("default", "coder", &chunk).unwrap();
        second.release();
    })
    .await;
    assert_eq!(edge.status(&chunk).0, "rejected");
    assert_eq!(removed_version(&ana, id).await, 0, "the answer is not known yet");
    edge.follow(&sg).await;
    assert!(removed_version(&ana, id).await > 0);
    assert_eq!(events(&sg, "approval.rule_removed").await, 1);
    assert_eq!(calls(&edge, REJECT), 1);
    sg.finish().await;
}
