//! Measures access checks on the access data of a large fleet.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoreguard::access::principal::PrincipalId;
use shoreguard::access::snapshot::{
    AccessUpdate, Bindings, GatewayFacts, GroupFacts, Membership, SelectorRole, Snapshot, UserFacts,
};
use shoreguard::clock::Clock;
use shoreguard::db::types::{GatewayId, GroupId, UserId};
use shoreguard::labels::{Labels, Selector};
use shoreguard::role::Role;

use crate::figure::{Figure, Target};
use crate::{Bench, BoxError};

const USERS: i64 = 10_000;
const GATEWAYS: i64 = 1_000;
const GROUPS: i64 = 100;
/// With those of groups, 10,000 users have 91,000 bindings without selectors.
const BINDINGS_OF_A_USER: i64 = 9;
const GROUPS_OF_A_USER: i64 = 2;
const BINDINGS_OF_A_GROUP: i64 = 10;
/// Selector bindings of each user and group, in the runs that have selectors.
const SELECTORS: i64 = 2;
/// Number of environments and of zones in the labels of gateways.
const LABELS: i64 = 10;
const CHECK_US_MAX: f64 = 0.4;
const FIRST_CHECK_US_MAX: f64 = 20.0;
/// Checks between two reads of the clock.
const CHECKS: u32 = 1_000;

/// A pseudo-random generator that returns the same numbers in each run.
struct RandomNumbers(u64);

impl RandomNumbers {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap_or_default() % limit
    }
}

fn bindings(numbers: &mut RandomNumbers, count: i64, selectors: i64) -> Bindings {
    let mut direct = HashMap::new();
    while i64::try_from(direct.len()).is_ok_and(|length| length < count) {
        direct.insert(GatewayId(numbers.below(GATEWAYS)), Role::Operator);
    }
    let by_selector = (0..selectors).filter_map(|_| {
        let (env, zone) = (numbers.below(LABELS), numbers.below(LABELS));
        let text = format!("access/env={env},access/zone in ({zone},x)");
        Some(SelectorRole {
            selector: Selector::parse_access("selector", &text).ok()?,
            role: Role::Operator,
        })
    });
    Bindings { by_selector: by_selector.collect(), direct }
}

fn gateway_name(gateway: i64) -> String {
    format!("gateway-{gateway:04}")
}

fn labels(gateway: i64) -> Result<Labels, BoxError> {
    let labels = [("access/env", gateway % LABELS), ("access/zone", gateway / LABELS % LABELS)];
    Ok(Labels::parse("labels", labels.map(|(key, value)| (key.to_owned(), value.to_string())))?)
}

/// Returns users with bindings of their own and of their groups, with `selectors` selector bindings each.
fn snapshot(users: i64, selectors: i64) -> Result<Snapshot, BoxError> {
    let mut numbers = RandomNumbers(7);
    let snapshot = Snapshot::new(Clock::system(), Duration::from_hours(1));
    let mut changes = Vec::new();
    for id in 0..GATEWAYS {
        let facts = GatewayFacts { name: gateway_name(id).into(), labels: labels(id)? };
        changes.push(AccessUpdate::Gateway(GatewayId(id), Some(facts)));
    }
    for id in 0..GROUPS {
        let bindings = bindings(&mut numbers, BINDINGS_OF_A_GROUP, selectors);
        let name = format!("group-{id}").into();
        let facts = GroupFacts { name, role: Role::None, bindings };
        changes.push(AccessUpdate::Group(GroupId(id), Some(facts)));
    }
    for id in 0..users {
        let groups = (0..GROUPS_OF_A_USER)
            .map(|_| Membership { group: GroupId(numbers.below(GROUPS)), joined_at: None })
            .collect();
        let facts = UserFacts {
            revoked: Vec::new(),
            identity: None,
            email: Arc::from(format!("user-{id}@example.com")),
            role: Role::Viewer,
            active: true,
            password_version: 1,
            groups,
            bindings: bindings(&mut numbers, BINDINGS_OF_A_USER, selectors),
        };
        changes.push(AccessUpdate::User(UserId(id), Some(facts)));
    }
    snapshot.apply(1, changes, Some(Clock::system().since_boot()));
    Ok(snapshot)
}

