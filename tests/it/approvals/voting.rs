//! Votes: who counts, what is decided, and what is shown.

use futures_util::future::join_all;
use shoreguard::governance::VoterSet;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::VoteDecision::{Approve, Reject, Withdraw};
use shoreguard::resources::approvals::RoundState;
use shoreguard::role::Role;
use shoreguard_simulator::Generation;
use tokio::task::JoinSet;
use tonic::Status;

use super::{
    events, fact, govern, govern_by, named, people, proposal, propose, require, rule, user,
};
use crate::approved_writes::{open_round_as, revisions, updates, wait_for, writes};
use crate::boot_hooks::last_event;
use crate::policies::{GATEWAYS, seeded};
use crate::support::server::{TestServer, reason};

/// Voters who vote at once.
const CROWD: usize = 50;
/// Voters who are created at once: their calls share transactions of the audit log.
const HIRED_AT_ONCE: usize = 10;

server_tests! {
    two_and_one_needs_three_people,
    zero_count_never_passes,
    one_person_many_clicks_counts_once,
    an_edit_keeps_no_votes,
    proposer_is_told_the_outcome,
    everything_reviewed_is_visible,
    fifty_deciding_votes_at_once_make_one_decision,
    a_vote_for_another_content_is_refused_with_the_present_digest,
    a_withdrawn_vote_reopens_an_approved_change,
    votes_on_several_approvals_are_all_stored_or_none,
    without_a_workflow_one_operator_decides,
    a_vote_can_be_changed_twenty_times,
}

each_generation! {
    server_tests, GATEWAYS;
    fifty_deciding_votes_at_once_are_written_once,
}

