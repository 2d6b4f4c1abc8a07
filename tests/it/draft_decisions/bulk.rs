//! Several drafts at once: lists, and approvals of everything.

use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::VoteDecision;

use super::{approve_all, ask, calls, chunk, drafted, open_by_vote, shown};
use crate::approved_writes::writes;
use crate::policies::{GATEWAYS, get_version};
use crate::proposals::Staff;
use crate::support::server::TestServer;

server_tests! {
    bulk_approval_is_no_bypass,
    a_list_at_quorum_is_written_as_a_whole,
    votes_on_several_drafts_are_all_stored_or_none,
}

async fn bulk_approval_is_no_bypass(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, dora, .. }, first) = drafted(&sg, of, 2).await;
        let before = writes(&simulator);
        let unlisted = approve_all(&dora, of, &[]).await;
        assert_refused!(unlisted, FailedPrecondition, "GOVERNED");
        let second = ask(&simulator, "two.example");
        let mut listed = vec![first, chunk(&dora, of, &second).await];
        let required = approve_all(&dora, of, &listed).await;
        assert_refused!(required, FailedPrecondition, "APPROVAL_REQUIRED");
        for wanted in &listed {
            let id = open_by_vote(&dora, of, wanted).await;
            assert_eq!(shown(&ana, id).await.votes, 1);
        }
        // A list with one wrong token stores no vote.
        let ids = [open_by_vote(&dora, of, &listed[0]).await];
        "wrong".clone_into(&mut listed[1].token);
        let refused = approve_all(&ana, of, &listed).await;
        assert_refused!(refused, FailedPrecondition, "GATEWAY_REFUSED");
        assert_eq!(shown(&ana, ids[0]).await.votes, 1);
        let twice = [listed[0].clone(), listed[0].clone()];
        assert_refused!(approve_all(&ana, of, &twice).await, InvalidArgument, "INVALID_FIELD");
        let many = vec![listed[0].clone(); 101];
        assert_refused!(approve_all(&ana, of, &many).await, InvalidArgument, "INVALID_FIELD");
        let called = |method| calls(&simulator, method);
        assert_eq!((called("ApproveAllDraftChunks"), called("ApproveDraftChunk")), (0, 0));
        assert_eq!(writes(&simulator), before);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_list_at_quorum_is_written_as_a_whole(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, .. }, first) = drafted(&sg, of, 1).await;
        let before = writes(&simulator);
        let second = ask(&simulator, "two.example");
        let listed = [first, chunk(&ana, of, &second).await];
        let done = approve_all(&ana, of, &listed).await.unwrap();
        assert_eq!((done.chunks_approved, done.chunks_skipped), (2, 0));
        let newest = get_version(&ana, of.0, 0).await.unwrap();
        assert_eq!(newest.revision.unwrap().version, done.policy_version);
        let yaml = newest.yaml;
        assert!(yaml.contains("two.example") && yaml.contains("registry.npmjs.org"), "{yaml}");
        assert_eq!(
            (writes(&simulator), calls(&simulator, "ApproveAllDraftChunks")),
            (before + 2, 0)
        );
        for wanted in &listed {
            assert_eq!(chunk(&ana, of, &wanted.id).await.status, "approved");
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn votes_on_several_drafts_are_all_stored_or_none(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, dora, .. }, first) = drafted(&sg, of, 2).await;
        let second = ask(&simulator, "two.example");
        let second = chunk(&dora, of, &second).await;
        let ids = [open_by_vote(&dora, of, &first).await, open_by_vote(&dora, of, &second).await];
        let mut ballots = Vec::new();
        for id in ids {
            ballots.push(pb::Ballot {
                approval_id: id,
                digest: shown(&ana, id).await.digest,
                decision: VoteDecision::Approve.into(),
                ..Default::default()
            });
        }
        let mut wrong = ballots.clone();
        wrong[1].digest = "0".repeat(64);
        let vote = async |ballots: Vec<pb::Ballot>| {
            let gateway = of.0.to_owned();
            let request = pb::VoteManyRequest { gateway, ballots, ..Default::default() };
            ana.approvals().vote_many(request).await
        };
        assert_refused!(vote(wrong).await, Aborted, "REVIEW_STALE");
        assert_eq!(shown(&ana, ids[0]).await.votes, 1);
        let voted = vote(ballots).await.unwrap().into_inner().approvals;
        assert!(
            voted.iter().all(|voted| voted.state() == pb::ApprovalState::Approved),
            "{voted:?}"
        );
        simulator.stop().await;
    }
    sg.finish().await;
}
