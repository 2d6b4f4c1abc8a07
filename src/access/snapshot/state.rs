//! Data of the snapshot, and what is derived from it. No lock, no clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bindings::{Bindings, GatewayFacts};
use super::{AccessUpdate, GroupFacts, ServicePrincipalFacts, UserFacts};
use crate::access::principal::{Caller, PrincipalId, WorkCredential};
use crate::access::roles;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, GroupId, ServicePrincipalId, SessionId, UserId};
use crate::labels::{Labels, UNLABELLED};
use crate::role::Role;

/// Version of the key that a service principal is created with.
const FIRST_KEY_VERSION: i64 = 1;

/// A service principal and its name as a caller, which is built once instead of on each call.
#[derive(Debug)]
pub(super) struct ServicePrincipalEntry {
    pub(super) facts: ServicePrincipalFacts,
    actor: Arc<str>,
}

impl ServicePrincipalFacts {
    fn hashes(&self) -> impl Iterator<Item = [u8; 32]> + use<> {
        [self.key_hash].into_iter().chain(self.previous.map(|previous| previous.hash))
    }

    /// Returns when the previous key ends, or `None` if it is not valid.
    fn previous_key_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.previous.map(|previous| previous.ends_at).filter(|ends_at| *ends_at > now)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) users: HashMap<UserId, UserFacts>,
    pub(super) service_principals: HashMap<ServicePrincipalId, ServicePrincipalEntry>,
    pub(super) by_key: HashMap<[u8; 32], ServicePrincipalId>,
    /// Sorted, for lists of all principals.
    pub(super) emails: BTreeMap<Arc<str>, UserId>,
    pub(super) names: BTreeMap<Arc<str>, ServicePrincipalId>,
    /// By issuer, then by subject.
    pub(super) by_identity: HashMap<Arc<str>, HashMap<Arc<str>, UserId>>,
    pub(super) groups: HashMap<GroupId, GroupFacts>,
    pub(super) gateways: HashMap<GatewayId, GatewayFacts>,
    pub(super) by_name: HashMap<Arc<str>, GatewayId>,
    /// The highest role of each caller anywhere, once it was needed.
    best: HashMap<PrincipalId, BestRole>,
    /// Incremented with each change of a group or gateway, which can change the best role of any caller.
    shared: u64,
}

/// The highest role of a caller anywhere, at one value of `State::shared`. It is computed once and then read by each
/// call; a change of the caller itself creates a new one.
#[derive(Debug, Default)]
struct BestRole(AtomicU64);

impl BestRole {
    const ROLES: [Role; 4] = [Role::None, Role::Viewer, Role::Operator, Role::Admin];

    fn get_or_compute(&self, shared: u64, find: impl FnOnce() -> Role) -> Role {
        let known = self.0.load(Ordering::Relaxed);
        // Zero means not computed, since the stored value of `shared` starts at one.
        if known >> 2 == shared + 1 {
            return Self::ROLES[(known & 3) as usize];
        }
        let role = find();
        self.0.store((shared + 1) << 2 | role as u64, Ordering::Relaxed);
        role
    }
}

/// An index by name.
trait NameIndex<I> {
    /// Removes a name if it still belongs to `id`: changes that are read together arrive in any order, so another
    /// object may already have the name.
    fn remove_if(&mut self, name: &Arc<str>, id: I);
}

impl<I: PartialEq> NameIndex<I> for BTreeMap<Arc<str>, I> {
    fn remove_if(&mut self, name: &Arc<str>, id: I) {
        if self.get(name) == Some(&id) {
            self.remove(name);
        }
    }
}

impl<I: PartialEq> NameIndex<I> for HashMap<Arc<str>, I> {
    fn remove_if(&mut self, name: &Arc<str>, id: I) {
        if self.get(name) == Some(&id) {
            self.remove(name);
        }
    }
}