async fn two_and_one_needs_three_people(sg: TestServer) {
    let of = people(&sg).await;
    let security = named(vec![user(&sg, "ana"), user(&sg, "ben")], vec![]);
    let owners = named(vec![user(&sg, "ben"), user(&sg, "cleo")], vec![]);
    govern(&sg, &rule(&[("security", 2, security), ("owners", 1, owners)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_eq!((ana.votes, ana.needed, ana.state()), (1, 3, pb::ApprovalState::Open));
    // One person counts once, although two groups name him.
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!((ben.votes, ben.state()), (2, pb::ApprovalState::Open));
    let detail = sg.with_token(&of.cleo).approval(id).await;
    assert_eq!(detail.could_vote, ["cleo@example.com"]);
    let cleo = sg.with_token(&of.cleo).approve(id).await.unwrap();
    assert_eq!(cleo.state(), pb::ApprovalState::Approved);
    assert!(cleo.apply_deadline_time.is_some() && cleo.decision_time.is_some());
    sg.finish().await;
}

async fn zero_count_never_passes(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let zero = rule(&[("reviewers", 0, VoterSet::of_role(Role::Operator))]);
    govern(&sg, &zero).await;
    let ana = sg.with_token(&of.ana);
    assert_refused!(ana.approve(id).await, FailedPrecondition, "GOVERNED");
    govern_by(&sg, "{}").await;
    assert_refused!(ana.approve(id).await, FailedPrecondition, "GOVERNED");
    let detail = ana.approval(id).await;
    let is_unreadable = |blocker: &String| blocker.contains("cannot be read by this version");
    assert!(detail.blockers.iter().any(is_unreadable), "{:?}", detail.blockers);
    assert!(!detail.satisfiable);
    assert_eq!(detail.approval.unwrap().state(), pb::ApprovalState::Open);
    assert!(ana.votes(id).await.is_empty());
    let refused = propose(&sg, &of.dora, &proposal("b.example.com")).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    sg.finish().await;
}

async fn one_person_many_clicks_counts_once(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    for _ in 0..3 {
        let voted = ana.approve(id).await.unwrap();
        assert_eq!((voted.votes, voted.needed, voted.state()), (1, 2, pb::ApprovalState::Open));
    }
    assert_eq!(ana.votes(id).await.len(), 1);
    assert_eq!(events(&sg, "approval.vote_cast").await, 1);
    sg.finish().await;
}

async fn an_edit_keeps_no_votes(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (first, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    ana.approve(first).await.unwrap();
    let dora = shoreguard::access::principal::PrincipalId::User(user(&sg, "dora").into());
    let mut edited = proposal("b.example.com");
    edited.replaces = Some(first);
    edited.authors = vec![dora];
    let (second, _) = propose(&sg, &of.cleo, &edited).await.unwrap();
    let found = ana.approval(second).await.approval.unwrap();
    assert_eq!((found.votes, found.previous_approval_id), (0, first));
    assert_eq!(found.authors, ["cleo@example.com", "dora@example.com"]);
    let closed = assert_refused!(ana.approve(first).await, FailedPrecondition, "ROUND_CLOSED");
    assert_eq!(fact(&closed, "state"), "superseded");
    assert_eq!(fact(&closed, "successor"), second.to_string());
    assert!(ana.votes(first).await.iter().all(|vote| vote.clear_time.is_some()));
    // Both authors are excluded, including that of the predecessor.
    let dora = sg.with_token(&of.dora);
    assert_refused!(dora.approve(second).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(events(&sg, "approval.superseded").await, 1);
    sg.finish().await;
}

async fn proposer_is_told_the_outcome(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let rejected = sg.with_token(&of.ana).vote(id, Reject).await.unwrap();
    assert_eq!(rejected.state(), pb::ApprovalState::Rejected);
    let found = sg.with_token(&of.dora).approval(id).await.approval.unwrap();
    assert_eq!(found.close_reason, "rejected by ana@example.com: a reason");
    let event = last_event(&sg.admin(), "approval.rejected").await;
    let payload: serde_json::Value = serde_json::from_str(&event.payload_json).unwrap();
    assert_eq!((payload["approval"].as_i64(), event.actor.as_str()), (Some(id), "ana@example.com"));
    assert_eq!(payload["reason"], "rejected by ana@example.com: a reason");
    // The same change can be proposed again, without the votes.
    let (again, is_new) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(is_new && again != id);
    sg.finish().await;
}

async fn everything_reviewed_is_visible(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, is_new) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    assert!(is_new);
    let detail = sg.with_token(&of.ana).approval(id).await;
    let (found, content) = (detail.approval.clone().unwrap(), detail.content.clone().unwrap());
    assert_eq!(found.action(), pb::ApprovalAction::PolicyApply);
    assert_eq!((found.gateway.as_str(), found.sandbox.as_str()), ("edge", "box"));
    assert_eq!((found.sandbox_id.as_str(), found.base_version), ("id-of-box", 3));
    assert_eq!((found.effective_hash.as_str(), found.grant_minutes), ("hash-in-force", 0));
    assert_eq!(found.wire_generation(), pb::WireGeneration::V01);
    assert_eq!(found.chunk_id, format!("policy.apply:{}", found.digest));
    assert_eq!((found.comment.as_str(), found.added), ("a comment", 1));
    assert!(content.yaml.contains("a.example.com") && content.omitted == 0);
    let shown = format!("{:?}", content.policy_differences);
    assert!(shown.contains("a.example.com") && shown.contains("base.example.com"), "{shown}");
    assert_eq!(content.base_digest.len(), 64);
    assert_eq!((detail.rules.len(), detail.rules[0].scope.as_str()), (1, "the gateway"));
    // The three operators and the admin, but not the author.
    assert_eq!(detail.could_vote.len(), 4, "{:?}", detail.could_vote);
    assert!(detail.satisfiable && detail.caller_can_reject && !detail.caller_can_withdraw);
    assert_eq!(detail.caller_uncounted(), pb::UncountedReason::Unspecified);
    let own = sg.with_token(&of.dora).approval(id).await;
    assert_eq!(own.caller_uncounted(), pb::UncountedReason::Author);
    assert!(own.caller_can_withdraw);
    // The same content is the same approval.
    let again = propose(&sg, &of.cleo, &proposal("a.example.com")).await.unwrap();
    assert_eq!(again, (id, false));
    sg.finish().await;
}

/// Lets many operators approve at once. Returns the outcome for each.
async fn approve_at_once(sg: &TestServer, id: i64) -> Vec<Result<(), Status>> {
    let digest = sg.admin().approval(id).await.approval.unwrap().digest;
    let (admin, mut keys) = (sg.admin(), Vec::new());
    let names: Vec<String> = (0..CROWD).map(|n| format!("voter-{n}")).collect();
    for names in names.chunks(HIRED_AT_ONCE) {
        let hiring = names.iter().map(|name| admin.create_key(name, pb::Role::Operator));
        keys.extend(join_all(hiring).await);
    }
    let mut votes = JoinSet::new();
    for key in keys {
        let (caller, digest) = (sg.with_token(&key), digest.clone());
        votes.spawn(async move {
            let decision = Approve.into();
            let request =
                pb::VoteRequest { approval_id: id, digest, decision, ..Default::default() };
            caller.approvals().vote(request).await.map(drop)
        });
    }
    votes.join_all().await
}

async fn fifty_deciding_votes_at_once_make_one_decision(sg: TestServer) {
    let of = people(&sg).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    for voted in approve_at_once(&sg, id).await {
        voted.unwrap();
    }
    assert_eq!(events(&sg, "approval.quorum_met").await, 1);
    assert_eq!(sg.admin().votes(id).await.len(), CROWD);
    let found = sg.admin().approval(id).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn fifty_deciding_votes_at_once_are_written_once(
    sg: TestServer,
    (name, generation): (&'static str, Generation),
) {
    let simulator = seeded(&sg, name, generation).await;
    let before = revisions(&simulator);
    let spec = sg.operation_spec(name, "coder");
    let id = open_round_as(&sg.app, &spec, "one.example", false).await;
    let mut stored = 0;
    for voted in approve_at_once(&sg, id.get()).await {
        match voted {
            Ok(()) => stored += 1,
            // The first vote has decided, and the change is being written.
            Err(late) => assert_eq!(reason(&late), "ROUND_CLOSED", "{late:?}"),
        }
    }
    wait_for(&sg.app, id, RoundState::Applied).await;
    assert_eq!(sg.admin().votes(id.get()).await.len(), stored);
    assert!(stored > 0);
    for event in ["approval.quorum_met", "approval.approved"] {
        assert_eq!(events(&sg, event).await, 1, "{event}");
    }
    assert_eq!((writes(&simulator), updates(&simulator)), (1, 1));
    assert_eq!(revisions(&simulator) - before, 1);
    simulator.stop().await;
    sg.finish().await;
}

async fn a_vote_for_another_content_is_refused_with_the_present_digest(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let digest = ana.approval(id).await.approval.unwrap().digest;
    let request = pb::VoteRequest {
        approval_id: id,
        digest: "a".repeat(64),
        decision: Approve.into(),
        ..Default::default()
    };
    let stale = assert_refused!(ana.approvals().vote(request).await, Aborted, "REVIEW_STALE");
    assert_eq!(fact(&stale, "digest"), digest);
    assert!(ana.votes(id).await.is_empty());
    sg.finish().await;
}

async fn a_withdrawn_vote_reopens_an_approved_change(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    let open = ana.vote(id, Withdraw).await.unwrap();
    assert_eq!((open.state(), open.votes), (pb::ApprovalState::Open, 0));
    assert!(open.apply_deadline_time.is_none() && open.decision_time.is_none());
    assert_eq!(events(&sg, "approval.reopened").await, 1);
    // A tighter rule reopens it, too, with the next vote.
    assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Approved);
    require(&sg, 2).await;
    assert_eq!(ana.approve(id).await.unwrap().state(), pb::ApprovalState::Open);
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!(ben.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn votes_on_several_approvals_are_all_stored_or_none(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let (first, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let (second, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let (own, _) = propose(&sg, &of.ana, &proposal("c.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let vote_many = async |ids: &[i64]| {
        let mut ballots = Vec::new();
        for id in ids {
            let digest = ana.approval(*id).await.approval.unwrap().digest;
            let (approval_id, decision) = (*id, Approve.into());
            ballots.push(pb::Ballot { approval_id, digest, decision, ..Default::default() });
        }
        let (gateway, request_id) = ("edge".to_owned(), String::new());
        ana.approvals().vote_many(pb::VoteManyRequest { gateway, ballots, request_id }).await
    };
    assert_refused!(vote_many(&[first, second, own]).await, PermissionDenied, "OWN_CHANGE");
    assert!(ana.votes(first).await.is_empty() && ana.votes(second).await.is_empty());
    let voted = vote_many(&[second, first]).await.unwrap().into_inner().approvals;
    let states = voted.iter().map(|found| (found.id, found.state()));
    let approved = pb::ApprovalState::Approved;
    assert_eq!(states.collect::<Vec<_>>(), [(second, approved), (first, approved)]);
    assert_refused!(vote_many(&[]).await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

async fn without_a_workflow_one_operator_decides(sg: TestServer) {
    let of = people(&sg).await;
    let mut own = proposal("a.example.com");
    own.decides = true;
    let (id, _) = propose(&sg, &of.dora, &own).await.unwrap();
    let found = sg.admin().approval(id).await.approval.unwrap();
    assert_eq!(found.state(), pb::ApprovalState::Approved);
    // It was decided at once, so no event asks for votes.
    for name in ["approval.pending", "approval.quorum_met"] {
        assert_eq!(events(&sg, name).await, 0, "{name}");
    }
    let viewer = sg.create_user("vic@example.com", pb::Role::Viewer).await;
    let viewer = sg.with_token(&viewer);
    let (id, _) = propose(&sg, &of.dora, &proposal("b.example.com")).await.unwrap();
    let refused = assert_refused!(viewer.approve(id).await, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "role_too_low");
    assert_refused!(viewer.vote(id, Reject).await, PermissionDenied, "NOT_A_VOTER");
    let author = sg.with_token(&of.dora).approve(id).await.unwrap();
    assert_eq!(author.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn a_vote_can_be_changed_twenty_times(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let ana = sg.with_token(&of.ana);
    for _ in 0..21 {
        ana.approve(id).await.unwrap();
        ana.vote(id, Withdraw).await.unwrap();
    }
    assert_refused!(ana.approve(id).await, FailedPrecondition, "LIMIT_REACHED");
    assert_eq!(ana.votes(id).await.len(), 21);
    sg.finish().await;
}
