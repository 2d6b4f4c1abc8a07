//! The inbox of the fleet, its stream, and the history of a sandbox.

use shoreguard::pb::v1 as pb;
use tonic::Status;

use super::{People, Proposal, people, proposal, propose, require};
use crate::boot_hooks::last_event;
use crate::support::server::{Caller, TestServer};

server_tests! {
    the_inbox_shows_open_reviews_of_visible_gateways_nearest_end_first,
    the_inbox_is_filtered,
    a_watcher_gets_the_list_and_then_each_change,
    the_history_of_a_sandbox_keeps_ended_reviews,
    t20_other_sandboxes_do_not_hide_drafts_that_wait,
    bad_requests_store_nothing,
}

async fn list(
    caller: &Caller,
    filter: pb::ApprovalFilter,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListApprovalsResponse, Status> {
    let (filter, page_token) = (Some(filter), page_token.to_owned());
    let request = pb::ListApprovalsRequest { page_size, page_token, filter };
    Ok(caller.approvals().list_approvals(request).await?.into_inner())
}

async fn ids(caller: &Caller, filter: pb::ApprovalFilter) -> Vec<i64> {
    let page = list(caller, filter, 0, "").await.unwrap();
    page.approvals.iter().map(|found| found.id).collect()
}

/// Proposes changes for `edge` and `other`, which exist, by dora.
async fn propose_some(sg: &TestServer, of: &People) -> Vec<i64> {
    let mut opened = Vec::new();
    for n in 0..5 {
        let gateway = if n < 3 { "edge" } else { "other" };
        let change = Proposal { gateway, ..proposal(&format!("{n}.example.com")) };
        opened.push(propose(sg, &of.dora, &change).await.unwrap().0);
    }
    opened
}

async fn the_inbox_shows_open_reviews_of_visible_gateways_nearest_end_first(sg: TestServer) {
    let of = people(&sg).await;
    sg.register_unreachable("other").await;
    let opened = propose_some(&sg, &of).await;
    let ana = sg.with_token(&of.ana);
    let all = pb::ApprovalFilter::default;
    assert_eq!(ids(&ana, all()).await, opened);
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = list(&ana, all(), 2, &token).await.unwrap();
        assert!(page.approvals.len() <= 2);
        seen.extend(page.approvals.iter().map(|found| found.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, opened);
    let key = sg.admin().create_key("there", pb::Role::None).await;
    sg.admin().bind("there", "other", pb::Role::Viewer).await;
    let there = sg.with_token(&key);
    assert_eq!(ids(&there, all()).await, opened[3..]);
    let hidden = pb::ApprovalFilter { gateway: "edge".to_owned(), ..all() };
    assert_refused!(list(&there, hidden, 0, "").await, NotFound, "NOT_FOUND");
    ana.vote(opened[0], pb::VoteDecision::Reject).await.unwrap();
    assert_eq!(ids(&ana, all()).await, opened[1..]);
    sg.finish().await;
}

async fn the_inbox_is_filtered(sg: TestServer) {
    let of = people(&sg).await;
    // Before the rule: a gateway with a rule gets no second name.
    sg.register_unreachable("other").await;
    require(&sg, 2).await;
    let opened = propose_some(&sg, &of).await;
    let own = Proposal { sandbox: "own", ..proposal("own.example.com") };
    let (own, _) = propose(&sg, &of.ana, &own).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let all = pb::ApprovalFilter::default;
    let on = |gateway: &str| pb::ApprovalFilter { gateway: gateway.to_owned(), ..all() };
    assert_eq!(ids(&ana, on("other")).await, opened[3..]);
    let of_sandbox = pb::ApprovalFilter { sandbox: "own".to_owned(), ..on("edge") };
    assert_eq!(ids(&ana, of_sandbox).await, [own]);
    let by = |author: &str| pb::ApprovalFilter { author: author.to_owned(), ..all() };
    assert_eq!(ids(&ana, by("ana@example.com")).await, [own]);
    assert_eq!(ids(&ana, by("Ana@Example.COM")).await, [own]);
    assert_eq!(ids(&ana, by("dora@example.com")).await, opened);
    assert!(ids(&ana, by("sp:unknown")).await.is_empty());
    let owned = pb::ApprovalFilter { owner: "ana@example.com".to_owned(), ..all() };
    assert!(ids(&ana, owned).await.is_empty());
    let rules = pb::ApprovalFilter { action: pb::ApprovalAction::RuleChange.into(), ..all() };
    assert!(ids(&ana, rules).await.is_empty());
    let approved = pb::ApprovalFilter { state: pb::ApprovalState::Approved.into(), ..all() };
    assert!(ids(&ana, approved.clone()).await.is_empty());
    assert!(ids(&ana, pb::ApprovalFilter { overdue: true, ..all() }).await.is_empty());
    // What waits for ana: not her own change, and not what she has approved.
    let awaiting = || pb::ApprovalFilter { awaiting_me: true, ..all() };
    assert_eq!(ids(&ana, awaiting()).await, opened);
    ana.approve(opened[0]).await.unwrap();
    assert_eq!(ids(&ana, awaiting()).await, opened[1..]);
    let page = list(&ana, awaiting(), 3, "").await.unwrap();
    let rest = list(&ana, awaiting(), 3, &page.next_page_token).await.unwrap();
    assert_eq!((page.approvals.len(), rest.approvals.len()), (3, 1));
    sg.with_token(&of.ben).approve(opened[0]).await.unwrap();
    assert_eq!(ids(&ana, approved).await, [opened[0]]);
    sg.finish().await;
}

async fn a_watcher_gets_the_list_and_then_each_change(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (first, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    // From now on, events have sequence numbers.
    last_event(&sg.admin(), "approval.pending").await;
    let ana = sg.with_token(&of.ana);
    let watch = async |cursor: i64| {
        let request = pb::WatchApprovalsRequest { filter: None, cursor };
        ana.approvals().watch_approvals(request).await.map(tonic::Response::into_inner)
    };
    let mut stream = watch(0).await.unwrap();
    let listed = stream.message().await.unwrap().unwrap();
    assert_eq!((listed.approval.unwrap().id, listed.cursor), (first, 0));
    let end = stream.message().await.unwrap().unwrap();
    assert!(end.approval.is_none() && end.cursor > 0);
    sg.with_token(&of.ben).vote(first, pb::VoteDecision::Reject).await.unwrap();
    let changed = loop {
        let message = stream.message().await.unwrap().unwrap();
        let ended = message.approval.filter(|found| found.state() != pb::ApprovalState::Open);
        if let Some(found) = ended {
            break found;
        }
    };
    assert_eq!((changed.id, changed.state()), (first, pb::ApprovalState::Rejected));
    drop(stream);
    // A resumed stream gets what changed in the meantime, without the list.
    let (second, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let mut stream = watch(end.cursor).await.unwrap();
    loop {
        let message = stream.message().await.unwrap().unwrap();
        if message.approval.is_some_and(|found| found.id == second) {
            break;
        }
    }
    drop(stream);
    for cursor in [-1, i64::MAX] {
        let refused = assert_refused!(watch(cursor).await, InvalidArgument, "INVALID_FIELD");
        assert!(refused.message().starts_with("`cursor` "), "{refused:?}");
    }
    sg.finish().await;
}

async fn the_history_of_a_sandbox_keeps_ended_reviews(sg: TestServer) {
    let of = people(&sg).await;
    let mut opened = Vec::new();
    for host in ["a.example.com", "b.example.com", "c.example.com"] {
        opened.push(propose(&sg, &of.dora, &proposal(host)).await.unwrap().0);
    }
    let ana = sg.with_token(&of.ana);
    ana.vote(opened[1], pb::VoteDecision::Reject).await.unwrap();
    let history = async |sandbox: &str, page_size: i32, page_token: String| {
        let (gateway, sandbox) = ("edge".to_owned(), sandbox.to_owned());
        let workspace = String::new();
        let request =
            pb::GetApprovalHistoryRequest { gateway, workspace, sandbox, page_size, page_token };
        ana.approvals().get_approval_history(request).await.map(tonic::Response::into_inner)
    };
    let page = history("box", 2, String::new()).await.unwrap();
    let found: Vec<i64> = page.approvals.iter().map(|found| found.id).collect();
    assert_eq!(found, [opened[2], opened[1]]);
    assert_eq!(page.approvals[1].state(), pb::ApprovalState::Rejected);
    let rest = history("box", 2, page.next_page_token).await.unwrap();
    assert_eq!(rest.approvals[0].id, opened[0]);
    assert!(history("other", 0, String::new()).await.unwrap().approvals.is_empty());
    assert_refused!(history("", 0, String::new()).await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn t20_other_sandboxes_do_not_hide_drafts_that_wait(sg: TestServer) {
    let of = people(&sg).await;
    // As many as a list has, and two more.
    let mut names: Vec<(String, &str)> = (0..100).map(|n| (format!("a-{n}"), "default")).collect();
    names.extend([("last".to_owned(), "default"), ("last".to_owned(), "team")]);
    let rows: Vec<String> = names
        .iter()
        .map(|(name, workspace)| {
            format!(
                "((SELECT id FROM gateways WHERE name = 'edge'), '{workspace}', '{name}', 1, \
                 '2026-01-01 00:00:00.000000')"
            )
        })
        .collect();
    let insert = format!(
        "INSERT INTO draft_states (gateway_id, workspace, sandbox_name, waiting, updated_at) VALUES {}",
        rows.join(", ")
    );
    assert_eq!(sg.sql(&insert).await, names.len());
    let ana = sg.with_token(&of.ana);
    let waiting = async |sandbox: &str, workspace: &str| {
        let (sandbox, workspace) = (sandbox.to_owned(), workspace.to_owned());
        let filter = pb::ApprovalFilter { sandbox, workspace, ..Default::default() };
        list(&ana, filter, 0, "").await.unwrap().waiting_drafts.len()
    };
    assert_eq!(waiting("", "").await, 100);
    assert_eq!(waiting("last", "").await, 2);
    assert_eq!(waiting("last", "team").await, 1);
    assert_eq!(waiting("", "team").await, 1);
    sg.finish().await;
}

async fn bad_requests_store_nothing(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let digest = ana.approval(id).await.approval.unwrap().digest;
    let approve: i32 = pb::VoteDecision::Approve.into();
    let valid = || pb::VoteRequest {
        approval_id: id,
        digest: digest.clone(),
        decision: approve,
        ..Default::default()
    };
    for bad in [
        pb::VoteRequest { approval_id: 0, ..valid() },
        pb::VoteRequest { digest: String::new(), ..valid() },
        pb::VoteRequest { digest: "x".repeat(64), ..valid() },
        pb::VoteRequest { decision: 0, ..valid() },
        pb::VoteRequest { decision: 99, ..valid() },
        pb::VoteRequest { decision: pb::VoteDecision::Reject.into(), ..valid() },
        pb::VoteRequest { comment: "a".repeat(1_001), ..valid() },
        pb::VoteRequest { comment: "\u{7}".to_owned(), ..valid() },
        pb::VoteRequest { request_id: "not a UUID".to_owned(), ..valid() },
    ] {
        let refused = ana.approvals().vote(bad).await;
        assert_refused!(refused, InvalidArgument, "INVALID_FIELD");
    }
    let unknown = pb::VoteRequest { approval_id: i64::MAX, ..valid() };
    assert_refused!(ana.approvals().vote(unknown).await, NotFound, "NOT_FOUND");
    let all = pb::ApprovalFilter::default;
    for bad in [
        pb::ApprovalFilter { state: pb::ApprovalState::Applied.into(), ..all() },
        pb::ApprovalFilter { state: 99, ..all() },
        pb::ApprovalFilter { action: 99, ..all() },
        pb::ApprovalFilter { gateway: "a".repeat(254), ..all() },
        pb::ApprovalFilter { author: "a\nb".to_owned(), ..all() },
    ] {
        assert_refused!(list(&ana, bad, 0, "").await, InvalidArgument, "INVALID_FIELD");
    }
    assert_refused!(list(&ana, all(), -1, "").await, InvalidArgument, "INVALID_FIELD");
    assert_refused!(list(&ana, all(), 0, "bad").await, InvalidArgument, "INVALID_FIELD");
    assert!(ana.votes(id).await.is_empty());
    // The letters of a digest are the same in both cases.
    let upper = pb::VoteRequest { digest: digest.to_uppercase(), ..valid() };
    let voted = ana.approvals().vote(upper).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(voted.digest, digest);
    sg.finish().await;
}
