//! Who could still approve, for each group.

use std::collections::BTreeSet;

use super::examples::{approvals, by, named, operator, rule};
use super::world::{self, Random, minute, principal, user};
use crate::access::principal::PrincipalId;
use crate::governance::{Decision, People, Rule, Vote, possible_voters, tally};

fn possible(rules: &[Rule], people: &People, of: &[PrincipalId]) -> Vec<Vec<Vec<PrincipalId>>> {
    possible_voters(rules, &by(user(9)), &approvals(of), people, minute(10))
}

#[test]
fn each_group_has_the_voters_that_it_lacks() {
    let people = People::new([operator(1), operator(2), operator(3), operator(4), operator(9)]);
    let none: Vec<PrincipalId> = Vec::new();
    let rules = [rule(&[(2, named(&[1, 2], &[], &[])), (1, named(&[3, 4, 9], &[], &[]))])];
    let of = |approving: &[PrincipalId]| possible(&rules, &people, approving);
    // The author, 9, could approve in no group.
    assert_eq!(of(&[]), [[vec![user(1), user(2)], vec![user(3), user(4)]]]);
    assert_eq!(of(&[user(1), user(3)]), [[vec![user(2)], vec![]]]);
    assert_eq!(of(&[user(1), user(2), user(3)]), [[none.clone(), none.clone()]]);
    // Without a rule, the author can approve, too.
    let all = [user(1), user(2), user(3), user(4), user(9)];
    assert_eq!(possible(&[], &people, &[]), [[all.to_vec()]]);
    assert_eq!(possible(&[], &people, &[user(1)]), [[none]]);
}

#[test]
fn a_voter_who_frees_another_one_is_in_its_own_group() {
    // The vote of 2 counts for the first group, and would count for the second one if 1 approved.
    let people = People::new([operator(1), operator(2), operator(3), operator(4), operator(9)]);
    let rules = [rule(&[(1, named(&[1, 2], &[], &[])), (1, named(&[2, 3], &[], &[]))])];
    assert_eq!(possible(&rules, &people, &[user(2)]), [[vec![user(1)], vec![user(3)]]]);
}

#[test]
fn the_lists_of_all_groups_name_those_who_could_vote() {
    for seed in 0..500 {
        let mut random = Random::new(seed);
        let people = world::people(&mut random);
        let round = world::round(&mut random);
        let rules: Vec<Rule> = (0..random.below(3)).map(|_| world::rule(&mut random)).collect();
        let votes: Vec<Vote> = (0..4)
            .map(|id| Vote {
                id,
                principal: principal(&mut random),
                decision: Decision::Approve,
                cast_at: minute(id),
            })
            .collect();
        let now = minute(i64::try_from(random.below(90)).unwrap());
        let counted = tally(&rules, &round, &votes, &people, now);
        let possible = possible_voters(&rules, &round, &votes, &people, now);
        let groups = |of: usize| counted.rules[of].groups.len();
        assert_eq!(possible.len(), counted.rules.len(), "{seed}");
        assert!(possible.iter().enumerate().all(|(at, of)| of.len() == groups(at)), "{seed}");
        let named: BTreeSet<PrincipalId> = possible.into_iter().flatten().flatten().collect();
        let could: BTreeSet<PrincipalId> = counted.could.into_iter().collect();
        assert_eq!(named, could, "{seed}");
    }
}
