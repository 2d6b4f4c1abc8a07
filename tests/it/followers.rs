//! Followers: drafts of agents get a review, which follows their state. The tests run each pass themselves.

use std::time::Duration;

use shoreguard::pb::v0_1::openshell::sandbox::v1 as new_sandbox;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::ApprovalState;
use shoreguard::resources::approvals::worker::{CLOCK, RETENTION};
use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;
use shoreguard_simulator::{Generation, Proposal, Script, Simulator, Times};

use crate::approvals::{DAY, events, require};
use crate::policies::seeded;
use crate::policy_pins::{pin_request, set};
use crate::proxy::for_gateway;
use crate::support::server::{Caller, TestServer};

server_tests_without_jobs! {
    drafts_of_0_0_get_reviews,
    drafts_of_0_1_get_reviews,
    repeated_ask_keeps_its_votes_on_0_0,
    repeated_ask_keeps_its_votes_on_0_1,
    rejections_reach_a_gateway_of_0_0,
    rejections_reach_a_gateway_of_0_1,
    t20_a_flood_of_drafts_disturbs_no_other_sandbox,
    t20_drafts_that_are_too_large_concern_their_sandbox_only,
    t10_a_pinned_sandbox_that_moved_is_reported_once,
    t20_what_a_log_shows_delays_no_report_about_a_policy,
    a_gateway_that_approves_by_itself_breaks_the_workflow,
    new_drafts_are_announced_at_most_once_a_minute,
    a_review_of_a_draft_without_a_vote_is_deleted_after_a_week,
    a_follower_without_its_lease_stores_nothing,
    a_rejection_of_another_rule_is_not_sent,
    g04_an_edit_whose_editor_would_not_be_known_is_not_sent,
}

/// A gateway `edge` with the demo content, and what its follower remembers. `coder` has one pending proposal.
pub(crate) struct Edge {
    pub(crate) simulator: Simulator,
    pub(crate) memory: Memory,
}

impl Edge {
    pub(crate) async fn start(sg: &TestServer, generation: Generation) -> Self {
        let simulator = seeded(sg, "edge", generation).await;
        Self { simulator, memory: Memory::new(&sg.app.config.gateways) }
    }

    pub(crate) async fn follow(&mut self, sg: &TestServer) {
        self.follow_while(sg, async |_: &Simulator| {}).await;
    }

    /// Follows the gateway, and does something meanwhile.
    pub(crate) async fn follow_while(
        &mut self,
        sg: &TestServer,
        meanwhile: impl AsyncFnOnce(&Simulator),
    ) {
        let mut targets = sg.app.fleet.targets.all().into_iter();
        let edge = targets.find(|target| &*target.name == "edge").unwrap().gateway();
        let followed = follow_once(&sg.app, edge, &mut self.memory);
        let (followed, ()) = tokio::join!(followed, meanwhile(&self.simulator));
        assert!(followed.unwrap());
    }

    /// Proposes a rule for a host, as the agent of `coder` writes it.
    pub(crate) fn propose(&self, host: &str) -> String {
        let proposal =
            Proposal { agent_authored: true, ..Proposal::allow(host, 443, "/usr/bin/curl") };
        self.simulator.propose("default", "coder", proposal).unwrap()
    }

    pub(crate) fn status(&self, id: &str) -> (String, String) {
        self.simulator.proposal("default", "coder", id).unwrap().unwrap()
    }
}

async fn inbox(caller: &Caller) -> pb::ListApprovalsResponse {
    let filter = pb::ApprovalFilter {
        action: pb::ApprovalAction::DraftApprove.into(),
        ..Default::default()
    };
    let request =
        pb::ListApprovalsRequest { filter: Some(filter), page_size: 1_000, ..Default::default() };
    caller.approvals().list_approvals(request).await.unwrap().into_inner()
}

