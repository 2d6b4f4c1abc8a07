//! Roles in a random fleet, compared with a slow model that is written differently.
//!
//! The model applies the rules one by one, ranks all inputs of a role, and takes the first. It has no index, no cache
//! and does not use the selector parser: it reads the text of selectors.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::db::types::GroupId;
use crate::labels::Labels;

const GATEWAYS: i64 = 4;
const GROUPS: usize = 3;
const USERS: i64 = 3;
const SERVICE_PRINCIPALS: i64 = 2;

/// Roles of one holder: a global role, roles by gateway, roles by the text of a selector.
#[derive(Debug, Clone)]
struct HolderModel {
    role: Role,
    direct: BTreeMap<i64, Role>,
    by_selector: Vec<(String, Role)>,
}

/// The whole fleet, as simple as possible.
#[derive(Debug, Clone)]
struct World {
    labels: Vec<BTreeMap<&'static str, &'static str>>,
    groups: Vec<HolderModel>,
    users: Vec<(HolderModel, Vec<usize>)>,
    service_principals: Vec<HolderModel>,
}

fn at(id: i64) -> usize {
    usize::try_from(id).unwrap()
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::None, Role::Viewer, Role::Operator, Role::Admin])
}

/// Returns this role three times out of four, so that most holders are alike.
fn weighted_role(most: Role) -> impl Strategy<Value = Role> {
    prop_oneof![3 => Just(most), 1 => role()]
}

fn selector() -> impl Strategy<Value = String> {
    let requirements = [
        "access/a",
        "access/a=x",
        "access/a=y",
        "access/b in (x,y)",
        "access/b=y",
        "access/c",
        "access/a in (y,z)",
    ];
    subsequence(requirements.to_vec(), 1..=2).prop_map(|parts| parts.join(","))
}

fn has() -> impl Strategy<Value = HolderModel> {
    let direct = btree_map(0..GATEWAYS, role(), 0..=2);
    let by_selector = vec((selector(), role()), 0..=3);
    (weighted_role(Role::None), direct, by_selector)
        .prop_map(|(role, direct, by_selector)| HolderModel { role, direct, by_selector })
}

fn world() -> impl Strategy<Value = World> {
    let labels = btree_map(select(vec!["access/a", "access/b"]), select(vec!["x", "y"]), 0..=2);
    let user = (has(), subsequence((0..GROUPS).collect::<Vec<_>>(), 0..=GROUPS));
    (
        vec(labels, at(GATEWAYS)),
        vec(has(), GROUPS),
        vec(user, at(USERS)),
        vec(has(), at(SERVICE_PRINCIPALS)),
    )
        .prop_map(|(labels, groups, users, service_principals)| World {
            labels,
            groups,
            users,
            service_principals,
        })
}

// Conversion of the model into facts of the snapshot.

fn bindings(has: &HolderModel) -> Bindings {
    let direct = has.direct.iter().map(|(id, role)| (GatewayId(*id), *role)).collect();
    let by = |(text, role): &(String, Role)| SelectorRole {
        selector: Selector::parse_access("selector", text).unwrap(),
        role: *role,
    };
    Bindings { direct, by_selector: has.by_selector.iter().map(by).collect() }
}

fn member_of(group: i64) -> Membership {
    Membership { group: GroupId(group), joined_at: None }
}

fn name(gateway: i64) -> String {
    format!("gateway-{gateway}")
}

fn changes(world: &World) -> Vec<AccessUpdate> {
    let mut changes = Vec::new();
    for (id, (has, groups)) in (0..).zip(&world.users) {
        let facts = UserFacts {
            identity: None,
            revoked: Vec::new(),
            email: format!("user-{id}").into(),
            role: has.role,
            active: true,
            password_version: 1,
            groups: groups.iter().map(|at| member_of(i64::try_from(*at).unwrap())).collect(),
            bindings: bindings(has),
        };
        changes.push(AccessUpdate::User(UserId(id), Some(facts)));
    }
    for (id, has) in (0..).zip(&world.service_principals) {
        let facts = ServicePrincipalFacts {
            previous: None,
            name: format!("program-{id}").into(),
            role: has.role,
            key_hash: [u8::try_from(id).unwrap(); 32],
            key_version: 1,
            expires_at: None,
            bindings: bindings(has),
            used: Arc::default(),
            maker: None,
            rotated_by: None,
        };
        changes.push(AccessUpdate::ServicePrincipal(ServicePrincipalId(id), Some(facts)));
    }
    for (id, has) in (0..).zip(&world.groups) {
        let facts = GroupFacts {
            name: format!("group-{id}").into(),
            role: has.role,
            bindings: bindings(has),
        };
        changes.push(AccessUpdate::Group(GroupId(id), Some(facts)));
    }
    for (id, labels) in (0..).zip(&world.labels) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = Labels::parse("labels", labels).unwrap();
        let facts = GatewayFacts { name: name(id).into(), labels };
        changes.push(AccessUpdate::Gateway(GatewayId(id), Some(facts)));
    }
    changes
}

