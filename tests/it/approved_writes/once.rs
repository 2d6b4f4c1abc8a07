//! What is written, when, and what is reported.

use std::time::Duration;

use shoreguard::openshell::annotation;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::DISPATCH;
use shoreguard::workers;
use shoreguard_simulator::{LoadOutcome, Script, Times};
use tonic::Code;

use super::{advance_until, find_event, open_round, revisions, round, updates, wait_for, writes};
use crate::policies::{GATEWAYS, change_directly, endpoint, get_version, seeded, with_rule};
use crate::support::server::{Caller, TestServer};
use crate::support::work::OperationSpec;
use crate::support::{dump, eventually};

server_tests! {
    an_approved_policy_is_written_once_and_reported,
    g02_other_writes_of_the_sandbox_do_not_stop_a_write,
    g06_a_refused_write_fails_with_the_words_of_the_gateway,
    a_policy_that_cannot_be_loaded_fails,
    a_policy_that_is_there_already_is_not_written,
    a_watcher_sees_when_a_change_is_written_and_in_force,
}

server_tests! {
    tuned |config| config.policies.load_timeout_seconds = 1;
    a_policy_that_is_not_loaded_in_time_is_followed,
}

async fn operations(caller: &Caller) -> Vec<pb::Operation> {
    let list = pb::ListOperationsRequest {
        r#type: pb::OperationType::Policy.into(),
        ..Default::default()
    };
    caller.operations().list_operations(list).await.unwrap().into_inner().operations
}

async fn an_approved_policy_is_written_once_and_reported(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let (before, written) = (revisions(&simulator), writes(&simulator));
        let id = sg.open_round(name, "one.example").await;
        let ended = wait_for(&sg.app, id, RoundState::Applied).await;
        assert_eq!(revisions(&simulator) - before, 1);
        assert_eq!(writes(&simulator) - written, 1);
        let version = u32::try_from(ended.progress.written_version.unwrap()).unwrap();
        let policy = get_version(&admin, name, version).await.unwrap();
        assert!(policy.yaml.contains("one.example"), "{}", policy.yaml);
        let notes = &policy.revision.unwrap().provenance;
        assert_eq!(notes[annotation::ACTOR], "sp:root");
        assert_eq!(notes[annotation::ROUND], id.to_string());

        let operation = ended.progress.operation_id.unwrap();
        let operation = admin.wait_operation(&operation).await;
        assert_eq!(operation.status(), pb::OperationStatus::Succeeded, "{operation:?}");
        assert_eq!(operation.actor, "system:governance");
        for (event, version_key) in
            [("approval.approved", "version"), ("policy.applied", "applied_version")]
        {
            let payload = find_event(&admin, event, id).await;
            assert_eq!(payload[version_key], version, "{payload}");
            assert_eq!(payload["sandbox"], "coder", "{payload}");
        }
        let entry = || async {
            let entries = admin.audit_entries("coder", "approval.apply").await;
            entries.into_iter().find(|entry| {
                let detail = format!("{entry:?}");
                detail.contains(&operation.id) && entry.outcome() == pb::AuditOutcome::Ok
            })
        };
        eventually("the write is in the audit log", || async { entry().await.is_some() }).await;
        let entry = format!("{:?}", entry().await.unwrap());
        for part in ["voters", "authors", "sp:root", "approval"] {
            assert!(entry.contains(part), "{part}: {entry}");
        }
    }
}

async fn g02_other_writes_of_the_sandbox_do_not_stop_a_write(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let aborted = Script::TrailersOnly { code: Code::Aborted, message: "changed".to_owned() };
        simulator.script("UpdateConfig", aborted.clone(), Times::Next(9));
        let before = revisions(&simulator);
        let id = sg.open_round(name, "one.example").await;
        wait_for(&sg.app, id, RoundState::Applied).await;
        assert_eq!((updates(&simulator), revisions(&simulator) - before), (10, 1));

        // After ten times, the next operation tries again.
        simulator.script("UpdateConfig", aborted, Times::Next(10));
        let id = sg.open_round(name, "two.example").await;
        eventually("ten more calls", || async { updates(&simulator) == 20 }).await;
        wait_for(&sg.app, id, RoundState::Approved).await;
        let is_ended = || async {
            let operations = operations(&sg.admin()).await;
            operations.iter().any(|operation| operation.status() == pb::OperationStatus::Failed)
        };
        eventually("the operation ends", is_ended).await;
        advance_until(&sg.app, id, RoundState::Applied).await;
        assert_eq!((updates(&simulator), revisions(&simulator) - before), (21, 2));
    }
}

