//! What the snapshot holds, and what follows from it. No lock, no clock.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Change, GroupFacts, ServicePrincipalFacts, UserFacts};
use crate::access::principal::{Caller, PrincipalId};
use crate::access::roles::{self, Role};
use crate::db::types::{GatewayId, GroupId, ServicePrincipalId, Timestamp, UserId};

/// A service principal, and its name as a caller, which is made once and not in each call.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) facts: ServicePrincipalFacts,
    actor: Arc<str>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: HashMap<UserId, UserFacts>,
    pub(super) service_principals: HashMap<ServicePrincipalId, Held>,
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
                    self.by_key.remove(&old.facts.key_hash);
                }
                if let Some(facts) = facts {
                    self.by_key.insert(facts.key_hash, id);
                    let actor = format!("sp:{}", facts.name).into();
                    self.service_principals.insert(id, Held { facts, actor });
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
                Some(made(principal, actor, user.password_version, None))
            }
            PrincipalId::ServicePrincipal(id) => {
                let Held { facts, actor } = self.service_principals.get(&id)?;
                let expires_at = facts.expires_at;
                if expires_at.is_some_and(|at| at <= now) {
                    return None;
                }
                let actor = Arc::clone(actor);
                Some(made(principal, actor, facts.key_version, expires_at))
            }
        }
    }

    /// Whether what the caller came with is still good.
    pub(super) fn is_live(&self, caller: &Caller, now: Timestamp) -> bool {
        caller.expires_at.is_none_or(|at| at > now)
            && self
                .caller(caller.principal, now)
                .is_some_and(|current| current.version == caller.version)
            && !self.is_revoked(caller)
            && caller.bound.is_none_or(|gateway| self.gateways.contains_key(&gateway))
    }

    fn is_revoked(&self, caller: &Caller) -> bool {
        let (Some(session), PrincipalId::User(id)) = (caller.session, caller.principal) else {
            return false;
        };
        self.users.get(&id).is_none_or(|user| user.revoked.contains(&session))
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
                self.service_principals.get(&id).map_or(Role::None, |held| held.facts.role)
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
                self.service_principals.get(&id).map_or(Role::None, |held| {
                    roles::on_gateway(global, held.facts.bindings.get(&gateway).copied(), [])
                })
            }
        }
    }

    /// Each call comes here: the bindings themselves are looked at, not the roles that they lead to one by one.
    pub(super) fn best_role(&self, principal: PrincipalId) -> Role {
        let global = self.global_role(principal);
        if global == Role::Admin {
            return global;
        }
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or(global, |user| {
                let own = user.bindings.values().copied().fold(global, Role::max);
                let of_groups = self.groups_of(user).flat_map(|group| &group.bindings);
                of_groups.fold(own, |best, (gateway, role)| {
                    if *role > best && !user.bindings.contains_key(gateway) { *role } else { best }
                })
            }),
            PrincipalId::ServicePrincipal(id) => {
                self.service_principals.get(&id).map_or(global, |held| {
                    held.facts.bindings.values().copied().fold(global, Role::max)
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
                Some(held) => Box::new(held.facts.bindings.keys().copied()),
            },
        }
    }
}

/// A caller by a credential that stands for nothing but itself.
fn made(
    principal: PrincipalId,
    actor: Arc<str>,
    version: i64,
    expires_at: Option<Timestamp>,
) -> Caller {
    Caller {
        principal,
        actor,
        version,
        expires_at,
        session: None,
        bound: None,
        authenticated_at: None,
    }
}
