//! Approved decisions about drafts are written once, and only as they were reviewed.

use std::time::Duration;

use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::gateway_setting_value::Kind;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::CALL_TIME;
use shoreguard::resources::approvals::apply::settle::GRACE;
use shoreguard_simulator::{Generation, Script, Simulator, Times};
use tonic::Code;

use super::{
    Chunk, GatewayOf, approve, ask, calls, chunk, open_by_vote, round_id, rule, shown, voted,
};
use crate::approved_writes::{advance_until, round, wait_for, writes};
use crate::policies::{GATEWAYS, change_directly, endpoint, get_version, seeded, with_rule};
use crate::proposals::{Staff, govern};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

server_tests! {
    failed_gateway_keeps_votes,
    payload_after_approval_starts_over_with_another_generation,
    a_policy_for_all_sandboxes_stops_decisions,
    g06_a_refused_approval_fails_with_the_words_of_the_gateway,
}

each_generation! {
    server_tests, GATEWAYS;
    g02_a_lost_answer_to_an_approval_is_not_sent_again,
    g02_an_approval_that_did_not_arrive_is_sent_again_only_after_the_deadline,
    payload_after_approval_starts_over,
    payload_after_approval_starts_over_with_a_profile,
    an_undoing_that_leads_to_another_rule_starts_over,
    a_caller_with_a_short_deadline_gets_what_is_known_then,
    t14_a_client_that_waits_for_its_write_is_refused_when_its_credential_ends,
}

server_tests! {
    tuned |config| config.server.drain_seconds = 600;
    a_client_that_waits_for_its_write_does_not_delay_a_drain,
}

/// Does the same as [`voted`], and decides the round. Its first attempt has failed without an effect.
async fn failed(sg: &TestServer, of: GatewayOf<'_>) -> (Simulator, Staff, Chunk, i64) {
    let (simulator, staff, wanted, id) = voted(sg, of).await;
    fail_first_attempt(sg, &simulator, &[&staff.ana], id).await;
    (simulator, staff, wanted, id)
}

/// Decides a round by these votes, and lets its first attempt fail without an effect.
async fn fail_first_attempt(sg: &TestServer, simulator: &Simulator, voters: &[&Caller], id: i64) {
    let before = writes(simulator);
    let busy = Script::TrailersOnly { code: Code::ResourceExhausted, message: "busy".to_owned() };
    simulator.script("ApproveDraftChunk", busy, Times::Next(1));
    for voter in voters {
        voter.approve(id).await.unwrap();
    }
    first_attempt_has_failed(sg, id).await;
    assert_eq!(writes(simulator), before);
}

async fn g02_a_lost_answer_to_an_approval_is_not_sent_again(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, staff, wanted, id) = voted(&sg, of).await;
    let before = writes(&simulator);
    simulator.script("ApproveDraftChunk", Script::Disconnect, Times::Next(1));
    let (version, _) = approve(&staff.ana, of, &wanted).await.unwrap();
    let ended = wait_for(&sg.app, round_id(id), RoundState::Applied).await;
    assert_eq!(ended.progress.written_version, Some(i64::from(version)));
    assert_eq!((calls(&simulator, "ApproveDraftChunk"), writes(&simulator)), (1, before + 1));

    simulator.script("UndoDraftChunk", Script::Disconnect, Times::Next(1));
    let undo = pb::UndoChunkRequest {
        gateway: of.0.to_owned(),
        sandbox: "coder".to_owned(),
        chunk_id: wanted.id.clone(),
        ..Default::default()
    };
    let undone = staff.dora.approvals().undo_chunk(undo).await.unwrap().into_inner();
    let id = undone.approval.unwrap().id;
    for voter in [&staff.ana, &staff.ben] {
        voter.approve(id).await.unwrap();
    }
    wait_for(&sg.app, round_id(id), RoundState::Applied).await;
    assert_eq!((calls(&simulator, "UndoDraftChunk"), writes(&simulator)), (1, before + 2));
    simulator.stop().await;
    sg.finish().await;
}

