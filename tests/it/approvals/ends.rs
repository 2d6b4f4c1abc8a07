//! How reviews end besides a decision: clocks, withdrawals, retention, and changes of rules.

use std::time::Duration;

use shoreguard::governance::{Rule, VoterSet};
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::rounds::open::{OPEN_PROPOSALS_MAX, PROPOSED_A_DAY_MAX};
use shoreguard::resources::approvals::worker::{CLOCK, RETENTION};
use shoreguard::resources::approvals::{Content, RuleContent};
use shoreguard::role::Role;
use shoreguard::workers;

use super::{
    DAY, Proposal, events, fact, govern, named, people, program, proposal, propose, require, rule,
    user,
};
use crate::support::server::TestServer;

server_tests! {
    an_author_or_an_admin_withdraws_a_proposal,
    a_principal_has_at_most_fifty_open_proposals_on_a_gateway,
    a_change_of_a_rule_is_made_with_its_decision,
    a_pinned_sandbox_takes_no_approval_but_a_reject,
    an_unregistered_gateway_ends_its_reviews,
}

server_tests_without_jobs! {
    g14_an_expired_review_is_over_before_a_worker_ran,
    an_escalation_adds_its_voters,
    a_change_that_was_undone_can_be_proposed_again_before_its_review_has_ended,
    an_escalation_decides_by_earlier_votes,
    each_of_several_workflows_escalates_at_its_own_time,
    g14_a_late_escalation_decides_nothing_after_the_end_of_voting,
    an_end_that_a_proposal_notices_is_recorded,
    a_review_does_not_end_without_an_audit_entry,
    a_reopened_review_does_not_end_at_once,
    an_expired_review_of_an_unregistered_gateway_is_not_withdrawn,
    a_review_is_stored_until_its_retention_period_is_over,
    t16_a_principal_proposes_at_most_1000_changes_a_day_on_a_gateway,
    t16_the_proposals_of_principals_with_similar_ids_do_not_count,
}

/// Runs the clock once.
async fn tick(sg: &TestServer) {
    workers::run_once(&sg.app, &CLOCK).await.unwrap().expect("no other holder of the lease");
}

async fn g14_an_expired_review_is_over_before_a_worker_ran(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    ana.approve(id).await.unwrap();
    sg.app.db.advance_clock(Duration::from_mins(7 * 24 * 60 - 1));
    tick(&sg).await;
    assert_eq!(ana.approval(id).await.approval.unwrap().state(), pb::ApprovalState::Open);
    sg.app.db.advance_clock(Duration::from_mins(2));
    let found = ana.approval(id).await.approval.unwrap();
    assert_eq!((found.state(), found.votes), (pb::ApprovalState::Expired, 0));
    let ben = sg.with_token(&of.ben).approve(id).await;
    let refused = assert_refused!(ben, FailedPrecondition, "ROUND_CLOSED");
    assert_eq!(fact(&refused, "state"), "expired");
    let listed = ana.approvals().list_approvals(pb::ListApprovalsRequest::default()).await;
    assert!(listed.unwrap().into_inner().approvals.is_empty());
    assert_eq!(events(&sg, "approval.expired").await, 0);
    for _ in 0..2 {
        tick(&sg).await;
        assert_eq!(events(&sg, "approval.expired").await, 1);
    }
    let found = ana.approval(id).await.approval.unwrap();
    assert_eq!(found.close_reason, "it was not decided in time");
    let votes = ana.votes(id).await;
    assert!(votes.len() == 1 && votes[0].clear_time.is_some(), "{votes:?}");
    let entries = pb::ListAuditEntriesRequest::default();
    let entries = sg.admin().audit().list_audit_entries(entries).await.unwrap().into_inner();
    let actions = entries.audit_entries.iter().map(|entry| entry.action.as_str());
    assert_eq!(actions.filter(|action| *action == "approval.expire").count(), 1);
    // An approved change has its own time.
    let (id, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    ana.approve(id).await.unwrap();
    sg.with_token(&of.ben).approve(id).await.unwrap();
    sg.app.db.advance_clock(DAY + Duration::from_mins(1));
    let found = ana.approval(id).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Expired);
    tick(&sg).await;
    assert_eq!(events(&sg, "approval.expired").await, 2);
    sg.finish().await;
}