/// Returns the open review of a chunk.
pub(crate) async fn of_chunk(caller: &Caller, id: &str) -> Option<pb::Approval> {
    inbox(caller).await.approvals.into_iter().find(|approval| approval.chunk_id == id)
}

async fn state(caller: &Caller, id: i64) -> ApprovalState {
    caller.approval(id).await.approval.unwrap().state()
}

async fn drafts_get_reviews(sg: TestServer, generation: Generation) {
    let mut edge = Edge::start(&sg, generation).await;
    let admin = sg.admin();
    let chunk = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    let found = of_chunk(&admin, &chunk).await.unwrap();
    assert_eq!((found.sandbox.as_str(), found.gateway.as_str()), ("coder", "edge"));
    assert!(found.authors.is_empty() && found.expire_time.is_none(), "{found:?}");
    let draft = found.draft.clone().unwrap();
    assert_eq!(draft.rationale, "a connection to wanted.example.com:443 was refused");
    let detail = admin.approval(found.id).await;
    let content = detail.content.unwrap();
    assert!(content.yaml.contains("wanted.example.com"), "{}", content.yaml);
    assert!(content.proposed_yaml.contains("/usr/bin/curl") && !content.rule_name.is_empty());
    assert_eq!(detail.rules[0].scope, "the default rule");
    // The demo has another one. A second pass changes nothing.
    assert_eq!(inbox(&admin).await.approvals.len(), 2);
    edge.follow(&sg).await;
    assert_eq!(of_chunk(&admin, &chunk).await, Some(found.clone()));
    // A pass without what the last one remembered changes nothing, either.
    edge.memory = Memory::new(&sg.app.config.gateways);
    edge.follow(&sg).await;
    assert_eq!(of_chunk(&admin, &chunk).await, Some(found.clone()));
    assert_eq!(edge.simulator.clear_proposals("default", "coder").unwrap(), 2);
    // A failed call says nothing about the chunk.
    let failure = Script::TrailersOnly { code: tonic::Code::Internal, message: "no".to_owned() };
    edge.simulator.script("GetDraftPolicy", failure, Times::All);
    edge.follow(&sg).await;
    assert_eq!(state(&admin, found.id).await, ApprovalState::Open);
    edge.simulator.clear_scripts();
    edge.follow(&sg).await;
    assert_eq!(state(&admin, found.id).await, ApprovalState::Superseded);
    assert!(inbox(&admin).await.approvals.is_empty());
    sg.finish().await;
}

async fn drafts_of_0_0_get_reviews(sg: TestServer) {
    drafts_get_reviews(sg, Generation::V0_0).await;
}

async fn drafts_of_0_1_get_reviews(sg: TestServer) {
    drafts_get_reviews(sg, Generation::V0_1).await;
}

