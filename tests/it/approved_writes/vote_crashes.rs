//! A server that is killed after a vote was stored, or after the decision: no vote is lost or counted twice, the
//! decision is complete, and the next server writes once.

use std::os::unix::process::ExitStatusExt;

use shoreguard::db::Engine;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::fail_points::FailPoint;
use shoreguard_simulator::Generation;

use super::crashes::{SIGKILL, Scene, each_point, kills, wait_written};
use crate::approval_workflows::{named, request, rule, set};
use crate::crash::ServerProcess;
use crate::support::limit;
use crate::support::server::{Bearer, Caller, reason};

/// The second voter. The first one is the service principal `root`, which also proposes.
const ANA: &str = "ana@example.com";

mod g06_a_vote_and_a_decision_survive_a_kill {
    use super::*;

    each_point! {
        killed_at,
        vote_stored: VoteStored,
        decision_committed: DecisionCommitted,
    }
}

/// Creates the second voter, and a workflow that requires both. Returns the session token of the second voter.
async fn require_both(root: &Caller) -> String {
    let ana = root.create_user(ANA, pb::Role::Operator).await;
    let groups =
        [("programs", 1, named(&[], &[], &["root"])), ("people", 1, named(&[ANA], &[], &[]))];
    let both = pb::ApprovalRule { distinct_actors: Some(false), ..rule(&groups) };
    set(root, request("", "", both)).await.unwrap();
    ana
}

/// Returns the voters, in their order.
fn voters(root: &Caller, ana: &str) -> [Caller; 2] {
    let ana = Caller { channel: root.channel.clone(), bearer: Bearer(Some(ana.to_owned())) };
    [root.clone(), ana]
}

/// Lets both approve until the server is killed. Returns the number of votes that were sent.
async fn vote_until_killed(mut server: ServerProcess, ana: &str, id: ApprovalRoundId) -> usize {
    for (sent, voter) in (1..).zip(voters(&server.caller, ana)) {
        let Err(error) = voter.approve(id.get()).await else { continue };
        assert_eq!(reason(&error), "", "it was refused: {error:?}");
        let status = server.process.wait_exit();
        assert_eq!(status.signal(), Some(SIGKILL), "{status:?}");
        return sent;
    }
    panic!("no vote has killed the server");
}

/// Checks that the first voters have one vote each, and no other voter has one.
async fn assert_votes(caller: &Caller, id: ApprovalRoundId, count: usize) {
    let votes = caller.votes(id.get()).await;
    let by: Vec<&str> = votes.iter().map(|vote| vote.voter.as_str()).collect();
    let expected = &["sp:root", ANA][..count];
    assert_eq!(by, expected, "{votes:?}");
}

/// Checks what is stored after the kill: all of the decision or nothing of it.
async fn assert_stored(scene: &Scene, id: ApprovalRoundId, is_decided: bool) {
    let round = scene.round(id).await;
    let expected = if is_decided { RoundState::Approved } else { RoundState::Open };
    assert_eq!(round.state, expected, "{round:?}");
    let decision = (round.progress.decided_at.is_some(), round.progress.apply_by.is_some());
    assert_eq!(decision, (is_decided, is_decided), "{round:?}");
    let reported = scene.count_events("approval.quorum_met", id).await;
    assert_eq!(reported, i64::from(is_decided));
}

/// Kills servers at a point while they answer a vote.
async fn killed_at(engine: Engine, point: FailPoint) {
    let started = Scene::start_with(engine, Generation::V0_1, require_both).await;
    let Some((scene, ana)) = started else { return };
    let is_decided = point == FailPoint::DecisionCommitted;
    for count in 1..=kills() {
        let before = scene.written();
        let id = scene.open_round(&format!("h{count}.example")).await;
        // The server before it was killed, too, and held leases.
        scene.pass_time().await;
        let server = scene.serve_until_killed(point).await;
        let sent = vote_until_killed(server, &ana, id).await;
        assert_eq!(sent, if is_decided { 2 } else { 1 }, "{point}");
        assert_stored(&scene, id, is_decided).await;
        assert_eq!(scene.written(), before, "{point}: nothing was sent");
        scene.pass_time().await;
        let next = scene.serve().await;
        assert_votes(&next.caller, id, sent).await;
        // Each voter votes again, since the answer was lost.
        for voter in voters(&next.caller, &ana) {
            if let Err(error) = voter.approve(id.get()).await {
                // It is being written by then.
                assert!(is_decided && reason(&error) == "ROUND_CLOSED", "{point}: {error:?}");
            }
        }
        wait_written(&next.caller, count).await;
        assert_votes(&next.caller, id, 2).await;
        drop(next);
        assert_eq!(scene.round(id).await.state, RoundState::Applied, "{point}");
        for event in ["approval.vote_cast", "approval.quorum_met"] {
            assert_eq!(scene.count_events(event, id).await, 1, "{point}: {event}");
        }
        let once = (before.0 + 1, before.1 + 1);
        assert_eq!(scene.written(), once, "{point}: it is written once");
    }
    scene.place.remove();
}
