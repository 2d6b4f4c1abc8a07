//! Whether a rule can be met at all, and who can vote.

use std::collections::{BTreeMap, BTreeSet};

use super::matching::{Crowd, Demand};
use super::people::People;
use super::rule::Rule;
use super::tally::RoundFacts;
use super::voters::{Voters, Why};
use crate::access::principal::PrincipalId;
use crate::db::types::{ServicePrincipalId, UserId};

/// Maximum number of service principals with more than one user behind them that are tried in every combination. More
/// of them are ignored, so that a rule that needs them is refused.
const SHARED_PROGRAMS_MAX: usize = 8;

/// The group that cannot get its approvals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Name of the group.
    pub group: String,
    /// Required number of approvals.
    pub need: u32,
    /// Number of approvals that it can get, beside those of the other groups.
    pub have: u32,
}

/// Returns whether the rule can be met by those who can vote now: see [`shortfall`].
#[must_use]
pub fn satisfiable(rule: &Rule, people: &People, round: Option<&RoundFacts>) -> bool {
    shortfall(rule, people, round).is_none()
}

/// Returns the group that lacks voters, or `None` if the rule can be met: by all who are eligible, each for one group,
/// a user and the programs of the user once. The voters of an escalation are included. With a round, its authors and
/// owner and late members are excluded.
#[must_use]
pub fn shortfall(rule: &Rule, people: &People, round: Option<&RoundFacts>) -> Option<Shortfall> {
    let demand = Demand::of(rule);
    let eligible = Eligible::new(rule, people, round);
    let alone = Crowd::new(eligible.users.values().copied());
    if demand.is_met(&alone) || eligible.is_met_with_programs(&demand) {
        return None;
    }
    let voters: Vec<u8> = eligible.users.values().copied().collect();
    let choice = demand.best_choice(&alone);
    let assigned = demand.assign(choice, &voters);
    let groups = rule.groups.iter().zip(assigned).enumerate();
    let chosen = groups.filter(|(at, _)| choice.groups & (1 << *at) != 0);
    let mut lacking = chosen.filter_map(|(_, (group, voters))| {
        let have = u32::try_from(voters.len()).unwrap_or(u32::MAX);
        let (group, need) = (group.name.clone(), group.required);
        (have < need).then_some(Shortfall { group, need, have })
    });
    lacking.next()
}

/// Returns whether the rule can be met, but not if one of its voters is absent.
#[must_use]
pub fn is_fragile(rule: &Rule, people: &People) -> bool {
    let demand = Demand::of(rule);
    let eligible = Eligible::new(rule, people, None);
    let crowd = Crowd::new(eligible.users.values().copied());
    crowd.without_one().any(|fewer| !demand.is_met(&fewer)) && satisfiable(rule, people, None)
}

impl Demand {
    /// Returns the requirements of a rule.
    pub(super) fn of(rule: &Rule) -> Self {
        let required = rule.groups.iter().map(|group| group.required).collect();
        Self { required, required_groups: rule.required_groups }
    }
}

/// Everyone who can approve.
struct Eligible {
    /// Groups of each user, including those of the programs of that user alone: one of them can vote.
    users: BTreeMap<UserId, u8>,
    /// Service principals with several users behind them: instead of all of these, the program can vote.
    shared: Vec<(BTreeSet<UserId>, u8)>,
}

impl Eligible {
    fn new(rule: &Rule, people: &People, round: Option<&RoundFacts>) -> Self {
        let voters = Voters::new(rule, people, round, true);
        let (mut users, mut shared) = (BTreeMap::new(), Vec::new());
        for (principal, _) in people.all() {
            let Ok(groups) = voters.groups_of(principal) else { continue };
            let Some(roots) = people.roots(principal) else { continue };
            match roots.first().copied().filter(|_| roots.len() == 1) {
                Some(root) => *users.entry(root).or_insert(0) |= groups,
                None => shared.push((roots, groups)),
            }
        }
        shared.truncate(SHARED_PROGRAMS_MAX);
        Self { users, shared }
    }

    /// Tries every set of shared programs.
    fn is_met_with_programs(&self, demand: &Demand) -> bool {
        (1..1_usize << self.shared.len()).any(|picked| {
            let picked = self.shared.iter().enumerate().filter(|(at, _)| picked & (1 << *at) != 0);
            let picked: Vec<&(BTreeSet<UserId>, u8)> = picked.map(|(_, shared)| shared).collect();
            let mut taken = BTreeSet::new();
            let is_disjoint =
                picked.iter().all(|(roots, _)| roots.iter().all(|root| taken.insert(*root)));
            let others = self.users.iter().filter(|(user, _)| !taken.contains(*user));
            let programs = picked.iter().map(|(_, groups)| *groups);
            is_disjoint && demand.is_met(&Crowd::new(others.map(|(_, of)| *of).chain(programs)))
        })
    }
}

/// Who can vote under a rule, and who cannot although the rule names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Electorate {
    /// The voters of each group, in order.
    pub groups: Vec<Vec<PrincipalId>>,
    /// Principals in a set of voters whose approval does not count, and why.
    pub excluded: Vec<(PrincipalId, Why)>,
}

/// Returns who can vote under a rule, including the voters of its escalation. With a round, its authors and owner are
/// excluded.
#[must_use]
pub fn electorate(rule: &Rule, people: &People, round: Option<&RoundFacts>) -> Electorate {
    let voters = Voters::new(rule, people, round, true);
    let mut groups = vec![Vec::new(); rule.groups.len()];
    let mut excluded = Vec::new();
    let named = named(rule);
    for (principal, person) in people.all() {
        match voters.groups_of(principal) {
            Ok(of) => {
                for (at, group) in groups.iter_mut().enumerate() {
                    if of & (1 << at) != 0 {
                        group.push(principal);
                    }
                }
            }
            Err(why) => {
                let is_voter = voters.membership(principal, person).is_ok();
                if is_voter || named.contains(&principal) {
                    excluded.push((principal, why));
                }
            }
        }
    }
    let missing = named.into_iter().filter(|principal| people.get(*principal).is_none());
    excluded.extend(missing.map(|principal| (principal, Why::Left)));
    Electorate { groups, excluded }
}

/// Returns the users and service principals that a rule names.
fn named(rule: &Rule) -> BTreeSet<PrincipalId> {
    let mut named = BTreeSet::new();
    for (_, set) in rule.voter_sets() {
        named.extend(set.users.iter().map(|id| PrincipalId::User(UserId(*id))));
        let programs = set.service_principals.iter();
        named.extend(programs.map(|id| PrincipalId::ServicePrincipal(ServicePrincipalId(*id))));
    }
    named
}
