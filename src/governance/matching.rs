//! Assignment of voters to groups, each to at most one.
//!
//! A set of groups can be filled if and only if, for each part of it, at least as many voters are in the part as its
//! groups require together (Hall's condition). So the decision depends on no order of the votes.

use super::rule::GROUPS_MAX;

/// Number of sets of groups.
const SETS: usize = 1 << GROUPS_MAX;

/// Requirements of a rule.
#[derive(Debug, Clone)]
pub(super) struct Demand {
    /// Voters that each group requires.
    pub(super) required: Vec<u32>,
    /// Number of groups to fill.
    pub(super) required_groups: u32,
}

/// A set of groups to fill, as bits, and the number of voters that it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) groups: u8,
    pub(super) lacks: u32,
}

/// Numbers of voters by the set of their groups.
#[derive(Debug, Clone)]
pub(super) struct Crowd([u32; SETS]);

impl Crowd {
    /// Counts voters, each given by the set of its groups.
    pub(super) fn new(voters: impl IntoIterator<Item = u8>) -> Self {
        let mut counts = [0; SETS];
        for groups in voters {
            counts[usize::from(groups)] += 1;
        }
        Self(counts)
    }

    /// Returns the crowds in which one voter is absent, one for each kind of voter.
    pub(super) fn without_one(&self) -> impl Iterator<Item = Self> {
        (1..SETS).filter(|groups| self.0[*groups] > 0).map(|groups| {
            let mut counts = self.0;
            counts[groups] -= 1;
            Self(counts)
        })
    }

    /// Returns, for each set of groups, the number of voters of at least one of them.
    fn reach(&self) -> [u32; SETS] {
        let mut within = self.0;
        for bit in 0..GROUPS_MAX {
            for set in 0..SETS {
                if set & (1 << bit) != 0 {
                    within[set] += within[set ^ (1 << bit)];
                }
            }
        }
        let total = within[SETS - 1];
        std::array::from_fn(|set| total - within[SETS - 1 - set])
    }
}

impl Demand {
    /// Returns the set of groups that lacks the fewest voters; the first one of equals.
    pub(super) fn best_choice(&self, crowd: &Crowd) -> Choice {
        let reach = crowd.reach();
        let mut best = Choice { groups: 0, lacks: u32::MAX };
        for groups in self.choices() {
            let lacks = self.lacks(groups, &reach);
            if lacks < best.lacks {
                best = Choice { groups: u8::try_from(groups).unwrap_or(u8::MAX), lacks };
            }
        }
        best
    }

    /// Returns whether the crowd can fill the required number of groups.
    pub(super) fn is_met(&self, crowd: &Crowd) -> bool {
        self.best_choice(crowd).lacks == 0
    }

    /// Returns the groups, as bits, in which one more voter would lower the number of voters that the best choice lacks.
    /// Voters who count for another group can move, so this is more than the groups that are not full.
    ///
    /// A voter helps a choice if and only if it is in each part that lacks the most. The parts that do have a smallest one,
    /// which is their intersection: what a part lacks is supermodular.
    pub(super) fn helpful(&self, crowd: &Crowd, best: Choice) -> u8 {
        if best.lacks == 0 {
            return 0;
        }
        let reach = crowd.reach();
        let of_choice = |groups: usize| {
            let tight = parts(groups).filter(|part| self.lack(*part, &reach) == best.lacks);
            tight.reduce(|all, part| all & part).unwrap_or(0)
        };
        let helpful = self.choices().map(of_choice).fold(0, |all, groups| all | groups);
        u8::try_from(helpful).unwrap_or(u8::MAX)
    }

    /// Returns the sets of groups that would meet the rule.
    fn choices(&self) -> impl Iterator<Item = usize> {
        let all = (SETS - 1) >> (GROUPS_MAX - self.required.len());
        (1..=all).filter(|set| set.count_ones() == self.required_groups)
    }

    fn lacks(&self, groups: usize, reach: &[u32; SETS]) -> u32 {
        parts(groups).map(|part| self.lack(part, reach)).max().unwrap_or(0)
    }

    /// Returns how many voters a set of groups lacks, without regard to its parts.
    fn lack(&self, groups: usize, reach: &[u32; SETS]) -> u32 {
        self.total(groups).saturating_sub(reach[groups])
    }

    fn total(&self, groups: usize) -> u32 {
        let required = self.required.iter().enumerate();
        required.filter(|(at, _)| groups & (1 << *at) != 0).map(|(_, required)| required).sum()
    }

    /// Assigns voters, each given by the set of its groups, to the groups of a choice, as many as possible. Returns the
    /// voters of each group.
    pub(super) fn assign(&self, choice: Choice, voters: &[u8]) -> Vec<Vec<usize>> {
        let mut search = Search {
            demand: self,
            voters,
            choice: choice.groups,
            assigned: vec![Vec::new(); self.required.len()],
        };
        // If a voter cannot be placed, no later one with the same groups can be.
        let mut is_full = [false; SETS];
        for (voter, groups) in voters.iter().enumerate() {
            let kind = usize::from(groups & choice.groups);
            if !is_full[kind] {
                is_full[kind] = !search.place(voter, &mut 0);
            }
        }
        search.assigned
    }
}

/// Returns the sets of groups that are in this one, except the empty one.
fn parts(groups: usize) -> impl Iterator<Item = usize> {
    (1..=groups).filter(move |part| part & !groups == 0)
}

/// Search for places, in which a placed voter can move to another group.
struct Search<'a> {
    demand: &'a Demand,
    voters: &'a [u8],
    choice: u8,
    assigned: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn place(&mut self, voter: usize, seen: &mut u8) -> bool {
        for group in 0..self.assigned.len() {
            let bit = 1 << group;
            if self.voters[voter] & self.choice & bit & !*seen == 0 {
                continue;
            }
            *seen |= bit;
            if self.assigned[group].len() < self.demand.required[group] as usize {
                self.assigned[group].push(voter);
                return true;
            }
            for at in 0..self.assigned[group].len() {
                let other = self.assigned[group][at];
                if self.place(other, seen) {
                    self.assigned[group][at] = voter;
                    return true;
                }
            }
        }
        false
    }
}