async fn g02_an_approval_that_did_not_arrive_is_sent_again_only_after_the_deadline(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, staff, _, id) = voted(&sg, of).await;
    let before = writes(&simulator);
    simulator.script("ApproveDraftChunk", Script::DisconnectBefore, Times::Next(1));
    staff.ana.approve(id).await.unwrap();
    eventually("it was sent", || async { calls(&simulator, "ApproveDraftChunk") == 1 }).await;
    let asked = || calls(&simulator, "ListSandboxPolicies");
    let seen = asked();
    eventually("the gateway is asked", || async { asked() > seen + 1 }).await;
    assert_eq!(round(&sg.app, round_id(id)).await.state, RoundState::Sending);
    assert_eq!(calls(&simulator, "ApproveDraftChunk"), 1);
    sg.app.db.advance_clock(CALL_TIME + GRACE);
    advance_until(&sg.app, round_id(id), RoundState::Applied).await;
    assert_eq!((calls(&simulator, "ApproveDraftChunk"), writes(&simulator)), (2, before + 1));
    simulator.stop().await;
    sg.finish().await;
}

async fn failed_gateway_keeps_votes(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, staff, _, id) = failed(&sg, of).await;
        let votes = staff.ana.votes(id).await;
        assert!(votes.len() == 2 && votes.iter().all(|vote| vote.clear_time.is_none()));
        advance_until(&sg.app, round_id(id), RoundState::Applied).await;
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 2);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn first_attempt_has_failed(sg: &TestServer, id: i64) {
    eventually("the first attempt has failed", || async {
        let found = round(&sg.app, round_id(id)).await;
        found.progress.attempts == 1 && found.state == RoundState::Approved
    })
    .await;
}

/// Edits a chunk without Shoreguard.
async fn edit_directly(simulator: &Simulator, chunk: &str, host: &str) {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", simulator.addr()));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut client = old::open_shell_client::OpenShellClient::new(channel);
    // The fields are the same in both generations.
    let request = old::EditDraftChunkRequest {
        name: "coder".to_owned(),
        chunk_id: chunk.to_owned(),
        proposed_rule: Some(rule(host)),
        ..Default::default()
    };
    client.edit_draft_chunk(request).await.unwrap();
}

/// Returns the approval that has replaced another one, which has no votes.
async fn successor(caller: &Caller, id: i64) -> i64 {
    let next = caller.approval(id).await.successor_approval_id;
    assert_ne!(next, 0);
    assert_eq!(caller.votes(next).await.len(), 0);
    next
}

async fn payload_after_approval_starts_over(sg: TestServer, of: GatewayOf<'static>) {
    let (simulator, staff, wanted, id) = failed(&sg, of).await;
    let before = writes(&simulator);
    // Another rule.
    edit_directly(&simulator, &wanted.id, "edited.example").await;
    advance_until(&sg.app, round_id(id), RoundState::Superseded).await;
    let edited = successor(&staff.ana, id).await;
    // The rule leads to another one in the policy.
    fail_first_attempt(&sg, &simulator, &[&staff.ana, &staff.ben], edited).await;
    simulator
        .change_policy("", "coder", |policy| {
            policy.network_policies.insert(wanted.rule_name.clone(), rule("base.example"));
        })
        .unwrap();
    advance_until(&sg.app, round_id(edited), RoundState::Superseded).await;
    let moved = successor(&staff.ana, edited).await;
    if of.1 == Generation::V0_1 {
        // Its gateway gives the rule another name at the next evaluation, so that no approval of `moved` is written.
        assert_eq!(writes(&simulator), before);
        simulator.stop().await;
        sg.finish().await;
        return;
    }
    // An unrelated change of the policy moves no review.
    fail_first_attempt(&sg, &simulator, &[&staff.ana, &staff.ben], moved).await;
    simulator
        .change_policy("", "coder", |policy| {
            policy.network_policies.insert("unrelated".to_owned(), rule("unrelated.example"));
        })
        .unwrap();
    advance_until(&sg.app, round_id(moved), RoundState::Applied).await;
    assert_eq!(writes(&simulator), before + 1);
    let yaml = get_version(&staff.ana, of.0, 0).await.unwrap().yaml;
    for host in ["edited.example", "base.example", "unrelated.example"] {
        assert!(yaml.contains(host), "{yaml}");
    }
    simulator.stop().await;
    sg.finish().await;
}

