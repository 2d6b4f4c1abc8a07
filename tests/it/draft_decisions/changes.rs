//! Edits, undoing and clearing through Shoreguard's own API.

use shoreguard::db::types::{SandboxName, SandboxRef};
use shoreguard::openshell::Gateway;
use shoreguard::pb::v0_1::openshell::v1::{self as new, open_shell_client::OpenShellClient};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::drafts::edit as drafts;
use shoreguard::rpc::call::handle_write;
use shoreguard_simulator::{Hold, LoadOutcome, Script, Times};
use tonic::Status;

use super::{approve, ask, calls, chunk, drafted, open_by_vote, pending, round_id, shown, voted};
use crate::approvals::fact;
use crate::approved_writes::{find_event, wait_for, writes};
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::proposals::Staff;
use crate::support::server::{Caller, TestServer};
use crate::support::work::start_request;

server_tests! {
    an_edit_of_a_draft_is_another_review_without_votes,
    an_edit_that_a_gateway_refuses_leaves_the_review_as_it_was,
    g04_a_refused_edit_does_not_hide_another_one_of_its_editor,
    without_a_workflow_an_undoing_is_decided_by_its_caller,
    an_undoing_is_not_taken_for_an_earlier_one_that_is_not_loaded,
    an_undoing_is_reviewed_under_a_workflow_and_refused_by_a_pin,
    cleared_drafts_are_deleted_and_their_reviews_end,
    a_draft_is_not_withdrawn,
}

server_tests_without_jobs! {
    a_draft_that_is_deleted_during_its_edit_has_no_review,
}

/// Returns a rule for a host and the program of the chunks, as YAML.
pub(super) fn yaml(host: &str) -> String {
    format!("endpoints: [{{host: {host}, port: 443}}]\nbinaries: [{{path: /usr/bin/node}}]\n")
}

/// Edits the rule of an approval.
pub(super) async fn edit(
    caller: &Caller,
    id: i64,
    rule: String,
    etag: &str,
) -> Result<pb::Approval, Status> {
    let etag = etag.to_owned();
    let request = pb::EditChunkRequest { approval_id: id, rule, etag, ..Default::default() };
    Ok(caller.approvals().edit_chunk(request).await?.into_inner().approval.unwrap())
}

async fn undo(
    caller: &Caller,
    gateway: &str,
    chunk_id: &str,
) -> Result<pb::UndoChunkResponse, Status> {
    let request = pb::UndoChunkRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        chunk_id: chunk_id.to_owned(),
        comment: "no longer needed".to_owned(),
        ..Default::default()
    };
    Ok(caller.approvals().undo_chunk(request).await?.into_inner())
}

async fn an_edit_of_a_draft_is_another_review_without_votes(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, ben, .. }, _, id) = voted(&sg, of).await;
        let before = shown(&ana, id).await;
        let stale = edit(&ana, id, yaml("edited.example"), "v99").await;
        let stale = assert_refused!(stale, Aborted, "CONCURRENT_CHANGE");
        assert_eq!(fact(&stale, "etag"), before.etag);
        for bad in [String::new(), "endpoints: 7".to_owned(), "unknown: []".to_owned()] {
            assert_refused!(edit(&ana, id, bad, "").await, InvalidArgument, "INVALID_FIELD");
        }
        assert_eq!(calls(&simulator, "EditDraftChunk"), 0);
        let both = "endpoints: [{host: registry.npmjs.org, port: 443}, {host: edited.example, port: 443}]\n\
                    binaries: [{path: /usr/bin/node}]\n";
        let next = edit(&ana, id, both.to_owned(), &before.etag).await.unwrap();
        assert_ne!(next.id, id);
        assert_eq!((next.previous_approval_id, next.votes), (id, 0));
        assert_eq!(next.authors, ["ana@example.com"]);
        assert_eq!(shown(&ana, id).await.state(), pb::ApprovalState::Superseded);
        find_event(&sg.admin(), "approval.superseded", round_id(id)).await;
        assert_refused!(
            edit(&ana, id, yaml("late.example"), "").await,
            FailedPrecondition,
            "ROUND_CLOSED"
        );
        // The edit keeps the marks of what the agent asks for, and the gateway marks what was added.
        let marks = async |id| ana.approval(id).await.content.unwrap().marks;
        let (kept, first) = (marks(next.id).await, marks(id).await);
        assert!(!first.is_empty(), "{kept:?}");
        assert!(first.iter().all(|mark| kept.contains(mark)), "{kept:?} {first:?}");
        let last = edit(&ben, next.id, yaml("edited.example"), "").await.unwrap();
        assert_eq!(last.authors, ["ana@example.com", "ben@example.com"]);
        for editor in [&ana, &ben] {
            assert_refused!(editor.approve(last.id).await, PermissionDenied, "OWN_CHANGE");
        }
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_draft_that_is_deleted_during_its_edit_has_no_review(sg: TestServer) {
    let of = GATEWAYS[1];
    let (simulator, Staff { ana, .. }, _, id) = voted(&sg, of).await;
    let hold = Hold::default();
    simulator.script("EditDraftChunk", Script::HoldAfter(hold.clone()), Times::Next(1));
    let delete = async {
        hold.wait_reached(1).await;
        // By a client that bypasses Shoreguard.
        let url = format!("http://{}", simulator.addr());
        let mut client = OpenShellClient::connect(url).await.unwrap();
        let sandbox = "coder".to_owned();
        let clear = new::ClearDraftChunksRequest { sandbox, ..Default::default() };
        client.clear_draft_chunks(clear).await.unwrap();
        hold.release();
    };
    let (edited, ()) = tokio::join!(edit(&ana, id, yaml("edited.example"), ""), delete);
    let edited = edited.unwrap();
    assert_eq!((edited.id, edited.state()), (id, pb::ApprovalState::Superseded));
    assert_eq!(shown(&ana, id).await.etag, edited.etag);
    sg.finish().await;
}

