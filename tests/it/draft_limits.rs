//! Limits of what agents propose: open reviews of a gateway, new ones a day, and many proposals in a short time.

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::drafts::open::{
    OPEN_OF_GATEWAY_MAX, OPEN_OF_SANDBOX_MAX, OPENED_A_DAY_MAX,
};
use shoreguard_simulator::{Generation, Proposal, Simulator};

use crate::approvals::DAY;
use crate::followers::Edge;
use crate::support::gateways::propose_host;
use crate::support::server::TestServer;

/// Requests of an agent in a minute, and proposals in each of them.
const FLOOD: (usize, usize) = (10, 100);

/// No test here needs the calls that read logs.
fn without_logs(config: &mut Config) {
    config.followers.logs = false;
}

server_tests_without_jobs! {
    tuned without_logs;
    t20_the_last_place_of_a_gateway_is_for_the_sandbox_with_fewer_reviews,
    t20_a_sandbox_has_at_most_1000_new_reviews_a_day,
    t20_a_thousand_drafts_in_a_minute_stay_in_their_limits_on_0_0,
    t20_a_thousand_drafts_in_a_minute_stay_in_their_limits_on_0_1,
}

/// Lets the agent of `coder` propose rules for other hosts, with one request.
fn flood(simulator: &Simulator, request: usize) {
    let host = |n: usize| format!("h{n}.r{request}.example.com");
    let many = (0..FLOOD.1).map(|n| Proposal::allow(&host(n), 443, "/usr/bin/node"));
    let submitted = simulator.submit_analysis("default", "coder", many.collect()).unwrap();
    assert_eq!(submitted.accepted_ids.len(), FLOOD.1, "{:?}", submitted.rejection_reasons);
}

/// Stores copies of the only review, as reviews of a sandbox in a state. `closed_at` is the column with their end.
async fn copy_review(sg: &TestServer, count: i64, (sandbox, state): (&str, &str), closed_at: &str) {
    let (sandbox, state) = (format!("'{sandbox}'"), format!("'{state}'"));
    let changed = [
        ("sandbox_name", sandbox.as_str()),
        ("chunk_id", "'copy-' || i"),
        ("state", state.as_str()),
        ("closed_at", closed_at),
    ];
    sg.copy_review(usize::try_from(count).unwrap(), &changed).await;
}

/// Returns the number of open reviews that a condition selects.
async fn count_open(sg: &TestServer, condition: &str) -> usize {
    let open = "UPDATE approval_rounds SET version = version WHERE state = 'open'";
    sg.sql(&format!("{open} AND {condition}")).await
}

/// Returns whether a chunk has an open review.
async fn is_open(sg: &TestServer, chunk: &str) -> bool {
    count_open(sg, &format!("chunk_id = '{chunk}'")).await == 1
}

/// Returns the number of proposals of `coder` that are shown as waiting for room.
async fn waiting(sg: &TestServer) -> u32 {
    let request = pb::ListApprovalsRequest { page_size: 1, ..Default::default() };
    let listed = sg.admin().approvals().list_approvals(request).await.unwrap().into_inner();
    let of_coder = listed.waiting_drafts.iter().find(|of| of.sandbox == "coder");
    of_coder.map_or(0, |of| of.over_limit)
}

async fn t20_the_last_place_of_a_gateway_is_for_the_sandbox_with_fewer_reviews(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    // `coder` gets the review of the demo.
    edge.follow(&sg).await;
    // One place is left. The others are being written, so that no pass ends their reviews.
    copy_review(&sg, OPEN_OF_GATEWAY_MAX - 2, ("broken", "sending"), "closed_at").await;
    let second = propose_host(&edge.simulator, "coder", "second.example.com");
    let first = propose_host(&edge.simulator, "builder", "first.example.com");
    edge.follow(&sg).await;
    assert!(is_open(&sg, &first).await, "the sandbox without a review");
    assert!(!is_open(&sg, &second).await, "the sandbox with a review");
    assert_eq!(waiting(&sg).await, 1);
    // As long as there is no room, it waits.
    edge.follow(&sg).await;
    assert!(!is_open(&sg, &second).await);
    let end = "UPDATE approval_rounds SET state = 'applied', closed_at = opened_at \
               WHERE chunk_id = 'copy-1'";
    assert_eq!(sg.sql(end).await, 1);
    edge.follow(&sg).await;
    assert!(is_open(&sg, &second).await);
    assert_eq!(waiting(&sg).await, 0);
    sg.finish().await;
}

async fn t20_a_sandbox_has_at_most_1000_new_reviews_a_day(sg: TestServer) {
    let mut edge = Edge::start(&sg, Generation::V0_1).await;
    // The review of the demo is one of them, and one more is left.
    edge.follow(&sg).await;
    copy_review(&sg, OPENED_A_DAY_MAX - 2, ("coder", "superseded"), "opened_at").await;
    let last = propose_host(&edge.simulator, "coder", "last.example.com");
    let over = propose_host(&edge.simulator, "coder", "over.example.com");
    let other = propose_host(&edge.simulator, "builder", "other.example.com");
    edge.follow(&sg).await;
    assert!(is_open(&sg, &last).await, "the thousandth of the day");
    assert!(!is_open(&sg, &over).await, "one more");
    assert!(is_open(&sg, &other).await, "the other sandbox");
    assert_eq!(waiting(&sg).await, 1);
    sg.pass(DAY).await;
    edge.follow(&sg).await;
    assert!(is_open(&sg, &over).await, "the next day");
    assert_eq!(waiting(&sg).await, 0);
    sg.finish().await;
}

async fn a_thousand_drafts(sg: TestServer, generation: Generation) {
    let mut edge = Edge::start(&sg, generation).await;
    let (requests, each) = FLOOD;
    let full = usize::try_from(OPEN_OF_SANDBOX_MAX).unwrap();
    let of_coder = async || count_open(&sg, "sandbox_name = 'coder'").await;
    flood(&edge.simulator, 0);
    edge.follow(&sg).await;
    assert_eq!(of_coder().await, full);
    // The demo has one, too.
    assert_eq!(waiting(&sg).await as usize, each + 1 - full);
    for request in 1..requests {
        flood(&edge.simulator, request);
    }
    let other = propose_host(&edge.simulator, "builder", "other.example.com");
    edge.follow(&sg).await;
    assert!(is_open(&sg, &other).await, "the other sandbox");
    assert_eq!(of_coder().await, full);
    assert_eq!(waiting(&sg).await as usize, requests * each + 1 - full);
    sg.finish().await;
}

async fn t20_a_thousand_drafts_in_a_minute_stay_in_their_limits_on_0_0(sg: TestServer) {
    a_thousand_drafts(sg, Generation::V0_0).await;
}

async fn t20_a_thousand_drafts_in_a_minute_stay_in_their_limits_on_0_1(sg: TestServer) {
    a_thousand_drafts(sg, Generation::V0_1).await;
}
