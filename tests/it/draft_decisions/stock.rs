//! Stock clients under an approval workflow: votes below and at quorum, rejections, edits, undoing and clearing; and what
//! the same calls do without a rule.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard_simulator::Generation;
use tonic::Code;

use super::{
    GatewayOf, approve, ask, calls, chunk, clear, drafted, edit, fact, open_by_vote, reject,
    round_id, shown, undo, voted,
};
use crate::approved_writes::{round, wait_for, writes};
use crate::policies::{GATEWAYS, get_version};
use crate::proposals::Staff;
use crate::support::server::TestServer;

server_tests! {
    below_quorum_the_vote_is_kept_and_at_quorum_the_client_gets_version_and_hash,
    g01_a_token_of_another_evaluation_is_refused_and_not_forwarded,
    a_vote_for_a_rule_that_the_client_was_not_shown_does_not_count,
    a_rejection_is_a_vote_and_a_rejected_draft_can_be_approved,
    cleared_drafts_have_no_reviews,
    without_a_rule_the_answer_of_the_gateway_ends_the_review,
}

each_generation! {
    server_tests, GATEWAYS;
    an_approved_draft_is_undone_by_a_review,
    an_edit_keeps_no_votes_and_its_editor_does_not_approve,
}

async fn below_quorum_the_vote_is_kept_and_at_quorum_the_client_gets_version_and_hash(
    sg: TestServer,
) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ana, ben, dora }, wanted) = drafted(&sg, of, 2).await;
        let before = writes(&simulator);
        for _ in 0..2 {
            let required = approve(&dora, of, &wanted).await;
            let required = assert_refused!(required, FailedPrecondition, "APPROVAL_REQUIRED");
            let facts = ["state", "votes", "needed"].map(|key| fact(&required, key));
            assert_eq!(facts, ["open", "1", "2"]);
            assert!(required.message().starts_with("vote recorded, 1 of 2"), "{required:?}");
        }
        assert_eq!((writes(&simulator), calls(&simulator, "ApproveDraftChunk")), (before, 0));
        let id = open_by_vote(&dora, of, &wanted).await;
        let detail = ana.approval(id).await;
        assert_eq!(detail.approval.unwrap().action(), pb::ApprovalAction::DraftApprove);
        let content = detail.content.unwrap();
        assert!(content.yaml.contains("registry.npmjs.org"), "{content:?}");

        let (version, hash) = approve(&ben, of, &wanted).await.unwrap();
        let revision = get_version(&ana, name, 0).await.unwrap().revision.unwrap();
        assert_eq!((revision.version, revision.policy_hash), (version, hash), "{name}");
        assert_eq!(writes(&simulator), before + 1);
        assert_eq!(chunk(&ana, of, &wanted.id).await.status, "approved");
        assert_eq!(ana.votes(id).await.len(), 2);
        wait_for(&sg.app, round_id(id), RoundState::Applied).await;
        // Again, as the gateway would answer.
        let again = approve(&dora, of, &wanted).await;
        let again = assert_refused!(again, FailedPrecondition, "GATEWAY_REFUSED");
        assert!(again.message().contains("chunk status is 'approved'"), "{again:?}");
        assert_eq!((writes(&simulator), calls(&simulator, "ApproveDraftChunk")), (before + 1, 1));
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g01_a_token_of_another_evaluation_is_refused_and_not_forwarded(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { dora, .. }, mut wanted) = drafted(&sg, of, 1).await;
        "another".clone_into(&mut wanted.token);
        let refused = approve(&dora, of, &wanted).await;
        let refused = assert_refused!(refused, FailedPrecondition, "GATEWAY_REFUSED");
        assert!(refused.message().starts_with("review token does not match"), "{refused:?}");
        "unknown".clone_into(&mut wanted.id);
        assert_eq!(approve(&dora, of, &wanted).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 0);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_vote_for_a_rule_that_the_client_was_not_shown_does_not_count(sg: TestServer) {
    for of in GATEWAYS {
        let (name, generation) = of;
        let (simulator, Staff { ana, dora, .. }, wanted) = drafted(&sg, of, 1).await;
        // The draft is merged into this rule now, and its evaluation is that of before.
        simulator
            .change_policy("", "coder", |policy| {
                let rule = super::rule("other.example");
                policy.network_policies.insert(wanted.rule_name.clone(), rule);
            })
            .unwrap();
        let stale = approve(&dora, of, &wanted).await;
        let stale = assert_refused!(stale, Aborted, "REVIEW_STALE");
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 0);
        let id: i64 = fact(&stale, "approval").parse().unwrap();
        assert_eq!(shown(&ana, id).await.digest, fact(&stale, "digest"));
        let content = ana.approval(id).await.content.unwrap();
        assert!(content.yaml.contains("other.example"), "{content:?}");
        assert_eq!(ana.votes(id).await.len(), 0);
        // The approval renews the token, and is sent with the new one.
        ana.approve(id).await.unwrap();
        let written = match generation {
            Generation::V0_0 => id,
            // The new evaluation has another name for the rule, which was not reviewed.
            Generation::V0_1 => {
                wait_for(&sg.app, round_id(id), RoundState::Superseded).await;
                let next = ana.approval(id).await.successor_approval_id;
                assert_eq!(ana.votes(next).await.len(), 0);
                ana.approve(next).await.unwrap();
                next
            }
        };
        wait_for(&sg.app, round_id(written), RoundState::Applied).await;
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 2);
        let policy = get_version(&ana, name, 0).await.unwrap();
        let yaml = policy.yaml;
        assert!(yaml.contains("other.example") && yaml.contains("registry.npmjs.org"), "{yaml}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_rejection_is_a_vote_and_a_rejected_draft_can_be_approved(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ana, ben, .. }, wanted, id) = voted(&sg, of).await;
        reject(&ana, of, &wanted.id).await.unwrap();
        let rejected = shown(&ben, id).await;
        assert_eq!(rejected.state(), pb::ApprovalState::Rejected);
        assert!(rejected.close_reason.contains("not needed"), "{rejected:?}");
        assert_eq!(chunk(&ben, of, &wanted.id).await.status, "rejected");
        let again = reject(&ben, of, &wanted.id).await;
        assert_refused!(again, FailedPrecondition, "GATEWAY_REFUSED");
        assert_eq!(calls(&simulator, "RejectDraftChunk"), 1);

        let next = open_by_vote(&ana, of, &wanted).await;
        assert_ne!(next, id);
        let (version, _) = approve(&ben, of, &wanted).await.unwrap();
        assert_eq!(get_version(&ana, name, 0).await.unwrap().revision.unwrap().version, version);
        assert_eq!(chunk(&ben, of, &wanted.id).await.status, "approved");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_approved_draft_is_undone_by_a_review(sg: TestServer, of: GatewayOf<'static>) {
    let name = of.0;
    let (simulator, Staff { ana, dora, .. }, wanted) = drafted(&sg, of, 1).await;
    approve(&dora, of, &wanted).await.unwrap();
    let required = undo(&dora, of, &wanted.id).await;
    let required = assert_refused!(required, FailedPrecondition, "APPROVAL_REQUIRED");
    let id: i64 = fact(&required, "approval").parse().unwrap();
    // The rejection of an approved draft removes it, too.
    let again = reject(&dora, of, &wanted.id).await.unwrap_err();
    assert_eq!(fact(&again, "approval"), id.to_string());
    let called = |method| calls(&simulator, method);
    assert_eq!((called("UndoDraftChunk"), called("RejectDraftChunk")), (0, 0));
    assert_eq!(shown(&ana, id).await.action(), pb::ApprovalAction::DraftUndo);
    assert_refused!(dora.approve(id).await, PermissionDenied, "OWN_CHANGE");
    ana.approve(id).await.unwrap();
    wait_for(&sg.app, round_id(id), RoundState::Applied).await;
    assert_eq!(chunk(&ana, of, &wanted.id).await.status, "pending");
    assert_eq!(calls(&simulator, "UndoDraftChunk"), 1);
    let yaml = get_version(&ana, name, 0).await.unwrap().yaml;
    assert!(!yaml.contains("registry.npmjs.org"), "{yaml}");
    let refused = undo(&dora, of, &wanted.id).await;
    let refused = assert_refused!(refused, FailedPrecondition, "GATEWAY_REFUSED");
    assert!(refused.message().contains("chunk status is 'pending'"), "{refused:?}");
    simulator.stop().await;
    sg.finish().await;
}

async fn an_edit_keeps_no_votes_and_its_editor_does_not_approve(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let name = of.0;
    let (simulator, Staff { ana, ben, dora }, wanted, id) = voted(&sg, of).await;
    edit(&ana, of, &wanted.id, "edited.example").await.unwrap();
    assert_eq!(shown(&ben, id).await.state(), pb::ApprovalState::Superseded);
    let detail = ben.approval(id).await;
    let next = detail.successor_approval_id;
    assert_ne!(next, 0);
    let followed = shown(&ben, next).await;
    assert_eq!(followed.authors, ["ana@example.com"]);
    assert_eq!(ben.votes(next).await.len(), 0);
    assert_refused!(ana.approve(next).await, PermissionDenied, "OWN_CHANGE");
    // Not with the stock client either.
    let edited = chunk(&ana, of, &wanted.id).await;
    let own = approve(&ana, of, &edited).await;
    assert_refused!(own, PermissionDenied, "OWN_CHANGE");
    assert_eq!(open_by_vote(&dora, of, &edited).await, next);
    approve(&ben, of, &edited).await.unwrap();
    let yaml = get_version(&ana, name, 0).await.unwrap().yaml;
    assert!(yaml.contains("edited.example"), "{yaml}");
    simulator.stop().await;
    sg.finish().await;
}

async fn cleared_drafts_have_no_reviews(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, .. }, _, id) = voted(&sg, of).await;
        assert_eq!(clear(&ana, of).await.unwrap(), 1);
        let closed = shown(&ana, id).await;
        assert_eq!(closed.state(), pb::ApprovalState::Superseded);
        assert!(closed.close_reason.contains("ana@example.com"), "{closed:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn without_a_rule_the_answer_of_the_gateway_ends_the_review(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ana, dora, .. }, approved) = drafted(&sg, of, 2).await;
        let second = ask(&simulator, "two.example");
        let rejected = chunk(&dora, of, &second).await;
        let ids =
            [open_by_vote(&dora, of, &approved).await, open_by_vote(&dora, of, &rejected).await];
        sg.sql("DELETE FROM approval_workflows").await;
        let (version, _) = approve(&ana, of, &approved).await.unwrap();
        assert_eq!(get_version(&ana, name, 0).await.unwrap().revision.unwrap().version, version);
        reject(&ana, of, &rejected.id).await.unwrap();
        for (id, word) in ids.into_iter().zip(["approved", "rejected"]) {
            let closed = shown(&dora, id).await;
            assert_eq!(closed.state(), pb::ApprovalState::Superseded, "{closed:?}");
            assert!(closed.close_reason.starts_with(word), "{closed:?}");
        }
        undo(&ana, of, &approved.id).await.unwrap();
        assert_eq!(calls(&simulator, "UndoDraftChunk"), 1);
        let found = round(&sg.app, round_id(ids[0])).await;
        assert_eq!(found.progress.written_version, None);
        simulator.stop().await;
    }
    sg.finish().await;
}
