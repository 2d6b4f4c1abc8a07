//! Access data in memory, so that a check costs no query.
//!
//! Invariants
//! - it is updated with increments from the change log; everything is loaded at startup, and after missed increments;
//! - `feed` updates it; it loads nothing itself;
//! - every check fails when the data is older than the freshness limit (T13).

mod bindings;
mod facts;
mod freshness;
mod people;
mod state;
mod survey;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

use super::principal::{Caller, PrincipalId, WorkCredential};
use crate::clock::{Clock, Timestamp};
use crate::db::types::{GatewayId, GatewayRef, ServicePrincipalId, UserId};
use crate::error::Error;
use crate::labels::Selector;
use crate::role::Role;

pub use self::bindings::{Bindings, GatewayFacts, SelectorRole};
pub use self::facts::{
    AccessUpdate, GroupFacts, Membership, PreviousKey, ServicePrincipalFacts, UserFacts,
};
use self::freshness::Freshness;
pub use self::people::PrincipalOnGateway;
use self::state::State;
pub use self::survey::{ListPosition, PrincipalAccess, RoleChange};

/// The gateways on which a caller holds a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleGateways {
    /// All, including gateways that are registered later.
    All,
    /// Only these.
    Only(Vec<GatewayId>),
}

/// Access data of the whole fleet.
#[derive(Debug)]
pub struct Snapshot {
    state: RwLock<State>,
    revision: watch::Sender<i64>,
    /// Incremented with each change of the state, while the state is locked.
    version: AtomicU64,
    freshness: Freshness,
    clock: Clock,
}

impl Snapshot {
    /// Creates an empty snapshot, stale until it is fed. `stale_after` is how long it can be unconfirmed.
    #[must_use]
    pub fn new(clock: Clock, stale_after: Duration) -> Self {
        Self {
            state: RwLock::default(),
            revision: watch::Sender::new(0),
            version: AtomicU64::new(0),
            freshness: Freshness::new(clock.clone(), stale_after),
            clock,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write()
    }

    /// Returns the revision of the last applied change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Returns a number that changes with each change of the access data: results of checks under the same number are
    /// still valid, except for expiries.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns a receiver that is notified whenever the snapshot has changed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Applies changes up to `revision`, which was read at `read_at` (since boot); `None` if more are known to follow.
    pub fn apply(&self, revision: i64, changes: Vec<AccessUpdate>, read_at: Option<Duration>) {
        let moved = !changes.is_empty();
        if moved {
            let mut state = self.write();
            for change in changes {
                state.apply(change);
            }
            self.version.fetch_add(1, Ordering::Release);
        }
        if let Some(read_at) = read_at {
            self.freshness.confirm(read_at);
        }
        if moved || revision > self.revision() {
            self.revision.send_modify(|at| *at = revision.max(*at));
        }
    }

    /// Makes the snapshot stale until the next read, after a committed change that could not be read: every check fails
    /// until then.
    pub fn mark_unconfirmed(&self) {
        self.freshness.mark_unconfirmed();
    }

    /// Replaces everything with the data of `revision`, which was read at `read_at` (since boot).
    pub fn replace(&self, revision: i64, everything: Vec<AccessUpdate>, read_at: Duration) {
        let mut fresh = State::default();
        for change in everything {
            fresh.apply(change);
        }
        let mut state = self.write();
        let replaced = std::mem::replace(&mut *state, fresh);
        self.version.fetch_add(1, Ordering::Release);
        drop(state);
        self.freshness.confirm(read_at);
        self.revision.send_modify(|at| *at = revision.max(*at));
        // Dropped without the lock.
        drop(replaced);
    }

    /// Returns the time since the last confirmation.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.freshness.age()
    }

    /// Checks that the data is confirmed to be fresh.
    pub fn check_fresh(&self) -> Result<(), Error> {
        self.freshness.check()
    }

    /// Returns the holder of an API key. Constant work for known and unknown keys: one lookup of the hash.
    pub(in crate::access) fn caller_by_key_hash(&self, hash: &[u8; 32]) -> Option<Caller> {
        self.read().caller_by_key(hash, self.clock.now())
    }

