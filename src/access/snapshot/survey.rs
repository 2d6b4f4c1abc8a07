//! Queries that are not on the path of a call: explanations of roles, and lists over all principals.

use std::collections::{BTreeMap, HashSet};
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::bindings::Bindings;
use super::state::State;
use super::{Snapshot, VisibleGateways};
use crate::access::principal::PrincipalId;
use crate::access::roles::{self, HolderBindings, RoleExplanation};
use crate::db::types::{GatewayId, GatewayRef};
use crate::labels::{Labels, Selector};
use crate::role::Role;

/// A caller whose role on a gateway changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleChange {
    /// Name.
    pub actor: Arc<str>,
    /// Role before.
    pub from: Role,
    /// Role after.
    pub to: Role,
}

/// Where a list of principals continues.
#[derive(Debug, Clone, Copy)]
pub enum ListPosition<'a> {
    /// At the beginning.
    Start,
    /// After the user with this e-mail address.
    User(&'a str),
    /// After all users and the service principal with this name.
    ServicePrincipal(&'a str),
}

/// A principal with a role on a gateway, and the explanation.
#[derive(Debug, Clone)]
pub struct PrincipalAccess {
    /// The principal.
    pub principal: PrincipalId,
    /// E-mail address of a user, or name of a service principal.
    pub name: Arc<str>,
    /// The role and its explanation.
    pub explanation: RoleExplanation,
}

impl State {
    fn principals(&self) -> impl Iterator<Item = PrincipalId> {
        let users = self.users.keys().copied().map(PrincipalId::User);
        users.chain(self.service_principals.keys().copied().map(PrincipalId::ServicePrincipal))
    }

    fn holding(
        &self,
        name: &Arc<str>,
        role: Role,
        bindings: &Bindings,
        gateway: Option<GatewayId>,
    ) -> HolderBindings {
        let picking = gateway.map(|id| bindings.matching(self.labels(id))).into_iter().flatten();
        HolderBindings {
            name: Arc::clone(name),
            role,
            direct: gateway.and_then(|id| bindings.direct.get(&id).copied()),
            by_selector: picking.map(|by| (by.selector.to_string().into(), by.role)).collect(),
        }
    }

    fn explain(
        &self,
        principal: PrincipalId,
        gateway: Option<GatewayId>,
    ) -> Option<RoleExplanation> {
        let (own, mut groups) = match principal {
            PrincipalId::User(id) => {
                let user = self.users.get(&id)?;
                let groups = self.groups_of(user);
                let groups = groups.map(|g| self.holding(&g.name, g.role, &g.bindings, gateway));
                (self.holding(&user.email, user.role, &user.bindings, gateway), groups.collect())
            }
            PrincipalId::ServicePrincipal(id) => {
                let facts = &self.service_principals.get(&id)?.facts;
                (self.holding(&facts.name, facts.role, &facts.bindings, gateway), Vec::new())
            }
        };
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Some(roles::explain(&own, &groups, gateway.is_some()))
    }
}

/// Returns the entries after a name, in order.
fn entries_after<'a, I: Copy>(
    by_name: &'a BTreeMap<Arc<str>, I>,
    name: Option<&'a str>,
) -> impl Iterator<Item = (&'a Arc<str>, I)> {
    let from = name.map_or(Bound::Unbounded, Bound::Excluded);
    let range = by_name.range::<str, _>((from, Bound::Unbounded));
    range.map(|(name, id)| (name, *id))
}

impl Snapshot {
    /// Returns the visible gateways that `selector` matches, by name, starting at `from`.
    #[must_use]
    pub fn matching_gateways(
        &self,
        visible: &VisibleGateways,
        selector: &Selector,
        from: Bound<&str>,
    ) -> Vec<GatewayRef> {
        let state = self.read();
        let seen: Option<HashSet<GatewayId>> = match visible {
            VisibleGateways::All => None,
            VisibleGateways::Only(ids) => Some(ids.iter().copied().collect()),
        };
        let from: (Bound<&str>, Bound<&str>) = (from, Bound::Unbounded);
        let mut found: Vec<GatewayRef> = state
            .gateways
            .iter()
            .filter(|(id, _)| seen.as_ref().is_none_or(|seen| seen.contains(id)))
            .filter(|(_, gateway)| RangeBounds::<str>::contains(&from, &*gateway.name))
            .filter(|(_, gateway)| selector.matches(&gateway.labels))
            .map(|(id, gateway)| GatewayRef { id: *id, name: Arc::clone(&gateway.name) })
            .collect();
        drop(state);
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Returns and explains the role on a gateway, or the global role without one. `None` if the principal does not
    /// exist.
    #[must_use]
    pub fn explain(
        &self,
        principal: PrincipalId,
        gateway: Option<GatewayId>,
    ) -> Option<RoleExplanation> {
        self.read().explain(principal, gateway)
    }

    /// Returns whether the principal can call at all.
    #[must_use]
    pub fn can_call(&self, principal: PrincipalId) -> bool {
        self.caller(principal).is_some()
    }

    /// Returns the principals that can call and have at least `min_role` on a gateway: users by e-mail address, then
    /// service principals by name, at most `limit`.
    #[must_use]
    pub fn list_access(
        &self,
        gateway: GatewayId,
        min_role: Role,
        after: ListPosition<'_>,
        limit: usize,
    ) -> Vec<PrincipalAccess> {
        let (state, now) = (self.read(), self.clock.now());
        let (users, others) = match after {
            ListPosition::Start => {
                (Some(entries_after(&state.emails, None)), entries_after(&state.names, None))
            }
            ListPosition::User(email) => {
                (Some(entries_after(&state.emails, Some(email))), entries_after(&state.names, None))
            }
            ListPosition::ServicePrincipal(name) => (None, entries_after(&state.names, Some(name))),
        };
        let users = users.into_iter().flatten().map(|(name, id)| (name, PrincipalId::User(id)));
        let others = others.map(|(name, id)| (name, PrincipalId::ServicePrincipal(id)));
        let enough = users.chain(others).filter(|(_, id)| {
            state.role_on(*id, gateway) >= min_role && state.caller(*id, now).is_some()
        });
        let shown = enough.filter_map(|(name, principal)| {
            let explanation = state.explain(principal, Some(gateway))?;
            Some(PrincipalAccess { principal, name: Arc::clone(name), explanation })
        });
        shown.take(limit).collect()
    }

    /// Returns the callers whose role on a gateway changes with another set of labels, by name. Principals that cannot
    /// call are omitted.
    #[must_use]
    pub fn role_changes(
        &self,
        gateway: GatewayId,
        before: &Labels,
        after: &Labels,
    ) -> Vec<RoleChange> {
        let (state, now) = (self.read(), self.clock.now());
        let moved = state.principals().filter(|principal| state.has_selector_binding(*principal));
        let moved = moved.filter_map(|principal| {
            let from = state.role_with_labels(principal, gateway, before);
            let to = state.role_with_labels(principal, gateway, after);
            let actor = Arc::clone(state.caller(principal, now)?.actor());
            (from != to).then_some(RoleChange { actor, from, to })
        });
        let mut moved: Vec<RoleChange> = moved.collect();
        moved.sort_unstable();
        moved
    }
}