async fn g06_a_refused_write_fails_with_the_words_of_the_gateway(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let message = "no\u{1b}[31m such path in http://me:hidden@a.example/?hidden".to_owned();
        let refused = Script::TrailersOnly { code: Code::InvalidArgument, message };
        simulator.script("UpdateConfig", refused, Times::All);
        let id = sg.open_round(name, "one.example").await;
        let ended = wait_for(&sg.app, id, RoundState::Failed).await;
        let reason = ended.progress.close_reason.unwrap();
        assert!(reason.contains("such path in http://a.example/"), "{reason}");
        assert!(!reason.contains('\u{1b}') && !reason.contains("hidden"), "{reason}");
        assert_eq!((updates(&simulator), writes(&simulator)), (1, 0));
        find_event(&sg.admin(), "approval.failed", id).await;
        let operation = sg.admin().wait_operation(&ended.progress.operation_id.unwrap()).await;
        assert_eq!(operation.error_code(), pb::OperationErrorCode::Refused, "{operation:?}");
        assert!(!operation.error_message.contains("hidden"), "{operation:?}");
    }
}

async fn a_policy_that_cannot_be_loaded_fails(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let why = "no such path in http://me:hidden@a.example/?hidden".to_owned();
        simulator.set_load_outcome(LoadOutcome::Failed(why), Times::Next(1));
        let id = sg.open_round(name, "one.example").await;
        let ended = wait_for(&sg.app, id, RoundState::Failed).await;
        let reason = ended.progress.close_reason.unwrap();
        assert!(reason.contains("`no such path in http://a.example/`"), "{reason}");
        find_event(&sg.admin(), "policy.load_failed", id).await;
        let operation = sg.admin().wait_operation(&ended.progress.operation_id.unwrap()).await;
        assert_eq!(operation.status(), pb::OperationStatus::Failed);
        let message = &operation.error_message;
        assert!(message.contains("no such path") && !message.contains("hidden"), "{operation:?}");
    }
}

async fn a_policy_that_is_not_loaded_in_time_is_followed(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    simulator.set_load_outcome(LoadOutcome::Held, Times::All);
    let id = sg.open_round("edge", "one.example").await;
    let written = wait_for(&sg.app, id, RoundState::Written).await;
    let operation = sg.admin().wait_operation(&written.progress.operation_id.unwrap()).await;
    assert_eq!(operation.error_code(), pb::OperationErrorCode::Timeout, "{operation:?}");
    let version = written.progress.written_version.unwrap();
    assert_eq!(operation.error_message, format!("written as revision {version}, not loaded yet"));
    assert_eq!(round(&sg.app, id).await.state, RoundState::Written);
    simulator.set_load_outcome(LoadOutcome::Loaded, Times::All);
    advance_until(&sg.app, id, RoundState::Applied).await;
    assert_eq!((operations(&sg.admin()).await.len(), writes(&simulator)), (1, 1));
}

async fn a_policy_that_is_there_already_is_not_written(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    let id = sg.open_round("edge", "one.example").await;
    wait_for(&sg.app, id, RoundState::Applied).await;
    let before = (updates(&simulator), revisions(&simulator));
    let again = sg.open_round("edge", "one.example").await;
    wait_for(&sg.app, again, RoundState::Applied).await;
    assert_eq!((updates(&simulator), revisions(&simulator)), before);
}

async fn a_watcher_sees_when_a_change_is_written_and_in_force(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    simulator.set_load_outcome(LoadOutcome::Held, Times::All);
    let admin = sg.admin();
    let request = pb::WatchApprovalsRequest::default();
    let mut stream = admin.approvals().watch_approvals(request).await.unwrap().into_inner();
    // The end of the list.
    assert!(stream.message().await.unwrap().unwrap().approval.is_none());
    let id = sg.open_round("edge", "one.example").await.get();
    for state in [pb::ApprovalState::Written, pb::ApprovalState::Applied] {
        loop {
            let message = stream.message().await.unwrap().unwrap();
            if message.approval.is_some_and(|found| found.id == id && found.state() == state) {
                break;
            }
        }
        simulator.set_load_outcome(LoadOutcome::Loaded, Times::All);
    }
}

