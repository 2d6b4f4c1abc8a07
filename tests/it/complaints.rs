//! Complaints about approval systems, and attacks on them, as far as they concern proposals. The rest is in the tests
//! of `approvals`, `proposals` and `gate`.

use std::time::Duration;

use shoreguard::db::Engine;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::gateway_setting_value::Kind;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::DISPATCH;
use shoreguard::workers;
use shoreguard_simulator::{Generation, Hold, Script, Times};

use crate::approval_workflows::{operators, set};
use crate::approvals::{govern, named, people, proposal, propose, require, rule, user};
use crate::approved_writes::{revisions, round, updates, wait_for, writes};
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::policy_writes::merge;
use crate::support::eventually;
use crate::support::gateways::recreate;
use crate::support::server::{Caller, TestServer, run_without_jobs};

server_tests! {
    owners_can_be_and,
    payload_after_approval_starts_over_of_a_proposal,
    repeated_ask_keeps_its_votes_of_a_proposal,
    bulk_approval_is_no_bypass_of_a_proposal,
    t01_a_gateway_that_is_registered_again_has_no_votes_of_the_first,
    t13_an_answer_after_the_deadline_changes_nothing,
}

#[test]
fn t01_an_approved_change_is_not_written_to_the_next_sandbox_of_its_name() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        run_without_jobs(engine, write_after_recreation);
    }
}

#[test]
fn t09_a_policy_of_the_other_generation_is_not_written() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        run_without_jobs(engine, write_after_a_change_of_generation);
    }
}