async fn repeated_ask_keeps_its_votes(sg: TestServer, generation: Generation) {
    let mut edge = Edge::start(&sg, generation).await;
    let ana = sg.create_user("ana@example.com", pb::Role::Operator).await;
    let ana = sg.with_token(&ana);
    require(&sg, 2).await;
    let first = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    let review = of_chunk(&ana, &first).await.unwrap();
    assert!(review.expire_time.is_some(), "under a workflow, drafts expire");
    assert_eq!(ana.approve(review.id).await.unwrap().votes, 1);
    // The agent asks again: another chunk with the same content.
    let second = edge.propose("wanted.example.com");
    assert_ne!(first, second);
    edge.follow(&sg).await;
    let again = of_chunk(&ana, &second).await.unwrap();
    assert_eq!((again.id, again.votes, &again.digest), (review.id, 1, &review.digest));
    // An edit starts over.
    let edited = Proposal::allow("other.example.com", 443, "/usr/bin/curl").rule;
    edge.simulator.edit_proposal("default", "coder", &second, edited).unwrap();
    // The same if the policy cannot be read at first.
    let failure = Script::TrailersOnly { code: tonic::Code::Internal, message: "no".to_owned() };
    edge.simulator.script("GetSandbox", failure, Times::Next(1));
    edge.follow(&sg).await;
    assert_eq!(of_chunk(&ana, &second).await.unwrap().id, review.id);
    edge.follow(&sg).await;
    let successor = of_chunk(&ana, &second).await.unwrap();
    assert_eq!((successor.previous_approval_id, successor.votes), (review.id, 0));
    assert_ne!(successor.digest, review.digest);
    assert_eq!(state(&ana, review.id).await, ApprovalState::Superseded);
    // So does a new finding of the gateway about the same rule.
    let third = edge.propose("third.example.com");
    edge.follow(&sg).await;
    let clean = of_chunk(&ana, &third).await.unwrap();
    ana.approve(clean.id).await.unwrap();
    edge.simulator.set_validation_result(Some("prover: 1 new finding\n  a_finding: here"));
    let fourth = edge.propose("third.example.com");
    edge.follow(&sg).await;
    let found = of_chunk(&ana, &fourth).await.unwrap();
    assert!(found.id != clean.id && found.votes == 0, "{found:?}");
    assert_eq!(state(&ana, clean.id).await, ApprovalState::Superseded);
    let content = ana.approval(found.id).await.content.unwrap();
    assert!(content.gateway_findings.iter().any(|line| line == "a_finding: here"));
    // Another result of the same rule is another content, too.
    ana.approve(found.id).await.unwrap();
    let policy = Proposal::allow("third.example.com", 443, "/usr/bin/wget");
    edge.simulator
        .change_policy("default", "coder", |current| {
            current.network_policies.insert(found.draft.unwrap().rule_name, policy.rule);
        })
        .unwrap();
    edge.follow(&sg).await;
    assert_eq!(state(&ana, found.id).await, ApprovalState::Superseded);
    sg.finish().await;
}

async fn repeated_ask_keeps_its_votes_on_0_0(sg: TestServer) {
    repeated_ask_keeps_its_votes(sg, Generation::V0_0).await;
}

async fn repeated_ask_keeps_its_votes_on_0_1(sg: TestServer) {
    repeated_ask_keeps_its_votes(sg, Generation::V0_1).await;
}

async fn rejections_reach_a_gateway(sg: TestServer, generation: Generation) {
    let mut edge = Edge::start(&sg, generation).await;
    let ana = sg.create_user("ana@example.com", pb::Role::Operator).await;
    let ana = sg.with_token(&ana);
    let rejected = edge.propose("bad.example.com");
    edge.follow(&sg).await;
    let review = of_chunk(&ana, &rejected).await.unwrap();
    ana.vote(review.id, pb::VoteDecision::Reject).await.unwrap();
    // The gateway does not answer: the chunk stays pending, and gets no other review.
    let failure = Script::TrailersOnly { code: tonic::Code::Unavailable, message: "no".to_owned() };
    edge.simulator.script("RejectDraftChunk", failure, Times::All);
    edge.follow(&sg).await;
    assert_eq!(edge.status(&rejected).0, "pending");
    assert_eq!(of_chunk(&ana, &rejected).await, None);
    edge.simulator.clear_scripts();
    edge.follow(&sg).await;
    let (status, reason) = edge.status(&rejected);
    assert_eq!(status, "rejected");
    assert!(reason.starts_with("rejected by") && reason.ends_with(": a reason"), "{reason}");
    edge.follow(&sg).await;
    assert_eq!(of_chunk(&ana, &rejected).await, None);
    // A review that expires rejects its chunk, too.
    require(&sg, 2).await;
    let expired = edge.propose("late.example.com");
    edge.follow(&sg).await;
    let review = of_chunk(&ana, &expired).await.unwrap();
    sg.pass(DAY * 8).await;
    sg.run_job(&CLOCK).await;
    assert_eq!(state(&sg.admin(), review.id).await, ApprovalState::Expired);
    edge.follow(&sg).await;
    let (status, reason) = edge.status(&expired);
    assert_eq!((status.as_str(), reason.as_str()), ("rejected", "it was not decided in time"));
    sg.finish().await;
}

