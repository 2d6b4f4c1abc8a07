//! The reference model of a tally: slow, and as close to the wording of the rules as possible. It shares no code with
//! the kernel.

use std::collections::HashSet;

use super::model::Model;
use crate::access::principal::PrincipalId;
use crate::db::types::UserId;
use crate::governance::{Decision, Membership, Outcome, Person, Rule, Vote, VoterSet};
use crate::role::Role;

impl Model {
    fn active(&self, id: PrincipalId) -> Option<&Person> {
        self.people.get(id).filter(|person| person.is_active)
    }

    fn is_in(&self, set: &VoterSet, id: PrincipalId) -> bool {
        let Some(person) = self.active(id) else { return false };
        let early = |member: &&Membership| {
            member.joined_at.is_none_or(|joined| joined <= self.round.opened_at)
        };
        let named = match id {
            PrincipalId::ServicePrincipal(id) => set.service_principals.contains(&id.0),
            PrincipalId::User(id) => {
                let unrestricted = set.users.is_empty()
                    && set.groups.is_empty()
                    && set.service_principals.is_empty();
                let mut groups = person.groups.iter().filter(early);
                unrestricted
                    || set.users.contains(&id.0)
                    || groups.any(|member| set.groups.contains(&member.group.0))
            }
        };
        named && person.role >= set.role
    }

    pub(super) fn is_in_group(&self, rule: &Rule, group: usize, id: PrincipalId) -> bool {
        let escalated = rule.escalation_timeout_minutes.is_some_and(|at| self.minutes >= at.into());
        let joins = rule.escalation.as_ref().is_some_and(|set| escalated && self.is_in(set, id));
        joins || self.is_in(&rule.groups[group].voters, id)
    }

    /// Returns the users who hold the key of a principal, and whether that is certain.
    pub(super) fn holders(&self, id: PrincipalId, depth: usize) -> (HashSet<PrincipalId>, bool) {
        if matches!(id, PrincipalId::User(_)) {
            return (HashSet::from([id]), true);
        }
        let Some(person) = self.people.get(id).filter(|_| depth < 8) else {
            return (HashSet::new(), false);
        };
        let of = |maker: Option<PrincipalId>| maker.map(|maker| self.holders(maker, depth + 1));
        let (made, rotated) = (of(person.makers.maker), of(person.makers.rotated_by));
        let certain = rotated.as_ref().or(made.as_ref()).is_some_and(|(_, certain)| *certain);
        (made.into_iter().chain(rotated).flat_map(|(users, _)| users).collect(), certain)
    }

    /// Returns whether the principal may approve under a rule, other votes apart.
    pub(super) fn may_approve(&self, rule: &Rule, id: PrincipalId) -> bool {
        let concerned = self.round.authors.iter().chain(&self.round.owner);
        let own = self.holders(id, 0);
        let excluded = concerned
            .copied()
            .any(|other| other == id || !self.holders(other, 0).0.is_disjoint(&own.0));
        let behind = |user: &UserId| own.0.contains(&PrincipalId::User(*user));
        let excluded = excluded || self.round.roots.iter().any(behind);
        let known = own.1 && !own.0.is_empty();
        self.active(id).is_some() && known && !(rule.distinct_actors && excluded)
    }

    /// Returns the approvals that count under a rule.
    fn counting(&self, rule: &Rule) -> Vec<PrincipalId> {
        let approving: Vec<PrincipalId> = self
            .votes()
            .iter()
            .filter(|vote| vote.decision == Decision::Approve)
            .map(|vote| vote.principal)
            .collect();
        let is_user = |id: &PrincipalId| matches!(id, PrincipalId::User(_));
        let mut used: HashSet<PrincipalId> = approving.iter().copied().filter(is_user).collect();
        let mut counting = Vec::new();
        for id in approving {
            let in_any = (0..rule.groups.len()).any(|group| self.is_in_group(rule, group, id));
            let holders = self.holders(id, 0).0;
            let beside = !is_user(&id) && !holders.is_disjoint(&used);
            if in_any && self.may_approve(rule, id) && !beside {
                used.extend(holders);
                counting.push(id);
            }
        }
        counting
    }

    /// Returns whether voters fill enough groups, by trying each group for each voter.
    pub(super) fn fills(&self, rule: &Rule, voters: &[PrincipalId], filled: &mut [u32]) -> bool {
        let groups = rule.groups.iter().zip(filled.iter());
        let met = groups.filter(|(group, filled)| **filled >= group.required).count();
        if met >= rule.required_groups as usize {
            return true;
        }
        let Some((voter, others)) = voters.split_first() else { return false };
        for group in 0..rule.groups.len() {
            let has_room = filled[group] < rule.groups[group].required;
            if has_room && self.is_in_group(rule, group, *voter) {
                filled[group] += 1;
                let is_filled = self.fills(rule, others, filled);
                filled[group] -= 1;
                if is_filled {
                    return true;
                }
            }
        }
        self.fills(rule, others, filled)
    }

    pub(super) fn outcome(&self) -> Outcome {
        let operator =
            |id| self.active(id).is_some_and(|person: &Person| person.role >= Role::Operator);
        let concerned = |id| self.round.authors.contains(&id) || self.round.owner == Some(id);
        for vote in self.votes().iter().filter(|vote| vote.decision == Decision::Reject) {
            let id = vote.principal;
            let mut groups = self.rules.iter().flat_map(|rule| {
                (0..rule.groups.len()).map(move |group| self.is_in_group(rule, group, id))
            });
            let may = if self.rules.is_empty() { operator(id) } else { groups.any(|is_in| is_in) };
            if may || (!self.rules.is_empty() && concerned(id) && operator(id)) {
                return Outcome::Rejected { by: id };
            }
        }
        let is_approval =
            |vote: &Vote| vote.decision == Decision::Approve && operator(vote.principal);
        let approved = if self.rules.is_empty() {
            self.votes().iter().any(is_approval)
        } else {
            let filled = |rule: &Rule| vec![0; rule.groups.len()];
            self.rules.iter().all(|rule| self.fills(rule, &self.counting(rule), &mut filled(rule)))
        };
        if approved { Outcome::Approved } else { Outcome::Open }
    }
}