async fn payload_after_approval_starts_over_with_a_profile(sg: TestServer, of: GatewayOf<'static>) {
    let simulator = seeded(&sg, of.0, of.1).await;
    let setting = pb::UpdateGatewaySettingRequest {
        gateway: of.0.to_owned(),
        key: "providers_v2_enabled".to_owned(),
        value: Some(pb::GatewaySettingValue { kind: Some(Kind::Switch(true)) }),
        ..Default::default()
    };
    sg.admin().gateways().update_gateway_setting(setting).await.unwrap();
    let staff = govern(&sg, of.0, 2).await;
    let before = writes(&simulator);
    let wanted = chunk(&staff.dora, of, &ask(&simulator, "one.example")).await;
    let id = open_by_vote(&staff.dora, of, &wanted).await;
    fail_first_attempt(&sg, &simulator, &[&staff.ana], id).await;
    // The sandbox has this provider. With its new rules, the gateway finds something in the draft.
    simulator
        .change_profile("", "github", |profile| {
            "elsewhere.example".clone_into(&mut profile.endpoints[0].host);
        })
        .unwrap();
    simulator.set_validation_result(Some("prover: 1 new finding\n  a_finding: here"));
    advance_until(&sg.app, round_id(id), RoundState::Superseded).await;
    let next = successor(&staff.ana, id).await;
    let findings = staff.ana.approval(next).await.content.unwrap().gateway_findings;
    assert!(findings.iter().any(|line| line == "a_finding: here"), "{findings:?}");
    assert_eq!(writes(&simulator), before);
    simulator.stop().await;
    sg.finish().await;
}

async fn payload_after_approval_starts_over_with_another_generation(sg: TestServer) {
    let of = GATEWAYS[0];
    let simulator = seeded(&sg, of.0, of.1).await;
    let staff = govern(&sg, of.0, 2).await;
    let before = writes(&simulator);
    let wanted = chunk(&staff.dora, of, &ask(&simulator, "one.example")).await;
    let id = open_by_vote(&staff.dora, of, &wanted).await;
    fail_first_attempt(&sg, &simulator, &[&staff.ana], id).await;
    // The gateway had another generation when the draft was reviewed.
    let other = format!("UPDATE approval_rounds SET generation = '0.1' WHERE id = {id}");
    assert_eq!(sg.sql(&other).await, 1);
    advance_until(&sg.app, round_id(id), RoundState::Superseded).await;
    let next = open_by_vote(&staff.dora, of, &wanted).await;
    assert_ne!(next, id);
    assert_eq!(staff.ana.votes(next).await.len(), 1);
    assert_eq!(writes(&simulator), before);
    sg.finish().await;
}

async fn an_undoing_that_leads_to_another_rule_starts_over(sg: TestServer, of: GatewayOf<'static>) {
    let (simulator, staff, wanted, _) = voted(&sg, of).await;
    approve(&staff.ana, of, &wanted).await.unwrap();
    let required = super::undo(&staff.dora, of, &wanted.id).await.unwrap_err();
    let id: i64 = super::fact(&required, "approval").parse().unwrap();
    let busy = Script::TrailersOnly { code: Code::ResourceExhausted, message: "busy".to_owned() };
    simulator.script("UndoDraftChunk", busy, Times::Next(1));
    for voter in [&staff.ana, &staff.ben] {
        voter.approve(id).await.unwrap();
    }
    first_attempt_has_failed(&sg, id).await;
    // The rule has another endpoint now, which would be removed, too.
    simulator
        .change_policy("", "coder", |policy| {
            let rule = policy.network_policies.get_mut(&wanted.rule_name).unwrap();
            rule.endpoints.push(endpoint("more.example", 443));
        })
        .unwrap();
    advance_until(&sg.app, round_id(id), RoundState::Superseded).await;
    let next = successor(&staff.ana, id).await;
    let found = shown(&staff.ana, next).await;
    assert_eq!(found.action(), pb::ApprovalAction::DraftUndo);
    assert_eq!(
        (found.state(), &found.authors[..]),
        (pb::ApprovalState::Open, &["dora@example.com".to_owned()][..])
    );
    let present = staff.ana.approval(next).await.content.unwrap().present_yaml;
    assert!(present.contains("more.example"), "{present}");
    assert_refused!(staff.dora.approve(next).await, PermissionDenied, "OWN_CHANGE");
    for voter in [&staff.ana, &staff.ben] {
        voter.approve(next).await.unwrap();
    }
    wait_for(&sg.app, round_id(next), RoundState::Applied).await;
    let yaml = get_version(&staff.ana, of.0, 0).await.unwrap().yaml;
    assert!(!yaml.contains("more.example"), "{yaml}");
    simulator.stop().await;
    sg.finish().await;
}

