//! Measures the decision of a review, in memory.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use shoreguard::access::principal::PrincipalId;
use shoreguard::clock::{Clock, Timestamp};
use shoreguard::db::types::{GroupId, UserId};
use shoreguard::governance::{
    APPLY_WINDOW_MINUTES_DEFAULT, Decision, EXPIRE_MINUTES_DEFAULT, Makers, Membership, Outcome,
    People, Person, RoundFacts, Rule, Vote, VoterGroup, VoterSet, tally,
};
use shoreguard::role::Role;

use crate::figure::{Figure, Target};
use crate::{Bench, BoxError};

const PEOPLE: i64 = 1_000;
/// Groups of the rule: the most that a rule can have.
const GROUPS: i64 = 8;
/// Groups that must be met: half of them leave the most choices.
const REQUIRED_GROUPS: u32 = 4;
/// Approvals that each group requires. With 8 groups, more than 20 in all are refused.
const REQUIRED: u32 = 2;
/// Approvals, one fewer than the rule requires.
const APPROVALS: i64 = 7;
const TALLY_MS_MAX: f64 = 1.0;
/// Decisions per value.
const TALLIES: u32 = 200;

fn user(id: i64) -> PrincipalId {
    PrincipalId::User(UserId(id))
}

/// Returns operators, each in two groups.
fn people() -> People {
    let in_group = |id: i64| Membership { group: GroupId(id % GROUPS), joined_at: None };
    People::new((0..PEOPLE).map(|id| {
        let person = Person {
            name: format!("user-{id}@example.com").into(),
            role: Role::Operator,
            is_active: true,
            groups: vec![in_group(id), in_group(id + 1)],
            makers: Makers::default(),
        };
        (user(id), person)
    }))
}

/// Returns a rule whose groups are groups of users.
fn rule() -> Rule {
    let groups = (0..GROUPS).map(|id| VoterGroup {
        name: format!("group {id}"),
        required: REQUIRED,
        voters: VoterSet { groups: vec![id], ..VoterSet::of_role(Role::Viewer) },
    });
    Rule {
        groups: groups.collect(),
        required_groups: REQUIRED_GROUPS,
        distinct_actors: true,
        escalation: None,
        escalation_timeout_minutes: None,
        expire_minutes: EXPIRE_MINUTES_DEFAULT,
        apply_window_minutes: APPLY_WINDOW_MINUTES_DEFAULT,
    }
}

fn votes(now: Timestamp) -> Vec<Vote> {
    let approve = |id| Vote { id, principal: user(id), decision: Decision::Approve, cast_at: now };
    // The first two are the author and the owner.
    (2..2 + APPROVALS).map(approve).collect()
}

/// Measures a review that lacks an approval, so that its explanation names all who could give it.
pub(in crate::cases) fn run(bench: &Bench) -> Result<(), BoxError> {
    let now = Clock::system().now();
    let (people, rules, votes) = (people(), [rule()], votes(now));
    let round = RoundFacts {
        opened_at: now,
        authors: vec![user(0)],
        owner: Some(user(1)),
        roots: BTreeSet::new(),
    };
    let mut figure = Figure::default();
    for _ in 0..bench.options.rounds {
        let begun = Instant::now();
        for _ in 0..TALLIES {
            let decided =
                black_box(tally(black_box(&rules), black_box(&round), &votes, &people, now));
            if decided.outcome != Outcome::Open {
                return Err("a review without a quorum was decided".into());
            }
        }
        figure.add(begun.elapsed().as_secs_f64() * 1e3 / f64::from(TALLIES));
    }
    let name = format!("{GROUPS} groups and {PEOPLE} people");
    figure.print(&name, "ms", Target::AtMost(TALLY_MS_MAX))
}