async fn rejections_reach_a_gateway_of_0_0(sg: TestServer) {
    rejections_reach_a_gateway(sg, Generation::V0_0).await;
}

async fn rejections_reach_a_gateway_of_0_1(sg: TestServer) {
    rejections_reach_a_gateway(sg, Generation::V0_1).await;
}

async fn t20_a_flood_of_drafts_disturbs_no_other_sandbox(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    let many = (0..102).map(|n| Proposal::allow(&format!("h{n}.example.com"), 443, "/bin/x"));
    edge.simulator.submit_analysis("default", "coder", many.collect()).unwrap();
    let asked = Proposal::allow("one.example.com", 443, "/bin/x");
    let other = edge.simulator.propose("default", "builder", asked).unwrap();
    edge.follow(&sg).await;
    let found = inbox(&admin).await;
    let of_coder = found.approvals.iter().filter(|one| one.sandbox == "coder").count();
    assert_eq!(of_coder, 100);
    assert!(found.approvals.iter().any(|one| one.chunk_id == other), "the other sandbox");
    let [waiting] = &found.waiting_drafts[..] else { panic!("{:?}", found.waiting_drafts) };
    assert_eq!((waiting.sandbox.as_str(), waiting.over_limit), ("coder", 3));
    // As long as there is no room, what is left costs no call.
    edge.follow(&sg).await;
    let path = "/openshell.v1.OpenShell/GetSandbox";
    let before = edge.simulator.calls().get(path).copied();
    edge.follow(&sg).await;
    assert_eq!(edge.simulator.calls().get(path).copied(), before);
    assert_eq!(inbox(&admin).await.waiting_drafts[0].over_limit, 3);
    // One round ends, and another chunk gets its place.
    let first = found.approvals.iter().find(|one| one.sandbox == "coder").unwrap();
    admin.vote(first.id, pb::VoteDecision::Reject).await.unwrap();
    edge.follow(&sg).await;
    let found = inbox(&admin).await;
    let of_coder = found.approvals.iter().filter(|one| one.sandbox == "coder").count();
    assert_eq!((of_coder, found.waiting_drafts[0].over_limit), (100, 2));
    edge.simulator.clear_proposals("default", "coder").unwrap();
    edge.follow(&sg).await;
    let found = inbox(&admin).await;
    assert_eq!((found.approvals.len(), found.waiting_drafts.len()), (1, 0));
    sg.finish().await;
}

async fn t20_drafts_that_are_too_large_concern_their_sandbox_only(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    edge.follow(&sg).await;
    let before = inbox(&admin).await.approvals;
    assert_eq!(before.len(), 1);
    let large = (0..17).map(|n| Proposal {
        rationale: "x".repeat(1 << 20),
        ..Proposal::allow(&format!("h{n}.example.com"), 443, "/bin/x")
    });
    edge.simulator.submit_analysis("default", "coder", large.collect()).unwrap();
    let asked = Proposal::allow("one.example.com", 443, "/bin/x");
    let other = edge.simulator.propose("default", "builder", asked).unwrap();
    edge.follow(&sg).await;
    let found = inbox(&admin).await;
    assert!(found.approvals.iter().any(|one| one.chunk_id == other), "the other sandbox");
    // Nothing is known about its chunks, so its round stays.
    assert!(found.approvals.contains(&before[0]));
    let [waiting] = &found.waiting_drafts[..] else { panic!("{:?}", found.waiting_drafts) };
    assert!(waiting.overflowing && waiting.sandbox == "coder");
    // Its rejections wait, and take no places of others.
    admin.vote(before[0].id, pb::VoteDecision::Reject).await.unwrap();
    let mut targets = sg.app.fleet.targets.all().into_iter();
    let edge = targets.find(|target| &*target.name == "edge").unwrap().gateway().id;
    let mut conn = sg.app.db.read().await.unwrap();
    let rejections = shoreguard::resources::approvals::drafts::rejections::store::list;
    assert!(rejections(&mut conn, edge, 10).await.unwrap().is_empty());
    drop(conn);
    sg.sql("UPDATE draft_states SET overflowing = FALSE").await;
    let mut conn = sg.app.db.read().await.unwrap();
    assert_eq!(rejections(&mut conn, edge, 10).await.unwrap().len(), 1);
    drop(conn);
    sg.finish().await;
}

