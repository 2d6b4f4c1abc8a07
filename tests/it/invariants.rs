//! Invariants of governance that concern several parts at once. `src/governance/mod.rs` lists all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use shoreguard::access::policy::{METHODS, Method};
use shoreguard::db::Engine;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v0_1::openshell::v1 as new;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::apply::DISPATCH;
use shoreguard::resources::approvals::worker::CLOCK;
use shoreguard::resources::approvals::{self, RoundState};
use shoreguard::workers;
use shoreguard_simulator::{Generation, Script, Times};
use tonic::Code;

use crate::approval_workflows::{named as named_voters, request, rule as rule_of, set};
use crate::approvals::{DAY, fact, govern, named, people, proposal, propose, require, rule, user};
use crate::approved_writes::{advance_until, round, wait_for, writes};
use crate::policies::{GATEWAYS, seeded};
use crate::policy_pins::{edge, pin, pin_request};
use crate::policy_writes::merge;
use crate::support::server::{Caller, TestServer, run_without_jobs};
use crate::support::{dump, eventually};

/// Requests with an id that a gateway of generation 0.1 stores for a caller.
const REQUEST_IDS_MAX: u32 = 1_000;

server_tests! {
    g12_what_is_shown_is_what_decides,
    g13_approved_changes_need_no_request_id,
    g15_no_rule_and_no_gateway_prevents_a_way_out,
    every_rpc_of_governance_is_audited_under_its_action,
}

each_generation! {
    server_tests, GATEWAYS;
    g06_a_vote_is_not_cleared_before_the_gateway_has_answered,
}

#[test]
fn g11_a_review_that_has_ended_never_changes() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        run_without_jobs(engine, change_ended_reviews);
    }
}

/// Returns a rule that only ana can meet.
fn ana_alone() -> pb::ApprovalRule {
    rule_of(&[("ana", 1, named_voters(&["ana@example.com"], &[], &[]))])
}

async fn g06_a_vote_is_not_cleared_before_the_gateway_has_answered(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let ana = sg.with_token(&sg.create_user("ana@example.com", pb::Role::Operator).await);
    let simulator = seeded(&sg, name, generation).await;
    let workflow =
        pb::SetWorkflowRequest { gateway: name.to_owned(), ..request("", "", ana_alone()) };
    set(&sg.admin(), workflow).await.unwrap();
    let busy = Script::TrailersOnly { code: Code::ResourceExhausted, message: "busy".to_owned() };
    simulator.script("UpdateConfig", busy, Times::All);
    let id = merge(&sg.admin(), name, "one.example").await.unwrap().approval_id;
    ana.approve(id).await.unwrap();
    for attempts in 1..=2 {
        eventually("an attempt has failed", || async {
            sg.app.clock.advance(Duration::from_secs(1));
            approvals::wake(&sg.app);
            let found = round(&sg.app, ApprovalRoundId(id)).await;
            found.progress.attempts >= attempts && found.state == RoundState::Approved
        })
        .await;
        let votes = ana.votes(id).await;
        assert!(votes.len() == 1 && votes[0].clear_time.is_none(), "{votes:?}");
    }
    assert_eq!(writes(&simulator), 0);
    simulator.clear_scripts();
    advance_until(&sg.app, ApprovalRoundId(id), RoundState::Applied).await;
    assert!(ana.votes(id).await[0].clear_time.is_some());
    assert_eq!(writes(&simulator), 1);
    simulator.stop().await;
    sg.finish().await;
}

/// Ends a review in a state.
async fn end(sg: &TestServer, id: i64, state: RoundState) {
    let statement = format!(
        "UPDATE approval_rounds SET state = '{state}', closed_at = opened_at WHERE id = {id}"
    );
    assert_eq!(sg.sql(&statement).await, 1);
}

