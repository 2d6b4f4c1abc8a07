//! Attempts to approve a change of one's own, or to count more than once.

use diesel_async::RunQueryDsl;
use shoreguard::access::principal::PrincipalId;
use shoreguard::db::{Engine, on_conn};
use shoreguard::error::Error;
use shoreguard::governance::VoterSet;
use shoreguard::pb::v1 as pb;
use shoreguard::role::Role;
use tokio::sync::oneshot;

use super::{fact, govern, named, people, program, proposal, propose, require, rule, user};
use crate::support::eventually;
use crate::support::server::{Caller, TestServer};

/// Does what a rotation of the key of `bot` does first, on PostgreSQL.
const ROTATE: [&str; 2] = [
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "UPDATE service_principals SET role = role WHERE name = 'bot'",
];
/// Sessions of the test's database that wait for a lock.
const WAITING: &str = "SELECT 1 FROM pg_stat_activity \
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

server_tests! {
    t12_a_proposer_does_not_approve_through_its_service_principal,
    t12_a_rotated_key_belongs_to_its_rotator,
    t12_a_former_rotator_does_not_count_beside_a_vote_with_its_key,
    t12_a_key_of_a_former_rotator_neither_approves_nor_proposes,
    t12_what_a_key_of_a_former_rotator_makes_has_no_known_maker,
    t12_two_keys_of_one_maker_count_once,
    t12_a_deleted_maker_is_still_known,
    t12_the_maker_of_a_deleted_proposer_does_not_approve,
    t12_a_voter_demoted_before_the_quorum_does_not_count,
    t12_a_recreated_user_does_not_inherit_a_vote,
    t12_the_owner_of_a_sandbox_does_not_approve_its_policy,
    t08_an_approval_of_another_gateway_is_not_found,
    a_member_who_joins_later_does_not_count,
}

server_tests_without_jobs! { t12_a_vote_waits_for_a_rotation_of_its_key }

/// Creates an admin. Returns its credential.
async fn admin(sg: &TestServer, name: &str) -> Caller {
    let token = sg.create_user(&format!("{name}@example.com"), pb::Role::Admin).await;
    sg.with_token(&token)
}

fn token(caller: &Caller) -> String {
    caller.bearer.0.clone().unwrap()
}

