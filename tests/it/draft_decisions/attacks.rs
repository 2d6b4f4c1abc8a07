//! Attempts to approve an own edit, to confuse a draft with a proposal, and to act on another sandbox or gateway.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;

use super::{
    Chunk, approve, calls, chunk, drafted, edit, fact, open_by_vote, reject, round_id, shown, undo,
    voted,
};
use crate::approved_writes::wait_for;
use crate::policies::GATEWAYS;
use crate::proposals::Staff;
use crate::support::server::TestServer;

server_tests! {
    t12_the_maker_of_an_editing_service_principal_does_not_approve_the_draft,
    t12_an_editor_before_the_first_vote_does_not_approve_the_draft,
    g04_an_editor_does_not_approve_a_later_review_of_the_draft,
    g04_a_service_principal_without_a_known_holder_edits_no_draft,
    t20_a_chunk_id_that_imitates_a_proposal_gets_no_review,
    t08_an_approval_of_a_draft_on_another_gateway_is_not_edited,
}

async fn t12_the_maker_of_an_editing_service_principal_does_not_approve_the_draft(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ben, dora, .. }, wanted) = drafted(&sg, of, 2).await;
        let max = format!("max-{name}@example.com");
        let max = sg.with_token(&sg.create_user(&max, pb::Role::Admin).await);
        let bot = max.create_key(&format!("bot-{name}"), pb::Role::Operator).await;
        let bot = sg.with_token(&bot);
        let id = open_by_vote(&dora, of, &wanted).await;
        let by_bot = super::changes::edit(&bot, id, super::changes::yaml("a.example"), "").await;
        let own = by_bot.unwrap().id;
        assert_refused!(max.approve(own).await, PermissionDenied, "OWN_CHANGE");
        // The same through the proxied API, and it stays so after another edit.
        edit(&bot, of, &wanted.id, "b.example").await.unwrap();
        edit(&ben, of, &wanted.id, "c.example").await.unwrap();
        let edited = chunk(&max, of, &wanted.id).await;
        let refused = approve(&max, of, &edited).await;
        assert_refused!(refused, PermissionDenied, "OWN_CHANGE");
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 0);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t12_an_editor_before_the_first_vote_does_not_approve_the_draft(sg: TestServer) {
    for of in GATEWAYS {
        // The draft has no review yet.
        let (simulator, Staff { ana, ben, dora }, wanted) = drafted(&sg, of, 2).await;
        edit(&ana, of, &wanted.id, "edited.example").await.unwrap();
        let edited = chunk(&ana, of, &wanted.id).await;
        let own = approve(&ana, of, &edited).await;
        assert_refused!(own, PermissionDenied, "OWN_CHANGE");
        let id = open_by_vote(&ben, of, &edited).await;
        assert_eq!(shown(&dora, id).await.authors, ["ana@example.com"]);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g04_an_editor_does_not_approve_a_later_review_of_the_draft(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, ben, dora }, wanted) = drafted(&sg, of, 1).await;
        edit(&ana, of, &wanted.id, "edited.example").await.unwrap();
        // Rejected drafts can be approved: by a review of their own, without a predecessor.
        reject(&ben, of, &wanted.id).await.unwrap();
        let rejected = chunk(&ana, of, &wanted.id).await;
        assert_eq!(rejected.status, "rejected");
        let own = approve(&ana, of, &rejected).await;
        let own = assert_refused!(own, PermissionDenied, "OWN_CHANGE");
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 0);
        approve(&ben, of, &rejected).await.unwrap();
        let id: i64 = fact(&own, "approval").parse().unwrap();
        wait_for(&sg.app, round_id(id), RoundState::Applied).await;
        // So can drafts whose approval was undone.
        let required = undo(&dora, of, &wanted.id).await.unwrap_err();
        let id: i64 = fact(&required, "approval").parse().unwrap();
        ben.approve(id).await.unwrap();
        wait_for(&sg.app, round_id(id), RoundState::Applied).await;
        let again = chunk(&ana, of, &wanted.id).await;
        assert_eq!(again.status, "pending");
        let own = approve(&ana, of, &again).await;
        assert_refused!(own, PermissionDenied, "OWN_CHANGE");
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g04_a_service_principal_without_a_known_holder_edits_no_draft(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { dora, .. }, wanted) = drafted(&sg, of, 2).await;
        let bot = format!("bot-{}", of.0);
        let key = sg.admin().create_key(&bot, pb::Role::Admin).await;
        // It rotates its own key: any person could hold that.
        let rotate = pb::RotateServicePrincipalRequest {
            service_principal: bot.clone(),
            ..Default::default()
        };
        let mut client = sg.with_token(&key).service_principals();
        let rotated = client.rotate_service_principal(rotate).await.unwrap().into_inner();
        let bot = sg.with_token(&rotated.key);
        let id = open_by_vote(&dora, of, &wanted).await;
        let own = super::changes::edit(&bot, id, super::changes::yaml("a.example"), "").await;
        assert_refused!(own, FailedPrecondition, "GOVERNED");
        let proxied = edit(&bot, of, &wanted.id, "a.example").await;
        assert_refused!(proxied, FailedPrecondition, "GOVERNED");
        assert_eq!(calls(&simulator, "EditDraftChunk"), 0);
        assert!(shown(&dora, id).await.authors.is_empty());
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t20_a_chunk_id_that_imitates_a_proposal_gets_no_review(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { dora, .. }, wanted) = drafted(&sg, of, 1).await;
        for id in [format!("policy.apply:{}", "a".repeat(64)), "x".repeat(101)] {
            let imitation = Chunk { id: id.clone(), ..wanted.clone() };
            let refused = approve(&dora, of, &imitation).await;
            let refused = assert_refused!(refused, FailedPrecondition, "GOVERNED");
            assert_eq!(fact(&refused, "instead"), "reject the draft");
            // The gateway has no such chunk.
            for refused in [reject(&dora, of, &id).await, undo(&dora, of, &id).await] {
                assert_refused!(refused, NotFound, "NOT_FOUND");
            }
        }
        for method in ["ApproveDraftChunk", "RejectDraftChunk", "UndoDraftChunk"] {
            assert_eq!(calls(&simulator, method), 0, "{method}");
        }
        let list = pb::ListApprovalsRequest::default();
        let found = dora.approvals().list_approvals(list).await.unwrap().into_inner();
        let open = found.approvals.iter().filter(|approval| approval.gateway == of.0);
        assert_eq!(open.count(), 0);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn t08_an_approval_of_a_draft_on_another_gateway_is_not_edited(sg: TestServer) {
    let of = GATEWAYS[0];
    let (simulator, _, _, id) = voted(&sg, of).await;
    sg.register_unreachable("elsewhere").await;
    let stranger = sg.admin().create_key("stranger", pb::Role::None).await;
    sg.admin().bind("stranger", "elsewhere", pb::Role::Admin).await;
    let stranger = sg.with_token(&stranger);
    let rule = super::changes::yaml("a.example");
    let edited = super::changes::edit(&stranger, id, rule, "").await;
    assert_refused!(edited, NotFound, "NOT_FOUND");
    let request = pb::ClearChunksRequest {
        gateway: of.0.to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    let cleared = stranger.approvals().clear_chunks(request).await;
    assert_refused!(cleared, NotFound, "NOT_FOUND");
    assert_eq!(
        (calls(&simulator, "EditDraftChunk"), calls(&simulator, "ClearDraftChunks")),
        (0, 0)
    );
    sg.finish().await;
}
