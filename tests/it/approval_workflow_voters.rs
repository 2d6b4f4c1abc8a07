//! Approval workflows and people: who can vote, rules that cannot be met, and people who leave.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::approval_workflows::worker::BROKEN;
use tonic::Status;

use crate::approval_workflows::{named, operators, request, rule, set};
use crate::boot_hooks::last_event;
use crate::policy_pins::{caller, edge};
use crate::support::dump;
use crate::support::eventually;
use crate::support::server::{Caller, TestServer, facts};

async fn explain(caller: &Caller, sandbox: &str) -> Result<pb::ExplainWorkflowResponse, Status> {
    let request = pb::ExplainWorkflowRequest {
        gateway: "edge".to_owned(),
        sandbox: sandbox.to_owned(),
        ..Default::default()
    };
    Ok(caller.approval_workflows().explain_workflow(request).await?.into_inner())
}

fn ana() -> pb::VoterSet {
    named(&["ana@example.com"], &[], &[])
}

/// Returns the number of stored events of a type.
async fn count(sg: &TestServer, event: &str) -> usize {
    dump::table(&sg.app.db, "events").await.matches(event).count()
}

/// Runs the job until a number of events was emitted; the server may run it at the same time.
async fn check_until(sg: &TestServer, events: usize) {
    eventually("the event is emitted", || async {
        sg.run_job(&BROKEN).await;
        count(sg, "approval_workflow.broken").await == events
    })
    .await;
}

server_tests! {
    g07_a_rule_that_cannot_be_met_is_refused,
    g07_people_who_leave_break_a_workflow_once,
    recreated_group_does_not_match,
    who_can_vote_and_who_cannot_is_explained,
    a_rule_is_checked_against_access_data_of_its_transaction,
}

async fn g07_a_rule_that_cannot_be_met_is_refused(sg: TestServer) {
    let _edge = edge(&sg).await;
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    sg.create_user("vic@example.com", pb::Role::Viewer).await;
    sg.create_group("empty", pb::Role::Operator, &[]).await;
    sg.admin().create_key("ci", pb::Role::Operator).await;
    let admin = sg.admin();
    let vic = named(&["vic@example.com"], &[], &[]);
    let as_operator = pb::VoterSet { role: pb::Role::Operator.into(), ..vic.clone() };
    for unreachable in [
        operators(10),
        rule(&[("empty", 1, named(&[], &["empty"], &[]))]),
        rule(&[("one", 1, as_operator)]),
        // One person counts once.
        rule(&[("first", 1, ana()), ("second", 1, ana())]),
        rule(&[("ana", 2, ana())]),
    ] {
        let refused = set(&admin, request("", "", unreachable)).await;
        let refused = assert_refused!(refused, FailedPrecondition, "QUORUM_UNREACHABLE");
        assert!(refused.message().contains("can get"), "{refused:?}");
        let facts = facts(&refused);
        assert!(["group", "need", "have"].iter().all(|key| facts.contains_key(*key)), "{facts:?}");
    }
    for reachable in [rule(&[("ana", 1, ana()), ("vic", 1, vic)]), operators(1)] {
        let dry = request("", "", reachable);
        set(&admin, pb::SetWorkflowRequest { validate_only: true, ..dry }).await.unwrap();
    }
}

async fn g07_people_who_leave_break_a_workflow_once(sg: TestServer) {
    let _edge = edge(&sg).await;
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    let admin = sg.admin();
    set(&admin, request("", "coder", rule(&[("owners", 1, ana())]))).await.unwrap();
    sg.run_job(&BROKEN).await;
    assert_eq!(count(&sg, "approval_workflow.broken").await, 0);
    sg.deactivate("ana@example.com").await;
    check_until(&sg, 1).await;
    sg.run_job(&BROKEN).await;
    assert_eq!(count(&sg, "approval_workflow.broken").await, 1);
    let event = last_event(&admin, "approval_workflow.broken").await;
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
    assert_eq!(
        (payload["sandbox"].as_str(), payload["group"].as_str()),
        (Some("coder"), Some("owners"))
    );
    assert_eq!((payload["need"].as_i64(), payload["have"].as_i64()), (Some(1), Some(0)));
    let explained = explain(&admin, "coder").await.unwrap().explained_workflows.remove(0);
    assert!(!explained.can_be_met && explained.approval_workflow.unwrap().broken_time.is_some());

    // It can be met again, and breaks again.
    let request = pb::UpdateUserRequest {
        user: "ana@example.com".to_owned(),
        is_active: true,
        update_mask: Some(prost_types::FieldMask { paths: vec!["is_active".to_owned()] }),
        ..Default::default()
    };
    admin.users().update_user(request).await.unwrap();
    eventually("it is no longer reported", || async {
        sg.run_job(&BROKEN).await;
        let explained = explain(&admin, "coder").await.unwrap().explained_workflows.remove(0);
        explained.can_be_met && explained.approval_workflow.unwrap().broken_time.is_none()
    })
    .await;
    sg.deactivate("ana@example.com").await;
    check_until(&sg, 2).await;
}