async fn t10_a_pinned_sandbox_that_moved_is_reported_once(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    set(&admin, pin_request(None)).await.unwrap();
    edge.follow(&sg).await;
    assert_eq!(events(&sg, "policy.drift_detected").await, 0);
    let mut moves = 0;
    for host in ["one.example.com", "two.example.com"] {
        let wanted = Proposal::allow(host, 443, "/usr/bin/curl");
        edge.simulator
            .change_policy("default", "coder", |policy| {
                policy.network_policies.insert(wanted.rule_name, wanted.rule);
            })
            .unwrap();
        moves += 1;
        for _ in 0..2 {
            edge.follow(&sg).await;
            assert_eq!(events(&sg, "policy.drift_detected").await, moves, "{host}");
        }
    }
    assert_eq!(admin.audit_entries("", "policy.detect_drift").await.len(), 2);
    sg.finish().await;
}

async fn t20_what_a_log_shows_delays_no_report_about_a_policy(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    set(&sg.admin(), pin_request(None)).await.unwrap();
    edge.follow(&sg).await;
    edge.simulator.log("default", "coder", "OCSF", "PROC:LAUNCH [HIGH] DENIED nsenter").unwrap();
    let wanted = Proposal::allow("one.example.com", 443, "/usr/bin/curl");
    edge.simulator
        .change_policy("default", "coder", |policy| {
            policy.network_policies.insert(wanted.rule_name, wanted.rule);
        })
        .unwrap();
    edge.follow(&sg).await;
    let earlier = "UPDATE events SET name = name WHERE name = 'policy.drift_detected' AND id < \
                   (SELECT min(id) FROM events WHERE name = 'sandbox.bypass_detected')";
    assert_eq!(sg.sql(earlier).await, 1);
    sg.finish().await;
}

async fn a_gateway_that_approves_by_itself_breaks_the_workflow(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    let mode = async |sandbox: &str, mode: &str| {
        let kind = pb::gateway_setting_value::Kind::Text(mode.to_owned());
        let setting = pb::UpdateGatewaySettingRequest {
            gateway: "edge".to_owned(),
            sandbox: sandbox.to_owned(),
            key: "proposal_approval_mode".to_owned(),
            value: Some(pb::GatewaySettingValue { kind: Some(kind) }),
            ..Default::default()
        };
        admin.gateways().update_gateway_setting(setting).await.unwrap();
    };
    let broken = async || events(&sg, "approval_workflow.broken").await;
    // The mode of one sandbox.
    mode("coder", "auto").await;
    require(&sg, 1).await;
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(broken().await, 1);
    }
    // That of the gateway replaces it.
    mode("", "manual").await;
    edge.follow(&sg).await;
    assert_eq!(sg.sql("DELETE FROM approval_workflows WHERE auto_since IS NULL").await, 1);
    // Without the workflow, a gateway may approve by itself, until there is one again.
    mode("", "auto").await;
    edge.follow(&sg).await;
    assert_eq!(broken().await, 1);
    require(&sg, 1).await;
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(broken().await, 2);
    }
    sg.finish().await;
}

