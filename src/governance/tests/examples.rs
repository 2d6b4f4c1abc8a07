//! Rounds by example, with the complaints that they answer.

use std::collections::BTreeSet;

use super::world::{minute, program, user};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::GroupId;
use crate::governance::{
    APPLY_WINDOW_MINUTES_DEFAULT, Decision, EXPIRE_MINUTES_DEFAULT, Makers, Membership, Outcome,
    People, Person, RoundFacts, Rule, Tally, Vote, VoterGroup, VoterSet, Why, satisfiable, tally,
};
use crate::role::Role;

/// Returns an active user with these groups, and when it joined them.
fn member(id: i64, role: Role, groups: &[(i64, Option<Timestamp>)]) -> (PrincipalId, Person) {
    let groups = groups
        .iter()
        .map(|(group, joined_at)| Membership { group: GroupId(*group), joined_at: *joined_at });
    let (groups, makers) = (groups.collect(), Makers::default());
    let name = format!("user{id}@example.com").into();
    (user(id), Person { name, role, is_active: true, groups, makers })
}

pub(super) fn operator(id: i64) -> (PrincipalId, Person) {
    member(id, Role::Operator, &[])
}

pub(super) fn made_by(
    id: i64,
    maker: Option<i64>,
    rotated_by: Option<i64>,
) -> (PrincipalId, Person) {
    let makers = Makers { maker: maker.map(user), rotated_by: rotated_by.map(user) };
    let (name, role) = (format!("sp:{id}").into(), Role::Operator);
    (program(id), Person { name, role, is_active: true, groups: Vec::new(), makers })
}

pub(super) fn named(users: &[i64], groups: &[i64], programs: &[i64]) -> VoterSet {
    VoterSet {
        role: Role::Viewer,
        users: users.to_vec(),
        groups: groups.to_vec(),
        service_principals: programs.to_vec(),
    }
}

pub(super) fn rule(groups: &[(u32, VoterSet)]) -> Rule {
    let named = groups.iter().enumerate().map(|(at, (required, voters))| VoterGroup {
        name: format!("group {at}"),
        required: *required,
        voters: voters.clone(),
    });
    Rule {
        groups: named.collect(),
        required_groups: u32::try_from(groups.len()).unwrap(),
        distinct_actors: true,
        escalation: None,
        escalation_timeout_minutes: None,
        expire_minutes: EXPIRE_MINUTES_DEFAULT,
        apply_window_minutes: APPLY_WINDOW_MINUTES_DEFAULT,
    }
}

pub(super) fn by(author: PrincipalId) -> RoundFacts {
    RoundFacts { opened_at: minute(0), authors: vec![author], owner: None, roots: BTreeSet::new() }
}

pub(super) fn approvals(of: &[PrincipalId]) -> Vec<Vote> {
    let votes = of.iter().zip(0..).map(|(principal, id)| Vote {
        id,
        principal: *principal,
        decision: Decision::Approve,
        cast_at: minute(id),
    });
    votes.collect()
}

fn approve(rule: &Rule, round: &RoundFacts, people: &People, of: &[PrincipalId]) -> Tally {
    tally(std::slice::from_ref(rule), round, &approvals(of), people, minute(10))
}

#[test]
fn zero_count_never_passes() {
    let mut zero = rule(&[(0, VoterSet::of_role(Role::Operator))]);
    assert_eq!(zero.check().unwrap_err().field, "groups[0].required");
    zero.groups.clear();
    assert_eq!(zero.check().unwrap_err().field, "groups");
    let mut none = rule(&[(1, VoterSet::of_role(Role::Operator))]);
    none.required_groups = 0;
    assert_eq!(none.check().unwrap_err().field, "required_groups");
}

#[test]
fn recreated_group_does_not_match() {
    // The rule names the first group; the second one has its name, and another id.
    let rule = rule(&[(1, named(&[], &[1], &[]))]);
    let people = People::new([member(1, Role::Admin, &[(2, None)]), operator(9)]);
    let tally = approve(&rule, &by(user(9)), &people, &[user(1)]);
    assert_eq!(tally.outcome, Outcome::Open);
    assert_eq!(tally.uncounted, [(user(1), Why::NotNamed)]);
    assert!(!tally.satisfiable);
}

