//! Decisions about drafts on a gateway that drops the marks of what agents propose.

use serde_json::json;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;

use super::{GatewayOf, approve, ask, chunk, open_by_vote, round_id, voted};
use crate::approvals::events;
use crate::approved_writes::{find_event, wait_for, writes};
use crate::policies::{GATEWAYS, get_version};
use crate::support::server::TestServer;

each_generation! {
    server_tests, GATEWAYS;
    a_draft_whose_marks_a_gateway_drops_is_in_force_and_the_marks_are_reported,
}

const DRIFT: &str = "policy.drift_detected";

async fn a_draft_whose_marks_a_gateway_drops_is_in_force_and_the_marks_are_reported(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, staff, wanted, id) = voted(&sg, of).await;
    let detail = staff.ana.approval(id).await;
    assert_eq!(detail.marks_lost_time, None, "the gateway has dropped no mark yet");
    let marks = detail.content.unwrap().marks;
    assert!(!marks.is_empty());
    simulator.set_drops_marks(true);
    let before = writes(&simulator);
    let (version, _) = approve(&staff.ana, of, &wanted).await.unwrap();
    let ended = wait_for(&sg.app, round_id(id), RoundState::Applied).await;
    assert_eq!(ended.progress.written_version, Some(i64::from(version)));
    assert_eq!(writes(&simulator), before + 1);
    assert_eq!(chunk(&staff.ana, of, &wanted.id).await.status, "approved");
    let written = get_version(&staff.ana, of.0, 0).await.unwrap();
    assert!(written.yaml.contains(&wanted.rule_name) && written.marks.is_empty(), "{written:?}");
    let payload = find_event(&sg.admin(), DRIFT, round_id(id)).await;
    assert_eq!(payload["lost_marks"], json!(marks), "{payload}");
    assert_eq!(payload["version"], json!(version), "{payload}");
    assert_eq!(staff.ana.approval(id).await.marks_lost_time, None, "the review has ended");

    // Its undoing removes the rule, which has no mark that could be lost.
    let undo = pb::UndoChunkRequest {
        gateway: of.0.to_owned(),
        sandbox: "coder".to_owned(),
        chunk_id: wanted.id.clone(),
        ..Default::default()
    };
    let undone = staff.dora.approvals().undo_chunk(undo).await.unwrap().into_inner();
    let undone = undone.approval.unwrap().id;
    assert_eq!(staff.ana.approval(undone).await.marks_lost_time, None, "it has no marks");
    for voter in [&staff.ana, &staff.ben] {
        voter.approve(undone).await.unwrap();
    }
    wait_for(&sg.app, round_id(undone), RoundState::Applied).await;
    assert_eq!(events(&sg, DRIFT).await, 1);
    assert_eq!(sg.admin().audit_entries("", "policy.detect_drift").await.len(), 1);

    // The voters of the next draft see that its marks may be dropped, too.
    let next = chunk(&staff.ana, of, &ask(&simulator, "next.example")).await;
    let next = staff.ana.approval(open_by_vote(&staff.dora, of, &next).await).await;
    assert!(!next.content.unwrap().marks.is_empty());
    assert!(next.marks_lost_time.is_some());
    simulator.stop().await;
    sg.finish().await;
}