async fn owners_can_be_and(sg: TestServer) {
    let of = people(&sg).await;
    let security = || named(vec![user(&sg, "ana"), user(&sg, "ben")], vec![]);
    let owners = || named(vec![user(&sg, "cleo")], vec![]);
    // One of each group, and not two of one group.
    govern(&sg, &rule(&[("security", 1, security()), ("owners", 1, owners())])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    for key in [&of.ana, &of.ben] {
        let voted = sg.with_token(key).approve(id).await.unwrap();
        assert_eq!(voted.state(), pb::ApprovalState::Open);
    }
    let cleo = sg.with_token(&of.cleo);
    let groups = cleo.approval(id).await.rules.remove(0).groups;
    let missing = groups.iter().filter(|group| group.counting.is_empty());
    assert_eq!(missing.map(|group| group.name.as_str()).collect::<Vec<_>>(), ["owners"]);
    assert_eq!(cleo.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    // One of either group.
    let mut either = rule(&[("security", 1, security()), ("owners", 1, owners())]);
    either.required_groups = 1;
    govern(&sg, &either).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    assert_eq!(cleo.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

/// Creates two operators, and requires both on a gateway.
async fn require_two(sg: &TestServer, gateway: &str) -> [Caller; 2] {
    let mut staff = Vec::new();
    for name in ["ana", "ben"] {
        let email = format!("{name}@{gateway}.example.com");
        staff.push(sg.with_token(&sg.create_user(&email, pb::Role::Operator).await));
    }
    let workflow = pb::SetWorkflowRequest {
        gateway: gateway.to_owned(),
        rule: Some(operators(2)),
        ..Default::default()
    };
    set(&sg.admin(), workflow).await.unwrap();
    staff.try_into().ok().unwrap()
}

async fn payload_after_approval_starts_over_of_a_proposal(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let setting = pb::UpdateGatewaySettingRequest {
            gateway: name.to_owned(),
            key: "providers_v2_enabled".to_owned(),
            value: Some(pb::GatewaySettingValue { kind: Some(Kind::Switch(true)) }),
            ..Default::default()
        };
        admin.gateways().update_gateway_setting(setting).await.unwrap();
        let [ana, ben] = require_two(&sg, name).await;
        let id = merge(&admin, name, "one.example").await.unwrap().approval_id;
        ana.approve(id).await.unwrap();
        // The sandbox has this provider, whose rules are in force beside those of its own policy.
        simulator
            .change_profile("", "github", |profile| {
                "elsewhere.example".clone_into(&mut profile.endpoints[0].host);
            })
            .unwrap();
        ben.approve(id).await.unwrap();
        let ended = wait_for(&sg.app, ApprovalRoundId(id), RoundState::Superseded).await;
        let reason = ended.progress.close_reason.unwrap();
        assert!(reason.contains("the policy in force"), "{reason}");
        let next = ana.approval(id).await.successor_approval_id;
        let next = ana.approval(next).await.approval.unwrap();
        assert_eq!((next.state(), next.votes), (pb::ApprovalState::Open, 0));
        assert_eq!(writes(&simulator), 0);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn repeated_ask_keeps_its_votes_of_a_proposal(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, is_new) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(is_new);
    let ana = sg.with_token(&of.ana);
    ana.approve(id).await.unwrap();
    for key in [&of.dora, &of.cleo, &of.dora] {
        let again = propose(&sg, key, &proposal("a.example.com")).await.unwrap();
        assert_eq!(again, (id, false));
    }
    let shown = ana.approval(id).await.approval.unwrap();
    assert_eq!((shown.votes, shown.state()), (1, pb::ApprovalState::Open));
    assert_eq!(ana.votes(id).await.len(), 1);
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!(ben.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn bulk_approval_is_no_bypass_of_a_proposal(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let mut opened = Vec::new();
    for host in ["a.example.com", "b.example.com"] {
        opened.push(propose(&sg, &of.dora, &proposal(host)).await.unwrap().0);
    }
    let ana = sg.with_token(&of.ana);
    let mut ballots = Vec::new();
    for id in &opened {
        ballots.push(pb::Ballot {
            approval_id: *id,
            digest: ana.approval(*id).await.approval.unwrap().digest,
            decision: pb::VoteDecision::Approve.into(),
            ..Default::default()
        });
    }
    let (gateway, request_id) = ("edge".to_owned(), String::new());
    let request = pb::VoteManyRequest { gateway, ballots, request_id };
    // Twice the same is one vote of one person in each.
    for _ in 0..2 {
        let voted = ana.approvals().vote_many(request.clone()).await.unwrap().into_inner();
        let figures =
            voted.approvals.iter().map(|found| (found.votes, found.needed, found.state()));
        assert_eq!(figures.collect::<Vec<_>>(), [(1, 2, pb::ApprovalState::Open); 2]);
    }
    // The audit log says that it was a vote on several, and on which.
    sg.app.audit.wait_settled().await;
    let list = pb::ListAuditEntriesRequest {
        action: "approval.vote_many".to_owned(),
        actor: "ana@example.com".to_owned(),
        ..Default::default()
    };
    let listed = sg.admin().audit().list_audit_entries(list).await.unwrap().into_inner();
    assert_eq!(listed.audit_entries.len(), 2);
    for entry in listed.audit_entries {
        let detail: serde_json::Value = serde_json::from_str(&entry.detail_json).unwrap();
        let votes = detail["votes"].as_array().unwrap();
        let named: Vec<i64> = votes.iter().map(|vote| vote["approval"].as_i64().unwrap()).collect();
        assert_eq!(named, opened);
        assert!(votes.iter().all(|vote| vote["decision"] == "approve"), "{detail}");
    }
    sg.finish().await;
}

async fn t01_a_gateway_that_is_registered_again_has_no_votes_of_the_first(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (first, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    ana.approve(first).await.unwrap();
    // A gateway with a rule is not unregistered.
    sg.sql("DELETE FROM approval_workflows").await;
    let request = pb::UnregisterGatewayRequest { gateway: "edge".to_owned(), ..Default::default() };
    sg.admin().gateways().unregister_gateway(request).await.unwrap();
    sg.register_unreachable("edge").await;
    require(&sg, 2).await;
    let (second, is_new) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(is_new && second != first);
    let ben = sg.with_token(&of.ben).approve(second).await.unwrap();
    assert_eq!((ben.votes, ben.needed, ben.state()), (1, 2, pb::ApprovalState::Open));
    let vote = pb::VoteRequest {
        approval_id: first,
        digest: ben.digest,
        decision: pb::VoteDecision::Approve.into(),
        ..Default::default()
    };
    assert_refused!(ana.approvals().vote(vote).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}

async fn t13_an_answer_after_the_deadline_changes_nothing(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let (before, hold) = (revisions(&simulator), Hold::default());
        simulator.script("UpdateConfig", Script::HoldAfter(hold.clone()), Times::Next(1));
        let id = sg.open_round(name, "one.example").await;
        hold.wait_reached(1).await;
        // The gateway has carried it out, and its answer is late. What the gateway has decides.
        eventually("the outcome is known", || async {
            sg.pass(Duration::from_secs(1)).await;
            round(&sg.app, id).await.state != RoundState::Sending
        })
        .await;
        let applied = wait_for(&sg.app, id, RoundState::Applied).await;
        hold.release();
        // Later writes of the sandbox are not disturbed by the answer.
        let next = sg.open_round(name, "two.example").await;
        wait_for(&sg.app, next, RoundState::Applied).await;
        assert_eq!((updates(&simulator), revisions(&simulator) - before), (2, 2));
        let found = round(&sg.app, id).await;
        assert_eq!(found.version, applied.version);
        let policy = get_version(&sg.admin(), name, 0).await.unwrap().yaml;
        assert!(policy.contains("two.example"), "{policy}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn write_after_recreation(sg: TestServer) {
    let simulator = seeded(&sg, "edge", Generation::V0_1).await;
    let id = sg.open_round("edge", "one.example").await;
    assert_eq!(round(&sg.app, id).await.state, RoundState::Approved);
    recreate(&simulator).await;
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    let ended = wait_for(&sg.app, id, RoundState::Withdrawn).await;
    let reason = ended.progress.close_reason.unwrap();
    assert!(reason.contains("another one has its name"), "{reason}");
    assert_eq!(updates(&simulator), 0);
    sg.finish().await;
}

async fn write_after_a_change_of_generation(sg: TestServer) {
    let simulator = seeded(&sg, "edge", Generation::V0_0).await;
    let dora = sg.create_user("dora@example.com", pb::Role::Operator).await;
    // Its policy is of generation 0.1.
    let mut reviewed = proposal("a.example.com");
    reviewed.sandbox = "coder";
    reviewed.decides = true;
    let (id, _) = propose(&sg, &dora, &reviewed).await.unwrap();
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    let ended = wait_for(&sg.app, ApprovalRoundId(id), RoundState::Superseded).await;
    let reason = ended.progress.close_reason.unwrap();
    assert!(reason.contains("another generation"), "{reason}");
    assert_eq!(updates(&simulator), 0);
    sg.finish().await;
}
