//! Changes of policies that are written: at once without a workflow, and what locks, etags and other writers do to them.

use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v0_0::openshell::v1 as old;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::PolicyChangeOutcome as Outcome;
use shoreguard::resources::approvals::RoundState;
use shoreguard_simulator::{Hold, Script, Times};
use tonic::Status;

use crate::approvals::fact;
use crate::approved_writes::{advance_until, round, wait_for, writes};
use crate::policies::{GATEWAYS, change_directly, endpoint, get_version, seeded, with_rule};
use crate::support::eventually;
use crate::support::policies::write_mark;
use crate::support::server::{Caller, TestServer};

server_tests! {
    every_kind_of_change_is_written_at_once_without_a_workflow,
    a_validated_change_says_what_would_be_done_about_it,
    a_pin_permits_only_the_revision_that_it_names,
    a_written_policy_keeps_marks,
    two_operators_who_edit_at_once_lose_nothing,
    a_replacement_whose_base_has_moved_is_not_written,
}

/// Returns a document that adds a rule for a host.
pub(crate) fn addition(host: &str) -> String {
    format!(
        "network_policies: {{{}: {{endpoints: [{{host: {host}, port: 443}}], binaries: [{{path: /usr/bin/git}}]}}}}",
        host.replace('.', "_")
    )
}

/// Returns a request that merges a rule for a host into the policy of `coder`.
pub(crate) fn merge_request(gateway: &str, host: &str) -> pb::ApplyPolicyRequest {
    pb::ApplyPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        yaml: addition(host),
        mode: pb::PolicyApplyMode::Merge.into(),
        ..Default::default()
    }
}

pub(crate) async fn apply(
    caller: &Caller,
    request: pb::ApplyPolicyRequest,
) -> Result<pb::PolicyChange, Status> {
    Ok(caller.policies().apply_policy(request).await?.into_inner().policy_change.unwrap())
}

/// Merges a rule for a host into the policy of `coder`.
pub(crate) async fn merge(
    caller: &Caller,
    gateway: &str,
    host: &str,
) -> Result<pb::PolicyChange, Status> {
    apply(caller, merge_request(gateway, host)).await
}

async fn revert(
    caller: &Caller,
    gateway: &str,
    version: u32,
    validate_only: bool,
) -> Result<pb::PolicyChange, Status> {
    let request = pb::RevertPolicyRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        version,
        validate_only,
        ..Default::default()
    };
    Ok(caller.policies().revert_policy(request).await?.into_inner().policy_change.unwrap())
}

/// Waits until a change is in force.
async fn applied(sg: &TestServer, change: &pb::PolicyChange) {
    assert_eq!(change.outcome(), Outcome::Applying, "{change:?}");
    wait_for(&sg.app, ApprovalRoundId(change.approval_id), RoundState::Applied).await;
}

async fn every_kind_of_change_is_written_at_once_without_a_workflow(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let before = writes(&simulator);
        let change = merge(&admin, name, "merged.example").await.unwrap();
        assert_eq!(change.outcome(), Outcome::Applying);
        let operation = admin.wait_operation(&change.operation).await;
        assert_eq!(operation.status(), pb::OperationStatus::Succeeded, "{operation:?}");
        let merged = get_version(&admin, name, 0).await.unwrap();
        assert_eq!(merged.digest, change.digest);

        let replaced = pb::ApplyPolicyRequest {
            yaml: merged.yaml.replace("merged.example", "replaced.example"),
            mode: pb::PolicyApplyMode::Replace.into(),
            etag: merged.policy_hash.clone(),
            comment: "ticket 7".to_owned(),
            ..merge_request(name, "")
        };
        applied(&sg, &apply(&admin, replaced).await.unwrap()).await;
        let remove = pb::RemovePolicyRule { rule_name: "merged_example".to_owned() };
        let edit = pb::PolicyEdit { edit: Some(pb::policy_edit::Edit::RemoveRule(remove)) };
        let edit = pb::EditPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            policy_edits: vec![edit],
            ..Default::default()
        };
        let edited = admin.policies().edit_policy(edit).await.unwrap().into_inner();
        applied(&sg, &edited.policy_change.unwrap()).await;
        let preset = pb::ApplyPolicyPresetRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            policy_preset: "pypi".to_owned(),
            ..Default::default()
        };
        let preset = admin.policies().apply_policy_preset(preset).await.unwrap().into_inner();
        applied(&sg, &preset.policy_change.unwrap()).await;
        let shown = get_version(&admin, name, 0).await.unwrap().yaml;
        assert!(shown.contains("pypi.org") && !shown.contains("replaced.example"), "{shown}");
        applied(&sg, &revert(&admin, name, 2, false).await.unwrap()).await;
        let second = get_version(&admin, name, 2).await.unwrap();
        assert_eq!(get_version(&admin, name, 0).await.unwrap().digest, second.digest);
        assert_eq!(writes(&simulator) - before, 5);
        let again = revert(&admin, name, 2, false).await.unwrap();
        assert_eq!((again.outcome(), again.approval_id), (Outcome::UpToDate, 0));
        simulator.stop().await;
    }
    sg.app.audit.wait_settled().await;
    let entries = admin.audit_entries("coder", "policy.apply").await;
    assert!(entries.iter().all(|entry| entry.detail_json.contains("\"outcome\":\"applying\"")));
    assert!(entries.iter().any(|entry| entry.detail_json.contains("ticket 7")), "{entries:?}");
    sg.finish().await;
}