impl State {
    pub(super) fn apply(&mut self, change: AccessUpdate) {
        match change {
            AccessUpdate::User(id, facts) => {
                self.best.remove(&PrincipalId::User(id));
                if let Some(old) = self.users.remove(&id) {
                    self.emails.remove_if(&old.email, id);
                    if let Some((issuer, subject)) = old.identity
                        && let Some(of_issuer) = self.by_identity.get_mut(&issuer)
                    {
                        of_issuer.remove_if(&subject, id);
                    }
                }
                if let Some(facts) = facts {
                    self.emails.insert(Arc::clone(&facts.email), id);
                    self.best.insert(PrincipalId::User(id), BestRole::default());
                    if let Some((issuer, subject)) = facts.identity.clone() {
                        self.by_identity.entry(issuer).or_default().insert(subject, id);
                    }
                    self.users.insert(id, facts);
                }
            }
            AccessUpdate::ServicePrincipal(id, facts) => {
                self.best.remove(&PrincipalId::ServicePrincipal(id));
                let old = self.service_principals.remove(&id).map(|held| held.facts);
                if let Some(old) = &old {
                    for hash in old.hashes() {
                        self.by_key.remove(&hash);
                    }
                    self.names.remove_if(&old.name, id);
                }
                if let Some(facts) = facts {
                    if old.is_some_and(|old| old.used.load(Ordering::Relaxed)) {
                        facts.used.store(true, Ordering::Relaxed);
                    }
                    self.names.insert(Arc::clone(&facts.name), id);
                    self.best.insert(PrincipalId::ServicePrincipal(id), BestRole::default());
                    self.by_key.extend(facts.hashes().map(|hash| (hash, id)));
                    let actor = format!("sp:{}", facts.name).into();
                    self.service_principals.insert(id, ServicePrincipalEntry { facts, actor });
                }
            }
            AccessUpdate::Group(id, facts) => {
                self.shared += 1;
                self.groups.remove(&id);
                if let Some(facts) = facts {
                    self.groups.insert(id, facts);
                }
            }
            AccessUpdate::Gateway(id, facts) => {
                self.shared += 1;
                if let Some(old) = self.gateways.remove(&id) {
                    self.by_name.remove_if(&old.name, id);
                }
                if let Some(facts) = facts {
                    self.by_name.insert(Arc::clone(&facts.name), id);
                    self.gateways.insert(id, facts);
                }
            }
        }
    }

    /// Returns the holder of a key, current or previous.
    pub(super) fn caller_by_key(&self, hash: &[u8; 32], now: Timestamp) -> Option<Caller> {
        let id = *self.by_key.get(hash)?;
        let ServicePrincipalEntry { facts, .. } = self.service_principals.get(&id)?;
        let mut caller = self.caller(PrincipalId::ServicePrincipal(id), now)?;
        if facts.key_hash != *hash {
            let ends_at = facts.previous_key_end(now)?;
            caller.version -= 1;
            caller.expires_at = Some(caller.expires_at.map_or(ends_at, |at| at.min(ends_at)));
        }
        // Only written when it changes: every call reads it, and cores share the cache line.
        if !facts.used.load(Ordering::Relaxed) {
            facts.used.store(true, Ordering::Relaxed);
        }
        Some(caller)
    }

    pub(super) fn caller(&self, principal: PrincipalId, now: Timestamp) -> Option<Caller> {
        match principal {
            PrincipalId::User(id) => {
                let user = self.users.get(&id).filter(|user| user.active)?;
                let actor = Arc::clone(&user.email);
                Some(new_caller(principal, actor, user.password_version, None))
            }
            PrincipalId::ServicePrincipal(id) => {
                let ServicePrincipalEntry { facts, actor } = self.service_principals.get(&id)?;
                let expires_at = facts.expires_at;
                if expires_at.is_some_and(|at| at <= now) {
                    return None;
                }
                let actor = Arc::clone(actor);
                Some(new_caller(principal, actor, facts.key_version, expires_at))
            }
        }
    }

    /// Returns whether the credential of the caller is still valid.
    pub(super) fn is_live(&self, caller: &Caller, now: Timestamp) -> bool {
        caller.expires_at.is_none_or(|at| at > now)
            && self.caller(caller.principal, now).is_some_and(|current| {
                current.version == caller.version || self.uses_previous_key(caller, now)
            })
            && !self.is_revoked(caller)
            && caller.bound_gateway.is_none_or(|gateway| self.gateways.contains_key(&gateway))
    }

    /// Returns whether work that a credential started can continue: its holder can call, and the credential was neither
    /// revoked nor replaced. The planned expiry of the credential does not stop work, nor does the end of a key
    /// overlap.
    pub(super) fn can_continue(&self, credential: &WorkCredential, now: Timestamp) -> bool {
        let Some(current) = self.caller(credential.principal, now) else { return false };
        let replaced = credential.version.is_some_and(|version| {
            version != current.version && !self.is_previous_version(credential.principal, version)
        });
        let there = |gateway| self.gateways.contains_key(&gateway);
        !replaced
            && !self.is_session_revoked(credential.principal, credential.session)
            && credential.bound_gateway.is_none_or(there)
    }

    /// Returns whether a version is that of the previous key, which was replaced with an overlap.
    fn is_previous_version(&self, principal: PrincipalId, version: i64) -> bool {
        let PrincipalId::ServicePrincipal(id) = principal else { return false };
        self.service_principals.get(&id).is_some_and(|ServicePrincipalEntry { facts, .. }| {
            facts.previous.is_some() && version == facts.key_version - 1
        })
    }

    /// Returns whether the caller used the previous key, or a credential created from it, and that key is still valid.
    fn uses_previous_key(&self, caller: &Caller, now: Timestamp) -> bool {
        let PrincipalId::ServicePrincipal(id) = caller.principal else { return false };
        self.service_principals.get(&id).is_some_and(|ServicePrincipalEntry { facts, .. }| {
            caller.version == facts.key_version - 1 && facts.previous_key_end(now).is_some()
        })
    }