async fn new_drafts_are_announced_at_most_once_a_minute(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    edge.follow(&sg).await;
    assert_eq!(events(&sg, "approval.pending").await, 1);
    edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    assert_eq!(events(&sg, "approval.pending").await, 1, "it is too early");
    sg.app.db.advance_clock(Duration::from_secs(61));
    // Also after a takeover.
    edge.memory = Memory::new(&sg.app.config.gateways);
    for _ in 0..2 {
        edge.follow(&sg).await;
        assert_eq!(events(&sg, "approval.pending").await, 2);
    }
    sg.finish().await;
}

async fn a_review_of_a_draft_without_a_vote_is_deleted_after_a_week(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let ana = sg.create_user("ana@example.com", pb::Role::Operator).await;
    let ana = sg.with_token(&ana);
    require(&sg, 2).await;
    let voted = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    let voted = of_chunk(&ana, &voted).await.unwrap();
    ana.approve(voted.id).await.unwrap();
    assert_eq!(edge.simulator.clear_proposals("default", "coder").unwrap(), 2);
    edge.follow(&sg).await;
    let rounds = async || sg.sql("UPDATE approval_rounds SET version = version").await;
    for (days, left) in [(6, 2), (2, 1)] {
        sg.pass(DAY * days).await;
        sg.run_job(&RETENTION).await;
        assert_eq!(rounds().await, left, "{days}");
    }
    assert_eq!(state(&sg.admin(), voted.id).await, ApprovalState::Superseded);
    sg.finish().await;
}

async fn a_follower_without_its_lease_stores_nothing(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let mut targets = sg.app.fleet.targets.all().into_iter();
    let gateway = targets.find(|target| &*target.name == "edge").unwrap().gateway();
    let (db, name) = (&sg.app.db, format!("follow/{}", gateway.id.get()));
    let held = shoreguard::db::leases::acquire(db, &name, "other", DAY).await.unwrap();
    assert!(held.is_some());
    assert!(!follow_once(&sg.app, gateway, &mut edge.memory).await.unwrap());
    assert!(inbox(&sg.admin()).await.approvals.is_empty());
    sg.finish().await;
}

async fn g04_an_edit_whose_editor_would_not_be_known_is_not_sent(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    require(&sg, 2).await;
    let chunk_id = edge.propose("wanted.example.com");
    edge.follow(&sg).await;
    // The review is over. Its chunk is pending until the gateway knows that.
    sg.pass(DAY * 8).await;
    let edit = new::EditDraftChunkRequest {
        sandbox: "coder".to_owned(),
        chunk_id: chunk_id.clone(),
        proposed_rule: Some(new_sandbox::NetworkPolicyRule::default()),
        ..Default::default()
    };
    let mut client = sg.admin().openshell_v0_1();
    let edited = client.edit_draft_chunk(for_gateway("edge", edit)).await;
    assert_refused!(edited, FailedPrecondition, "ROUND_CLOSED");
    let path = "/openshell.v1.OpenShell/EditDraftChunk";
    assert_eq!(edge.simulator.calls().get(path), None);
    assert_eq!(edge.status(&chunk_id).0, "pending");
    sg.finish().await;
}

async fn a_rejection_of_another_rule_is_not_sent(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let ana = sg.create_user("ana@example.com", pb::Role::Operator).await;
    let ana = sg.with_token(&ana);
    let chunk = edge.propose("bad.example.com");
    edge.follow(&sg).await;
    let review = of_chunk(&ana, &chunk).await.unwrap();
    ana.vote(review.id, pb::VoteDecision::Reject).await.unwrap();
    // Before the gateway knows it, the chunk asks for something else.
    let edited = Proposal::allow("good.example.com", 443, "/usr/bin/curl").rule;
    edge.simulator.edit_proposal("default", "coder", &chunk, edited).unwrap();
    edge.follow(&sg).await;
    assert_eq!(edge.status(&chunk).0, "pending");
    let next = of_chunk(&ana, &chunk).await.unwrap();
    assert_ne!((next.id, &next.digest), (review.id, &review.digest));
    sg.finish().await;
}