async fn an_edit_that_a_gateway_refuses_leaves_the_review_as_it_was(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, Staff { ana, dora, .. }, wanted, id) = voted(&sg, of).await;
        let message = "no such rule".to_owned();
        let refused = Script::TrailersOnly { code: tonic::Code::InvalidArgument, message };
        simulator.script("EditDraftChunk", refused, Times::All);
        let own = edit(&ana, id, yaml("edited.example"), "").await.unwrap_err();
        assert!(own.message().contains("no such rule"), "{own:?}");
        super::edit(&ana, of, &wanted.id, "edited.example").await.unwrap_err();
        let after = shown(&dora, id).await;
        assert_eq!((after.state(), after.votes), (pb::ApprovalState::Open, 1));
        assert!(after.authors.is_empty(), "{after:?}");
        // So the caller can still vote.
        assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g04_a_refused_edit_does_not_hide_another_one_of_its_editor(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { dora, .. }, wanted, id) = voted(&sg, of).await;
        let request = start_request(&sg.app, &sg.operation_spec(name, "coder"));
        let answer = handle_write(&sg.app, request, async move |ctx, _| {
            let on = ctx.required_gateway()?.clone();
            let gateway = Gateway::connect(ctx.app(), &on).await?;
            let name = SandboxName { workspace: "default".to_owned(), name: "coder".to_owned() };
            let place = SandboxRef { gateway: on, name };
            let first = drafts::begin(&ctx, &gateway, &place, &wanted.id, true).await?;
            // It is on its way when the gateway refuses the first one.
            let second = drafts::begin(&ctx, &gateway, &place, &wanted.id, true).await?;
            drafts::cancel(&ctx, &first.unwrap()).await;
            assert!(second.is_some());
            Ok(pb::GetOperationResponse::default())
        });
        answer.await.unwrap();
        assert_eq!(shown(&dora, id).await.authors.len(), 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn without_a_workflow_an_undoing_is_decided_by_its_caller(sg: TestServer) {
    for of in GATEWAYS {
        let (name, generation) = of;
        let simulator = seeded(&sg, name, generation).await;
        let admin = sg.admin();
        let wanted = pending(&admin, of).await;
        let refused = undo(&admin, name, &wanted.id).await;
        assert_refused!(refused, FailedPrecondition, "CHUNK_STATUS");
        assert_refused!(undo(&admin, name, "unknown").await, NotFound, "NOT_FOUND");
        assert_refused!(undo(&admin, name, "a:b").await, InvalidArgument, "INVALID_FIELD");
        approve(&admin, of, &wanted).await.unwrap();
        let before = writes(&simulator);
        let undone = undo(&admin, name, &wanted.id).await.unwrap();
        let operation = admin.wait_operation(&undone.operation).await;
        assert_eq!(operation.status(), pb::OperationStatus::Succeeded, "{operation:?}");
        let approval = undone.approval.unwrap();
        assert_eq!(approval.action(), pb::ApprovalAction::DraftUndo);
        assert_eq!(shown(&admin, approval.id).await.state(), pb::ApprovalState::Applied);
        assert_eq!(chunk(&admin, of, &wanted.id).await.status, "pending");
        assert_eq!(writes(&simulator), before + 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_undoing_is_not_taken_for_an_earlier_one_that_is_not_loaded(sg: TestServer) {
    for of in GATEWAYS {
        let (name, generation) = of;
        let simulator = seeded(&sg, name, generation).await;
        let admin = sg.admin();
        let wanted = pending(&admin, of).await;
        approve(&admin, of, &wanted).await.unwrap();
        simulator.set_load_outcome(LoadOutcome::Held, Times::All);
        let first = undo(&admin, name, &wanted.id).await.unwrap().approval.unwrap().id;
        wait_for(&sg.app, round_id(first), RoundState::Written).await;
        // It is approved again, by a client that decides alone. The first attempt may renew its token.
        let again = chunk(&admin, of, &wanted.id).await;
        if approve(&admin, of, &again).await.is_err() {
            let renewed = chunk(&admin, of, &wanted.id).await;
            approve(&admin, of, &renewed).await.unwrap();
        }
        let early = undo(&admin, name, &wanted.id).await;
        assert_refused!(early, Aborted, "WRITE_IN_FLIGHT");
        simulator.set_load_outcome(LoadOutcome::Loaded, Times::All);
        wait_for(&sg.app, round_id(first), RoundState::Applied).await;
        let second = undo(&admin, name, &wanted.id).await.unwrap().approval.unwrap().id;
        assert_ne!(second, first);
        wait_for(&sg.app, round_id(second), RoundState::Applied).await;
        assert_eq!(chunk(&admin, of, &wanted.id).await.status, "pending");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn an_undoing_is_reviewed_under_a_workflow_and_refused_by_a_pin(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ana, dora, .. }, wanted) = drafted(&sg, of, 1).await;
        approve(&dora, of, &wanted).await.unwrap();
        let (gateway, sandbox) = (name.to_owned(), "coder".to_owned());
        let pin = pb::PinPolicyRequest { gateway, sandbox, ..Default::default() };
        sg.admin().policies().pin_policy(pin).await.unwrap();
        let pinned = undo(&dora, name, &wanted.id).await;
        assert_refused!(pinned, FailedPrecondition, "POLICY_PINNED");
        sg.sql("DELETE FROM policy_pins").await;
        let undone = undo(&dora, name, &wanted.id).await.unwrap();
        assert!(undone.operation.is_empty());
        let id = undone.approval.unwrap().id;
        let content = ana.approval(id).await.content.unwrap();
        assert!(content.present_yaml.contains("registry.npmjs.org"), "{content:?}");
        assert!(content.yaml.is_empty(), "{content:?}");
        ana.approve(id).await.unwrap();
        wait_for(&sg.app, round_id(id), RoundState::Applied).await;
        assert_eq!(chunk(&ana, of, &wanted.id).await.status, "pending");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn cleared_drafts_are_deleted_and_their_reviews_end(sg: TestServer) {
    for of in GATEWAYS {
        let name = of.0;
        let (simulator, Staff { ana, dora, .. }, first) = drafted(&sg, of, 2).await;
        ask(&simulator, "two.example");
        let id = open_by_vote(&dora, of, &first).await;
        let clear = |sandbox: &str| pb::ClearChunksRequest {
            gateway: name.to_owned(),
            sandbox: sandbox.to_owned(),
            ..Default::default()
        };
        let missing = ana.approvals().clear_chunks(clear("no-such-sandbox")).await;
        assert_refused!(missing, NotFound, "NOT_FOUND");
        let cleared = ana.approvals().clear_chunks(clear("coder")).await.unwrap().into_inner();
        assert_eq!((cleared.cleared, cleared.superseded), (2, 1));
        assert_eq!(shown(&ana, id).await.state(), pb::ApprovalState::Superseded);
        let left = super::chunks(&ana, of).await;
        assert!(left.iter().all(|chunk| chunk.status != "pending"), "{left:?}");
        assert_eq!(get_version(&ana, name, 0).await.unwrap().revision.unwrap().version, 2);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_draft_is_not_withdrawn(sg: TestServer) {
    let (_simulator, Staff { dora, .. }, _, id) = voted(&sg, GATEWAYS[1]).await;
    let withdraw = pb::WithdrawProposalRequest { approval_id: id, ..Default::default() };
    let withdrawn = sg.admin().approvals().withdraw_proposal(withdraw).await;
    assert_refused!(withdrawn, InvalidArgument, "INVALID_FIELD");
    assert!(!sg.admin().approval(id).await.caller_can_withdraw);
    assert_eq!(shown(&dora, id).await.state(), pb::ApprovalState::Open);
    sg.finish().await;
}