async fn an_escalation_adds_its_voters(sg: TestServer) {
    let of = people(&sg).await;
    let reviewers = named(vec![user(&sg, "ana"), user(&sg, "ben")], vec![]);
    govern(
        &sg,
        &Rule {
            escalation: Some(named(vec![user(&sg, "cleo")], vec![])),
            escalation_timeout_minutes: Some(10),
            ..rule(&[("reviewers", 2, reviewers)])
        },
    )
    .await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    let cleo = sg.with_token(&of.cleo);
    assert_refused!(cleo.approve(id).await, PermissionDenied, "NOT_A_VOTER");
    sg.app.db.advance_clock(Duration::from_mins(11));
    for _ in 0..2 {
        tick(&sg).await;
        assert_eq!(events(&sg, "approval.escalated").await, 1);
    }
    let overdue = pb::ApprovalFilter { overdue: true, ..Default::default() };
    let request = pb::ListApprovalsRequest { filter: Some(overdue), ..Default::default() };
    let listed = cleo.approvals().list_approvals(request).await.unwrap().into_inner().approvals;
    assert!(listed.len() == 1 && listed[0].awaits_caller, "{listed:?}");
    assert_eq!(cleo.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn a_change_that_was_undone_can_be_proposed_again_before_its_review_has_ended(
    sg: TestServer,
) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let change = proposal("a.example.com");
    let (first, _) = propose(&sg, &of.dora, &change).await.unwrap();
    // Its sandbox has not loaded it yet.
    sg.sql("UPDATE approval_rounds SET state = 'written', written_version = 4").await;
    assert_eq!(propose(&sg, &of.dora, &change).await.unwrap(), (first, false));
    // Revision 5 has what the change replaces.
    let change = Proposal { base_version: 5, ..change };
    let (again, is_new) = propose(&sg, &of.dora, &change).await.unwrap();
    assert!(is_new && again != first);
    assert_eq!(propose(&sg, &of.dora, &change).await.unwrap(), (again, false));
    sg.finish().await;
}

async fn an_escalation_decides_by_earlier_votes(sg: TestServer) {
    let of = people(&sg).await;
    let (ana, ben, cleo) = (user(&sg, "ana"), user(&sg, "ben"), user(&sg, "cleo"));
    let escalating = |voters: Vec<i64>| Rule {
        escalation: Some(named(vec![cleo], vec![])),
        escalation_timeout_minutes: Some(10),
        ..rule(&[("reviewers", 2, named(voters, vec![]))])
    };
    govern(&sg, &escalating(vec![ana, ben, cleo])).await;
    let change = proposal("a.example.com");
    let (early, _) = propose(&sg, &of.dora, &change).await.unwrap();
    sg.with_token(&of.cleo).approve(early).await.unwrap();
    // Until the escalation, the rule does not name the voter any more.
    govern(&sg, &escalating(vec![ana, ben])).await;
    let first = sg.with_token(&of.ana).approve(early).await.unwrap();
    assert_eq!((first.votes, first.state()), (1, pb::ApprovalState::Open));
    sg.app.db.advance_clock(Duration::from_mins(11));
    // Calls that decide nothing do not take the escalation from the clock.
    assert_eq!(propose(&sg, &of.dora, &change).await.unwrap(), (early, false));
    sg.with_token(&of.ben).vote(early, pb::VoteDecision::Withdraw).await.unwrap();
    tick(&sg).await;
    let found = sg.admin().approval(early).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    for name in ["approval.escalated", "approval.quorum_met"] {
        assert_eq!(events(&sg, name).await, 1, "{name}");
    }
    sg.finish().await;
}

/// Adds a rule for the workspace of the sandbox to that of the gateway.
async fn govern_workspace(sg: &TestServer, rule: &Rule) {
    let json = serde_json::to_string(rule).unwrap();
    let statement = format!(
        "INSERT INTO approval_workflows (gateway_name, workspace, required_approvals, created_by, created_at, \
         updated_at, rule_json) VALUES ('edge', 'default', 1, 'test', '2026-01-01 00:00:00.000000', \
         '2026-01-01 00:00:00.000000', '{json}')"
    );
    assert_eq!(sg.sql(&statement).await, 1);
}

async fn each_of_several_workflows_escalates_at_its_own_time(sg: TestServer) {
    let of = people(&sg).await;
    let escalating = |name: &str, minutes: u32| Rule {
        escalation: Some(named(vec![user(&sg, "cleo")], vec![])),
        escalation_timeout_minutes: Some(minutes),
        ..rule(&[("reviewers", 1, named(vec![user(&sg, name)], vec![]))])
    };
    govern(&sg, &escalating("ana", 10)).await;
    govern_workspace(&sg, &escalating("ben", 60)).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let cleo = sg.with_token(&of.cleo);
    let overdue = async || {
        let overdue = pb::ApprovalFilter { overdue: true, ..Default::default() };
        let request = pb::ListApprovalsRequest { filter: Some(overdue), ..Default::default() };
        let listed = cleo.approvals().list_approvals(request).await.unwrap().into_inner();
        listed.approvals.len()
    };
    assert_eq!(overdue().await, 0);
    sg.app.db.advance_clock(Duration::from_mins(11));
    for _ in 0..2 {
        tick(&sg).await;
        assert_eq!(events(&sg, "approval.escalated").await, 1);
        assert_eq!(overdue().await, 1);
    }
    // The vote counts for the first workflow only.
    let found = cleo.approve(id).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Open);
    let after = found.escalation_time.unwrap().seconds - found.create_time.unwrap().seconds;
    assert_eq!(after, 3_600, "the second one has a longer time");
    sg.app.db.advance_clock(Duration::from_mins(50));
    tick(&sg).await;
    let found = cleo.approval(id).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    for (name, count) in [("approval.escalated", 2), ("approval.quorum_met", 1)] {
        assert_eq!(events(&sg, name).await, count, "{name}");
    }
    sg.finish().await;
}

