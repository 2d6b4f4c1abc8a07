//! Followers of gateways on which nothing changes: what they leave out, and what they must not miss. The tests run each
//! pass themselves.

use std::time::{Duration, Instant};

use shoreguard::error::Error;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::followers::follow_once;
use shoreguard::resources::followers::memory::Memory;
use shoreguard_simulator::{Generation, Hold, Proposal, Script, Times};

use crate::approvals::events;
use crate::followers::{Edge, of_chunk};
use crate::policy_pins::{pin_request, set};
use crate::support::server::TestServer;
use crate::support::{CONDITION_TIME_MAX, pause};

server_tests_without_jobs! {
    an_idle_gateway_of_0_0_is_not_compared_again,
    an_idle_gateway_of_0_1_is_not_compared_again,
    a_follower_of_an_idle_gateway_notices_what_others_store,
    a_follower_of_an_idle_gateway_notices_what_the_gateway_changes,
    drafts_that_are_too_large_to_be_read_with_those_of_others_get_reviews,
    a_pass_has_a_time_limit_while_its_gateway_does_not_answer,
    a_pass_has_a_time_limit_while_its_database_does_not_answer,
}

/// Follows the gateway until a pass has nothing to do.
async fn settle(edge: &mut Edge, sg: &TestServer) {
    // New drafts are announced once a minute. Until then, each pass tries it.
    sg.app.db.advance_clock(Duration::from_secs(61));
    let begun = Instant::now();
    loop {
        edge.follow(sg).await;
        if edge.memory.is_settled() {
            return;
        }
        assert!(begun.elapsed() < CONDITION_TIME_MAX, "each pass writes something");
        pause().await;
    }
}

/// Returns the number of calls of a method.
fn calls(edge: &Edge, method: &str) -> u64 {
    let path = format!("/openshell.v1.OpenShell/{method}");
    edge.simulator.calls().get(path.as_str()).copied().unwrap_or_default()
}

async fn not_compared_again(sg: TestServer, generation: Generation) {
    let mut edge = Edge::start(&sg, generation).await;
    settle(&mut edge, &sg).await;
    let changes = async || events(&sg, "sandbox.phase_changed").await;
    let (before, lists) = (changes().await, calls(&edge, "ListSandboxes"));
    // A list of generation 0.0 ends with an empty page.
    let pages = if generation == Generation::V0_0 { 2 } else { 1 };
    // No number of rows changes. So it is reported only by a pass that reads it.
    let moved = "UPDATE follow_positions SET phase = 'stopped' WHERE sandbox_name = 'coder'";
    assert_eq!(sg.sql(moved).await, 1);
    for passes in 1..=2 {
        edge.follow(&sg).await;
        assert!(edge.memory.is_settled());
        assert_eq!(changes().await, before);
        assert_eq!(calls(&edge, "ListSandboxes"), lists + passes * pages);
    }
    edge.memory = Memory::new(&sg.app.config.gateways);
    edge.follow(&sg).await;
    assert_eq!(changes().await, before + 1, "a follower that remembers nothing");
    sg.finish().await;
}

async fn an_idle_gateway_of_0_0_is_not_compared_again(sg: TestServer) {
    not_compared_again(sg, Generation::V0_0).await;
}

async fn an_idle_gateway_of_0_1_is_not_compared_again(sg: TestServer) {
    not_compared_again(sg, Generation::V0_1).await;
}

async fn a_follower_of_an_idle_gateway_notices_what_others_store(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    for (change, restored) in [
        (
            "DELETE FROM sandbox_meta WHERE sandbox_name = 'coder'",
            "UPDATE sandbox_meta SET version = version WHERE sandbox_name = 'coder'",
        ),
        (
            "UPDATE sandbox_meta SET missing_since = created_at WHERE sandbox_name = 'coder'",
            "UPDATE sandbox_meta SET version = version \
             WHERE sandbox_name = 'coder' AND missing_since IS NULL",
        ),
    ] {
        settle(&mut edge, &sg).await;
        assert_eq!(sg.sql(change).await, 1, "{change}");
        edge.follow(&sg).await;
        assert_eq!(sg.sql(restored).await, 1, "{change}");
    }
    // A rejection.
    let rejected = edge.propose("rejected.example.com");
    settle(&mut edge, &sg).await;
    let review = of_chunk(&admin, &rejected).await.unwrap();
    admin.vote(review.id, pb::VoteDecision::Reject).await.unwrap();
    edge.follow(&sg).await;
    assert_eq!(edge.status(&rejected).0, "rejected");
    // A pin.
    settle(&mut edge, &sg).await;
    set(&admin, pin_request(None)).await.unwrap();
    let wanted = Proposal::allow("moved.example.com", 443, "/usr/bin/curl");
    edge.simulator
        .change_policy("default", "coder", |policy| {
            policy.network_policies.insert(wanted.rule_name, wanted.rule);
        })
        .unwrap();
    edge.follow(&sg).await;
    assert_eq!(events(&sg, "policy.drift_detected").await, 1);
    sg.finish().await;
}

