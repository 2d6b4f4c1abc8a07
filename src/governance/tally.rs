//! The decision of a round by its votes, with the explanation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::matching::{Crowd, Demand};
use super::people::People;
use super::reachable::satisfiable;
use super::rule::{GROUP_NAME_DEFAULT, Rule};
use super::voters::{Voters, Why};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::UserId;
use crate::role::Role;
use crate::words;

words! {
    /// A vote's decision.
    pub enum Decision {
        /// In favor of the change.
        Approve = "approve",
        /// Against it: one ends the round.
        Reject = "reject",
    }
}

/// Facts about a round that decide who counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundFacts {
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Who proposed or edited the content, or a predecessor of it.
    pub authors: Vec<PrincipalId>,
    /// Owner of the sandbox; `None` if not known.
    pub owner: Option<PrincipalId>,
    /// The users behind authors and owner when it was opened: a service principal that was deleted, or whose key was
    /// rotated since, no longer leads to them.
    pub roots: BTreeSet<UserId>,
}

/// A vote that was not withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The order of votes that were cast at the same time: the id of the row.
    pub id: i64,
    /// The voter.
    pub principal: PrincipalId,
    /// The decision.
    pub decision: Decision,
    /// When it was cast.
    pub cast_at: Timestamp,
}

/// The state of a round by its votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Votes are missing.
    Open,
    /// Every rule is met.
    Approved,
    /// A voter has rejected it.
    Rejected {
        /// The first one who did.
        by: PrincipalId,
    },
}

/// The decision of a round, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The decision.
    pub outcome: Outcome,
    /// The rules, in the given order; without a rule, the default rule.
    pub rules: Vec<RuleTally>,
    /// Approvals that count for no rule, with the reason of the first rule.
    pub uncounted: Vec<(PrincipalId, Why)>,
    /// Groups that lack approvals.
    pub missing: Vec<Missing>,
    /// Principals whose approval would lower the number of approvals that are lacking.
    pub could: Vec<PrincipalId>,
    /// Whether every rule can be met by the principals who can vote now.
    pub satisfiable: bool,
}

/// One rule in a tally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleTally {
    /// Whether it is met.
    pub is_met: bool,
    /// Its groups, in order.
    pub groups: Vec<GroupTally>,
    /// Approvals that do not count for this rule.
    pub uncounted: Vec<(PrincipalId, Why)>,
}

/// One group in a tally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTally {
    /// Name.
    pub name: String,
    /// Required number of approvals.
    pub need: u32,
    /// Who counts for it, at most `need`.
    pub counting: Vec<PrincipalId>,
    /// Whether it is one of the groups with which the rule is met, or lacks the fewest approvals.
    pub is_chosen: bool,
}

/// A group that lacks approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Index of the rule.
    pub rule: usize,
    /// Index of the group in the rule.
    pub group: usize,
    /// Number of approvals that it lacks.
    pub lacks: u32,
}

/// Decides a round. `votes` are those that were not withdrawn; of several of one principal, the newest counts.
///
/// Each rule must be met by itself. Without a rule, the default rule applies: one operator, who can be a service
/// principal or an author. A rejection counts if it is that of a voter of a rule, or of an author or the owner with the
/// role operator.
///
/// The voters of an escalation join when a rule's own timeout has passed since the opening.
#[must_use]
pub fn tally(
    rules: &[Rule],
    round: &RoundFacts,
    votes: &[Vote],
    people: &People,
    now: Timestamp,
) -> Tally {
    let votes = newest(votes);
    if rules.is_empty() {
        return tally_default(&votes, people);
    }
    let parts: Vec<RulePart<'_>> =
        rules.iter().map(|rule| RulePart::new(rule, round, &votes, people, now)).collect();
    let rejecting = votes.iter().filter(|vote| vote.decision == Decision::Reject);
    let mut rejecting = rejecting.filter(|vote| {
        let Some(person) = people.get(vote.principal).filter(|person| person.is_active) else {
            return false;
        };
        let is_concerned =
            round.owner == Some(vote.principal) || round.authors.contains(&vote.principal);
        (is_concerned && person.role >= Role::Operator)
            || parts.iter().any(|part| part.voters.membership(vote.principal, person).is_ok())
    });
    let outcome = match rejecting.next() {
        Some(vote) => Outcome::Rejected { by: vote.principal },
        None if parts.iter().all(|part| part.tally.is_met) => Outcome::Approved,
        None => Outcome::Open,
    };
    explain(outcome, parts, rules, round, &votes, people)
}