async fn a_policy_for_all_sandboxes_stops_decisions(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, staff, wanted, id) = failed(&sg, of).await;
        let global = old::UpdateConfigRequest {
            global: true,
            policy: Some(with_rule("all", endpoint("all.example", 443))),
            ..Default::default()
        };
        change_directly(&simulator, global).await;
        let refused = approve(&staff.ben, of, &wanted).await;
        assert_refused!(refused, FailedPrecondition, "GOVERNED");
        sg.app.clock.advance(Duration::from_secs(6));
        assert_eq!(shown(&staff.ana, id).await.state(), pb::ApprovalState::Approved);
        let delete = old::UpdateConfigRequest {
            global: true,
            setting_key: "policy".to_owned(),
            delete_setting: true,
            ..Default::default()
        };
        change_directly(&simulator, delete).await;
        advance_until(&sg.app, round_id(id), RoundState::Applied).await;
        assert_eq!(chunk(&staff.ana, of, &wanted.id).await.status, "approved");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn g06_a_refused_approval_fails_with_the_words_of_the_gateway(sg: TestServer) {
    for of in GATEWAYS {
        let (simulator, staff, wanted, id) = voted(&sg, of).await;
        let message = "no\u{1b}[31m such thing".to_owned();
        let refused = Script::TrailersOnly { code: Code::FailedPrecondition, message };
        simulator.script("ApproveDraftChunk", refused, Times::All);
        let closed = approve(&staff.ana, of, &wanted).await;
        let closed = assert_refused!(closed, FailedPrecondition, "ROUND_CLOSED");
        let why = closed.message();
        assert!(why.contains("such thing") && !why.contains('\u{1b}'), "{why}");
        assert_eq!(shown(&staff.ana, id).await.state(), pb::ApprovalState::Failed);
        assert_eq!(calls(&simulator, "ApproveDraftChunk"), 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_caller_with_a_short_deadline_gets_what_is_known_then(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, staff, wanted, id) = voted(&sg, of).await;
    let hold = shoreguard_simulator::Hold::default();
    simulator.script("ApproveDraftChunk", Script::HoldBefore(hold.clone()), Times::Next(1));
    let waiting = {
        let (ana, wanted) = (staff.ana.clone(), wanted.clone());
        sg.app.spawn(async move { approve(&ana, of, &wanted).await })
    };
    hold.wait_reached(1).await;
    // The call gives up before the write has an outcome.
    sg.app.clock.advance(CALL_TIME + Duration::from_secs(1));
    let late = waiting.await.unwrap();
    let late = assert_refused!(late, FailedPrecondition, "APPROVAL_REQUIRED");
    assert!(late.message().contains("being written"), "{late:?}");
    hold.release();
    assert_ne!(shown(&staff.dora, id).await.state(), pb::ApprovalState::Open);
    // The write can no longer arrive. Otherwise, its operation would ask the gateway until the server stops it.
    sg.pass(Duration::from_mins(2)).await;
    simulator.stop().await;
    sg.finish().await;
}

async fn t14_a_client_that_waits_for_its_write_is_refused_when_its_credential_ends(
    sg: TestServer,
    of: GatewayOf<'static>,
) {
    let (simulator, staff, wanted, id) = voted(&sg, of).await;
    let hold = shoreguard_simulator::Hold::default();
    simulator.script("ApproveDraftChunk", Script::HoldBefore(hold.clone()), Times::Next(1));
    let waiting = {
        let (ana, wanted) = (staff.ana.clone(), wanted.clone());
        sg.app.spawn(async move { approve(&ana, of, &wanted).await })
    };
    hold.wait_reached(1).await;
    sg.deactivate("ana@example.com").await;
    assert_refused!(waiting.await.unwrap(), Unauthenticated, "CREDENTIAL_INVALID");
    // What was decided before is written.
    hold.release();
    wait_for(&sg.app, round_id(id), RoundState::Applied).await;
    simulator.stop().await;
    sg.finish().await;
}

async fn a_client_that_waits_for_its_write_does_not_delay_a_drain(sg: TestServer) {
    let of = GATEWAYS[1];
    let (simulator, staff, wanted, _) = voted(&sg, of).await;
    let hold = shoreguard_simulator::Hold::default();
    simulator.script("ApproveDraftChunk", Script::HoldBefore(hold.clone()), Times::Next(1));
    let waiting = {
        let (ana, wanted) = (staff.ana.clone(), wanted.clone());
        sg.app.spawn(async move { approve(&ana, of, &wanted).await })
    };
    hold.wait_reached(1).await;
    sg.app.stop.cancel();
    assert_refused!(waiting.await.unwrap(), Unavailable, "DRAINING");
    hold.release();
    sg.operations_ended().await;
    simulator.stop().await;
    sg.finish().await;
}
