//! What stock clients decide about drafts while something else happens, or that cannot be reviewed.

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::{Generation, Hold, Proposal, Script, Simulator, Times};

use super::{
    GatewayOf, approve, ask, calls, chunk, drafted, edit, open_by_vote, reject, shown, voted,
};
use crate::approvals::{DAY, require};
use crate::followers::Edge;
use crate::policies::{GATEWAYS, change_directly, endpoint, with_rule};
use crate::proposals::{Staff, govern};
use crate::support::eventually;
use crate::support::gateways::remove;
use crate::support::server::{Caller, TestServer};

each_generation! {
    server_tests_without_jobs, GATEWAYS;
    t13_a_policy_for_all_sandboxes_that_is_set_meanwhile_stops_a_vote,
    a_draft_that_cannot_be_reviewed_any_more_is_rejected_by_a_vote,
    a_draft_that_never_could_be_reviewed_is_rejected_while_it_is_pending,
    g04_an_editor_before_a_rule_does_not_approve_under_it,
    t14_a_rejection_without_a_review_is_not_sent_after_its_caller_was_deactivated,
}

server_tests_without_jobs! {
    all_reviews_of_cleared_drafts_end,
    a_late_review_of_a_removed_sandbox_has_expired,
}

/// Sets a policy for all sandboxes, as a client does that bypasses Shoreguard.
async fn set_global_policy(simulator: &Simulator) {
    let global = old::UpdateConfigRequest {
        global: true,
        policy: Some(with_rule("all", endpoint("all.example", 443))),
        ..Default::default()
    };
    change_directly(simulator, global).await;
}

/// Returns a rule that is too large to be reviewed. Few long hosts take less time than many short ones.
fn too_large() -> Proposal {
    let mut proposal = Proposal::allow("h0.example", 443, "/usr/bin/node");
    let long = ["x"; 3].map(|label| label.repeat(60)).join(".");
    let hosts = (1..600).map(|n| endpoint(&format!("h{n}.{long}.example"), 443));
    proposal.rule.endpoints.extend(hosts);
    proposal
}

async fn open_reviews(caller: &Caller, gateway: &str) -> usize {
    let request = pb::ListApprovalsRequest::default();
    let found = caller.approvals().list_approvals(request).await.unwrap().into_inner();
    found.approvals.iter().filter(|approval| approval.gateway == gateway).count()
}

async fn t13_a_policy_for_all_sandboxes_that_is_set_meanwhile_stops_a_vote(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, Staff { dora, .. }, wanted) = drafted(&sg, of, 2).await;
    let hold = Hold::default();
    simulator.script("GetDraftPolicy", Script::HoldAfter(hold.clone()), Times::Next(1));
    let set = async {
        // The gateway has read the drafts.
        hold.wait_reached(1).await;
        set_global_policy(&simulator).await;
        hold.release();
    };
    let (refused, ()) = tokio::join!(approve(&dora, of, &wanted), set);
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    assert_eq!(open_reviews(&dora, of.0).await, 0);
    simulator.stop().await;
    sg.finish().await;
}

async fn a_draft_that_cannot_be_reviewed_any_more_is_rejected_by_a_vote(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, Staff { ana, ben, .. }, wanted, id) = voted(&sg, of).await;
    simulator.edit_proposal("", "coder", &wanted.id, too_large().rule).unwrap();
    // No rule names this one.
    let eve = format!("eve-{}", of.0);
    let eve = sg.with_token(&sg.admin().create_key(&eve, pb::Role::Operator).await);
    assert_refused!(reject(&eve, of, &wanted.id).await, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(shown(&ben, id).await.state(), pb::ApprovalState::Open);
    assert_eq!(calls(&simulator, "RejectDraftChunk"), 0);
    reject(&ana, of, &wanted.id).await.unwrap();
    let rejected = shown(&ben, id).await;
    assert_eq!(rejected.state(), pb::ApprovalState::Rejected);
    assert!(rejected.close_reason.contains("not needed"), "{rejected:?}");
    assert_eq!(chunk(&ben, of, &wanted.id).await.status, "rejected");
    assert_eq!(calls(&simulator, "RejectDraftChunk"), 1);
    simulator.stop().await;
    sg.finish().await;
}

async fn a_draft_that_never_could_be_reviewed_is_rejected_while_it_is_pending(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, Staff { ana, .. }, _) = drafted(&sg, of, 2).await;
    let first = simulator.propose("", "coder", too_large()).unwrap();
    reject(&ana, of, &first).await.unwrap();
    assert_eq!(chunk(&ana, of, &first).await.status, "rejected");

    // It is approved on its gateway after it was read as pending.
    let second = ask(&simulator, "later.example");
    simulator.edit_proposal("", "coder", &second, too_large().rule).unwrap();
    let hold = Hold::default();
    simulator.script("GetDraftPolicy", Script::HoldAfter(hold.clone()), Times::Next(1));
    let approved = async {
        hold.wait_reached(1).await;
        simulator.approve_proposal("", "coder", &second).unwrap();
        hold.release();
    };
    let (refused, ()) = tokio::join!(reject(&ana, of, &second), approved);
    assert_refused!(refused, FailedPrecondition, "GATEWAY_REFUSED");
    assert_eq!(chunk(&ana, of, &second).await.status, "approved");
    assert_eq!(calls(&simulator, "RejectDraftChunk"), 1);
    simulator.stop().await;
    sg.finish().await;
}

