//! The reference model: who may decide which review, by the wording of the rules. It shares no code with the server.

use std::collections::{BTreeMap, BTreeSet};

use shoreguard::pb::v1::Role;

use super::cast::{PROGRAMS, RULES, Voters, Workflow, person};

/// A principal at one time.
pub(super) struct Person {
    pub(super) role: Role,
    pub(super) is_active: bool,
    /// Step in which it joined the group.
    pub(super) joined: Option<u64>,
}

/// What a review changes when it is approved.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// The policy.
    Policy,
    /// The rule of the gateway, or of the sandbox if `true`.
    Rule(bool, Option<usize>),
    /// The end of the pin, in microseconds; `None` removes it.
    Pin(Option<i64>),
}

/// A review.
#[derive(Debug)]
pub(super) struct Review {
    pub(super) effect: Effect,
    pub(super) concerned: BTreeSet<usize>,
    pub(super) opened: u64,
    /// Who approves, in the order of the votes.
    pub(super) votes: Vec<usize>,
}

/// Everything that decides.
pub(super) struct Reference {
    pub(super) people: Vec<Person>,
    /// The rules of the gateway and of the sandbox.
    pub(super) rules: [Option<usize>; 2],
    /// End of the pin of the sandbox, in microseconds.
    pub(super) pin: Option<i64>,
    pub(super) reviews: BTreeMap<i64, Review>,
}

impl Reference {
    /// Returns the rules that decide a review.
    fn rules_of(&self, review: &Review) -> Vec<&'static Workflow> {
        let is_wide = matches!(review.effect, Effect::Rule(false, _));
        let applying = if is_wide { &self.rules[..1] } else { &self.rules[..] };
        applying.iter().flatten().map(|rule| &RULES[*rule]).collect()
    }

    fn is_voter(&self, of: &Voters, principal: usize, review: &Review) -> bool {
        let Person { role, is_active, joined } = self.people[principal];
        let is_member = of.of_group && joined.is_some_and(|step| step <= review.opened);
        let is_named = of.names.contains(&principal) || is_member;
        let is_operator = principal < PROGRAMS && role >= Role::Operator;
        let is_open = of.names.is_empty() && !of.of_group;
        is_active && if is_open { is_operator } else { is_named && role >= Role::Viewer }
    }

    /// Returns the voters that count under a rule: each person once, and with its own vote if it has one.
    fn counting(&self, rule: &Workflow, review: &Review) -> Vec<usize> {
        let mut people: BTreeSet<usize> =
            review.votes.iter().copied().filter(|voter| *voter < PROGRAMS).collect();
        let excluded: BTreeSet<usize> = review.concerned.iter().copied().map(person).collect();
        let mut counting = Vec::new();
        for voter in &review.votes {
            let is_concerned = rule.distinct && excluded.contains(&person(*voter));
            let is_voter = rule.groups.iter().any(|group| self.is_voter(group, *voter, review));
            if is_voter && !is_concerned && (*voter < PROGRAMS || people.insert(person(*voter))) {
                counting.push(*voter);
            }
        }
        counting
    }

    fn fills(&self, rule: &Workflow, review: &Review, voters: &[usize], lack: &mut [u32]) -> bool {
        let Some((voter, others)) = voters.split_first() else {
            return lack.iter().all(|lack| *lack == 0);
        };
        for (at, group) in rule.groups.iter().enumerate() {
            if lack[at] > 0 && self.is_voter(group, *voter, review) {
                lack[at] -= 1;
                let is_filled = self.fills(rule, review, others, lack);
                lack[at] += 1;
                if is_filled {
                    return true;
                }
            }
        }
        self.fills(rule, review, others, lack)
    }

    /// Returns whether an approval of a voter counts: under one of the rules, or as that of an operator.
    pub(super) fn counts(&self, review: &Review, voter: usize) -> bool {
        let rules = self.rules_of(review);
        let Person { role, is_active, .. } = self.people[voter];
        let is_operator = is_active && role >= Role::Operator;
        (rules.is_empty() && is_operator)
            || rules.iter().any(|rule| self.counting(rule, review).contains(&voter))
    }

    /// Returns whether every rule is met; without a rule, whether an operator has approved.
    pub(super) fn is_approved(&self, review: &Review) -> bool {
        let rules = self.rules_of(review);
        let is_met = |rule: &&Workflow| {
            let mut lack: Vec<u32> = rule.groups.iter().map(|group| group.required).collect();
            self.fills(rule, review, &self.counting(rule, review), &mut lack)
        };
        let by_default = || review.votes.iter().any(|voter| self.counts(review, *voter));
        if rules.is_empty() { by_default() } else { rules.iter().all(is_met) }
    }
}
