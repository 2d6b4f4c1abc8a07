//! Writes whose answer was lost, before or after their effect.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use shoreguard::app::App;
use shoreguard::db::types::{ApprovalRoundId, GatewayRef, SandboxName};
use shoreguard::openshell::Gateway;
use shoreguard::openshell::policy_writes::PolicyWrite;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::CALL_TIME;
use shoreguard::resources::approvals::apply::settle::GRACE;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use super::{advance_until, revisions, round, updates, wait_for, writes};
use crate::policies::{GATEWAYS, seeded};
use crate::support::server::TestServer;
use crate::support::{dump, eventually};

/// Time before a deadline, in which a busy machine asks the gateway twice.
const SLACK: Duration = Duration::from_secs(15);
/// Pause between two questions to a gateway.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// Number of failing writes: more than a gateway stores request ids of one caller.
const FAILING_WRITES: usize = 1_050;
/// The same with `just soak`.
const FAILING_WRITES_SOAK: usize = 2_000;

server_tests! {
    g02_a_status_that_leaves_the_outcome_open_is_not_sent_again,
    request_ids_are_never_ours,
}

each_generation! {
    server_tests, GATEWAYS;
    g02_an_answer_lost_after_the_effect_is_not_sent_again,
    g02_an_answer_lost_before_the_effect_is_sent_again_only_after_the_deadline,
}

/// Returns the details of a status with a reason of a gateway.
fn details(reason: &str) -> Bytes {
    let details = ErrorDetails::with_error_info(reason, "openshell", HashMap::new());
    let status = tonic::Status::with_error_details(Code::FailedPrecondition, "no", details);
    Bytes::copy_from_slice(status.details())
}

async fn is_sending(app: &App, id: ApprovalRoundId) -> bool {
    round(app, id).await.state == RoundState::Sending
}

async fn g02_an_answer_lost_after_the_effect_is_not_sent_again(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let uncertain = |reason: &str| Script::ReplaceAnswer {
        code: Code::FailedPrecondition,
        message: "not repeated".to_owned(),
        details: details(reason),
    };
    let plain =
        |code| Script::ReplaceAnswer { code, message: String::new(), details: Bytes::new() };
    let scripts = [
        Script::Disconnect,
        Script::Reset,
        plain(Code::Unavailable),
        plain(Code::Internal),
        plain(Code::DeadlineExceeded),
        uncertain("REQUEST_OUTCOME_UNCERTAIN"),
        uncertain("REQUEST_ID_PAYLOAD_MISMATCH"),
        uncertain("REQUEST_REPLAY_UNAVAILABLE"),
    ];
    let simulator = seeded(&sg, name, generation).await;
    let before = revisions(&simulator);
    for (n, script) in (1..).zip(scripts.clone()) {
        simulator.script("UpdateConfig", script.clone(), Times::Next(1));
        let id = sg.open_round(name, &format!("h{n}.example")).await;
        wait_for(&sg.app, id, RoundState::Applied).await;
        assert_eq!(updates(&simulator), n, "{script:?}");
        assert_eq!(revisions(&simulator) - before, n, "{script:?}");
    }
}

async fn g02_an_answer_lost_before_the_effect_is_sent_again_only_after_the_deadline(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let simulator = seeded(&sg, name, generation).await;
    simulator.script("UpdateConfig", Script::DisconnectBefore, Times::Next(1));
    let id = sg.open_round(name, "one.example").await;
    eventually("it was sent", || async { updates(&simulator) == 1 }).await;
    let asked = || {
        let calls = simulator.calls();
        calls.get("/openshell.v1.OpenShell/ListSandboxPolicies").copied().unwrap_or_default()
    };
    let asks_again = async || {
        let before = asked();
        eventually("the gateway is asked", || async {
            // Part of the pause between two questions.
            sg.app.clock.advance(Duration::from_millis(50));
            asked() > before + 1
        })
        .await;
    };
    // The gateway is asked, and nothing is sent, although the gateway has not written it.
    asks_again().await;
    assert!(is_sending(&sg.app, id).await);
    assert!(dump::table(&sg.app.db, "write_intents").await.contains("approval.apply"));
    sg.app.db.advance_clock((CALL_TIME + GRACE).saturating_sub(SLACK));
    asks_again().await;
    assert!(is_sending(&sg.app, id).await && updates(&simulator) == 1);
    sg.app.db.advance_clock(SLACK);
    sg.app.clock.advance(ASK_PAUSE);
    wait_for(&sg.app, id, RoundState::Approved).await;
    assert!(!dump::table(&sg.app.db, "write_intents").await.contains("approval.apply"));
    advance_until(&sg.app, id, RoundState::Applied).await;
    assert_eq!((updates(&simulator), writes(&simulator)), (2, 1));
}

async fn g02_a_status_that_leaves_the_outcome_open_is_not_sent_again(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let fail = |code, details| Script::Fail { code, message: "no".to_owned(), details };
    for (n, script) in (1..).zip([
        fail(Code::Unavailable, Bytes::new()),
        fail(Code::Internal, Bytes::new()),
        fail(Code::FailedPrecondition, details("REQUEST_OUTCOME_UNCERTAIN")),
    ]) {
        simulator.script("UpdateConfig", script, Times::Next(1));
        let id = sg.open_round(name, &format!("h{n}.example")).await;
        eventually("it was sent", || async { updates(&simulator) == 2 * n - 1 }).await;
        assert!(is_sending(&sg.app, id).await);
        sg.app.db.advance_clock(CALL_TIME + GRACE);
        sg.app.clock.advance(ASK_PAUSE);
        wait_for(&sg.app, id, RoundState::Approved).await;
        advance_until(&sg.app, id, RoundState::Applied).await;
        assert_eq!((updates(&simulator), writes(&simulator)), (2 * n, n));
        let operation = round(&sg.app, id).await.progress.operation_id.unwrap();
        let operation = sg.admin().wait_operation(&operation).await;
        assert_eq!(operation.status(), pb::OperationStatus::Succeeded, "{operation:?}");
    }
}

async fn request_ids_are_never_ours(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let gateway = GatewayRef { id: sg.app.snapshot.gateway_id(name).unwrap(), name: name.into() };
    let connected = Gateway::connect(&sg.app, &gateway).await.unwrap();
    let sandbox = SandboxName { workspace: "default".to_owned(), name: "coder".to_owned() };
    // An empty policy lacks the sections that cannot change. With an id, each failed call would fill the gateway's
    // table for this caller, which is never emptied.
    let write = PolicyWrite {
        sandbox: &sandbox,
        policy: &[],
        expected_resource_version: 0,
        annotations: &BTreeMap::new(),
    };
    let soak = std::env::var_os("SOAK").is_some();
    let count = if soak { FAILING_WRITES_SOAK } else { FAILING_WRITES };
    for _ in 0..count {
        let until = sg.app.clock.since_boot() + CALL_TIME;
        connected.write_policy(&write, until).await.unwrap_err();
    }
    assert_eq!(updates(&simulator), count as u64);
    let id = sg.open_round(name, "one.example").await;
    wait_for(&sg.app, id, RoundState::Applied).await;
    assert_eq!(writes(&simulator), 1);
}
