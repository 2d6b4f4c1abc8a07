//! Random rules, people and rounds of small size, so that every combination can be tried.

use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{GroupId, ServicePrincipalId, UserId};
use crate::governance::{
    Makers, Membership, People, Person, RoundFacts, Rule, VoterGroup, VoterSet,
};
use crate::role::Role;

/// Users of a world.
pub(super) const USERS: i64 = 5;
/// Service principals of a world.
pub(super) const PROGRAMS: i64 = 3;
/// Groups of users of a world.
const GROUPS: i64 = 3;

/// A small generator of numbers with a fixed start, so that a failure can be repeated.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `most`.
    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % most as u64).unwrap()
    }

    pub(super) fn id(&mut self, most: i64) -> i64 {
        i64::try_from(self.below(usize::try_from(most).unwrap())).unwrap() + 1
    }

    /// Returns true once in `of` calls on average.
    pub(super) fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn ids(&mut self, most: i64, of: usize) -> Vec<i64> {
        (1..=most).filter(|_| self.once_in(of)).collect()
    }

    pub(super) fn role(&mut self) -> Role {
        [Role::Viewer, Role::Operator, Role::Operator, Role::Admin][self.below(4)]
    }
}

pub(super) fn user(id: i64) -> PrincipalId {
    PrincipalId::User(UserId(id))
}

pub(super) fn program(id: i64) -> PrincipalId {
    PrincipalId::ServicePrincipal(ServicePrincipalId(id))
}

/// Returns a time, in minutes after the opening of the round.
pub(super) fn minute(at: i64) -> Timestamp {
    Timestamp::from_unix_micros((1_000 + at) * 60_000_000)
}

pub(super) fn principals() -> impl Iterator<Item = PrincipalId> {
    (1..=USERS).map(user).chain((1..=PROGRAMS).map(program))
}

pub(super) fn principal(random: &mut Random) -> PrincipalId {
    if random.once_in(3) { program(random.id(PROGRAMS)) } else { user(random.id(USERS)) }
}

fn voters(random: &mut Random) -> VoterSet {
    let role = random.role();
    if random.once_in(3) {
        return VoterSet::of_role(role);
    }
    VoterSet {
        role,
        users: random.ids(USERS, 3),
        groups: random.ids(GROUPS, 3),
        service_principals: random.ids(PROGRAMS, 2),
    }
}

pub(super) fn rule(random: &mut Random) -> Rule {
    let groups = (0..=random.below(3)).map(|at| VoterGroup {
        name: format!("group {at}"),
        required: u32::try_from(random.below(2)).unwrap() + 1,
        voters: voters(random),
    });
    let groups: Vec<VoterGroup> = groups.collect();
    let required_groups = u32::try_from(random.below(groups.len())).unwrap() + 1;
    let escalates = random.once_in(3);
    Rule {
        groups,
        required_groups,
        distinct_actors: !random.once_in(4),
        escalation: escalates.then(|| voters(random)),
        escalation_timeout_minutes: escalates.then_some(60),
        expire_minutes: 600,
        apply_window_minutes: 60,
    }
}

fn person(random: &mut Random, principal: PrincipalId) -> Person {
    let is_user = matches!(principal, PrincipalId::User(_));
    let groups = (1..=GROUPS).filter(|_| is_user && random.once_in(2)).collect::<Vec<_>>();
    let groups = groups.into_iter().map(|group| Membership {
        group: GroupId(group),
        joined_at: [None, Some(minute(-5)), Some(minute(5))][random.below(3)],
    });
    let groups = groups.collect();
    let maker = |random: &mut Random| match random.below(6) {
        0 => None,
        1 => Some(program(random.id(PROGRAMS + 1))),
        _ => Some(user(random.id(USERS))),
    };
    let makers = match principal {
        PrincipalId::User(_) => Makers::default(),
        PrincipalId::ServicePrincipal(_) => {
            let rotated = random.once_in(3);
            Makers { maker: maker(random), rotated_by: maker(random).filter(|_| rotated) }
        }
    };
    let role = random.role();
    let name = principal.to_string().into();
    Person { name, role, is_active: !random.once_in(8), groups, makers }
}

pub(super) fn people(random: &mut Random) -> People {
    let mut present = Vec::new();
    for principal in principals() {
        if !random.once_in(10) {
            present.push((principal, person(random, principal)));
        }
    }
    People::new(present)
}

pub(super) fn round(random: &mut Random) -> RoundFacts {
    let authors = (0..=random.below(2)).map(|_| principal(random)).collect();
    let owner = (!random.once_in(3)).then(|| principal(random));
    let roots = random.once_in(5).then(|| UserId(random.id(USERS))).into_iter().collect();
    RoundFacts { opened_at: minute(0), authors, owner, roots }
}