async fn change_ended_reviews(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (ana, dora) = (sg.with_token(&of.ana), sg.with_token(&of.dora));
    let mut ended = Vec::new();
    for state in RoundState::ALL.iter().filter(|state| state.is_closed()) {
        let change = proposal(&format!("{}.example.com", state.as_str().replace('_', "-")));
        let (id, _) = propose(&sg, &of.dora, &change).await.unwrap();
        ana.approve(id).await.unwrap();
        end(&sg, id, *state).await;
        ended.push((id, *state));
    }
    assert_eq!(ended.len(), 7);
    let before = (
        dump::table(&sg.app.db, "approval_rounds").await,
        dump::table(&sg.app.db, "approval_decisions").await,
    );
    for (id, state) in ended {
        for decision in
            [pb::VoteDecision::Approve, pb::VoteDecision::Reject, pb::VoteDecision::Withdraw]
        {
            let refused = ana.vote(id, decision).await;
            let refused = assert_refused!(refused, FailedPrecondition, "ROUND_CLOSED");
            assert_eq!(fact(&refused, "state"), state.as_str());
        }
        let withdraw = pb::WithdrawProposalRequest { approval_id: id, ..Default::default() };
        let withdrawn = dora.approvals().withdraw_proposal(withdraw).await;
        assert_refused!(withdrawn, FailedPrecondition, "ROUND_CLOSED");
    }
    sg.app.db.advance_clock(DAY * 8);
    for job in [&CLOCK, &DISPATCH] {
        workers::run_once(&sg.app, job).await.unwrap().expect("no other holder of the lease");
    }
    let after = (
        dump::table(&sg.app.db, "approval_rounds").await,
        dump::table(&sg.app.db, "approval_decisions").await,
    );
    assert_eq!(before, after);
    sg.finish().await;
}

/// Asserts that a review is shown everywhere as its last vote was answered.
async fn assert_shown(caller: &Caller, voted: &pb::Approval) {
    let figures = |of: &pb::Approval| (of.id, of.votes, of.needed, of.state, of.awaits_caller);
    let detail = caller.approval(voted.id).await;
    let is_approved = voted.state() == pb::ApprovalState::Approved;
    assert_eq!(detail.rules.iter().all(|rule| rule.met), is_approved, "{detail:?}");
    assert_eq!(voted.votes == voted.needed, is_approved, "{voted:?}");
    assert_eq!(figures(&detail.approval.unwrap()), figures(voted));
    let listed = caller.approvals().list_approvals(pb::ListApprovalsRequest::default()).await;
    let listed = listed.unwrap().into_inner().approvals;
    assert_eq!(listed.iter().map(figures).collect::<Vec<_>>(), [figures(voted)]);
    let history = pb::GetApprovalHistoryRequest {
        gateway: "edge".to_owned(),
        sandbox: "box".to_owned(),
        ..Default::default()
    };
    let history = caller.approvals().get_approval_history(history).await.unwrap().into_inner();
    assert_eq!(history.approvals.iter().map(figures).collect::<Vec<_>>(), [figures(voted)]);
}