async fn g14_a_late_escalation_decides_nothing_after_the_end_of_voting(sg: TestServer) {
    let of = people(&sg).await;
    let (ana, ben, cleo) = (user(&sg, "ana"), user(&sg, "ben"), user(&sg, "cleo"));
    let escalating = |voters: Vec<i64>| Rule {
        escalation: Some(named(vec![cleo], vec![])),
        escalation_timeout_minutes: Some(10),
        expire_minutes: 20,
        ..rule(&[("reviewers", 2, named(voters, vec![]))])
    };
    govern(&sg, &escalating(vec![ana, ben, cleo])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.cleo).approve(id).await.unwrap();
    govern(&sg, &escalating(vec![ana, ben])).await;
    sg.with_token(&of.ana).approve(id).await.unwrap();
    // No clock runs until voting has ended: then the votes would be enough.
    sg.app.db.advance_clock(Duration::from_mins(21));
    let state = async || sg.admin().approval(id).await.approval.unwrap().state();
    assert_eq!(state().await, pb::ApprovalState::Expired);
    tick(&sg).await;
    assert_eq!(state().await, pb::ApprovalState::Expired);
    for (name, count) in [("quorum_met", 0), ("escalated", 0), ("expired", 1)] {
        assert_eq!(events(&sg, &format!("approval.{name}")).await, count, "{name}");
    }
    sg.finish().await;
}