#[test]
fn two_and_one_needs_three_people() {
    let everyone = || named(&[1, 2, 3], &[], &[]);
    let rule = rule(&[(2, everyone()), (1, everyone())]);
    let people = People::new([operator(1), operator(2), operator(3), operator(9)]);
    let round = by(user(9));
    let two = approve(&rule, &round, &people, &[user(1), user(2)]);
    assert_eq!(two.outcome, Outcome::Open);
    assert_eq!(two.missing.iter().map(|missing| missing.lacks).sum::<u32>(), 1);
    assert_eq!(two.could, [user(3)]);
    let three = approve(&rule, &round, &people, &[user(1), user(2), user(3)]);
    assert_eq!(three.outcome, Outcome::Approved);
    let fewer = People::new([operator(1), operator(2), operator(9)]);
    assert!(!satisfiable(&rule, &fewer, None));
}

#[test]
fn owners_can_be_and() {
    // One of security and one of the owners of the service, in any order of the votes.
    let rule = rule(&[(1, named(&[], &[1], &[])), (1, named(&[], &[2], &[]))]);
    let people = People::new([
        member(1, Role::Viewer, &[(1, None)]),
        member(2, Role::Viewer, &[(2, None)]),
        member(3, Role::Viewer, &[(1, None), (2, None)]),
        operator(9),
    ]);
    let round = by(user(9));
    let outcome = |of: &[PrincipalId]| approve(&rule, &round, &people, of).outcome;
    assert_eq!(outcome(&[user(1)]), Outcome::Open);
    assert_eq!(outcome(&[user(3)]), Outcome::Open);
    for both in [[user(1), user(2)], [user(2), user(1)], [user(3), user(1)], [user(2), user(3)]] {
        assert_eq!(outcome(&both), Outcome::Approved, "{both:?}");
    }
}

#[test]
fn g05_one_person_many_clicks_counts_once() {
    let rule = rule(&[(2, VoterSet::of_role(Role::Operator))]);
    let people = People::new([operator(1), operator(2), operator(9)]);
    let clicks = [user(1); 50];
    assert_eq!(approve(&rule, &by(user(9)), &people, &clicks).outcome, Outcome::Open);
    let mut same = rule.clone();
    same.distinct_actors = false;
    assert_eq!(approve(&same, &by(user(9)), &people, &clicks).outcome, Outcome::Open);
    // The newest decision counts.
    let mut votes = approvals(&[user(1), user(2)]);
    let reject = Vote { id: 7, decision: Decision::Reject, cast_at: minute(5), ..votes[0] };
    votes.insert(0, reject);
    let result = tally(&[rule], &by(user(9)), &votes, &people, minute(10));
    assert_eq!(result.outcome, Outcome::Rejected { by: user(1) });
}

#[test]
fn g04_authors_owners_and_makers_do_not_count() {
    let rule = rule(&[(1, VoterSet::of_role(Role::Operator))]);
    let people = People::new([
        operator(1),
        operator(2),
        operator(3),
        operator(4),
        made_by(1, Some(3), Some(4)),
    ]);
    let authors = vec![user(1), program(1)];
    let (owner, roots) = (Some(user(2)), BTreeSet::new());
    let round = RoundFacts { opened_at: minute(0), authors, owner, roots };
    let all = [user(1), user(2), user(3), user(4)];
    let result = approve(&rule, &round, &people, &all);
    assert_eq!(result.outcome, Outcome::Open);
    let whys = [Why::Author, Why::Owner, Why::Maker, Why::Maker];
    assert_eq!(result.uncounted, all.into_iter().zip(whys).collect::<Vec<_>>());
    assert!(!result.satisfiable);
    let mut open = rule;
    open.distinct_actors = false;
    assert_eq!(approve(&open, &round, &people, &all).outcome, Outcome::Approved);
}

#[test]
fn t12_a_program_of_the_author_does_not_approve() {
    let rule = rule(&[(1, named(&[], &[], &[1, 2, 3]))]);
    // The second program was made by the first one, and the key of the third was rotated by the author.
    let second = (
        program(2),
        Person {
            makers: Makers { maker: Some(program(1)), rotated_by: None },
            ..made_by(2, None, None).1
        },
    );
    let people = People::new([
        operator(1),
        operator(5),
        made_by(1, Some(1), None),
        second,
        made_by(3, Some(5), Some(1)),
    ]);
    let programs = [program(1), program(2), program(3)];
    let result = approve(&rule, &by(user(1)), &people, &programs);
    assert_eq!(result.uncounted, programs.map(|id| (id, Why::Maker)));
    // Another author: of the programs of one user, the earliest counts.
    let two = Rule { groups: vec![VoterGroup { required: 2, ..rule.groups[0].clone() }], ..rule };
    let result = approve(&two, &by(user(5)), &people, &programs);
    assert_eq!(result.outcome, Outcome::Open);
    let whys = [(program(2), Why::BesideMaker), (program(3), Why::Maker)];
    assert_eq!(result.uncounted, whys);
}

