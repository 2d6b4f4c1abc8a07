//! Who is in a set of voters, and who is excluded from approving.

use std::collections::{BTreeMap, BTreeSet};

use super::people::{People, Person};
use super::rule::{Rule, VoterSet};
use super::tally::RoundFacts;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::UserId;

/// Why an approval does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The rule does not name the principal.
    NotNamed,
    /// The principal joined the group after the round was opened.
    JoinedLater,
    /// The role on the gateway is too low.
    RoleTooLow,
    /// A user behind the service principal has voted, or an earlier vote was that of another program of the user.
    BesideMaker,
    /// It is not known who holds the key of the service principal.
    MakerUnknown,
    /// The principal has made, or last rotated, a service principal among authors and owner, or one of them has made
    /// this one.
    Maker,
    /// The principal owns the sandbox.
    Owner,
    /// The principal is an author of the content.
    Author,
    /// The principal was deleted, deactivated, or its key has expired.
    Left,
}

/// The voters of one rule at one time.
#[derive(Debug)]
pub(super) struct Voters<'a> {
    rule: &'a Rule,
    people: &'a People,
    opened_at: Option<Timestamp>,
    is_escalated: bool,
    excluded: BTreeMap<PrincipalId, Why>,
    excluded_roots: BTreeSet<UserId>,
}

impl<'a> Voters<'a> {
    /// Creates the voters of a rule. Without a round, no one is excluded as author or owner, and members of any age
    /// count.
    pub(super) fn new(
        rule: &'a Rule,
        people: &'a People,
        round: Option<&RoundFacts>,
        is_escalated: bool,
    ) -> Self {
        let mut excluded = BTreeMap::new();
        if let Some(round) = round.filter(|_| rule.distinct_actors) {
            excluded.extend(round.owner.map(|owner| (owner, Why::Owner)));
            excluded.extend(round.authors.iter().map(|author| (*author, Why::Author)));
        }
        let known = excluded.keys().flat_map(|principal| people.known_roots(*principal));
        let mut excluded_roots: BTreeSet<UserId> = known.collect();
        if let Some(round) = round.filter(|_| rule.distinct_actors) {
            excluded_roots.extend(&round.roots);
        }
        let opened_at = round.map(|round| round.opened_at);
        Self { rule, people, opened_at, is_escalated, excluded, excluded_roots }
    }

    /// Returns the groups that an approval of the principal can count for, as one bit for each.
    ///
    /// # Errors
    /// Why it counts for none.
    pub(super) fn groups_of(&self, principal: PrincipalId) -> Result<u8, Why> {
        let person = self.people.get(principal).filter(|person| person.is_active);
        let person = person.ok_or(Why::Left)?;
        if let Some(why) = self.excluded.get(&principal) {
            return Err(*why);
        }
        match principal {
            PrincipalId::User(user) if self.excluded_roots.contains(&user) => {
                return Err(Why::Maker);
            }
            PrincipalId::User(_) => {}
            PrincipalId::ServicePrincipal(_) => {
                let roots = self.people.known_roots(principal);
                if !roots.is_disjoint(&self.excluded_roots) {
                    return Err(Why::Maker);
                }
                if self.people.roots(principal).is_none() {
                    return Err(Why::MakerUnknown);
                }
            }
        }
        self.membership(principal, person)
    }

    /// Returns the groups that the principal is a voter of, whether or not it is excluded from approving.
    pub(super) fn membership(&self, principal: PrincipalId, person: &Person) -> Result<u8, Why> {
        let escalation = self.rule.escalation.as_ref().filter(|_| self.is_escalated);
        let joins = escalation.map(|set| admits(set, principal, person, self.opened_at));
        let mut groups = 0;
        let mut closest = Why::NotNamed;
        for (at, group) in self.rule.groups.iter().enumerate() {
            let admitted = admits(&group.voters, principal, person, self.opened_at);
            match joins.and_then(Result::ok).map_or(admitted, Ok) {
                Ok(()) => groups |= 1 << at,
                Err(why) => closest = closest.max(why),
            }
        }
        if groups > 0 { Ok(groups) } else { Err(closest) }
    }
}

/// Returns whether a principal is in a set of voters.
///
/// # Errors
/// Why it is not.
fn admits(
    set: &VoterSet,
    principal: PrincipalId,
    person: &Person,
    opened_at: Option<Timestamp>,
) -> Result<(), Why> {
    let joined_later = |joined_at: Timestamp| opened_at.is_some_and(|opened| joined_at > opened);
    let mut later = false;
    let is_named = match principal {
        PrincipalId::ServicePrincipal(id) => contains(&set.service_principals, id.get()),
        PrincipalId::User(_) if !set.is_named() => true,
        PrincipalId::User(id) => {
            contains(&set.users, id.get())
                || person.groups.iter().any(|member| {
                    let is_in = contains(&set.groups, member.group.get());
                    let is_late = member.joined_at.is_some_and(joined_later);
                    later |= is_in && is_late;
                    is_in && !is_late
                })
        }
    };
    if !is_named {
        return Err(if later { Why::JoinedLater } else { Why::NotNamed });
    }
    if person.role < set.role { Err(Why::RoleTooLow) } else { Ok(()) }
}

fn contains(ids: &[i64], id: i64) -> bool {
    ids.binary_search(&id).is_ok()
}
