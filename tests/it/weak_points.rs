//! Weak points of the predecessor that are no longer there. `docs/migration.md` lists all of them with their tests.

use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::PolicyChangeOutcome as Outcome;
use shoreguard::resources::approvals::RoundState;
use tonic::Status;

use crate::approval_workflows::{operators, set};
use crate::approvals::{Proposal, people, proposal, propose};
use crate::approved_writes::{wait_for, writes};
use crate::policies::{GATEWAYS, get_version, seeded};
use crate::policy_writes::{addition, apply, merge, merge_request};
use crate::support::server::{Caller, TestServer};

server_tests! {
    every_kind_of_change_is_proposed_under_a_workflow,
    a_document_that_differs_only_in_landlock_is_a_change,
    a_host_with_a_wildcard_is_shown_in_the_review_and_written,
    a_path_of_a_binary_is_written_as_it_is_given,
    a_document_that_is_exported_again_is_the_same_proposal,
    reviews_of_sandboxes_of_one_name_are_not_mixed,
}

/// Requires an operator on a gateway.
async fn require_one(sg: &TestServer, gateway: &str) -> Caller {
    let email = format!("ana@{gateway}.example.com");
    let ana = sg.with_token(&sg.create_user(&email, pb::Role::Operator).await);
    let workflow = pb::SetWorkflowRequest {
        gateway: gateway.to_owned(),
        rule: Some(operators(1)),
        ..Default::default()
    };
    set(&sg.admin(), workflow).await.unwrap();
    ana
}

fn replacement(gateway: &str, yaml: String) -> pb::ApplyPolicyRequest {
    let mode = pb::PolicyApplyMode::Replace.into();
    pb::ApplyPolicyRequest { yaml, mode, ..merge_request(gateway, "") }
}

/// Makes one change of each kind.
async fn change(
    caller: &Caller,
    gateway: &str,
    newest: &str,
) -> Result<[pb::PolicyChange; 5], Status> {
    let (gateway_name, sandbox) = (gateway.to_owned(), "coder".to_owned());
    let replaced = newest.replace("api.github.com", "replaced.example");
    let replaced = apply(caller, replacement(gateway, replaced)).await?;
    let merged = merge(caller, gateway, "merged.example").await?;
    let paths = pb::AddPolicyPaths { read_only: vec!["/srv".to_owned()], read_write: vec![] };
    let edit = pb::PolicyEdit { edit: Some(pb::policy_edit::Edit::AddPaths(paths)) };
    let edit = pb::EditPolicyRequest {
        gateway: gateway_name.clone(),
        sandbox: sandbox.clone(),
        policy_edits: vec![edit],
        ..Default::default()
    };
    let edited = caller.policies().edit_policy(edit).await?.into_inner().policy_change;
    let preset = pb::ApplyPolicyPresetRequest {
        gateway: gateway_name.clone(),
        sandbox: sandbox.clone(),
        policy_preset: "pypi".to_owned(),
        ..Default::default()
    };
    let preset = caller.policies().apply_policy_preset(preset).await?.into_inner().policy_change;
    let revert = pb::RevertPolicyRequest {
        gateway: gateway_name,
        sandbox,
        version: 1,
        ..Default::default()
    };
    let reverted = caller.policies().revert_policy(revert).await?.into_inner().policy_change;
    Ok([replaced, merged, edited.unwrap(), preset.unwrap(), reverted.unwrap()])
}

async fn every_kind_of_change_is_proposed_under_a_workflow(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        require_one(&sg, name).await;
        let newest = get_version(&sg.admin(), name, 0).await.unwrap();
        let changes = change(&sg.admin(), name, &newest.yaml).await.unwrap();
        for change in changes {
            assert_eq!(change.outcome(), Outcome::Proposed, "{change:?}");
            assert!(change.approval_id > 0 && change.operation.is_empty(), "{change:?}");
        }
        assert_eq!(writes(&simulator), 0);
        assert_eq!(get_version(&sg.admin(), name, 0).await.unwrap().digest, newest.digest);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_document_that_differs_only_in_landlock_is_a_change(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let newest = get_version(&admin, name, 0).await.unwrap().yaml;
        let other = newest.replace("best_effort", "hard_requirement");
        assert_ne!(newest, other);
        let operand = |policy| Some(pb::PolicyOperand { policy: Some(policy) });
        let diff = pb::DiffPoliciesRequest {
            gateway: name.to_owned(),
            sandbox: "coder".to_owned(),
            from: operand(pb::policy_operand::Policy::Version(0)),
            to: operand(pb::policy_operand::Policy::Yaml(other.clone())),
            ..Default::default()
        };
        let diff = admin.policies().diff_policies(diff).await.unwrap().into_inner();
        let paths: Vec<&str> =
            diff.policy_differences.iter().map(|found| found.path.as_str()).collect();
        assert_eq!((paths, diff.equivalent), (vec!["landlock.compatibility"], false));
        // A running sandbox cannot get it, and this is said instead of `UP_TO_DATE`.
        let refused = apply(&admin, replacement(name, other)).await;
        let refused = assert_refused!(refused, InvalidArgument, "POLICY_STATIC");
        assert!(refused.message().contains("landlock.compatibility"), "{refused:?}");
        simulator.stop().await;
    }
    sg.finish().await;
}