fn explain(
    outcome: Outcome,
    parts: Vec<RulePart<'_>>,
    rules: &[Rule],
    round: &RoundFacts,
    votes: &[Vote],
    people: &People,
) -> Tally {
    let mut missing = Vec::new();
    for (rule, part) in parts.iter().enumerate() {
        for (group, of) in part.tally.groups.iter().enumerate().filter(|(_, of)| of.is_chosen) {
            let lacks = of.need.saturating_sub(count(&of.counting));
            if lacks > 0 {
                missing.push(Missing { rule, group, lacks });
            }
        }
    }
    let approving: BTreeSet<PrincipalId> = approvals(votes).map(|vote| vote.principal).collect();
    let could = people.all().map(|(principal, _)| principal);
    let could = could
        .filter(|principal| !approving.contains(principal))
        .filter(|principal| parts.iter().any(|part| part.would_help(*principal)));
    let could = could.collect();
    let uncounted = approving.iter().filter_map(|principal| {
        let mut whys = parts.iter().map(|part| part.why_uncounted(*principal));
        let first = whys.next()??;
        whys.all(|why| why.is_some()).then_some((*principal, first))
    });
    let uncounted = uncounted.collect();
    let satisfiable = rules.iter().all(|rule| satisfiable(rule, people, Some(round)));
    let rules = parts.into_iter().map(|part| part.tally).collect();
    Tally { outcome, rules, uncounted, missing, could, satisfiable }
}

/// Returns the newest vote of each principal, in the order in which they were cast.
pub(super) fn newest(votes: &[Vote]) -> Vec<Vote> {
    let mut newest: BTreeMap<PrincipalId, Vote> = BTreeMap::new();
    for vote in votes {
        let known = newest.entry(vote.principal).or_insert(*vote);
        if (vote.cast_at, vote.id) > (known.cast_at, known.id) {
            *known = *vote;
        }
    }
    let mut newest: Vec<Vote> = newest.into_values().collect();
    newest.sort_unstable_by_key(|vote| (vote.cast_at, vote.id, vote.principal));
    newest
}

pub(super) fn approvals(votes: &[Vote]) -> impl Iterator<Item = &Vote> {
    votes.iter().filter(|vote| vote.decision == Decision::Approve)
}

fn count(principals: &[PrincipalId]) -> u32 {
    u32::try_from(principals.len()).unwrap_or(u32::MAX)
}

/// The votes under one rule.
pub(super) struct RulePart<'a> {
    voters: Voters<'a>,
    people: &'a People,
    /// Users who have approved, and those behind the service principals that count.
    taken: BTreeSet<UserId>,
    /// Groups in which one more approval would lower the number of approvals that are lacking, as bits.
    helpful: u8,
    pub(super) tally: RuleTally,
}

impl<'a> RulePart<'a> {
    pub(super) fn new(
        rule: &'a Rule,
        round: &RoundFacts,
        votes: &[Vote],
        people: &'a People,
        now: Timestamp,
    ) -> Self {
        let electors = Voters::new(rule, people, Some(round), is_escalated(rule, round, now));
        let mut taken: BTreeSet<UserId> = approvals(votes).filter_map(voting_user).collect();
        let mut counted: Vec<(PrincipalId, u8)> = Vec::new();
        let mut uncounted = Vec::new();
        for vote in approvals(votes) {
            let groups = electors
                .groups_of(vote.principal)
                .and_then(|groups| take_roots(people, vote.principal, &mut taken).map(|()| groups));
            match groups {
                Ok(groups) => counted.push((vote.principal, groups)),
                Err(why) => uncounted.push((vote.principal, why)),
            }
        }
        counted.sort_unstable();
        let (tally, helpful) = count_rule(rule, &counted, uncounted);
        Self { voters: electors, people, taken, helpful, tally }
    }

    fn why_uncounted(&self, principal: PrincipalId) -> Option<Why> {
        let mut uncounted = self.tally.uncounted.iter();
        uncounted.find(|(other, _)| *other == principal).map(|(_, why)| *why)
    }

    /// Returns whether an approval of the principal would lower the number of approvals that this rule lacks.
    fn would_help(&self, principal: PrincipalId) -> bool {
        self.helped_groups(principal) != 0
    }

