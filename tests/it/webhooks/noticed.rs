//! Events that no call causes: a follower notices what happens on a gateway, and the message arrives at a receiver.

use shoreguard::config::Config;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard_simulator::{Generation, LoadOutcome, Proposal, Times};

use super::receiver::Receiver;
use super::{allow_loopback, created, request};
use crate::approved_writes::wait_for;
use crate::policies::seeded;
use crate::policy_pins::{pin_request, set};
use crate::policy_writes::merge;
use crate::support::eventually;
use crate::support::server::TestServer;

const PENDING: &str = "approval.pending";
const DRIFT: &str = "policy.drift_detected";
const LOAD_FAILED: &str = "policy.load_failed";

fn follow_each_second(config: &mut Config) {
    allow_loopback(config);
    config.policies.follow_interval_seconds = 1;
}

server_tests! {
    tuned follow_each_second;
    what_happens_on_a_gateway_of_0_0_arrives_without_a_call,
    what_happens_on_a_gateway_of_0_1_arrives_without_a_call,
}

/// Between each cause and the arrival of its message, nothing calls the server.
async fn arrives(sg: TestServer, generation: Generation) {
    let receiver = Receiver::start().await;
    let event_types = Vec::from([PENDING, DRIFT, LOAD_FAILED].map(str::to_owned));
    created(&sg, pb::CreateWebhookRequest { event_types, ..request(&receiver.url()) }).await;
    let edge = seeded(&sg, "edge", generation).await;
    let arrived = |event: &str, sandbox: &str| {
        let received = receiver.received();
        let bodies = received.iter().map(super::receiver::Received::json);
        let is_it = |body: &serde_json::Value| {
            let data = &body["data"];
            body["event"] == event && data["gateway"] == "edge" && data["sandbox"] == sandbox
        };
        bodies.filter(is_it).count()
    };
    let wanted = |host: &str| Proposal::allow(host, 443, "/usr/bin/curl");
    edge.propose("default", "builder", wanted("wanted.example.com")).unwrap();
    eventually("the draft is announced", || async { arrived(PENDING, "builder") == 1 }).await;

    edge.set_load_outcome(LoadOutcome::Held, Times::All);
    let change = merge(&sg.admin(), "edge", "written.example").await.unwrap();
    let id = ApprovalRoundId(change.approval_id);
    let written = wait_for(&sg.app, id, RoundState::Written).await;
    let version = u32::try_from(written.progress.written_version.unwrap()).unwrap();
    edge.report_policy_status("default", "coder", version, Some("no such path")).unwrap();
    eventually("the failure is reported", || async { arrived(LOAD_FAILED, "coder") == 1 }).await;

    set(&sg.admin(), pin_request(None)).await.unwrap();
    let moved = wanted("moved.example.com");
    edge.change_policy("default", "coder", |policy| {
        policy.network_policies.insert(moved.rule_name, moved.rule);
    })
    .unwrap();
    eventually("the move is reported", || async { arrived(DRIFT, "coder") == 1 }).await;
    for (event, sandbox) in [(PENDING, "builder"), (LOAD_FAILED, "coder"), (DRIFT, "coder")] {
        assert_eq!(arrived(event, sandbox), 1, "{event}");
    }
    sg.finish().await;
}

async fn what_happens_on_a_gateway_of_0_0_arrives_without_a_call(sg: TestServer) {
    arrives(sg, Generation::V0_0).await;
}

async fn what_happens_on_a_gateway_of_0_1_arrives_without_a_call(sg: TestServer) {
    arrives(sg, Generation::V0_1).await;
}