async fn a_follower_of_an_idle_gateway_notices_what_the_gateway_changes(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    // Another version of the reviews is another number.
    let change_reviews = "UPDATE approval_rounds SET version = version + 1 WHERE closed_at IS NULL";
    for is_changed in [false, true] {
        settle(&mut edge, &sg).await;
        let chunk = edge.propose("wanted.example.com");
        edge.follow(&sg).await;
        assert!(of_chunk(&admin, &chunk).await.is_some());
        settle(&mut edge, &sg).await;
        if is_changed {
            assert!(sg.sql(change_reviews).await > 0);
        }
        edge.simulator.clear_proposals("default", "coder").unwrap();
        edge.follow(&sg).await;
        assert_eq!(of_chunk(&admin, &chunk).await, None, "{is_changed}");
    }
    sg.finish().await;
}

async fn drafts_that_are_too_large_to_be_read_with_those_of_others_get_reviews(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let admin = sg.admin();
    for host in ["large.example.com", "larger.example.com"] {
        let large = Proposal {
            rationale: "x".repeat(300 << 10),
            ..Proposal::allow(host, 443, "/usr/bin/curl")
        };
        let chunk = edge.simulator.propose("default", "coder", large).unwrap();
        let asked = Proposal::allow(host, 443, "/usr/bin/curl");
        let other = edge.simulator.propose("default", "builder", asked).unwrap();
        edge.follow(&sg).await;
        assert!(of_chunk(&admin, &chunk).await.is_some(), "{host}");
        assert!(of_chunk(&admin, &other).await.is_some(), "{host}");
    }
    sg.finish().await;
}

/// Runs a pass that must not wait. It ends with the error for a pass that takes too long.
async fn follow_without_waiting(edge: &mut Edge, sg: &TestServer) {
    edge.memory = Memory::new(&sg.app.config.gateways).with_pass_time_max(Duration::ZERO);
    let mut targets = sg.app.fleet.targets.all().into_iter();
    let gateway = targets.find(|target| &*target.name == "edge").unwrap().gateway();
    let followed = follow_once(&sg.app, gateway, &mut edge.memory).await;
    assert!(matches!(followed, Err(Error::DeadlineExceeded { .. })), "{followed:?}");
    edge.memory = Memory::new(&sg.app.config.gateways);
}

async fn a_pass_has_a_time_limit_while_its_gateway_does_not_answer(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    let chunk = edge.propose("wanted.example.com");
    let hold = Hold::default();
    edge.simulator.script("ListSandboxes", Script::HoldBefore(hold.clone()), Times::All);
    follow_without_waiting(&mut edge, &sg).await;
    assert_eq!(of_chunk(&sg.admin(), &chunk).await, None);
    hold.release();
    edge.follow(&sg).await;
    assert!(of_chunk(&sg.admin(), &chunk).await.is_some());
    sg.finish().await;
}

async fn a_pass_has_a_time_limit_while_its_database_does_not_answer(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    // The connection to the gateway is open afterwards.
    settle(&mut edge, &sg).await;
    let chunk = edge.propose("wanted.example.com");
    let mut held = Vec::new();
    for _ in 0..sg.app.config.database.readers {
        held.push(sg.app.db.read().await.unwrap());
    }
    let lists = calls(&edge, "ListSandboxes");
    follow_without_waiting(&mut edge, &sg).await;
    assert_eq!(calls(&edge, "ListSandboxes"), lists, "it waits for the database first");
    drop(held);
    edge.follow(&sg).await;
    assert!(of_chunk(&sg.admin(), &chunk).await.is_some());
    sg.finish().await;
}