// The model.

fn principals() -> Vec<PrincipalId> {
    let users = (0..USERS).map(|id| PrincipalId::User(UserId(id)));
    let others =
        (0..SERVICE_PRINCIPALS).map(|id| PrincipalId::ServicePrincipal(ServicePrincipalId(id)));
    users.chain(others).collect()
}

impl World {
    fn own_and_groups(&self, principal: PrincipalId) -> (&HolderModel, Vec<&HolderModel>) {
        match principal {
            PrincipalId::User(id) => {
                let (has, groups) = &self.users[at(id.0)];
                (has, groups.iter().map(|at| &self.groups[*at]).collect())
            }
            PrincipalId::ServicePrincipal(id) => (&self.service_principals[at(id.0)], vec![]),
        }
    }

    /// Reads `key`, `key=value` and `key in (value,value)`.
    fn picks(&self, selector: &str, gateway: i64) -> bool {
        let labels = &self.labels[at(gateway)];
        parts(selector).iter().all(|part| {
            let key = part.split(['=', ' ']).next().unwrap();
            let values =
                part.strip_prefix(key).unwrap().trim_matches([' ', '=', 'i', 'n', '(', ')']);
            let found = labels.get(key);
            found.is_some_and(|found| values.is_empty() || values.split(',').any(|v| v == *found))
        })
    }

    fn role(&self, principal: PrincipalId, gateway: Option<i64>) -> Role {
        let (own, groups) = self.own_and_groups(principal);
        let mut last_step = vec![own.role];
        last_step.extend(groups.iter().map(|group| group.role));
        last_step.sort();
        let last_step = *last_step.last().unwrap();
        let Some(gateway) = gateway else { return last_step };
        let says = |has: &HolderModel| {
            if let Some(role) = has.direct.get(&gateway) {
                return vec![*role];
            }
            let picked = has.by_selector.iter().filter(|(text, _)| self.picks(text, gateway));
            let mut roles: Vec<Role> = picked.map(|(_, role)| *role).collect();
            roles.sort();
            roles.truncate(1);
            roles
        };
        // Sorted by rank, and within a rank by precedence; the first is the role.
        let mut said: Vec<(u8, std::cmp::Reverse<Role>)> = vec![(3, std::cmp::Reverse(last_step))];
        if last_step == Role::Admin {
            said.push((0, std::cmp::Reverse(Role::Admin)));
        }
        said.extend(says(own).into_iter().map(|role| (1, std::cmp::Reverse(role))));
        let of_groups = groups.into_iter().flat_map(says);
        said.extend(of_groups.map(|role| (2, std::cmp::Reverse(role))));
        said.into_iter().min().unwrap().1.0
    }
}

