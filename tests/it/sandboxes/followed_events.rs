//! What agents propose, pinned sandboxes that have moved and policies that could not be loaded, on a gateway that
//! restarts and repeats its logs. Two processes follow it in turn, and each event is emitted once.

use std::sync::Arc;
use std::time::Instant;

use shoreguard::app::App;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::DISPATCH;
use shoreguard::workers;
use shoreguard_simulator::{LoadOutcome, Proposal, Times};

use super::followed::Followed;
use super::followed_restarts::{FIRST, Pair, own_address};
use super::*;
use crate::approvals::events;
use crate::approved_writes::wait_for;
use crate::policy_writes::{addition, apply};
use crate::support::CONDITION_TIME_MAX;

server_tests_without_jobs! {
    tuned |config| config.policies.load_timeout_seconds = 1;
    drafts_moved_pins_and_failed_loads_on_0_0_are_reported_once,
    drafts_moved_pins_and_failed_loads_on_0_1_are_reported_once,
}

const LOAD_FAILED: &str = "policy.load_failed";
/// How long a sandbox may take to load a policy, with this configuration.
const LOAD_TIME: Duration = Duration::from_secs(1);
/// More than the interval at which new drafts of a sandbox are announced.
const ANNOUNCED_AGAIN_AFTER: Duration = Duration::from_secs(61);
/// More than the interval at which a written policy is checked that no operation follows.
const CHECKED_AGAIN_AFTER: Duration = Duration::from_secs(16);

/// Returns the numbers of events about drafts, moved pins and policies that could not be loaded.
async fn counts(sg: &TestServer) -> (usize, usize, usize) {
    let drafts = events(sg, "approval.pending").await;
    (drafts, events(sg, "policy.drift_detected").await, events(sg, LOAD_FAILED).await)
}

/// Lets the agent of `box` ask for a host, and changes the policy of `box` without Shoreguard.
fn change(edge: &Followed, host: &str) {
    let wanted = |host: &str| Proposal::allow(host, 443, "/usr/bin/curl");
    edge.simulator.propose("default", "box", wanted(&format!("wanted.{host}"))).unwrap();
    let moved = wanted(&format!("moved.{host}"));
    edge.simulator
        .change_policy("default", "box", |policy| {
            policy.network_policies.insert(moved.rule_name, moved.rule);
        })
        .unwrap();
}

async fn pin_box(sg: &TestServer) {
    let (gateway, sandbox) = ("edge".to_owned(), "box".to_owned());
    let pin = pb::PinPolicyRequest { gateway, sandbox, ..Default::default() };
    sg.admin().policies().pin_policy(pin).await.unwrap();
}

/// Writes a policy of `other`, which the sandbox does not load until the operation has ended. Returns the round and the
/// version.
async fn write_unloaded(sg: &TestServer, edge: &Followed) -> (ApprovalRoundId, u32) {
    edge.simulator.set_load_outcome(LoadOutcome::Held, Times::All);
    let request = pb::ApplyPolicyRequest {
        gateway: "edge".to_owned(),
        sandbox: "other".to_owned(),
        yaml: addition("one.example"),
        mode: pb::PolicyApplyMode::Merge.into(),
        ..Default::default()
    };
    let change = apply(&sg.admin(), request).await.unwrap();
    let id = ApprovalRoundId(change.approval_id);
    let written = wait_for(&sg.app, id, RoundState::Written).await;
    sg.app.clock.advance(LOAD_TIME);
    let ended = wait_operation(&sg.admin(), &change.operation).await;
    assert_eq!(ended.error_code(), pb::OperationErrorCode::Timeout, "{ended:?}");
    (id, u32::try_from(written.progress.written_version.unwrap()).unwrap())
}

/// Lets each process check the written policies that no operation follows.
async fn check_loads(apps: &[Arc<App>]) {
    // The first pass begins the interval.
    for _ in 0..2 {
        for app in apps {
            workers::run_once(app, &DISPATCH).await.unwrap();
        }
        for app in apps {
            app.clock.advance(CHECKED_AGAIN_AFTER);
        }
    }
}

async fn reported_once(sg: TestServer, generation: Generation) {
    let on = own_address(&sg, generation, 13);
    let mut edge = Followed::start_on(&sg, generation, on).await;
    let mut pair = Pair::start(&sg).await;
    let apps = pair.apps();
    for name in ["box", "other"] {
        edge.create(&sg, name).await;
    }
    pair.follow().await;
    pin_box(&sg).await;
    let (id, version) = write_unloaded(&sg, &edge).await;
    pair.follow().await;
    assert_eq!(counts(&sg).await, (0, 0, 0));
    change(&edge, "one.example.com");
    let at = sg.app.clock.now().unix_micros() / 1_000 - 10_000;
    edge.simulator.log_with_time("default", "box", at, FIRST).unwrap();
    pair.follow().await;
    assert_eq!(counts(&sg).await, (1, 1, 0));

    edge = edge.restart().await;
    wait_until("the gateway answers", || async {
        get_sandbox(&sg.admin(), "edge", "box").await.is_ok()
    })
    .await;
    for _ in 0..2 {
        edge.simulator.log_with_time("default", "box", at, FIRST).unwrap();
        pair.follow().await;
        assert_eq!(counts(&sg).await, (1, 1, 0));
        pair.forget();
        for app in &apps {
            app.db.advance_clock(ANNOUNCED_AGAIN_AFTER);
        }
    }
    let why = Some("no such path");
    edge.simulator.report_policy_status("default", "other", version, why).unwrap();
    let begun = Instant::now();
    while events(&sg, LOAD_FAILED).await == 0 {
        assert!(begun.elapsed() < CONDITION_TIME_MAX, "it is not known that the load has failed");
        check_loads(&apps).await;
        pause().await;
    }
    wait_for(&sg.app, id, RoundState::Failed).await;
    check_loads(&apps).await;
    pair.follow().await;
    assert_eq!(counts(&sg).await, (1, 1, 1));

    for app in &apps {
        app.db.advance_clock(ANNOUNCED_AGAIN_AFTER);
    }
    change(&edge, "two.example.com");
    for _ in 0..2 {
        pair.follow().await;
        assert_eq!(counts(&sg).await, (2, 2, 1));
        pair.forget();
    }
    drop(apps);
    pair.stop(&sg).await;
    sg.finish().await;
}

async fn drafts_moved_pins_and_failed_loads_on_0_0_are_reported_once(sg: TestServer) {
    reported_once(sg, Generation::V0_0).await;
}

async fn drafts_moved_pins_and_failed_loads_on_0_1_are_reported_once(sg: TestServer) {
    reported_once(sg, Generation::V0_1).await;
}