async fn t14_a_rejection_without_a_review_is_not_sent_after_its_caller_was_deactivated(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, Staff { ana, .. }, _) = drafted(&sg, of, 2).await;
    let wanted = simulator.propose("", "coder", too_large()).unwrap();
    let hold = Hold::default();
    simulator.script("GetDraftPolicy", Script::HoldAfter(hold.clone()), Times::Next(1));
    let ended = async {
        // The gateway has read the drafts.
        hold.wait_reached(1).await;
        sg.deactivate("ana@example.com").await;
        hold.release();
    };
    let (refused, ()) = tokio::join!(reject(&ana, of, &wanted), ended);
    assert_refused!(refused, Unauthenticated, "CREDENTIAL_INVALID");
    // The call continues without its caller, and closes its entry at its end.
    eventually("the call has ended", || async {
        let entries = sg.admin().audit_entries("", "approval.vote").await;
        !entries.is_empty() && entries.iter().all(|entry| entry.outcome() != pb::AuditOutcome::Open)
    })
    .await;
    assert_eq!(calls(&simulator, "RejectDraftChunk"), 0);
    simulator.stop().await;
    sg.finish().await;
}

/// Lets a workflow begin, and asserts that `ana` is the author of a draft.
async fn assert_edited_by_ana(sg: &TestServer, of: GatewayOf<'_>, id: &str) {
    let Staff { ana, ben, dora } = govern(sg, of.0, 2).await;
    let edited = chunk(&ana, of, id).await;
    assert_refused!(approve(&ana, of, &edited).await, PermissionDenied, "OWN_CHANGE");
    let review = open_by_vote(&ben, of, &edited).await;
    assert_eq!(shown(&dora, review).await.authors, ["ana@example.com"]);
}

async fn g04_an_editor_before_a_rule_does_not_approve_under_it(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, Staff { ana, .. }, wanted) = drafted(&sg, of, 2).await;
    sg.sql("DELETE FROM approval_workflows").await;
    // It cannot be reviewed before the edit, so it has no review.
    simulator.edit_proposal("", "coder", &wanted.id, too_large().rule).unwrap();
    edit(&ana, of, &wanted.id, "edited.example").await.unwrap();
    assert_eq!(open_reviews(&ana, of.0).await, 0);
    assert_edited_by_ana(&sg, of, &wanted.id).await;
    // The same if the gateway has not reported the draft.
    sg.sql("DELETE FROM approval_workflows").await;
    let other = ask(&simulator, "other.example");
    let message = "no".to_owned();
    let failure = Script::TrailersOnly { code: tonic::Code::Internal, message };
    simulator.script("GetDraftPolicy", failure, Times::Next(1));
    edit(&ana, of, &other, "changed.example").await.unwrap();
    assert_edited_by_ana(&sg, of, &other).await;
    simulator.stop().await;
    sg.finish().await;
}

/// Agents get at most 100 open reviews. Persons can open more.
async fn all_reviews_of_cleared_drafts_end(sg: TestServer) {
    let of = GATEWAYS[1];
    let (_simulator, Staff { ana, .. }, _, id) = voted(&sg, of).await;
    sg.copy_review(250, &[("chunk_id", "'copy-' || i")]).await;
    let (gateway, sandbox) = (of.0.to_owned(), "coder".to_owned());
    let clear = pb::ClearChunksRequest { gateway, sandbox, ..Default::default() };
    let cleared = ana.approvals().clear_chunks(clear).await.unwrap().into_inner();
    assert_eq!((cleared.cleared, cleared.superseded), (1, 251));
    assert_eq!(shown(&ana, id).await.state(), pb::ApprovalState::Superseded);
    let open = "UPDATE approval_rounds SET version = version WHERE closed_at IS NULL";
    assert_eq!(sg.sql(open).await, 0);
    sg.finish().await;
}

async fn a_late_review_of_a_removed_sandbox_has_expired(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    require(&sg, 2).await;
    edge.follow(&sg).await;
    sg.pass(DAY * 8).await;
    remove(&edge.simulator).await;
    edge.follow(&sg).await;
    let expired = "UPDATE approval_rounds SET version = version WHERE state = 'expired'";
    assert_eq!(sg.sql(expired).await, 1);
    sg.finish().await;
}
