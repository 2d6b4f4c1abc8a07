//! Questions about everyone at once. They look through the whole fleet, so no call asks them on its way.

use std::sync::Arc;

use super::Snapshot;
use super::state::State;
use crate::access::principal::PrincipalId;
use crate::access::roles::Role;
use crate::db::types::GatewayId;
use crate::labels::Labels;

/// A caller whose role somewhere changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    /// Its name.
    pub actor: Arc<str>,
    /// The role before.
    pub from: Role,
    /// The role after.
    pub to: Role,
}

impl State {
    fn principals(&self) -> impl Iterator<Item = PrincipalId> {
        let users = self.users.keys().copied().map(PrincipalId::User);
        users.chain(self.service_principals.keys().copied().map(PrincipalId::ServicePrincipal))
    }
}

impl Snapshot {
    /// Whose role on a gateway another set of labels changes, by name. Those who can't call at all are left out.
    #[must_use]
    pub fn moved_by_labels(
        &self,
        gateway: GatewayId,
        before: &Labels,
        after: &Labels,
    ) -> Vec<Moved> {
        let (state, now) = (self.read(), self.clock.now());
        let moved = state.principals().filter(|principal| state.is_picked_by_selector(*principal));
        let moved = moved.filter_map(|principal| {
            let from = state.role_with(principal, gateway, before);
            let to = state.role_with(principal, gateway, after);
            let actor = Arc::clone(state.caller(principal, now)?.actor());
            (from != to).then_some(Moved { actor, from, to })
        });
        let mut moved: Vec<Moved> = moved.collect();
        moved.sort_unstable();
        moved
    }
}