async fn recreated_group_does_not_match(sg: TestServer) {
    let _edge = edge(&sg).await;
    for name in ["ana", "bo"] {
        sg.create_user(&format!("{name}@example.com"), pb::Role::Operator).await;
    }
    sg.create_group("security", pb::Role::Viewer, &["ana@example.com"]).await;
    let admin = sg.admin();
    let of_group = rule(&[("security", 1, named(&[], &["security"], &[]))]);
    set(&admin, request("", "", of_group)).await.unwrap();
    let delete = pb::DeleteGroupRequest { group: "security".to_owned(), ..Default::default() };
    admin.groups().delete_group(delete).await.unwrap();
    sg.create_group("security", pb::Role::Viewer, &["bo@example.com"]).await;
    let explained = explain(&admin, "coder").await.unwrap().explained_workflows.remove(0);
    assert!(!explained.can_be_met);
    assert_eq!(explained.groups[0].voter_count, 0);
    let shown = explained.approval_workflow.unwrap().rule.unwrap();
    let shown = &shown.groups[0].voters.as_ref().unwrap().groups[0];
    assert!(shown.starts_with("group:"), "{shown}");
}

async fn who_can_vote_and_who_cannot_is_explained(sg: TestServer) {
    let _edge = edge(&sg).await;
    for (name, role) in [("ana", pb::Role::Operator), ("vic", pb::Role::Viewer)] {
        sg.create_user(&format!("{name}@example.com"), role).await;
    }
    let admin = sg.admin();
    let viewer = caller(&sg, "looks", pb::Role::Viewer).await;
    assert!(explain(&viewer, "coder").await.unwrap().explained_workflows.is_empty());
    let voters = pb::VoterSet {
        role: pb::Role::Operator.into(),
        ..named(&["ana@example.com", "vic@example.com"], &[], &[])
    };
    set(&admin, request("default", "", rule(&[("named", 1, voters)]))).await.unwrap();
    set(&admin, request("", "", operators(1))).await.unwrap();
    set(&admin, request("", "other", operators(1))).await.unwrap();
    let explained = explain(&viewer, "coder").await.unwrap().explained_workflows;
    let scopes: Vec<&str> = explained
        .iter()
        .map(|of| of.approval_workflow.as_ref().unwrap().workspace.as_str())
        .collect();
    assert_eq!(scopes, ["", "default"], "the widest first, and no other sandbox's");
    let own = &explained[1];
    assert_eq!(own.groups[0].voters, ["ana@example.com"]);
    assert_eq!(own.excluded.len(), 1);
    assert_eq!(
        (own.excluded[0].principal.as_str(), own.excluded[0].exclusion()),
        ("vic@example.com", pb::VoteExclusion::RoleTooLow)
    );
    assert!(
        own.can_be_met && explained[0].groups[0].voters.contains(&"ana@example.com".to_owned())
    );
    assert_refused!(explain(&viewer, "").await, InvalidArgument, "INVALID_FIELD");

    // The owner of the sandbox cannot approve.
    sg.sql(
        "INSERT INTO sandbox_meta (gateway_name, workspace, sandbox_name, owner, created_at) \
         SELECT 'edge', 'default', 'owned', 'user:' || id, created_at FROM users WHERE email = 'ana@example.com'",
    )
    .await;
    let owned = explain(&viewer, "owned").await.unwrap();
    assert!(owned.owner.starts_with("user:"));
    let own = &owned.explained_workflows[1];
    assert!(!own.can_be_met);
    assert_eq!((own.lacking_group.as_str(), own.lacking_group_has), ("named", 0));
    assert!(own.excluded.iter().any(|of| of.exclusion() == pb::VoteExclusion::Owner));
}

async fn a_rule_is_checked_against_access_data_of_its_transaction(sg: TestServer) {
    let _edge = edge(&sg).await;
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    // A change that this replica may not have read yet: it is read before the rule is stored.
    sg.sql("UPDATE users SET is_active = FALSE WHERE email = 'ana@example.com'").await;
    sg.sql(
        "INSERT INTO access_changes (subject_kind, subject_id, changed_at) \
         SELECT 'user', id, created_at FROM users WHERE email = 'ana@example.com'",
    )
    .await;
    let refused = set(&sg.admin(), request("", "", rule(&[("ana", 1, ana())]))).await;
    assert_refused!(refused, FailedPrecondition, "QUORUM_UNREACHABLE");
}