/// Times a check for callers and gateways in random order.
fn measure(bench: &Bench, users: i64, mut check: impl FnMut(PrincipalId, i64) -> Role) -> Figure {
    let (mut figure, mut numbers) = (Figure::default(), RandomNumbers(11));
    for _ in 0..bench.options.rounds {
        let (begun, mut checks) = (Instant::now(), 0_u32);
        while begun.elapsed() < bench.options.load_duration() / 4 {
            for _ in 0..CHECKS {
                let principal = PrincipalId::User(UserId(numbers.below(users)));
                black_box(check(principal, numbers.below(GATEWAYS)));
            }
            checks += CHECKS;
        }
        figure.add(begun.elapsed().as_secs_f64() * 1e6 / f64::from(checks));
    }
    figure
}

/// Measures the check of the role anywhere, the check of the role on a gateway, and both together, as each call does
/// them.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    let gateways: Vec<String> = (0..GATEWAYS).map(gateway_name).collect();
    let named = |gateway: i64| usize::try_from(gateway).map_or("", |at| gateways[at].as_str());
    for (selectors, with) in [(0, ""), (SELECTORS, ", with selectors")] {
        let snapshot = snapshot(USERS, selectors)?;
        let target = Target::AtMost(CHECK_US_MAX);
        let on = |principal, gateway| snapshot.role_on(principal, GatewayId(gateway));
        measure(bench, USERS, on).print(&format!("role on a gateway{with}"), "us", target)?;
        let by_name = |principal, gateway| {
            snapshot.find_gateway(principal, named(gateway)).map_or(Role::None, |(_, role)| role)
        };
        measure(bench, USERS, by_name).print(
            &format!("role on a named gateway{with}"),
            "us",
            target,
        )?;
        let best = |principal, _| snapshot.best_role(principal);
        // Fills the cache, so that the measured calls only read it.
        (0..USERS).for_each(|id| _ = best(PrincipalId::User(UserId(id)), 0));
        measure(bench, USERS, best).print(&format!("role anywhere{with}"), "us", target)?;
        let both = |principal, gateway| best(principal, gateway).min(by_name(principal, gateway));
        measure(bench, USERS, both).print(
            &format!("gate and scope of a call{with}"),
            "us",
            target,
        )?;
    }
    let first = first_check(bench, USERS)?;
    first.print("role anywhere, first after a change", "us", Target::AtMost(FIRST_CHECK_US_MAX))
}

/// Returns the number of bindings of this number of users and of their groups.
pub(super) fn bindings_of(users: i64) -> i64 {
    users * (BINDINGS_OF_A_USER + SELECTORS) + GROUPS * (BINDINGS_OF_A_GROUP + SELECTORS)
}

/// Measures the check of the role on a named gateway, with a number of users.
pub(super) fn measure_named(bench: &Bench, users: i64) -> Result<Figure, BoxError> {
    let gateways: Vec<String> = (0..GATEWAYS).map(gateway_name).collect();
    let named = |gateway: i64| usize::try_from(gateway).map_or("", |at| gateways[at].as_str());
    let snapshot = snapshot(users, SELECTORS)?;
    Ok(measure(bench, users, |principal, gateway| {
        snapshot.find_gateway(principal, named(gateway)).map_or(Role::None, |(_, role)| role)
    }))
}

/// Measures the first call after a change of a gateway, which computes the highest role again.
pub(super) fn first_check(bench: &Bench, users: i64) -> Result<Figure, BoxError> {
    let snapshot = snapshot(users, SELECTORS)?;
    let (mut figure, mut numbers) = (Figure::default(), RandomNumbers(13));
    for _ in 0..bench.options.rounds.max(20) {
        let facts = GatewayFacts { name: gateway_name(0).into(), labels: labels(0)? };
        let change = AccessUpdate::Gateway(GatewayId(0), Some(facts));
        snapshot.apply(2, vec![change], Some(Clock::system().since_boot()));
        let principal = PrincipalId::User(UserId(numbers.below(users)));
        let begun = Instant::now();
        black_box(snapshot.best_role(principal));
        figure.add(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(figure)
}