async fn a_validated_change_says_what_would_be_done_about_it(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let admin = sg.admin();
    let validated = async || {
        let request =
            pb::ApplyPolicyRequest { validate_only: true, ..merge_request(name, "a.example") };
        let change = apply(&admin, request).await.unwrap();
        assert_eq!(change.outcome(), Outcome::Validated);
        assert_eq!((change.approval_id, change.operation.as_str()), (0, ""));
        change.verdict.unwrap()
    };
    assert_eq!(validated().await.kind(), pb::PolicyVerdictKind::Apply);
    let rule = crate::approval_workflows::operators(1);
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    let set =
        pb::SetWorkflowRequest { gateway: name.to_owned(), rule: Some(rule), ..Default::default() };
    admin.approval_workflows().set_workflow(set).await.unwrap();
    assert_eq!(validated().await.kind(), pb::PolicyVerdictKind::Propose);
    let pin = pb::PinPolicyRequest {
        gateway: name.to_owned(),
        sandbox: "coder".to_owned(),
        reason: "an incident".to_owned(),
        ..Default::default()
    };
    admin.policies().pin_policy(pin).await.unwrap();
    let verdict = validated().await;
    assert_eq!(verdict.kind(), pb::PolicyVerdictKind::Refuse);
    assert_eq!(verdict.reason(), pb::ErrorReason::PolicyPinned);
    assert!(verdict.message.contains("an incident"), "{verdict:?}");
    let refused = merge(&admin, name, "a.example").await;
    assert_refused!(refused, FailedPrecondition, "POLICY_PINNED");
    assert_eq!(writes(&simulator), 0);
    sg.finish().await;
}