/// Splits at the commas outside parentheses.
fn parts(selector: &str) -> Vec<String> {
    let (mut parts, mut inside) = (vec![String::new()], false);
    for c in selector.chars() {
        inside = (inside || c == '(') && c != ')';
        if c == ',' && !inside {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    parts
}

// Comparison of both.

fn compare(snapshot: &Snapshot, world: &World) {
    for principal in principals() {
        let global = world.role(principal, None);
        assert_eq!(snapshot.global_role(principal), global);
        let explanation = snapshot.explain(principal, None).unwrap();
        assert_eq!((explanation.role, explanation.deciding_step().role), (global, global));
        let roles: Vec<(i64, Role)> =
            (0..GATEWAYS).map(|id| (id, world.role(principal, Some(id)))).collect();
        for (id, role) in &roles {
            let gateway = GatewayId(*id);
            assert_eq!(snapshot.role_on(principal, gateway), *role, "{principal} {id}");
            assert_eq!(snapshot.find_gateway(principal, &name(*id)).unwrap().1, *role);
            let explanation = snapshot.explain(principal, Some(gateway)).unwrap();
            let told = (explanation.role, explanation.deciding_step().role, explanation.global);
            assert_eq!(told, (*role, *role, global), "{principal} {id} {explanation:?}");
        }
        let best = roles.iter().map(|(_, role)| *role).chain([global]).max().unwrap();
        assert_eq!(snapshot.best_role(principal), best, "{principal}");
        for least in [Role::Viewer, Role::Operator, Role::Admin] {
            let enough: Vec<GatewayId> = roles
                .iter()
                .filter(|(_, role)| *role >= least)
                .map(|(id, _)| GatewayId(*id))
                .collect();
            // `All` includes gateways that are registered later: the global role must be sufficient for those.
            let all = global >= least && enough.len() == roles.len();
            let expected = if all { VisibleGateways::All } else { VisibleGateways::Only(enough) };
            assert_eq!(
                snapshot.visible_gateways(principal, least),
                expected,
                "{principal} {least}"
            );
        }
        let seen: Vec<(Arc<str>, Role)> = roles
            .iter()
            .filter(|(_, role)| *role > Role::None)
            .map(|(id, role)| (name(*id).into(), *role))
            .collect();
        for limit in [0, 2, at(GATEWAYS)] {
            let first = seen.iter().take(limit).cloned().collect();
            assert_eq!(snapshot.gateway_roles(principal, limit), (first, seen.len() > limit));
        }
    }
    for (id, least) in [(0, Role::None), (1, Role::Viewer), (2, Role::Admin)] {
        let expected: Vec<PrincipalId> = principals()
            .into_iter()
            .filter(|principal| world.role(*principal, Some(id)) >= least)
            .collect();
        let mut found = Vec::new();
        loop {
            let after = match found.last() {
                None => ListPosition::Start,
                Some(PrincipalAccess { principal: PrincipalId::User(_), name, .. }) => {
                    ListPosition::User(name)
                }
                Some(PrincipalAccess { name, .. }) => ListPosition::ServicePrincipal(name),
            };
            let page = snapshot.list_access(GatewayId(id), least, after, 2);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        let found: Vec<PrincipalId> = found.into_iter().map(|access| access.principal).collect();
        assert_eq!(found, expected, "{id} {least}");
    }
}

fn new_snapshot(changes: Vec<AccessUpdate>) -> Snapshot {
    let snapshot = Snapshot::new(Clock::system(), Duration::from_hours(1));
    snapshot.apply(1, changes, Some(Clock::system().since_boot()));
    snapshot
}

proptest! {
    #[test]
    fn every_result_equals_that_of_the_reference_model(world in world()) {
        compare(&new_snapshot(changes(&world)), &world);
    }

    /// Cached results are computed again after each change of any kind.
    #[test]
    fn cached_results_are_recomputed_after_every_change(
        before in world(),
        after in world(),
        order in Just((0..changes_in_a_world()).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let snapshot = new_snapshot(changes(&before));
        let mut world = before;
        let mut changes: Vec<Option<AccessUpdate>> = changes(&after).into_iter().map(Some).collect();
        for next in order {
            let change = changes[next].take().unwrap();
            match &change {
                AccessUpdate::User(id, _) => world.users[at(id.0)] = after.users[at(id.0)].clone(),
                AccessUpdate::ServicePrincipal(id, _) => {
                    world.service_principals[at(id.0)] = after.service_principals[at(id.0)].clone();
                }
                AccessUpdate::Group(id, _) => world.groups[at(id.0)] = after.groups[at(id.0)].clone(),
                AccessUpdate::Gateway(id, _) => world.labels[at(id.0)] = after.labels[at(id.0)].clone(),
            }
            snapshot.apply(2, vec![change], Some(Duration::ZERO));
            compare(&snapshot, &world);
        }
    }

    /// The callers affected by a change of labels are those whose roles before and after it differ.
    #[test]
    fn a_label_change_affects_exactly_the_callers_whose_role_differs(before in world(), after in world()) {
        let changed = World { labels: after.labels, ..before.clone() };
        let snapshot = new_snapshot(changes(&before));
        let labels = |world: &World| {
            let of = world.labels[0].iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Labels::parse("labels", of).unwrap()
        };
        let told = snapshot.role_changes(GatewayId(0), &labels(&before), &labels(&changed));
        let mut expected = Vec::new();
        for principal in principals() {
            let (from, to) = (before.role(principal, Some(0)), changed.role(principal, Some(0)));
            if from != to {
                let actor = Arc::clone(snapshot.caller(principal).unwrap().actor());
                expected.push(RoleChange { actor, from, to });
            }
        }
        expected.sort();
        prop_assert_eq!(told, expected);
    }
}

fn changes_in_a_world() -> usize {
    at(GATEWAYS + USERS + SERVICE_PRINCIPALS) + GROUPS
}

#[test]
fn an_email_belongs_to_its_newest_account_in_any_order_of_changes() {
    let user = |id: i64, email: &str| {
        let facts = UserFacts {
            identity: None,
            revoked: Vec::new(),
            email: email.into(),
            role: Role::Viewer,
            active: true,
            password_version: 1,
            groups: Vec::new(),
            bindings: Bindings::default(),
        };
        AccessUpdate::User(UserId(id), Some(facts))
    };
    let snapshot = new_snapshot(vec![user(1, "ana")]);
    // The old account is deleted and a new one has its address; the change of the new one is read first.
    snapshot.apply(
        2,
        vec![user(2, "ana"), AccessUpdate::User(UserId(1), None)],
        Some(Duration::ZERO),
    );
    assert_eq!(snapshot.user_by_email("ana"), Some(UserId(2)));
    assert!(snapshot.caller(PrincipalId::User(UserId(2))).is_some());
    assert!(snapshot.caller(PrincipalId::User(UserId(1))).is_none());
    snapshot.apply(3, vec![user(2, "bea")], Some(Duration::ZERO));
    assert_eq!(
        (snapshot.user_by_email("ana"), snapshot.user_by_email("bea")),
        (None, Some(UserId(2)))
    );
}
