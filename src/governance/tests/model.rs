//! The kernel and the reference model give the same results, step by step.

use std::collections::HashSet;

use super::world::{self, Random, minute, principals};
use crate::access::principal::PrincipalId;
use crate::governance::{
    Decision, Outcome, People, RoundFacts, Rule, Vote, satisfiable, tally, weakens,
};

/// Rounds in a normal run.
const ROUNDS: u64 = 300;
/// The same with `just soak`.
const ROUNDS_SOAK: u64 = 10_000;
/// Maximum number of steps of a round in a normal run, and in a long one.
const STEPS: (usize, usize) = (40, 200);

/// The state of the model.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) rules: Vec<Rule>,
    pub(super) round: RoundFacts,
    pub(super) people: People,
    /// Every click on a decision, in order; `None` withdraws.
    pub(super) clicks: Vec<(PrincipalId, Option<Decision>)>,
    /// Minutes since the opening.
    pub(super) minutes: i64,
}

impl Model {
    fn new(random: &mut Random) -> Self {
        let rules = (0..random.below(3)).map(|_| world::rule(random)).collect();
        let (round, people) = (world::round(random), world::people(random));
        Self { rules, round, people, clicks: Vec::new(), minutes: 0 }
    }

    /// Returns the votes that were not withdrawn: of each principal the last click.
    pub(super) fn votes(&self) -> Vec<Vote> {
        let clicks = self.clicks.iter().enumerate().filter_map(|(at, (principal, decision))| {
            let later = &self.clicks[at + 1..];
            let is_last = later.iter().all(|(other, _)| other != principal);
            let id = i64::try_from(at).unwrap();
            let decision = decision.filter(|_| is_last)?;
            Some(Vote { id, principal: *principal, decision, cast_at: minute(0) })
        });
        clicks.collect()
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(12) {
            0 => self.people = world::people(random),
            1 => self.rules = (0..random.below(3)).map(|_| world::rule(random)).collect(),
            2 => self.minutes += 30,
            3 => self.clicks.push((world::principal(random), None)),
            4 if random.once_in(3) => {
                self.clicks.push((world::principal(random), Some(Decision::Reject)));
            }
            _ => self.clicks.push((world::principal(random), Some(Decision::Approve))),
        }
    }

    fn tally(&self) -> crate::governance::Tally {
        tally(&self.rules, &self.round, &self.votes(), &self.people, minute(self.minutes))
    }

    /// Returns whether any set of votes, in any order, would meet a rule.
    pub(super) fn can_be_met(&self, rule: &Rule) -> bool {
        let all: Vec<PrincipalId> = principals().collect();
        (0..1_u32 << all.len()).any(|picked| {
            let voters = all.iter().enumerate().filter(|(at, _)| picked & (1 << *at) != 0);
            let voters: Vec<PrincipalId> = voters.map(|(_, id)| *id).collect();
            let holders: Vec<HashSet<PrincipalId>> =
                voters.iter().map(|id| self.holders(*id, 0).0).collect();
            let disjoint = (0..voters.len())
                .all(|at| holders[..at].iter().all(|other| other.is_disjoint(&holders[at])));
            disjoint
                && voters.iter().all(|id| self.may_approve(rule, *id))
                && self.fills(rule, &voters, &mut vec![0; rule.groups.len()])
        })
    }
}

#[test]
fn g01_every_tally_equals_that_of_the_reference_model() {
    let is_long = std::env::var_os("SOAK").is_some();
    let (rounds, steps) = if is_long { (ROUNDS_SOAK, STEPS.1) } else { (ROUNDS, STEPS.0) };
    let mut approved = 0;
    for seed in 0..rounds {
        let mut random = Random::new(seed);
        let mut model = Model::new(&mut random);
        for step in 0..=random.below(steps) {
            model.step(&mut random);
            let (result, expected) = (model.tally(), model.outcome());
            assert_eq!(result.outcome, expected, "seed {seed}, step {step}: {model:?} {result:?}");
            approved += u32::from(expected == Outcome::Approved);
            // The order of the votes makes no difference.
            let mut votes = model.votes();
            votes.reverse();
            let now = minute(model.minutes);
            let reversed = tally(&model.rules, &model.round, &votes, &model.people, now);
            assert_eq!(reversed, result, "seed {seed}, step {step}");
        }
    }
    assert!(approved > 100, "the rounds are too hard to approve: {approved}");
}

#[test]
fn g07_satisfiable_equals_a_trial_of_every_set_of_votes() {
    let mut met = 0;
    for seed in 0..150 {
        let mut random = Random::new(seed + 1_000_000);
        let mut model = Model::new(&mut random);
        // The escalation is included.
        model.minutes = 1_000;
        let rule = world::rule(&mut random);
        let expected = model.can_be_met(&rule);
        let result = satisfiable(&rule, &model.people, Some(&model.round));
        assert_eq!(result, expected, "seed {seed}: {rule:?} {model:?}");
        met += u32::from(expected);
    }
    assert!((15..=135).contains(&met), "the rules are too similar: {met}");
}

/// Changes a rule in a way that can make it stricter or weaker.
fn changed(random: &mut Random, old: &Rule) -> Rule {
    let mut new = old.clone();
    let other = world::rule(random);
    let at = random.below(new.groups.len());
    match random.below(8) {
        0 => new.groups[at].required += 1,
        1 => new.groups[at].voters.role = random.role(),
        2 => new.groups[at].voters.users.truncate(1),
        3 => {
            new.groups.extend(other.groups);
            new.groups.truncate(6);
        }
        4 => new.required_groups = 1 + u32::try_from(at).unwrap(),
        5 => new.distinct_actors = !new.distinct_actors,
        6 => (new.escalation, new.escalation_timeout_minutes) = (None, None),
        _ => new.groups[at].voters = other.groups[0].voters.clone(),
    }
    if random.once_in(4) {
        new.required_groups = u32::try_from(new.groups.len()).unwrap();
    }
    new
}

#[test]
fn g07_a_rule_that_is_not_weaker_is_never_met_by_votes_that_do_not_meet_the_old_one() {
    let (mut compared, mut met) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(seed + 2_000_000);
        let old = world::rule(&mut random);
        let mut new = changed(&mut random, &old);
        if random.once_in(2) {
            new = changed(&mut random, &new);
        }
        if weakens(std::slice::from_ref(&old), Some(&new)) {
            continue;
        }
        compared += 1;
        for _ in 0..20 {
            let mut model = Model::new(&mut random);
            model.minutes = [0, 100][usize::from(random.once_in(2))];
            let voting: Vec<PrincipalId> = principals().filter(|_| !random.once_in(3)).collect();
            model.clicks = voting.into_iter().map(|id| (id, Some(Decision::Approve))).collect();
            model.rules = vec![new.clone()];
            if model.tally().outcome == Outcome::Approved {
                met += 1;
                model.rules = vec![old.clone()];
                let result = model.tally();
                assert_eq!(result.outcome, Outcome::Approved, "seed {seed}: {model:?} {new:?}");
            }
        }
    }
    assert!(compared > 40 && met > 40, "too few comparisons: {compared}, {met}");
}