async fn a_pin_permits_only_the_revision_that_it_names(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let pin = pb::PinPolicyRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            ..Default::default()
        };
        let pinned = admin.policies().pin_policy(pin).await.unwrap().into_inner().policy_pin;
        assert_eq!(pinned.unwrap().pinned_version, 2);
        let change = old::UpdateConfigRequest {
            name: "coder".to_owned(),
            policy: Some(with_rule("site", endpoint("drift.example", 443))),
            ..Default::default()
        };
        change_directly(&simulator, change).await;
        let other = revert(&admin, name, 1, false).await;
        assert_refused!(other, FailedPrecondition, "POLICY_PINNED");
        applied(&sg, &revert(&admin, name, 2, false).await.unwrap()).await;
        let second = get_version(&admin, name, 2).await.unwrap();
        assert_eq!(get_version(&admin, name, 0).await.unwrap().digest, second.digest);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_written_policy_keeps_marks(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        write_mark(&simulator).await;
        let marked = get_version(&admin, name, 3).await.unwrap();
        assert_eq!(marked.marks.len(), 1);
        let request = pb::ApplyPolicyRequest {
            yaml: marked.yaml.replace("site", "other"),
            mode: pb::PolicyApplyMode::Replace.into(),
            ..merge_request(name, "")
        };
        applied(&sg, &apply(&admin, request).await.unwrap()).await;
        let written = get_version(&admin, name, 0).await.unwrap();
        assert!(written.yaml.contains("other") && written.marks.len() == 1, "{written:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

/// Starts two changes on the same base. The first one is written, and the second one then finds another base.
async fn change_twice(
    sg: &TestServer,
    simulator: &shoreguard_simulator::Simulator,
    requests: [pb::ApplyPolicyRequest; 2],
) -> ApprovalRoundId {
    let other = sg.with_token(&sg.create_user("ben@example.com", pb::Role::Operator).await);
    let hold = Hold::default();
    simulator.script("UpdateConfig", Script::HoldBefore(hold.clone()), Times::Next(1));
    let [first, second] = requests;
    let first = apply(&sg.admin(), first).await.unwrap();
    hold.wait_reached(1).await;
    let second = apply(&other, second).await.unwrap();
    assert_eq!(second.outcome(), Outcome::Applying);
    hold.release();
    applied(sg, &first).await;
    let second = ApprovalRoundId(second.approval_id);
    advance_until(&sg.app, second, RoundState::Superseded).await;
    second
}

/// Returns the operation of a superseded approval, after its end.
async fn failed_operation(caller: &Caller, id: ApprovalRoundId) -> pb::Operation {
    let about = format!("approval {} is superseded", id.get());
    let found = async || {
        let list = pb::ListOperationsRequest {
            r#type: pb::OperationType::Policy.into(),
            ..Default::default()
        };
        let listed = caller.operations().list_operations(list).await.unwrap().into_inner();
        listed.operations.into_iter().find(|one| one.error_message.starts_with(&about))
    };
    eventually("its operation has ended", || async { found().await.is_some() }).await;
    found().await.unwrap()
}

async fn two_operators_who_edit_at_once_lose_nothing(sg: TestServer) {
    let (name, generation) = GATEWAYS[0];
    let simulator = seeded(&sg, name, generation).await;
    let requests = ["one.example", "two.example"].map(|host| merge_request(name, host));
    let second = change_twice(&sg, &simulator, requests).await;
    let admin = sg.admin();
    let detail = admin.approval(second.get()).await;
    let successor = ApprovalRoundId(detail.successor_approval_id);
    let failed = failed_operation(&admin, second).await;
    assert_eq!(failed.error_code(), pb::OperationErrorCode::ConcurrentChange, "{failed:?}");
    let named = format!("approval {} replaces it", successor.get());
    assert!(failed.error_message.contains(&named), "{failed:?}");
    advance_until(&sg.app, successor, RoundState::Applied).await;
    let policy = get_version(&admin, name, 0).await.unwrap().yaml;
    assert!(policy.contains("one.example") && policy.contains("two.example"), "{policy}");
    let successor = admin.approval(successor.get()).await.approval.unwrap();
    assert_eq!(successor.authors, ["ben@example.com"]);
    assert_eq!(successor.previous_approval_id, second.get());
    assert_eq!(writes(&simulator), 2);
    sg.finish().await;
}

async fn a_replacement_whose_base_has_moved_is_not_written(sg: TestServer) {
    let (name, generation) = GATEWAYS[1];
    let simulator = seeded(&sg, name, generation).await;
    let admin = sg.admin();
    let newest = get_version(&admin, name, 0).await.unwrap();
    let replacement = pb::ApplyPolicyRequest {
        yaml: newest.yaml.replace("api.github.com", "two.example"),
        mode: pb::PolicyApplyMode::Replace.into(),
        ..merge_request(name, "")
    };
    let second =
        change_twice(&sg, &simulator, [merge_request(name, "one.example"), replacement.clone()])
            .await;
    assert_eq!(admin.approval(second.get()).await.successor_approval_id, 0);
    let reason = round(&sg.app, second).await.progress.close_reason.unwrap();
    assert!(reason.contains("has changed"), "{reason}");
    let failed = failed_operation(&admin, second).await;
    assert_eq!(failed.error_code(), pb::OperationErrorCode::ConcurrentChange, "{failed:?}");
    assert!(failed.error_message.ends_with(&reason), "{failed:?}");
    let policy = get_version(&admin, name, 0).await.unwrap();
    assert!(policy.yaml.contains("one.example") && !policy.yaml.contains("two.example"));
    let stale = pb::ApplyPolicyRequest { etag: newest.policy_hash, ..replacement };
    let stale = assert_refused!(apply(&admin, stale).await, Aborted, "CONCURRENT_CHANGE");
    assert_eq!(fact(&stale, "etag"), policy.policy_hash);
    assert_eq!(writes(&simulator), 1);
    sg.finish().await;
}