// The dispatcher is run by the test.
server_tests_without_jobs! {
    g03_nothing_is_written_after_what_was_reviewed_has_changed,
    g01_nothing_is_written_after_a_voter_has_lost_its_role,
    an_approved_round_waits_for_the_end_of_a_pin,
    an_approved_round_waits_for_the_end_of_a_policy_for_all_sandboxes,
}

async fn g03_nothing_is_written_after_what_was_reviewed_has_changed(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    let id = sg.open_round("edge", "one.example").await;
    let other = with_rule("other", endpoint("two.example", 443));
    simulator.change_policy("", "coder", |policy| *policy = other).unwrap();
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    let ended = wait_for(&sg.app, id, RoundState::Superseded).await;
    assert!(ended.progress.close_reason.unwrap().contains("has changed"));
    assert_eq!((updates(&simulator), writes(&simulator)), (0, 0));
    sg.finish().await;
}

async fn g01_nothing_is_written_after_a_voter_has_lost_its_role(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[1].1).await;
    let admin = sg.admin();
    let key = admin.create_key("proposer", pb::Role::Operator).await;
    let proposal = OperationSpec { key, ..sg.operation_spec("edge", "coder") };
    // The method of the call needs an admin, and its caller must be an operator when the change is written.
    admin.bind("proposer", "edge", pb::Role::Admin).await;
    let id = open_round(&sg.app, &proposal, "one.example").await;
    assert_eq!(round(&sg.app, id).await.state, RoundState::Approved);
    admin.bind("proposer", "edge", pb::Role::Viewer).await;
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    wait_for(&sg.app, id, RoundState::Open).await;
    assert!(dump::table(&sg.app.db, "events").await.contains("approval.reopened"));
    assert_eq!((updates(&simulator), writes(&simulator)), (0, 0));
    sg.finish().await;
}

async fn an_approved_round_waits_for_the_end_of_a_pin(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    let mut policies = sg.admin().policies();
    let id = sg.open_round("edge", "one.example").await;
    let (gateway, sandbox) = ("edge".to_owned(), "coder".to_owned());
    let pin = pb::PinPolicyRequest { gateway, sandbox, ..Default::default() };
    let pin = policies.pin_policy(pin).await.unwrap().into_inner().policy_pin.unwrap();
    for _ in 0..2 {
        workers::run_once(&sg.app, &DISPATCH).await.unwrap();
        sg.app.clock.advance(Duration::from_secs(6));
    }
    assert_eq!(operations(&sg.admin()).await.len(), 0, "no operation is started in vain");
    assert_eq!(round(&sg.app, id).await.state, RoundState::Approved);
    let (gateway, sandbox) = ("edge".to_owned(), "coder".to_owned());
    let unpin = pb::UnpinPolicyRequest { gateway, sandbox, etag: pin.etag, ..Default::default() };
    policies.unpin_policy(unpin).await.unwrap();
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    wait_for(&sg.app, id, RoundState::Applied).await;
    assert_eq!(writes(&simulator), 1);
    sg.finish().await;
}

async fn an_approved_round_waits_for_the_end_of_a_policy_for_all_sandboxes(sg: TestServer) {
    let simulator = seeded(&sg, "edge", GATEWAYS[0].1).await;
    let id = sg.open_round("edge", "one.example").await;
    let global = old::UpdateConfigRequest {
        global: true,
        policy: Some(with_rule("all", endpoint("all.example", 443))),
        ..Default::default()
    };
    change_directly(&simulator, global).await;
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    let is_ended = || async {
        let operations = operations(&sg.admin()).await;
        operations.iter().any(|operation| operation.status() == pb::OperationStatus::Failed)
    };
    eventually("the operation ends", is_ended).await;
    assert_eq!((round(&sg.app, id).await.state, writes(&simulator)), (RoundState::Approved, 0));
    let delete = old::UpdateConfigRequest {
        global: true,
        setting_key: "policy".to_owned(),
        delete_setting: true,
        ..Default::default()
    };
    change_directly(&simulator, delete).await;
    // The first pass sees that the operation has ended.
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    sg.app.clock.advance(Duration::from_secs(6));
    workers::run_once(&sg.app, &DISPATCH).await.unwrap();
    wait_for(&sg.app, id, RoundState::Applied).await;
    assert_eq!(writes(&simulator), 1);
    sg.finish().await;
}