/// Returns a request that merges a rule for a host and a binary, both quoted.
fn quoted(gateway: &str, host: &str, binary: &str) -> pb::ApplyPolicyRequest {
    let yaml = format!(
        "network_policies: {{quoted: {{endpoints: [{{host: '{host}', port: 443}}], binaries: [{{path: '{binary}'}}]}}}}"
    );
    pb::ApplyPolicyRequest { yaml, ..merge_request(gateway, "") }
}

async fn a_host_with_a_wildcard_is_shown_in_the_review_and_written(sg: TestServer) {
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let ana = require_one(&sg, name).await;
        let proposed = apply(&sg.admin(), quoted(name, "*.com", "/usr/bin/git")).await.unwrap();
        let content = ana.approval(proposed.approval_id).await.content.unwrap();
        assert!(format!("{:?}", content.policy_differences).contains("*.com"), "{content:?}");
        ana.approve(proposed.approval_id).await.unwrap();
        wait_for(&sg.app, ApprovalRoundId(proposed.approval_id), RoundState::Applied).await;
        assert_eq!(writes(&simulator), 1);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_path_of_a_binary_is_written_as_it_is_given(sg: TestServer) {
    // A link on the host of the server, whose target is another path.
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("python3");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let link = link.to_str().unwrap();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let admin = sg.admin();
        let change = apply(&admin, quoted(name, "a.example", link)).await.unwrap();
        wait_for(&sg.app, ApprovalRoundId(change.approval_id), RoundState::Applied).await;
        let written = get_version(&admin, name, 0).await.unwrap().yaml;
        assert!(written.contains(link) && !written.contains("/bin/sh"), "{written}");
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn a_document_that_is_exported_again_is_the_same_proposal(sg: TestServer) {
    let admin = sg.admin();
    for (name, generation) in GATEWAYS {
        let simulator = seeded(&sg, name, generation).await;
        let ana = require_one(&sg, name).await;
        let exported = |at: &str| pb::ApplyPolicyRequest {
            yaml: format!(
                "metadata: {{exported_at: '{at}'}}\npolicy: {{{}}}",
                addition("one.example")
            ),
            ..merge_request(name, "")
        };
        let first = apply(&admin, exported("2026-01-01T00:00:00Z")).await.unwrap();
        assert_eq!((first.outcome(), first.digest.len()), (Outcome::Proposed, 64));
        let again = apply(&admin, exported("2026-06-30T12:00:00Z")).await.unwrap();
        assert_eq!(again.approval_id, first.approval_id);
        // The mode is no part of it: the same result is the same proposal.
        let whole = ana.approval(first.approval_id).await.content.unwrap().yaml;
        let whole = apply(&admin, replacement(name, whole)).await.unwrap();
        assert_eq!(whole.approval_id, first.approval_id);
        assert_eq!(whole.approval_digest, first.approval_digest);
        simulator.stop().await;
    }
    sg.finish().await;
}

async fn reviews_of_sandboxes_of_one_name_are_not_mixed(sg: TestServer) {
    let of = people(&sg).await;
    sg.register_unreachable("other").await;
    let (here, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let elsewhere = Proposal { gateway: "other", ..proposal("b.example.com") };
    let (there, _) = propose(&sg, &of.dora, &elsewhere).await.unwrap();
    let ana = sg.with_token(&of.ana);
    for (gateway, id, host, foreign) in [
        ("edge", here, "a.example.com", "b.example.com"),
        ("other", there, "b.example.com", "a.example.com"),
    ] {
        let history = pb::GetApprovalHistoryRequest {
            gateway: gateway.to_owned(),
            sandbox: "box".to_owned(),
            ..Default::default()
        };
        let found = ana.approvals().get_approval_history(history).await.unwrap().into_inner();
        assert_eq!(found.approvals.iter().map(|found| found.id).collect::<Vec<_>>(), [id]);
        let shown = format!("{:?}", ana.approval(id).await);
        assert!(shown.contains(host) && !shown.contains(foreign), "{shown}");
    }
    ana.vote(here, pb::VoteDecision::Reject).await.unwrap();
    let left = ana.approval(there).await.approval.unwrap();
    assert_eq!(left.state(), pb::ApprovalState::Open);
    sg.finish().await;
}
