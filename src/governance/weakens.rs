//! Whether a rule becomes weaker, by its structure: what is not shown to be at least as strict is weaker.

use super::rule::{Rule, VoterGroup, VoterSet};

/// Returns whether `new` is possibly weaker than one of the rules that it replaces. Without a new rule, every rule
/// becomes weaker. Longer times for voting and for writing are weaker, too.
#[must_use]
pub fn weakens(old: &[Rule], new: Option<&Rule>) -> bool {
    old.iter().any(|old| new.is_none_or(|new| !is_as_strict(new, old)))
}

fn is_as_strict(new: &Rule, old: &Rule) -> bool {
    (new.distinct_actors || !old.distinct_actors)
        && new.expire_minutes <= old.expire_minutes
        && new.apply_window_minutes <= old.apply_window_minutes
        && is_escalation_as_strict(new, old)
        && requires_as_much(new, old)
}

/// An escalation adds voters: it must add no others, and none earlier.
fn is_escalation_as_strict(new: &Rule, old: &Rule) -> bool {
    let Some(added) = &new.escalation else { return true };
    let Some(known) = &old.escalation else { return false };
    let is_later = match (new.escalation_timeout_minutes, old.escalation_timeout_minutes) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(new), Some(old)) => new >= old,
    };
    is_later && is_subset(added, known)
}

/// Each group of the old rule that a group of the new one implies is paired with it. However the required groups of the
/// new rule are picked, enough of the pairs must be among them.
fn requires_as_much(new: &Rule, old: &Rule) -> bool {
    let implied = pairs(&new.groups, &old.groups);
    let unpaired = new.groups.len().saturating_sub(implied);
    (new.required_groups as usize).saturating_sub(unpaired) >= old.required_groups as usize
}

/// Returns the greatest number of pairs of a new group and an old group, of which the new one implies the old.
fn pairs(new: &[VoterGroup], old: &[VoterGroup]) -> usize {
    let mut paired: Vec<Option<usize>> = vec![None; old.len()];
    (0..new.len())
        .filter(|at| pair(*at, new, old, &mut paired, &mut vec![false; old.len()]))
        .count()
}

fn pair(
    at: usize,
    new: &[VoterGroup],
    old: &[VoterGroup],
    paired: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (place, group) in old.iter().enumerate() {
        if seen[place] || !implies(&new[at], group) {
            continue;
        }
        seen[place] = true;
        let is_free = match paired[place] {
            None => true,
            Some(other) => pair(other, new, old, paired, seen),
        };
        if is_free {
            paired[place] = Some(at);
            return true;
        }
    }
    false
}

fn implies(new: &VoterGroup, old: &VoterGroup) -> bool {
    new.required >= old.required && is_subset(&new.voters, &old.voters)
}

/// Returns whether every voter of `part` is certainly one of `whole`, with any members of the groups.
fn is_subset(part: &VoterSet, whole: &VoterSet) -> bool {
    let within = |part: &[i64], whole: &[i64]| part.iter().all(|id| whole.contains(id));
    let users = !whole.is_named()
        || (part.is_named()
            && within(&part.users, &whole.users)
            && within(&part.groups, &whole.groups));
    part.role >= whole.role && users && within(&part.service_principals, &whole.service_principals)
}