async fn g12_what_is_shown_is_what_decides(sg: TestServer) {
    let of = people(&sg).await;
    let viewer = sg.create_user("vic@example.com", pb::Role::Viewer).await;
    let security = named(vec![user(&sg, "ana"), user(&sg, "ben")], vec![]);
    let owners = named(vec![user(&sg, "ben"), user(&sg, "cleo")], vec![]);
    govern(&sg, &rule(&[("security", 1, security), ("owners", 1, owners)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let mut states = Vec::new();
    for key in [&of.dora, &viewer, &of.ben, &viewer, &of.ana] {
        let caller = sg.with_token(key);
        let shown = caller.approval(id).await;
        let identity = caller.auth().get_current_identity(pb::GetCurrentIdentityRequest {}).await;
        let name = identity.unwrap().into_inner().actor;
        let voted = caller.approve(id).await;
        if shown.caller_uncounted() == pb::UncountedReason::Unspecified {
            assert!(shown.could_vote.contains(&name), "{name}: {shown:?}");
            let voted = voted.unwrap();
            states.push((voted.votes, voted.state()));
            assert_shown(&caller, &voted).await;
            continue;
        }
        assert!(!shown.could_vote.contains(&name), "{name}: {shown:?}");
        let why = shown.caller_uncounted().as_str_name().to_ascii_lowercase();
        assert_eq!(why, format!("uncounted_reason_{}", fact(&voted.unwrap_err(), "why")));
    }
    let (open, approved) = (pb::ApprovalState::Open, pb::ApprovalState::Approved);
    assert_eq!(states, [(1, open), (2, approved)]);
    sg.finish().await;
}

async fn g13_approved_changes_need_no_request_id(sg: TestServer) {
    let simulator = seeded(&sg, "edge", Generation::V0_1).await;
    let address = format!("http://{}", simulator.addr());
    let client = new::open_shell_client::OpenShellClient::connect(address).await.unwrap();
    let delete = |number: u32| {
        let (mut client, name) = (client.clone(), "missing".to_owned());
        let request_id = format!("0199c0de-0000-7000-8000-{number:012x}");
        let request = new::DeleteSandboxRequest { name, request_id, ..Default::default() };
        async move { client.delete_sandbox(request).await.unwrap_err().code() }
    };
    let fills = (1..=REQUEST_IDS_MAX).map(delete);
    let codes: Vec<_> = futures_util::stream::iter(fills).buffer_unordered(32).collect().await;
    assert!(codes.iter().all(|code| *code == Code::NotFound));
    assert_eq!(delete(REQUEST_IDS_MAX + 1).await, Code::ResourceExhausted, "the table is full");
    // The caller decides the first change, and a voter the second one.
    let change = merge(&sg.admin(), "edge", "one.example").await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(change.approval_id), RoundState::Applied).await;
    let ana = sg.with_token(&sg.create_user("ana@example.com", pb::Role::Operator).await);
    set(&sg.admin(), request("", "", ana_alone())).await.unwrap();
    let change = merge(&sg.admin(), "edge", "two.example").await.unwrap();
    ana.approve(change.approval_id).await.unwrap();
    wait_for(&sg.app, ApprovalRoundId(change.approval_id), RoundState::Applied).await;
    assert_eq!(writes(&simulator), 2);
    simulator.stop().await;
    sg.finish().await;
}

/// Asserts that the newest entry of an action about `coder` succeeded.
async fn assert_audited(sg: &TestServer, action: &str) {
    sg.app.audit.wait_settled().await;
    let entries = sg.admin().audit_entries("coder", action).await;
    let is_ok = |entry: &pb::AuditEntry| entry.outcome() == pb::AuditOutcome::Ok;
    assert!(entries.iter().any(is_ok), "{action}: {entries:?}");
}

async fn g15_no_rule_and_no_gateway_prevents_a_way_out(sg: TestServer) {
    let edge = edge(&sg).await;
    let admin = sg.admin();
    sg.create_user("ana@example.com", pb::Role::Operator).await;
    set(&admin, request("", "coder", ana_alone())).await.unwrap();
    let proposed = merge(&admin, "edge", "one.example").await.unwrap().approval_id;
    // Only ana can vote, and she leaves. Besides, the sandbox is pinned.
    sg.deactivate("ana@example.com").await;
    pin(&admin, pin_request(None)).await.unwrap();
    eventually("the change cannot be decided", || async {
        let shown = admin.approval(proposed).await;
        !shown.satisfiable && shown.blockers.len() == 1
    })
    .await;

    let withdraw = pb::WithdrawProposalRequest { approval_id: proposed, ..Default::default() };
    admin.approvals().withdraw_proposal(withdraw).await.unwrap();
    let stop = pb::StopSandboxRequest {
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    admin.sandboxes().stop_sandbox(stop).await.unwrap();
    for action in ["approval.withdraw", "sandbox.stop", "policy.pin", "approval_workflow.set"] {
        assert_audited(&sg, action).await;
    }
    // Rules can be set on a gateway that does not respond any more.
    edge.stop().await;
    let other = pb::PinPolicyRequest { sandbox: "other".to_owned(), ..pin_request(None) };
    pin(&admin, other).await.unwrap();
    sg.create_user("bo@example.com", pb::Role::Operator).await;
    let bo_alone = rule_of(&[("bo", 1, named_voters(&["bo@example.com"], &[], &[]))]);
    set(&admin, request("", "other", bo_alone)).await.unwrap();
    sg.finish().await;
}

/// Returns the rpcs of the services for policies, approvals and approval workflows.
fn governance() -> impl Iterator<Item = &'static Method> {
    let services = ["PolicyService", "ApprovalService", "ApprovalWorkflowService"];
    let is_of = move |method: &&Method| {
        services.iter().any(|service| method.path.contains(&format!(".{service}/")))
    };
    METHODS.iter().filter(is_of)
}

/// Returns method and action of each refused call of `outside`.
async fn denied(sg: &TestServer) -> BTreeSet<(String, String)> {
    let request = pb::ListAuditEntriesRequest { page_size: 1_000, ..Default::default() };
    let listed = sg.admin().audit().list_audit_entries(request).await.unwrap().into_inner();
    let denied = listed.audit_entries.into_iter().filter(|entry| entry.actor == "sp:outside");
    denied.map(|entry| (entry.method, entry.action)).collect()
}

async fn every_rpc_of_governance_is_audited_under_its_action(sg: TestServer) {
    let key = sg.admin().create_key("outside", pb::Role::None).await;
    let outside = sg.with_token(&key);
    for method in governance() {
        let refused = outside.call_raw(method.path, method.streaming, Vec::new(), &[]).await;
        assert_refused!(refused, PermissionDenied, "ROLE_TOO_LOW");
    }
    let expected: BTreeSet<(String, String)> = governance()
        .map(|method| (method.path.to_owned(), method.action.as_str().to_owned()))
        .collect();
    assert!(expected.len() > 25, "{expected:?}");
    eventually("each refusal has its action", || async { denied(&sg).await == expected }).await;
    sg.finish().await;
}
