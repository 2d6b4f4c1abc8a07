//! Who could still approve a round, for each group: for people, beside the decision.
//!
//! Invariant: together, the lists of all groups name exactly the principals of [`Tally::could`](super::Tally::could).

use std::collections::BTreeSet;

use super::people::People;
use super::rule::Rule;
use super::tally::{RoundFacts, RulePart, Vote, approvals, newest, tally_default};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;

/// Returns, for each group of each rule, the voters of the group whose approval would lower the number of approvals
/// that the rule lacks. A complete group has such voters if they would free a voter for another
/// group. Without
/// a rule, the default rule has one group.
#[must_use]
pub fn possible_voters(
    rules: &[Rule],
    round: &RoundFacts,
    votes: &[Vote],
    people: &People,
    now: Timestamp,
) -> Vec<Vec<Vec<PrincipalId>>> {
    let votes = newest(votes);
    if rules.is_empty() {
        return vec![vec![tally_default(&votes, people).could]];
    }
    let approving: BTreeSet<PrincipalId> = approvals(&votes).map(|vote| vote.principal).collect();
    let of_rules = rules.iter().map(|rule| {
        let part = RulePart::new(rule, round, &votes, people, now);
        let mut groups = vec![Vec::new(); part.tally.groups.len()];
        for (principal, _) in people.all().filter(|(id, _)| !approving.contains(id)) {
            let helped = part.helped_groups(principal);
            for (at, voters) in groups.iter_mut().enumerate() {
                if helped & (1 << at) != 0 {
                    voters.push(principal);
                }
            }
        }
        groups
    });
    of_rules.collect()
}