    /// Returns whether it is known who holds the key that a caller has used, or that its credential was created from.
    pub(super) fn is_key_holder_known(&self, caller: &Caller) -> bool {
        let PrincipalId::ServicePrincipal(id) = caller.principal else { return true };
        self.service_principals.get(&id).is_some_and(|ServicePrincipalEntry { facts, .. }| {
            let is_of_maker = caller.version == FIRST_KEY_VERSION
                && matches!(facts.maker, Some(PrincipalId::User(_)));
            caller.version == facts.key_version || is_of_maker
        })
    }

    fn is_revoked(&self, caller: &Caller) -> bool {
        self.is_session_revoked(caller.principal, caller.session)
    }

    fn is_session_revoked(&self, principal: PrincipalId, session: Option<SessionId>) -> bool {
        let (Some(session), PrincipalId::User(id)) = (session, principal) else {
            return false;
        };
        self.users.get(&id).is_none_or(|user| user.revoked.contains(&session))
    }

    pub(super) fn groups_of<'a>(
        &'a self,
        user: &'a UserFacts,
    ) -> impl Iterator<Item = &'a GroupFacts> {
        user.groups.iter().filter_map(|member| self.groups.get(&member.group))
    }

    pub(super) fn global_role(&self, principal: PrincipalId) -> Role {
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or(Role::None, |user| {
                roles::global_role(user.role, self.groups_of(user).map(|group| group.role))
            }),
            PrincipalId::ServicePrincipal(id) => {
                self.service_principals.get(&id).map_or(Role::None, |held| held.facts.role)
            }
        }
    }

    /// Returns the labels that decide about access to a gateway.
    pub(super) fn labels(&self, gateway: GatewayId) -> &Labels {
        self.gateways.get(&gateway).map_or(&UNLABELLED, |gateway| &gateway.labels)
    }

    pub(super) fn role_on(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        self.role_with_labels(principal, gateway, self.labels(gateway))
    }

    /// Returns the role on a gateway with these labels. Every call uses this, so it allocates nothing.
    pub(super) fn role_with_labels(
        &self,
        principal: PrincipalId,
        gateway: GatewayId,
        labels: &Labels,
    ) -> Role {
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or(Role::None, |user| {
                let global = self.global_role(principal);
                let groups = self
                    .groups_of(user)
                    .filter_map(|group| group.bindings.role_on(gateway, labels));
                roles::gateway_role(global, user.bindings.role_on(gateway, labels), groups)
            }),
            PrincipalId::ServicePrincipal(id) => {
                self.service_principals.get(&id).map_or(Role::None, |held| {
                    let own = held.facts.bindings.role_on(gateway, labels);
                    roles::gateway_role(held.facts.role, own, [])
                })
            }
        }
    }

    /// Returns the highest role anywhere. Every call uses this before its scope is known.
    pub(super) fn best_role(&self, principal: PrincipalId) -> Role {
        let Some(best) = self.best.get(&principal) else { return Role::None };
        best.get_or_compute(self.shared, || {
            let global = self.global_role(principal);
            if global == Role::Admin {
                return global;
            }
            let bound = self.bound_gateways(principal).into_iter();
            bound.map(|gateway| self.role_on(principal, gateway)).fold(global, Role::max)
        })
    }

    /// Returns the bindings of the principal and of its groups.
    fn bindings_of(&self, principal: PrincipalId) -> Vec<&Bindings> {
        match principal {
            PrincipalId::User(id) => self.users.get(&id).map_or_else(Vec::new, |user| {
                let groups = self.groups_of(user).map(|group| &group.bindings);
                std::iter::once(&user.bindings).chain(groups).collect()
            }),
            PrincipalId::ServicePrincipal(id) => self
                .service_principals
                .get(&id)
                .map(|held| &held.facts.bindings)
                .into_iter()
                .collect(),
        }
    }

    /// Returns whether any role of the principal depends on labels.
    pub(super) fn has_selector_binding(&self, principal: PrincipalId) -> bool {
        self.bindings_of(principal).iter().any(|of| !of.by_selector.is_empty())
    }

    /// Returns every gateway for which the principal or one of its groups has a binding, sorted, without duplicates.
    pub(super) fn bound_gateways(&self, principal: PrincipalId) -> Vec<GatewayId> {
        let bindings = self.bindings_of(principal);
        let mut bound: Vec<GatewayId> =
            bindings.iter().flat_map(|of| of.direct.keys().copied()).collect();
        if bindings.iter().any(|of| !of.by_selector.is_empty()) {
            let picked = self.gateways.iter().filter(|(_, gateway)| {
                bindings.iter().any(|of| of.matching(&gateway.labels).next().is_some())
            });
            bound.extend(picked.map(|(id, _)| *id));
        }
        bound.sort_unstable();
        bound.dedup();
        bound
    }
}

/// Returns a caller whose credential has no session and is not bound to a gateway.
fn new_caller(
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
        bound_gateway: None,
        authenticated_at: None,
    }
}