    /// Returns the groups of the principal, as bits, in which its approval would lower the number of approvals that
    /// this rule lacks.
    pub(super) fn helped_groups(&self, principal: PrincipalId) -> u8 {
        let Ok(groups) = self.voters.groups_of(principal) else { return 0 };
        let groups = groups & self.helpful;
        match principal {
            PrincipalId::ServicePrincipal(_) if groups != 0 => {
                let roots = self.people.roots(principal);
                let is_free = roots.is_some_and(|roots| roots.is_disjoint(&self.taken));
                if is_free { groups } else { 0 }
            }
            PrincipalId::User(_) | PrincipalId::ServicePrincipal(_) => groups,
        }
    }
}

fn voting_user(vote: &Vote) -> Option<UserId> {
    match vote.principal {
        PrincipalId::User(user) => Some(user),
        PrincipalId::ServicePrincipal(_) => None,
    }
}

/// Takes the users behind a service principal, so that none of them counts again through another one.
fn take_roots(
    people: &People,
    principal: PrincipalId,
    taken: &mut BTreeSet<UserId>,
) -> Result<(), Why> {
    match principal {
        PrincipalId::User(_) => Ok(()),
        PrincipalId::ServicePrincipal(_) => {
            let roots = people.roots(principal).ok_or(Why::MakerUnknown)?;
            if !roots.is_disjoint(taken) {
                return Err(Why::BesideMaker);
            }
            taken.extend(roots);
            Ok(())
        }
    }
}

fn is_escalated(rule: &Rule, round: &RoundFacts, now: Timestamp) -> bool {
    rule.escalation_timeout_minutes
        .is_some_and(|minutes| now >= round.opened_at.plus(Duration::from_mins(u64::from(minutes))))
}

/// Counts the voters of a rule, each given with the set of its groups. Also returns the groups, as bits, in which one
/// more approval would help.
fn count_rule(
    rule: &Rule,
    counted: &[(PrincipalId, u8)],
    uncounted: Vec<(PrincipalId, Why)>,
) -> (RuleTally, u8) {
    let demand = Demand::of(rule);
    let groups: Vec<u8> = counted.iter().map(|(_, groups)| *groups).collect();
    let crowd = Crowd::new(groups.iter().copied());
    let choice = demand.best_choice(&crowd);
    let helpful = demand.helpful(&crowd, choice);
    let assigned = demand.assign(choice, &groups);
    let groups = rule.groups.iter().zip(assigned).enumerate();
    let groups = groups.map(|(at, (group, voters))| GroupTally {
        name: group.name.clone(),
        need: group.required,
        counting: voters.into_iter().map(|voter| counted[voter].0).collect(),
        is_chosen: choice.groups & (1 << at) != 0,
    });
    let tally = RuleTally { is_met: choice.lacks == 0, groups: groups.collect(), uncounted };
    (tally, helpful)
}

/// Decides a round without a workflow: one operator approves or rejects.
pub(super) fn tally_default(votes: &[Vote], people: &People) -> Tally {
    let standing = |principal: PrincipalId| match people.get(principal) {
        Some(person) if !person.is_active => Err(Why::Left),
        Some(person) if person.role < Role::Operator => Err(Why::RoleTooLow),
        Some(_) => Ok(()),
        None => Err(Why::Left),
    };
    let mut counting = Vec::new();
    let mut uncounted = Vec::new();
    for vote in approvals(votes) {
        match standing(vote.principal) {
            Ok(()) => counting.push(vote.principal),
            Err(why) => uncounted.push((vote.principal, why)),
        }
    }
    counting.truncate(1);
    let mut rejecting = votes.iter().filter(|vote| vote.decision == Decision::Reject);
    let rejecting = rejecting.find(|vote| standing(vote.principal).is_ok());
    let outcome = match (rejecting, counting.is_empty()) {
        (Some(vote), _) => Outcome::Rejected { by: vote.principal },
        (None, false) => Outcome::Approved,
        (None, true) => Outcome::Open,
    };
    let is_met = !counting.is_empty();
    let can_vote = people.all().map(|(principal, _)| principal);
    let can_vote: Vec<PrincipalId> = can_vote.filter(|id| standing(*id).is_ok()).collect();
    let satisfiable = !can_vote.is_empty();
    let lacks = Missing { rule: 0, group: 0, lacks: 1 };
    let (missing, could) = if is_met { (vec![], vec![]) } else { (vec![lacks], can_vote) };
    let name = GROUP_NAME_DEFAULT.to_owned();
    let groups = vec![GroupTally { name, need: 1, counting, is_chosen: true }];
    let rules = vec![RuleTally { is_met, groups, uncounted: uncounted.clone() }];
    Tally { outcome, rules, uncounted, missing, could, satisfiable }
}