async fn t12_a_proposer_does_not_approve_through_its_service_principal(sg: TestServer) {
    let of = people(&sg).await;
    let eve = admin(&sg, "eve").await;
    let bot = eve.create_key("bot", pb::Role::Operator).await;
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let (id, _) = propose(&sg, &token(&eve), &proposal("a.example.com")).await.unwrap();
    let bot = sg.with_token(&bot);
    let refused = assert_refused!(bot.approve(id).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "maker");
    // Nor does the person behind a program approve what the program has proposed.
    let key = bot.bearer.0.clone().unwrap();
    let (id, _) = propose(&sg, &key, &proposal("b.example.com")).await.unwrap();
    let both = named(vec![user(&sg, "ana"), user(&sg, "eve")], vec![]);
    govern(&sg, &rule(&[("reviewers", 1, both)])).await;
    assert_refused!(eve.approve(id).await, PermissionDenied, "OWN_CHANGE");
    let ana = sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_eq!(ana.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn t12_a_rotated_key_belongs_to_its_rotator(sg: TestServer) {
    people(&sg).await;
    let (eve, fay) = (admin(&sg, "eve").await, admin(&sg, "fay").await);
    fay.create_key("bot", pb::Role::Operator).await;
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let request = pb::RotateServicePrincipalRequest {
        service_principal: "bot".to_owned(),
        ..Default::default()
    };
    let rotated = eve.service_principals().rotate_service_principal(request).await.unwrap();
    let bot = sg.with_token(&rotated.into_inner().key);
    for (n, proposer) in [&eve, &fay].into_iter().enumerate() {
        let change = proposal(&format!("{n}.example.com"));
        let (id, _) = propose(&sg, &token(proposer), &change).await.unwrap();
        let refused = assert_refused!(bot.approve(id).await, PermissionDenied, "OWN_CHANGE");
        assert_eq!(fact(&refused, "why"), "maker");
    }
    sg.finish().await;
}

/// Rotates the key of `bot`. The former key stays valid for this number of seconds. Returns the credential.
async fn rotate(sg: &TestServer, by: &Caller, overlap: i64) -> Caller {
    let request = pb::RotateServicePrincipalRequest {
        service_principal: "bot".to_owned(),
        overlap: Some(prost_types::Duration { seconds: overlap, nanos: 0 }),
        ..Default::default()
    };
    let rotated = by.service_principals().rotate_service_principal(request).await.unwrap();
    sg.with_token(&rotated.into_inner().key)
}

async fn t12_a_former_rotator_does_not_count_beside_a_vote_with_its_key(sg: TestServer) {
    let of = people(&sg).await;
    let (eve, fay) = (admin(&sg, "eve").await, admin(&sg, "fay").await);
    fay.create_key("bot", pb::Role::Operator).await;
    let of_eve = rotate(&sg, &eve, 0).await;
    let voters = named(vec![user(&sg, "eve"), user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 2, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    of_eve.approve(id).await.unwrap();
    let own = eve.approve(id).await.unwrap();
    assert_eq!((own.votes, own.state()), (1, pb::ApprovalState::Open));
    // From now on, `eve` is not one of the people behind the program.
    let of_fay = rotate(&sg, &fay, 0).await;
    let again = eve.approve(id).await.unwrap();
    assert_eq!((again.votes, again.state()), (1, pb::ApprovalState::Open));
    assert!(eve.approval(id).await.uncounted_votes.is_empty(), "it is withdrawn");
    let voted = of_fay.approve(id).await.unwrap();
    assert_eq!(voted.state(), pb::ApprovalState::Approved);
    // Who made the program stays one of the people behind it: the vote stays.
    rotate(&sg, &eve, 0).await;
    assert_eq!(eve.approve(id).await.unwrap().state(), pb::ApprovalState::Open, "beside the maker");
    sg.finish().await;
}

async fn t12_a_key_of_a_former_rotator_neither_approves_nor_proposes(sg: TestServer) {
    let of = people(&sg).await;
    let (eve, fay) = (admin(&sg, "eve").await, admin(&sg, "fay").await);
    let first = sg.with_token(&fay.create_key("bot", pb::Role::Admin).await);
    let voters = named(vec![user(&sg, "eve"), user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 2, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let of_eve = rotate(&sg, &eve, 3_600).await;
    first.approve(id).await.expect("its maker holds the first key");
    first.vote(id, pb::VoteDecision::Withdraw).await.unwrap();
    let newest = rotate(&sg, &fay, 3_600).await;
    let refused = assert_refused!(of_eve.approve(id).await, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "maker_unknown");
    let delete = || pb::DeleteWorkflowRequest { gateway: "edge".to_owned(), ..Default::default() };
    let refused = of_eve.approval_workflows().delete_workflow(delete()).await;
    assert_refused!(refused, FailedPrecondition, "GOVERNED");
    let refused = newest.approval_workflows().delete_workflow(delete()).await;
    assert_refused!(refused, FailedPrecondition, "APPROVAL_REQUIRED");
    let voted = newest.approve(id).await.unwrap();
    assert_eq!((voted.votes, voted.state()), (1, pb::ApprovalState::Open));
    sg.finish().await;
}

async fn t12_what_a_key_of_a_former_rotator_makes_has_no_known_maker(sg: TestServer) {
    let of = people(&sg).await;
    let (eve, fay) = (admin(&sg, "eve").await, admin(&sg, "fay").await);
    fay.create_key("bot", pb::Role::Admin).await;
    let of_eve = rotate(&sg, &eve, 3_600).await;
    rotate(&sg, &fay, 3_600).await;
    let made = sg.with_token(&of_eve.create_key("made", pb::Role::Operator).await);
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "made")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let refused = assert_refused!(made.approve(id).await, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "maker_unknown");
    // Nor does a rotation by that key lead to a person.
    fay.create_key("other", pb::Role::Operator).await;
    let request = pb::RotateServicePrincipalRequest {
        service_principal: "other".to_owned(),
        ..Default::default()
    };
    let rotated = of_eve.service_principals().rotate_service_principal(request).await.unwrap();
    let other = sg.with_token(&rotated.into_inner().key);
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "other")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let refused = assert_refused!(other.approve(id).await, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "maker_unknown");
    sg.finish().await;
}

async fn t12_a_vote_waits_for_a_rotation_of_its_key(sg: TestServer) {
    let of = people(&sg).await;
    let bot = sg.with_token(&admin(&sg, "fay").await.create_key("bot", pb::Role::Operator).await);
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let (enter, is_held) = oneshot::channel();
    let rotation = async {
        // SQLite has one writer.
        if sg.engine == Engine::Sqlite {
            enter.send(()).unwrap();
            return;
        }
        let rotated = sg.app.db.transaction(async |conn| {
            for statement in ROTATE {
                on_conn!(conn, |c| diesel::sql_query(statement).execute(c).await)?;
            }
            enter.send(()).unwrap();
            eventually("the vote waits", || async { sg.sql(WAITING).await >= 1 }).await;
            Ok::<_, Error>(())
        });
        rotated.await.unwrap();
    };
    let vote = async {
        is_held.await.unwrap();
        bot.approve(id).await
    };
    let ((), voted) = tokio::join!(rotation, vote);
    assert_eq!(voted.unwrap().state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn t12_two_keys_of_one_maker_count_once(sg: TestServer) {
    let of = people(&sg).await;
    let eve = admin(&sg, "eve").await;
    let (one, two) = (
        eve.create_key("one", pb::Role::Operator).await,
        eve.create_key("two", pb::Role::Operator).await,
    );
    let programs = vec![program(&sg, "one"), program(&sg, "two")];
    let voters = named(vec![user(&sg, "ana"), user(&sg, "eve")], programs);
    govern(&sg, &rule(&[("reviewers", 2, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let first = sg.with_token(&one).approve(id).await.unwrap();
    assert_eq!((first.votes, first.needed), (1, 2));
    let refused = sg.with_token(&two).approve(id).await;
    let refused = assert_refused!(refused, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "beside_maker");
    // The maker's own vote replaces that of its program.
    let own = eve.approve(id).await.unwrap();
    assert_eq!((own.votes, own.state()), (1, pb::ApprovalState::Open));
    let uncounted = eve.approval(id).await.uncounted_votes;
    assert_eq!((uncounted.len(), uncounted[0].voter.as_str()), (1, "sp:one"));
    let ana = sg.with_token(&of.ana).approve(id).await.unwrap();
    assert_eq!(ana.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn t12_a_deleted_maker_is_still_known(sg: TestServer) {
    people(&sg).await;
    let eve = admin(&sg, "eve").await;
    let bot = eve.create_key("bot", pb::Role::Operator).await;
    let voters = named(vec![user(&sg, "ana")], vec![program(&sg, "bot")]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let (id, _) = propose(&sg, &token(&eve), &proposal("a.example.com")).await.unwrap();
    let request = pb::DeleteUserRequest { user: "eve@example.com".into(), ..Default::default() };
    sg.admin().users().delete_user(request).await.unwrap();
    let bot = sg.with_token(&bot);
    let refused = assert_refused!(bot.approve(id).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "maker");
    sg.finish().await;
}

async fn t12_the_maker_of_a_deleted_proposer_does_not_approve(sg: TestServer) {
    let of = people(&sg).await;
    let eve = admin(&sg, "eve").await;
    let bot = eve.create_key("bot", pb::Role::Operator).await;
    let voters = named(vec![user(&sg, "ana"), user(&sg, "eve")], vec![]);
    govern(&sg, &rule(&[("reviewers", 1, voters)])).await;
    let (first, _) = propose(&sg, &bot, &proposal("a.example.com")).await.unwrap();
    let request = pb::DeleteServicePrincipalRequest {
        service_principal: "bot".to_owned(),
        ..Default::default()
    };
    eve.service_principals().delete_service_principal(request).await.unwrap();
    let refused = assert_refused!(eve.approve(first).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "maker");
    // Nor the successor of that change, which another one has edited.
    let mut edited = proposal("b.example.com");
    edited.replaces = Some(first);
    let (second, _) = propose(&sg, &of.cleo, &edited).await.unwrap();
    let refused = assert_refused!(eve.approve(second).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "maker");
    let ana = sg.with_token(&of.ana).approve(second).await.unwrap();
    assert_eq!(ana.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn t12_a_voter_demoted_before_the_quorum_does_not_count(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 2).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    let request = pb::UpdateUserRequest {
        user: "ana@example.com".to_owned(),
        role: pb::Role::Viewer.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["role".to_owned()] }),
        ..Default::default()
    };
    sg.admin().users().update_user(request).await.unwrap();
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!((ben.votes, ben.state()), (1, pb::ApprovalState::Open));
    let uncounted = sg.admin().approval(id).await.uncounted_votes;
    assert_eq!(uncounted.len(), 1, "{uncounted:?}");
    assert_eq!(uncounted[0].voter, "ana@example.com");
    assert_eq!(uncounted[0].reason(), pb::UncountedReason::RoleTooLow);
    let cleo = sg.with_token(&of.cleo).approve(id).await.unwrap();
    assert_eq!(cleo.state(), pb::ApprovalState::Approved);
    sg.finish().await;
}

async fn t12_a_recreated_user_does_not_inherit_a_vote(sg: TestServer) {
    let of = people(&sg).await;
    let voters = named(vec![user(&sg, "ana"), user(&sg, "ben"), user(&sg, "cleo")], vec![]);
    govern(&sg, &rule(&[("reviewers", 2, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    let request = pb::DeleteUserRequest { user: "ana@example.com".into(), ..Default::default() };
    sg.admin().users().delete_user(request).await.unwrap();
    let again = sg.create_user("ana@example.com", pb::Role::Operator).await;
    let refused = sg.with_token(&again).approve(id).await;
    let refused = assert_refused!(refused, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "not_named");
    let ben = sg.with_token(&of.ben).approve(id).await.unwrap();
    assert_eq!((ben.votes, ben.state()), (1, pb::ApprovalState::Open));
    let uncounted = sg.admin().approval(id).await.uncounted_votes;
    assert_eq!(uncounted[0].reason(), pb::UncountedReason::Left);
    sg.finish().await;
}

async fn t12_the_owner_of_a_sandbox_does_not_approve_its_policy(sg: TestServer) {
    let of = people(&sg).await;
    require(&sg, 1).await;
    let mut owned = proposal("a.example.com");
    owned.owner = Some(PrincipalId::User(user(&sg, "ana").into()));
    let (id, _) = propose(&sg, &of.dora, &owned).await.unwrap();
    let ana = sg.with_token(&of.ana);
    let refused = assert_refused!(ana.approve(id).await, PermissionDenied, "OWN_CHANGE");
    assert_eq!(fact(&refused, "why"), "owner");
    assert_eq!(ana.approval(id).await.approval.unwrap().owner, "ana@example.com");
    // A reject changes no policy.
    let rejected = ana.vote(id, pb::VoteDecision::Reject).await.unwrap();
    assert_eq!(rejected.state(), pb::ApprovalState::Rejected);
    sg.finish().await;
}

async fn t08_an_approval_of_another_gateway_is_not_found(sg: TestServer) {
    let of = people(&sg).await;
    sg.register_unreachable("other").await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let digest = sg.admin().approval(id).await.approval.unwrap().digest;
    let key = sg.admin().create_key("elsewhere", pb::Role::None).await;
    sg.admin().bind("elsewhere", "other", pb::Role::Admin).await;
    let elsewhere = sg.with_token(&key);
    let get = pb::GetApprovalRequest { approval_id: id };
    assert_refused!(elsewhere.approvals().get_approval(get).await, NotFound, "NOT_FOUND");
    let decision = pb::VoteDecision::Approve.into();
    let vote =
        pb::VoteRequest { approval_id: id, digest: digest.clone(), decision, ..Default::default() };
    assert_refused!(elsewhere.approvals().vote(vote).await, NotFound, "NOT_FOUND");
    let votes = pb::ListApprovalDecisionsRequest { approval_id: id, ..Default::default() };
    let listed = elsewhere.approvals().list_approval_decisions(votes).await;
    assert_refused!(listed, NotFound, "NOT_FOUND");
    let withdraw = pb::WithdrawProposalRequest { approval_id: id, ..Default::default() };
    let withdrawn = elsewhere.approvals().withdraw_proposal(withdraw).await;
    assert_refused!(withdrawn, NotFound, "NOT_FOUND");
    let ballots = vec![pb::Ballot { approval_id: id, digest, decision, ..Default::default() }];
    for caller in [&elsewhere, &sg.admin()] {
        let request = pb::VoteManyRequest {
            gateway: "other".to_owned(),
            ballots: ballots.clone(),
            ..Default::default()
        };
        assert_refused!(caller.approvals().vote_many(request).await, NotFound, "NOT_FOUND");
    }
    sg.finish().await;
}

async fn a_member_who_joins_later_does_not_count(sg: TestServer) {
    let of = people(&sg).await;
    sg.create_group("reviewers", pb::Role::None, &["ana@example.com"]).await;
    let group = sg.app.snapshot.group_by_name("reviewers").unwrap().get();
    let voters = VoterSet { groups: vec![group], ..VoterSet::of_role(Role::Viewer) };
    govern(&sg, &rule(&[("reviewers", 2, voters)])).await;
    let (id, _) = propose(&sg, &of.dora, &proposal("a.example.com")).await.unwrap();
    let request = pb::AddGroupMemberRequest {
        group: "reviewers".to_owned(),
        user: "ben@example.com".to_owned(),
        ..Default::default()
    };
    sg.admin().groups().add_group_member(request).await.unwrap();
    sg.with_token(&of.ana).approve(id).await.unwrap();
    let ben = sg.with_token(&of.ben).approve(id).await;
    let refused = assert_refused!(ben, PermissionDenied, "NOT_A_VOTER");
    assert_eq!(fact(&refused, "why"), "joined_later");
    sg.finish().await;
}
