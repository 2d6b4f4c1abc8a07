//! What the snapshot holds, and what follows from it. No lock, no clock.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Change, GroupFacts, ServicePrincipalFacts, UserFacts};
use crate::access::principal::{Caller, PrincipalId};
use crate::access::roles::{self, Role};
use crate::db::types::{GatewayId, GroupId, ServicePrincipalId, Timestamp, UserId};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: HashMap<UserId, UserFacts>,
    pub(super) service_principals: HashMap<ServicePrincipalId, ServicePrincipalFacts>,
    pub(super) by_key: HashMap<[u8; 32], ServicePrincipalId>,
    pub(super) groups: HashMap<GroupId, GroupFacts>,
    pub(super) gateways: HashMap<GatewayId, Arc<str>>,
    pub(super) by_name: HashMap<Arc<str>, GatewayId>,
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::User(id, Some(facts)) => {
                self.users.insert(id, facts);
            }
            Change::User(id, None) => {
                self.users.remove(&id);
            }
            Change::ServicePrincipal(id, facts) => {
                if let Some(old) = self.service_principals.remove(&id) {
                    self.by_key.remove(&old.key_hash);
                }
                if let Some(facts) = facts {
                    self.by_key.insert(facts.key_hash, id);
                    self.service_principals.insert(id, facts);
                }
            }
            Change::Group(id, Some(facts)) => {
                self.groups.insert(id, facts);
            }
            Change::Group(id, None) => {
                self.groups.remove(&id);
            }
            Change::Gateway(id, name) => {
                if let Some(old) = self.gateways.remove(&id) {
                    self.by_name.remove(&old);
                }
                if let Some(name) = name {
                    self.by_name.insert(Arc::clone(&name), id);
                    self.gateways.insert(id, name);
                }
            }
        }
    }

    pub(super) fn caller(&self, principal: PrincipalId, now: Timestamp) -> Option<Caller> {
        match principal {
            PrincipalId::User(id) => {
                let user = self.users.get(&id).filter(|user| user.active)?;
                let actor = Arc::clone(&user.email);
                Some(Caller { principal, actor, version: user.password_version, expires_at: None })
            }
            PrincipalId::ServicePrincipal(id) => {
                let found = self.service_principals.get(&id)?;
                if found.expires_at.is_some_and(|at| at <= now) {
                    return None;
                }
                let actor = format!("sp:{}", found.name).into();
                let expires_at = found.expires_at;
                Some(Caller { principal, actor, version: found.key_version, expires_at })
            }
        }
    }

    fn groups_of<'a>(&'a self, user: &'a UserFacts) -> impl Iterator<Item = &'a GroupFacts> {
        user.groups.iter().filter_map(|id| self.groups.get(id))
    }

    pub(super) fn global_role(&self, principal: PrincipalId) -> Role {
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or(Role::None, |user| {
                roles::global(user.role, self.groups_of(user).map(|group| group.role))
            }),
            PrincipalId::ServicePrincipal(id) => {
                self.service_principals.get(&id).map_or(Role::None, |found| found.role)
            }
        }
    }

    pub(super) fn role_on(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        let global = self.global_role(principal);
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or(Role::None, |user| {
                let groups =
                    self.groups_of(user).filter_map(|group| group.bindings.get(&gateway).copied());
                roles::on_gateway(global, user.bindings.get(&gateway).copied(), groups)
            }),
            PrincipalId::ServicePrincipal(id) => {
                self.service_principals.get(&id).map_or(Role::None, |found| {
                    roles::on_gateway(global, found.bindings.get(&gateway).copied(), [])
                })
            }
        }
    }

    /// Every gateway on which a binding of the principal or of its groups stands.
    pub(super) fn bound(&self, principal: PrincipalId) -> Box<dyn Iterator<Item = GatewayId> + '_> {
        match principal {
            PrincipalId::User(id) => match self.users.get(&id) {
                None => Box::new(std::iter::empty()),
                Some(user) => {
                    let groups = self.groups_of(user).flat_map(|group| group.bindings.keys());
                    Box::new(user.bindings.keys().chain(groups).copied())
                }
            },
            PrincipalId::ServicePrincipal(id) => match self.service_principals.get(&id) {
                None => Box::new(std::iter::empty()),
                Some(found) => Box::new(found.bindings.keys().copied()),
            },
        }
    }
}
