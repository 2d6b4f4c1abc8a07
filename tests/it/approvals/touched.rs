//! The open approvals that a call which sets a workflow names.

use shoreguard::governance::RuleScope;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approval_workflows::domain::APPROVALS_NAMED_MAX;
use shoreguard::resources::approvals::rules::store::voting_in;

use super::{DAY, Proposal, people, proposal, propose};
use crate::approval_workflows::{operators, request, set};
use crate::support::server::TestServer;

server_tests_without_jobs! {
    a_workflow_names_the_open_approvals_in_its_scope,
    a_hundred_of_the_open_approvals_are_named_and_all_are_counted,
}

/// Sets a rule as an admin. Returns the numbers of the open approvals that the answer names, and their count.
async fn touched(sg: &TestServer, request: pb::SetWorkflowRequest) -> (Vec<i64>, u32) {
    let answer = set(&sg.admin(), request).await.unwrap();
    (answer.open_approval_ids, answer.open_approval_count)
}

async fn a_workflow_names_the_open_approvals_in_its_scope(sg: TestServer) {
    let of = people(&sg).await;
    sg.register_unreachable("other").await;
    let mut opened = Vec::new();
    for (gateway, sandbox, host) in [
        ("edge", "box", "open.example.com"),
        ("edge", "box", "approved.example.com"),
        ("edge", "next", "open.example.com"),
        ("other", "box", "open.example.com"),
        ("edge", "box", "rejected.example.com"),
    ] {
        let change = Proposal { gateway, sandbox, ..proposal(host) };
        opened.push(propose(&sg, &of.dora, &change).await.unwrap().0);
    }
    let [open, approved, next, other, rejected] = opened[..] else { panic!("{opened:?}") };
    let ana = sg.with_token(&of.ana);
    let found = ana.approve(approved).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    ana.vote(rejected, pb::VoteDecision::Reject).await.unwrap();

    let dry = pb::SetWorkflowRequest { validate_only: true, ..request("", "box", operators(2)) };
    assert_eq!(touched(&sg, dry).await, (vec![open, approved], 2));
    for _ in 0..2 {
        // The second call stores nothing, and answers the same.
        let found = touched(&sg, request("", "box", operators(2))).await;
        assert_eq!(found, (vec![open, approved], 2));
    }
    assert_eq!(touched(&sg, request("", "next", operators(1))).await, (vec![next], 1));
    assert_eq!(touched(&sg, request("team", "", operators(1))).await, (vec![], 0));
    for workspace in ["default", ""] {
        let found = touched(&sg, request(workspace, "", operators(1))).await;
        assert_eq!(found, (vec![open, approved, next], 3), "{workspace}");
    }
    let elsewhere =
        pb::SetWorkflowRequest { gateway: "other".to_owned(), ..request("", "", operators(1)) };
    assert_eq!(touched(&sg, elsewhere).await, (vec![other], 1));
    // A review of a weaker rule is about the whole gateway, and under its rules.
    let weaker = pb::ApprovalRule { distinct_actors: Some(false), ..operators(1) };
    let refused = set(&sg.admin(), request("", "", weaker)).await;
    assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
    let (named, count) = touched(&sg, request("", "", operators(2))).await;
    // That review is about another version of the rule now.
    assert_eq!((named, count), (vec![open, approved, next], 3));

    // A review whose time is over has ended, even if no worker has stored that yet.
    sg.app.db.advance_clock(8 * DAY);
    assert_eq!(touched(&sg, request("", "", operators(3))).await, (vec![], 0));
    sg.finish().await;
}

async fn a_hundred_of_the_open_approvals_are_named_and_all_are_counted(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    for (copies, count) in [(APPROVALS_NAMED_MAX - 1, 100), (1, 101)] {
        let workspace = format!("'copies-of-{copies}'");
        let changed = [("workspace", workspace.as_str()), ("sandbox_name", "'box-' || i")];
        sg.copy_review(copies, &changed).await;
        let (ids, counted) = touched(&sg, request("", "", operators(1))).await;
        assert_eq!((ids[0], ids.len(), counted), (id, APPROVALS_NAMED_MAX, count));
    }
    // Under the lock of the gateway, only those that are named are read.
    let gateway = sg.app.snapshot.gateway_id("edge").unwrap();
    let mut conn = sg.app.db.read().await.unwrap();
    let now = sg.app.db.now(&mut conn).await.unwrap();
    let found = voting_in(&mut conn, gateway, &RuleScope::Gateway, now, 2).await.unwrap();
    assert_eq!((found.first.len(), found.count), (2, 101));
    drop(conn);
    sg.finish().await;
}