async fn an_end_that_a_proposal_notices_is_recorded(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (first, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.app.db.advance_clock(DAY * 8);
    let (second, is_new) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(is_new && second != first);
    assert_eq!(events(&sg, "approval.expired").await, 1);
    tick(&sg).await;
    let entries = pb::ListAuditEntriesRequest::default();
    let entries = sg.admin().audit().list_audit_entries(entries).await.unwrap().into_inner();
    let actions = entries.audit_entries.iter().map(|entry| entry.action.as_str());
    assert_eq!(actions.filter(|action| *action == "approval.expire").count(), 1);
    sg.finish().await;
}

async fn a_review_does_not_end_without_an_audit_entry(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.app.audit.wait_settled().await;
    sg.app.db.advance_clock(DAY * 8);
    let open = "UPDATE approval_rounds SET version = version WHERE closed_at IS NULL";
    sg.sql("ALTER TABLE audit_log RENAME TO audit_away").await;
    tick(&sg).await;
    assert_eq!(sg.sql(open).await, 1, "the entry could not be stored");
    sg.sql("ALTER TABLE audit_away RENAME TO audit_log").await;
    tick(&sg).await;
    assert_eq!(sg.sql(open).await, 0);
    assert_eq!(sg.admin().audit_entries("box", "approval.expire").await.len(), 1);
    sg.finish().await;
}

async fn a_reopened_review_does_not_end_at_once(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    sg.app.db.advance_clock(Duration::from_mins(7 * 24 * 60 - 1));
    assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    sg.app.db.advance_clock(Duration::from_mins(2));
    let open = ana.vote(id, pb::VoteDecision::Withdraw).await.unwrap();
    assert_eq!(open.state(), pb::ApprovalState::Open);
    tick(&sg).await;
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!(ben.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn an_expired_review_of_an_unregistered_gateway_is_not_withdrawn(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.app.db.advance_clock(DAY * 8);
    sg.sql("DELETE FROM approval_workflows").await;
    let request = pb::UnregisterGatewayRequest { gateway: "edge".to_owned(), ..Default::default() };
    sg.admin().gateways().unregister_gateway(request).await.unwrap();
    let found = sg.admin().approval(id).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Expired);
    assert_eq!(events(&sg, "approval.withdrawn").await, 0);
    assert_eq!(events(&sg, "approval.expired").await, 1);
    sg.finish().await;
}

async fn a_review_is_stored_until_its_retention_period_is_over(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (open, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let (closed, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    ana.vote(closed, pb::VoteDecision::Reject).await.unwrap();
    workers::run_once(&sg.app, &RETENTION).await.unwrap();
    assert_eq!(ana.votes(closed).await.len(), 1);
    sg.sql("UPDATE approval_rounds SET opened_at = '2020-01-01 00:00:00.000000'").await;
    sg.sql(
        "UPDATE approval_rounds SET closed_at = '2020-01-01 00:00:00.000000' WHERE closed_at IS NOT NULL",
    )
    .await;
    workers::run_once(&sg.app, &RETENTION).await.unwrap();
    let get = pb::GetApprovalRequest { approval_id: closed };
    assert_refused!(ana.approvals().get_approval(get).await, NotFound, "NOT_FOUND");
    assert_eq!(ana.approval(open).await.approval.unwrap().id, open);
    assert_eq!(sg.sql("UPDATE approval_decisions SET actor = actor").await, 0);
    assert_eq!(sg.sql("UPDATE policy_apply_proposals SET mode = mode").await, 1);
    sg.finish().await;
}

async fn an_author_or_an_admin_withdraws_a_proposal(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let withdraw = async |key: &str, id: i64| {
        let request = pb::WithdrawProposalRequest {
            approval_id: id,
            comment: "not needed".to_owned(),
            ..Default::default()
        };
        sg.with_token(key).approvals().withdraw_proposal(request).await
    };
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_refused!(withdraw(&of.ana, id).await, PermissionDenied, "ROLE_TOO_LOW");
    let withdrawn = withdraw(&of.dora, id).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(withdrawn.state(), pb::ApprovalState::Withdrawn);
    assert_eq!(withdrawn.close_reason, "withdrawn by dora@example.com: not needed");
    let refused = assert_refused!(withdraw(&of.dora, id).await, FailedPrecondition, "ROUND_CLOSED");
    assert_eq!(fact(&refused, "state"), "withdrawn");
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(withdraw(&sg.admin_key, id).await.is_ok());
    assert_eq!(events(&sg, "approval.withdrawn").await, 2);
    sg.finish().await;
}

async fn a_principal_has_at_most_fifty_open_proposals_on_a_gateway(sg: TestServer) {
    let of = people(&sg).await;
    // Before the rule: a gateway with a rule gets no second name.
    sg.register_unreachable("other").await;
    require(&sg, 2).await;
    let mut first = 0;
    for n in 0..OPEN_PROPOSALS_MAX {
        let change = proposal(&format!("{n}.example.com"));
        let (id, is_new) = propose(&sg, &of.dora, &change).await.unwrap();
        assert!(is_new);
        first = if n == 0 { id } else { first };
    }
    let more = proposal("more.example.com");
    assert_refused!(propose(&sg, &of.dora, &more).await, FailedPrecondition, "LIMIT_REACHED");
    // The same content again is not another proposal, and others have a limit of their own.
    assert_eq!(propose(&sg, &of.dora, &proposal("0.example.com")).await.unwrap(), (first, false));
    let mut elsewhere = more.clone();
    elsewhere.gateway = "other";
    propose(&sg, &of.dora, &elsewhere).await.unwrap();
    sg.with_token(&of.ana).vote(first, pb::VoteDecision::Reject).await.unwrap();
    propose(&sg, &of.dora, &more).await.unwrap();
    sg.finish().await;
}

async fn t16_a_principal_proposes_at_most_1000_changes_a_day_on_a_gateway(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    propose(&sg, &of.dora, &proposal("first.example.com")).await.unwrap();
    // Those that have ended count, too.
    let copies = usize::try_from(PROPOSED_A_DAY_MAX - 2).unwrap();
    let ended =
        [("chunk_id", "'copy-' || i"), ("state", "'withdrawn'"), ("closed_at", "opened_at")];
    sg.copy_review(copies, &ended).await;
    propose(&sg, &of.dora, &proposal("last.example.com")).await.expect("the thousandth");
    let over = proposal("over.example.com");
    assert_refused!(propose(&sg, &of.dora, &over).await, FailedPrecondition, "LIMIT_REACHED");
    propose(&sg, &of.ben, &proposal("other.example.com")).await.expect("another principal");
    sg.app.db.advance_clock(DAY);
    propose(&sg, &of.dora, &over).await.expect("the next day");
    sg.finish().await;
}

async fn t16_the_proposals_of_principals_with_similar_ids_do_not_count(sg: TestServer) {
    let of = people(&sg).await;
    let key = sg.admin().create_key("robot", pb::Role::Operator).await;
    require(&sg, 2).await;
    propose(&sg, &of.dora, &proposal("first.example.com")).await.unwrap();
    let robot = format!("service_principal:{}", program(&sg, "robot"));
    // In a pattern of SQL, `_` matches any character.
    let similar = [robot.replace('_', "-"), format!("{robot}0")];
    for (n, id) in similar.iter().chain([&robot]).enumerate() {
        propose(&sg, &key, &proposal(&format!("{n}.example.com"))).await.expect(id);
        let (proposer, authors) = (format!("'{id}'"), format!("'[\"{id}\"]'"));
        let chunk = format!("'copy-{n}-' || i");
        let changed = [
            ("proposer", proposer.as_str()),
            ("authors_json", authors.as_str()),
            ("chunk_id", chunk.as_str()),
            ("state", "'withdrawn'"),
            ("closed_at", "opened_at"),
        ];
        sg.copy_review(usize::try_from(PROPOSED_A_DAY_MAX).unwrap(), &changed).await;
    }
    let over = proposal("over.example.com");
    assert_refused!(propose(&sg, &key, &over).await, FailedPrecondition, "LIMIT_REACHED");
    sg.finish().await;
}

async fn a_change_of_a_rule_is_made_with_its_decision(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    // A known id.
    sg.sql("UPDATE approval_workflows SET id = 77").await;
    let removal = |version| {
        let before = rule(&[("reviewers", 1, VoterSet::of_role(Role::Operator))]);
        Content::Rule(Box::new(RuleContent::Workflow { id: 77, version, before, after: None }))
    };
    let mut change = proposal("a.example.com");
    change.content = Some(removal(9));
    let (outdated, _) = propose(&sg, &of.dora, &change).await.unwrap();
    let found = sg.with_token(&of.ana).approve(outdated).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Superseded);
    assert_eq!(sg.sql("UPDATE approval_workflows SET id = id").await, 1);
    change.content = Some(removal(1));
    let (id, _) = propose(&sg, &of.dora, &change).await.unwrap();
    let detail = sg.with_token(&of.ana).approval(id).await;
    assert!(detail.content.unwrap().rule_change_json.contains("\"version\":1"));
    let found = sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Applied);
    assert_eq!(found.action(), pb::ApprovalAction::RuleChange);
    assert_eq!(sg.sql("UPDATE approval_workflows SET id = id").await, 0);
    for name in ["approval.approved", "approval.quorum_met", "approval_workflow.deleted"] {
        assert_eq!(events(&sg, name).await, 1, "{name}");
    }
    sg.finish().await;
}

async fn a_pinned_sandbox_takes_no_approval_but_a_reject(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.sql(
        "INSERT INTO policy_pins (gateway_name, workspace, sandbox_name, pinned_version, pinned_by, pinned_at, \
         setter_role) VALUES ('edge', 'default', 'box', 1, 'admin', '2026-01-01 00:00:00.000000', 'admin')",
    )
    .await;
    let ana = sg.with_token(&of.ana);
    assert_refused!(ana.approve(id).await, FailedPrecondition, "POLICY_PINNED");
    let blockers = ana.approval(id).await.blockers;
    assert!(blockers.iter().any(|blocker| blocker.contains("`admin`")), "{blockers:?}");
    let rejected = ana.vote(id, pb::VoteDecision::Reject).await.unwrap();
    assert_eq!(rejected.state(), pb::ApprovalState::Rejected);
    sg.finish().await;
}

async fn an_unregistered_gateway_ends_its_reviews(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let request = pb::UnregisterGatewayRequest { gateway: "edge".to_owned(), ..Default::default() };
    sg.admin().gateways().unregister_gateway(request).await.unwrap();
    let found = sg.admin().approval(id).await;
    assert_eq!(found.approval.unwrap().state(), pb::ApprovalState::Withdrawn);
    let get = || pb::GetApprovalRequest { approval_id: id };
    let ana = sg.with_token(&of.ana);
    assert_refused!(ana.approvals().get_approval(get()).await, NotFound, "NOT_FOUND");
    assert_eq!(events(&sg, "approval.withdrawn").await, 1);
    // A gateway of the same name has another id, and none of the reviews.
    sg.register_unreachable("edge").await;
    let all = pb::ListApprovalsRequest::default();
    let listed = ana.approvals().list_approvals(all).await.unwrap().into_inner();
    assert!(listed.approvals.is_empty());
    assert_refused!(ana.approvals().get_approval(get()).await, NotFound, "NOT_FOUND");
    sg.finish().await;
}
