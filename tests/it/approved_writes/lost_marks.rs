//! A gateway that drops the marks of what agents propose: the written policy is in force, and the lost marks are
//! reported.

use serde_json::{Value, json};
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::resources::approvals::RoundState;
use shoreguard_simulator::{Generation, Script, Simulator, Times};

use super::{find_event, revisions, updates, wait_for};
use crate::approvals::events;
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::policy_writes::merge;
use crate::support::policies::write_mark;
use crate::support::server::TestServer;

each_generation! {
    server_tests, GATEWAYS;
    a_policy_whose_marks_a_gateway_drops_is_in_force_and_the_marks_are_reported,
    g02_a_write_without_an_answer_is_found_although_the_gateway_drops_marks,
}

const MARK: &str = "network_policies.site.endpoints[0].advisor_proposed";
const DRIFT: &str = "policy.drift_detected";

/// Starts a gateway whose policy has a mark, and which drops marks from now on.
async fn forgetful(sg: &TestServer, name: &str, generation: Generation) -> Simulator {
    let simulator = seeded(sg, name, generation).await;
    write_mark(&simulator).await;
    assert_eq!(get_version(&sg.admin(), name, 0).await.unwrap().marks, [MARK]);
    simulator.set_drops_marks(true);
    simulator
}

/// Merges a rule for a host into the policy, and waits until it is in force. Returns the round and the written version.
async fn write(sg: &TestServer, gateway: &str, host: &str) -> (ApprovalRoundId, i64) {
    let change = merge(&sg.admin(), gateway, host).await.unwrap();
    let id = ApprovalRoundId(change.approval_id);
    let ended = wait_for(&sg.app, id, RoundState::Applied).await;
    (id, ended.progress.written_version.unwrap())
}

async fn a_policy_whose_marks_a_gateway_drops_is_in_force_and_the_marks_are_reported(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let admin = sg.admin();
    let simulator = forgetful(&sg, name, generation).await;
    let before = revisions(&simulator);
    let (id, version) = write(&sg, name, "more.example").await;
    assert_eq!(revisions(&simulator) - before, 1, "it is written once");
    let written = get_version(&admin, name, 0).await.unwrap();
    assert!(written.yaml.contains("more.example") && written.marks.is_empty(), "{written:?}");

    let payload = find_event(&admin, DRIFT, id).await;
    for (key, expected) in [
        ("gateway", json!(name)),
        ("workspace", json!("default")),
        ("sandbox", json!("coder")),
        ("version", json!(version)),
        ("current_hash", json!(written.policy_hash)),
        ("lost_marks", json!([MARK])),
        ("total_lost_marks", json!(1)),
    ] {
        assert_eq!(payload[key], expected, "{key}: {payload}");
    }
    assert!(payload["detected_at"].is_string(), "{payload}");
    for event in ["approval.approved", "policy.applied"] {
        assert_eq!(find_event(&admin, event, id).await["sandbox"], "coder");
    }
    let entries = admin.audit_entries("", "policy.detect_drift").await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    let detail: Value = serde_json::from_str(&entry.detail_json).unwrap();
    assert_eq!((&detail["lost_marks"], &detail["approval"]), (&json!([MARK]), &json!(id.get())));

    // The next policy has no mark that could be lost.
    write(&sg, name, "next.example").await;
    assert_eq!(events(&sg, DRIFT).await, 1);
    assert_eq!(admin.audit_entries("", "policy.detect_drift").await.len(), 1);
}

async fn g02_a_write_without_an_answer_is_found_although_the_gateway_drops_marks(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let simulator = forgetful(&sg, name, generation).await;
    let (sent, before) = (updates(&simulator), revisions(&simulator));
    simulator.script("UpdateConfig", Script::Disconnect, Times::Next(1));
    let (id, _) = write(&sg, name, "more.example").await;
    assert_eq!((updates(&simulator) - sent, revisions(&simulator) - before), (1, 1));
    assert_eq!(find_event(&sg.admin(), DRIFT, id).await["lost_marks"], json!([MARK]));
    assert_eq!(events(&sg, DRIFT).await, 1);
}