#[test]
fn t12_a_program_counts_neither_beside_its_maker_nor_with_an_unknown_one() {
    let rule = rule(&[(2, named(&[1], &[], &[1, 2]))]);
    let people = People::new([operator(1), made_by(1, Some(1), None), made_by(2, None, None)]);
    let of = [program(1), program(2), user(1)];
    let result = approve(&rule, &by(user(9)), &people, &of);
    assert_eq!(result.outcome, Outcome::Open);
    let whys = [(program(1), Why::BesideMaker), (program(2), Why::MakerUnknown)];
    assert_eq!(result.uncounted, whys);
    // A rotation makes the holder of the key known; a rotation of its own key does not.
    let rotated = People::new([operator(1), made_by(2, None, Some(7))]);
    assert!(rotated.is_holder_known(program(2)));
    let own = Makers { maker: Some(user(7)), rotated_by: Some(program(2)) };
    let own = People::new([(program(2), Person { makers: own, ..made_by(2, None, None).1 })]);
    assert!(!own.is_holder_known(program(2)));
}

#[test]
fn t12_a_demoted_or_late_voter_does_not_count() {
    let voters = VoterSet { role: Role::Operator, ..named(&[], &[1], &[]) };
    let rule = rule(&[(1, voters)]);
    let people = People::new([
        member(1, Role::Viewer, &[(1, None)]),
        member(2, Role::Operator, &[(1, Some(minute(1)))]),
        (user(3), Person { is_active: false, ..member(3, Role::Operator, &[(1, None)]).1 }),
    ]);
    let all = [user(1), user(2), user(3), user(4)];
    let result = approve(&rule, &by(user(9)), &people, &all);
    assert_eq!(result.outcome, Outcome::Open);
    let whys = [Why::RoleTooLow, Why::JoinedLater, Why::Left, Why::Left];
    assert_eq!(result.uncounted, all.into_iter().zip(whys).collect::<Vec<_>>());
}

#[test]
fn an_escalation_adds_voters_and_keeps_the_count() {
    let mut rule = rule(&[(2, named(&[1], &[], &[]))]);
    rule.escalation = Some(named(&[2, 3], &[], &[]));
    rule.escalation_timeout_minutes = Some(30);
    let people = People::new([operator(1), operator(2), operator(3)]);
    let votes = approvals(&[user(1), user(2)]);
    let at = |minutes| {
        let rules = std::slice::from_ref(&rule);
        tally(rules, &by(user(9)), &votes, &people, minute(minutes)).outcome
    };
    assert_eq!((at(29), at(30)), (Outcome::Open, Outcome::Approved));
    let one = approve(&rule, &by(user(9)), &people, &[user(2)]);
    assert_eq!(one.outcome, Outcome::Open);
}

#[test]
fn every_rule_must_be_met_by_itself() {
    let rules = [rule(&[(1, named(&[1], &[], &[]))]), rule(&[(1, named(&[1, 2], &[], &[]))])];
    let people = People::new([operator(1), operator(2)]);
    let outcome = |of: &[PrincipalId]| {
        tally(&rules, &by(user(9)), &approvals(of), &people, minute(1)).outcome
    };
    // One vote can count in both rules.
    assert_eq!(outcome(&[user(1)]), Outcome::Approved);
    assert_eq!(outcome(&[user(2)]), Outcome::Open);
}

#[test]
fn without_a_rule_one_operator_decides_even_the_author() {
    let people = People::new([
        operator(1),
        member(2, Role::Viewer, &[]),
        made_by(1, None, None),
        operator(3),
    ]);
    let outcome =
        |of: &[PrincipalId]| tally(&[], &by(user(1)), &approvals(of), &people, minute(1)).outcome;
    assert_eq!(outcome(&[user(2)]), Outcome::Open);
    assert_eq!(outcome(&[user(1)]), Outcome::Approved);
    assert_eq!(outcome(&[program(1)]), Outcome::Approved);
}

#[test]
fn whoever_frees_a_vote_for_another_group_could_vote() {
    // The vote of 2 counts for the first group, and would count for the second one if 1 approved.
    let people = People::new([operator(1), operator(2), operator(3), operator(4), operator(9)]);
    let rule = rule(&[(1, named(&[1, 2], &[], &[])), (1, named(&[2, 3], &[], &[]))]);
    let counted = approve(&rule, &by(user(9)), &people, &[user(2)]);
    assert_eq!(counted.outcome, Outcome::Open);
    assert_eq!(counted.could, [user(1), user(3)]);
}