    /// Returns the service principals whose keys were used since the last call.
    #[must_use]
    pub fn take_used_keys(&self) -> Vec<ServicePrincipalId> {
        let state = self.read();
        let used = state.service_principals.iter();
        used.filter(|(_, held)| held.facts.used.swap(false, Ordering::Relaxed))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Returns the caller of a principal, if the principal can call.
    pub(in crate::access) fn caller(&self, principal: PrincipalId) -> Option<Caller> {
        self.read().caller(principal, self.clock.now())
    }

    /// Returns the caller of a certificate, if the certificate has not expired and the principal can call. The caller
    /// expires with the certificate.
    pub(in crate::access) fn caller_by_certificate(
        &self,
        principal: PrincipalId,
        ends_at: Timestamp,
    ) -> Option<Caller> {
        let now = self.clock.now();
        if ends_at <= now {
            return None;
        }
        Some(self.read().caller(principal, now)?.expiring_by(ends_at))
    }

    /// Returns the user with an e-mail address.
    #[must_use]
    pub fn user_by_email(&self, email: &str) -> Option<UserId> {
        self.read().emails.get(email).copied()
    }

    /// Returns the service principal with a name.
    #[must_use]
    pub fn service_principal_by_name(&self, name: &str) -> Option<ServicePrincipalId> {
        self.read().names.get(name).copied()
    }

    /// Returns the user that an identity is linked to, even if the user cannot call.
    pub(in crate::access) fn linked_user(&self, issuer: &str, subject: &str) -> Option<UserId> {
        self.read().by_identity.get(issuer)?.get(subject).copied()
    }

    /// Returns the service principal with a name and the version of its key, if it can call.
    #[must_use]
    pub fn live_service_principal(&self, name: &str) -> Option<(ServicePrincipalId, i64)> {
        let state = self.read();
        let id = *state.names.get(name)?;
        let caller = state.caller(PrincipalId::ServicePrincipal(id), self.clock.now())?;
        Some((id, caller.version))
    }

    /// Returns whether a caller can still call: it exists, is active, and its credential is neither expired nor
    /// replaced.
    #[must_use]
    pub fn is_live(&self, caller: &Caller) -> bool {
        self.read().is_live(caller, self.clock.now())
    }

    /// Returns whether it is known who holds the key of a caller. Of a service principal, the last rotator holds the
    /// newest key, and the maker the first one. Who holds another one, which can be valid during an overlap, is not
    /// stored. Always true for a user.
    #[must_use]
    pub fn is_key_holder_known(&self, caller: &Caller) -> bool {
        self.read().is_key_holder_known(caller)
    }

    /// Returns whether work that a credential started can continue, regardless of the planned expiry of the credential.
    #[must_use]
    pub fn can_continue(&self, credential: &WorkCredential) -> bool {
        self.read().can_continue(credential, self.clock.now())
    }

    /// Returns the global role.
    #[must_use]
    pub fn global_role(&self, principal: PrincipalId) -> Role {
        self.read().global_role(principal)
    }

    /// Returns the role on a gateway.
    #[must_use]
    pub fn role_on(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        self.read().role_on(principal, gateway)
    }

    /// Returns the role on a gateway that may have been removed: only global admins can see what is stored of a removed
    /// gateway.
    #[must_use]
    pub fn role_on_maybe_removed(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        let state = self.read();
        if state.gateways.contains_key(&gateway) {
            return state.role_on(principal, gateway);
        }
        match state.global_role(principal) {
            Role::Admin => Role::Admin,
            Role::None | Role::Viewer | Role::Operator => Role::None,
        }
    }

    /// Returns the gateway with a name, and the role on it.
    #[must_use]
    pub fn find_gateway(&self, principal: PrincipalId, name: &str) -> Option<(GatewayRef, Role)> {
        let state = self.read();
        let (name, id) = state.by_name.get_key_value(name)?;
        let gateway = GatewayRef { id: *id, name: Arc::clone(name) };
        Some((gateway, state.role_on(principal, *id)))
    }

    /// Returns the id of the gateway with a name, without an access check: for background jobs.
    #[must_use]
    pub fn gateway_id(&self, name: &str) -> Option<GatewayId> {
        self.read().by_name.get(name).copied()
    }

    /// Returns the name of a gateway.
    #[must_use]
    pub fn gateway_name(&self, id: GatewayId) -> Option<Arc<str>> {
        self.read().gateways.get(&id).map(|gateway| Arc::clone(&gateway.name))
    }

    /// Returns whether a selector matches the current labels of a gateway.
    #[must_use]
    pub fn matches(&self, selector: &Selector, gateway: GatewayId) -> bool {
        selector.matches(self.read().labels(gateway))
    }

    /// Returns the highest role that the caller holds anywhere, which the gate checks before a body is read.
    #[must_use]
    pub fn best_role(&self, principal: PrincipalId) -> Role {
        self.read().best_role(principal)
    }

    /// Returns the gateways on which the caller holds at least `min_role`.
    #[must_use]
    pub fn visible_gateways(&self, principal: PrincipalId, min_role: Role) -> VisibleGateways {
        let state = self.read();
        let global = state.global_role(principal);
        if global == Role::Admin {
            return VisibleGateways::All;
        }
        let mut bound = state.bound_gateways(principal);
        let enough = |id: &GatewayId| state.role_on(principal, *id) >= min_role;
        if global < min_role {
            bound.retain(enough);
            return VisibleGateways::Only(bound);
        }
        if bound.iter().all(enough) {
            return VisibleGateways::All;
        }
        let mut all: Vec<GatewayId> = state.gateways.keys().copied().filter(enough).collect();
        all.sort_unstable();
        VisibleGateways::Only(all)
    }

    /// Returns name and role of each gateway that the caller can see, by name, at most `limit`, and whether there are
    /// more.
    #[must_use]
    pub fn gateway_roles(
        &self,
        principal: PrincipalId,
        limit: usize,
    ) -> (Vec<(Arc<str>, Role)>, bool) {
        let state = self.read();
        let role = |id: GatewayId| state.role_on(principal, id);
        let mut seen: Vec<(Arc<str>, Role)> = if state.global_role(principal) == Role::None {
            // Without a global role, only bindings give access: a key of one gateway does not scan the fleet.
            let bound = state.bound_gateways(principal).into_iter();
            let named = bound.filter_map(|id| Some((state.gateways.get(&id)?, id)));
            named.map(|(gateway, id)| (Arc::clone(&gateway.name), role(id))).collect()
        } else {
            let all = state.gateways.iter();
            all.map(|(id, gateway)| (Arc::clone(&gateway.name), role(*id))).collect()
        };
        seen.retain(|(_, role)| *role > Role::None);
        seen.sort_unstable();
        let cut = seen.len() > limit;
        seen.truncate(limit);
        (seen, cut)
    }
}
