//! All principals with what decides about their votes.

use std::sync::Arc;

use super::{Membership, Snapshot};
use crate::access::principal::PrincipalId;
use crate::db::types::{GatewayId, GroupId};
use crate::role::Role;

/// A principal, as seen from one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalOnGateway {
    /// The principal.
    pub principal: PrincipalId,
    /// Name: an e-mail address, or `sp:` and a name.
    pub actor: Arc<str>,
    /// Role on the gateway.
    pub role: Role,
    /// Whether it can call: an account that is active, a key that has not expired.
    pub can_call: bool,
    /// Groups of a user that exist.
    pub groups: Vec<Membership>,
    /// Creator of a service principal; `None` if it is not known.
    pub maker: Option<PrincipalId>,
    /// Who last rotated the key of a service principal; `None` if it is not known.
    pub rotated_by: Option<PrincipalId>,
}

impl Snapshot {
    /// Returns all principals, also those without a role on the gateway, in no particular order.
    #[must_use]
    pub fn principals_on(&self, gateway: GatewayId) -> Vec<PrincipalOnGateway> {
        let (state, now) = (self.read(), self.clock.now());
        // The facts of a user still have a group that was deleted since: a deleted group has no members.
        let exists = |member: &&Membership| state.groups.contains_key(&member.group);
        let users = state.users.iter().map(|(id, user)| {
            let principal = PrincipalId::User(*id);
            PrincipalOnGateway {
                principal,
                actor: Arc::clone(&user.email),
                role: state.role_on(principal, gateway),
                can_call: state.caller(principal, now).is_some(),
                groups: user.groups.iter().filter(exists).copied().collect(),
                maker: None,
                rotated_by: None,
            }
        });
        let others = state.service_principals.iter().map(|(id, held)| {
            let principal = PrincipalId::ServicePrincipal(*id);
            PrincipalOnGateway {
                principal,
                actor: format!("sp:{}", held.facts.name).into(),
                role: state.role_on(principal, gateway),
                can_call: state.caller(principal, now).is_some(),
                groups: Vec::new(),
                maker: held.facts.maker,
                rotated_by: held.facts.rotated_by,
            }
        });
        users.chain(others).collect()
    }

    /// Returns the group with a name.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<GroupId> {
        let state = self.read();
        let found = state.groups.iter().find(|(_, group)| &*group.name == name);
        found.map(|(id, _)| *id)
    }

    /// Returns the name of a group.
    #[must_use]
    pub fn group_name(&self, id: GroupId) -> Option<Arc<str>> {
        self.read().groups.get(&id).map(|group| Arc::clone(&group.name))
    }

    /// Returns the name of a principal as rules name it: an e-mail address, or the name of a service principal.
    #[must_use]
    pub fn principal_name(&self, principal: PrincipalId) -> Option<Arc<str>> {
        let state = self.read();
        match principal {
            PrincipalId::User(id) => state.users.get(&id).map(|user| Arc::clone(&user.email)),
            PrincipalId::ServicePrincipal(id) => {
                state.service_principals.get(&id).map(|held| Arc::clone(&held.facts.name))
            }
        }
    }
}
