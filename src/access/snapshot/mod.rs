//! Who holds what, in memory, so that a check costs no query.
//!
//! Invariants
//! - it moves by increments from the change log; the whole is loaded at start, and where increments were missed;
//! - it is fed by `feed`; it does not fetch;
//! - a check past the freshness bound is refused, whoever asks (T13).

mod bindings;
mod freshness;
mod state;
mod survey;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

use super::principal::{Began, Caller, PrincipalId};
use crate::clock::{Clock, Timestamp};
use crate::db::types::{GatewayId, GatewayRef, GroupId, ServicePrincipalId, SessionId, UserId};
use crate::error::Error;
use crate::labels::Selector;
use crate::role::Role;

pub use self::bindings::{Bindings, GatewayFacts, SelectorRole};
use self::freshness::Freshness;
use self::state::State;
pub use self::survey::{Access, After, Moved};

/// What access needs to know of a user.
#[derive(Debug, Clone)]
pub struct UserFacts {
    /// E-mail address.
    pub email: Arc<str>,
    /// Own global role.
    pub role: Role,
    /// Whether the account may be used.
    pub active: bool,
    /// Moves with each change of the password; tokens of an older one are dead.
    pub password_version: i64,
    /// The groups that the user is a member of.
    pub groups: Vec<GroupId>,
    /// Own roles on gateways.
    pub bindings: Bindings,
    /// Sessions that were ended while a token of theirs may still be about.
    pub revoked: Vec<SessionId>,
    /// Issuer and subject of the identity that the account is linked to.
    pub identity: Option<(Arc<str>, Arc<str>)>,
}

/// What access needs to know of a service principal.
#[derive(Debug, Clone)]
pub struct ServicePrincipalFacts {
    /// Name.
    pub name: Arc<str>,
    /// Global role.
    pub role: Role,
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
    /// Moves with each rotation.
    pub key_version: i64,
    /// The key before it, for as long as it is good beside it.
    pub previous: Option<PreviousKey>,
    /// When the keys end.
    pub expires_at: Option<Timestamp>,
    /// Roles on gateways.
    pub bindings: Bindings,
    /// Set when the key is used, until [`Snapshot::take_used`].
    pub used: Arc<AtomicBool>,
}

/// A key that was replaced and is good for a while yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousKey {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// When it ends.
    pub ends_at: Timestamp,
}

/// What access needs to know of a group.
#[derive(Debug, Clone)]
pub struct GroupFacts {
    /// Name.
    pub name: Arc<str>,
    /// Role that each member has globally.
    pub role: Role,
    /// Roles that each member has on gateways.
    pub bindings: Bindings,
}

/// One subject as it is now; none is one that is gone.
#[derive(Debug)]
pub enum Change {
    /// A user.
    User(UserId, Option<UserFacts>),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId, Option<ServicePrincipalFacts>),
    /// A group.
    Group(GroupId, Option<GroupFacts>),
    /// A gateway.
    Gateway(GatewayId, Option<GatewayFacts>),
}

/// The gateways on which a caller holds a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Every one, also such as are registered later.
    All,
    /// Only these.
    Only(Vec<GatewayId>),
}

/// The access data of the whole fleet.
#[derive(Debug)]
pub struct Snapshot {
    state: RwLock<State>,
    revision: watch::Sender<i64>,
    /// Moves with each change of the state, while the state is locked.
    version: AtomicU64,
    freshness: Freshness,
    clock: Clock,
}

impl Snapshot {
    /// An empty snapshot, stale until it is fed. `stale_after` is how long it may go unconfirmed.
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

    /// The last change that is in here.
    #[must_use]
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Returns a number that moves with each change of the access data: what was checked under it still holds, but for
    /// what ends by itself.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Wakes whenever the snapshot has moved.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    /// Puts changes in, up to `revision`, which was read at `asked_at` since boot.
    pub fn apply(&self, revision: i64, changes: Vec<Change>, asked_at: Duration) {
        let moved = !changes.is_empty();
        if moved {
            let mut state = self.write();
            for change in changes {
                state.apply(change);
            }
            self.version.fetch_add(1, Ordering::Release);
        }
        self.freshness.confirm(asked_at);
        if moved || revision > self.revision() {
            self.revision.send_modify(|at| *at = revision.max(*at));
        }
    }

    /// Makes the snapshot stale until it is read again, after a committed change that could not be read: every check is
    /// refused meanwhile.
    pub fn mark_unconfirmed(&self) {
        self.freshness.mark_unconfirmed();
    }

    /// Puts everything in anew, as of `revision`, which was read at `asked_at` since boot.
    pub fn replace(&self, revision: i64, everything: Vec<Change>, asked_at: Duration) {
        let mut fresh = State::default();
        for change in everything {
            fresh.apply(change);
        }
        let mut state = self.write();
        let replaced = std::mem::replace(&mut *state, fresh);
        self.version.fetch_add(1, Ordering::Release);
        drop(state);
        self.freshness.confirm(asked_at);
        self.revision.send_modify(|at| *at = revision.max(*at));
        // Out of everyone's way.
        drop(replaced);
    }

    /// How long ago the data was last confirmed.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.freshness.age()
    }

    /// Refuses where the data can't be confirmed to be fresh.
    pub fn check_fresh(&self) -> Result<(), Error> {
        self.freshness.check()
    }

    /// The holder of an API key. Constant work for known and unknown ones: one look-up of its hash.
    pub(in crate::access) fn by_key_hash(&self, hash: &[u8; 32]) -> Option<Caller> {
        self.read().by_key(hash, self.clock.now())
    }

    /// The service principals whose keys were used since the last time.
    #[must_use]
    pub fn take_used(&self) -> Vec<ServicePrincipalId> {
        let state = self.read();
        let used = state.service_principals.iter();
        used.filter(|(_, held)| held.facts.used.swap(false, Ordering::Relaxed))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The caller behind a principal, as long as it may call at all.
    pub(in crate::access) fn caller(&self, principal: PrincipalId) -> Option<Caller> {
        self.read().caller(principal, self.clock.now())
    }

    /// The caller behind a certificate that stands for a principal, as long as the certificate has not ended and the
    /// principal can call. The caller ends with the certificate.
    pub(in crate::access) fn by_certificate(
        &self,
        principal: PrincipalId,
        ends_at: Timestamp,
    ) -> Option<Caller> {
        let now = self.clock.now();
        if ends_at <= now {
            return None;
        }
        Some(self.read().caller(principal, now)?.ending_by(ends_at))
    }

    /// The user of an e-mail address.
    #[must_use]
    pub fn user(&self, email: &str) -> Option<UserId> {
        self.read().emails.get(email).copied()
    }

    /// The service principal of a name.
    #[must_use]
    pub fn service_principal(&self, name: &str) -> Option<ServicePrincipalId> {
        self.read().names.get(name).copied()
    }

    /// The user that an identity is linked to, whether or not it may call.
    pub(in crate::access) fn linked_to(&self, issuer: &str, subject: &str) -> Option<UserId> {
        self.read().by_identity.get(issuer)?.get(subject).copied()
    }

    /// The service principal of a name and the version of its key, as long as it may call.
    #[must_use]
    pub fn live_service_principal(&self, name: &str) -> Option<(ServicePrincipalId, i64)> {
        let state = self.read();
        let id = *state.names.get(name)?;
        let caller = state.caller(PrincipalId::ServicePrincipal(id), self.clock.now())?;
        Some((id, caller.version))
    }

    /// Whether a caller may still call: it exists, is active, and its credential is neither expired nor replaced.
    #[must_use]
    pub fn is_live(&self, caller: &Caller) -> bool {
        self.read().is_live(caller, self.clock.now())
    }

    /// Whether work that a credential began may go on, whatever the planned end of the credential.
    #[must_use]
    pub fn can_go_on(&self, began: &Began) -> bool {
        self.read().can_go_on(began, self.clock.now())
    }

    /// The role where no gateway is concerned.
    #[must_use]
    pub fn global_role(&self, principal: PrincipalId) -> Role {
        self.read().global_role(principal)
    }

    /// The role on a gateway.
    #[must_use]
    pub fn role_on(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        self.read().role_on(principal, gateway)
    }

    /// The role on a gateway that may be gone: of what is kept from it global admins alone see anything.
    #[must_use]
    pub fn role_on_kept(&self, principal: PrincipalId, gateway: GatewayId) -> Role {
        let state = self.read();
        if state.gateways.contains_key(&gateway) {
            return state.role_on(principal, gateway);
        }
        match state.global_role(principal) {
            Role::Admin => Role::Admin,
            Role::None | Role::Viewer | Role::Operator => Role::None,
        }
    }

    /// The gateway of a name and the role there.
    #[must_use]
    pub fn gateway(&self, principal: PrincipalId, name: &str) -> Option<(GatewayRef, Role)> {
        let state = self.read();
        let (name, id) = state.by_name.get_key_value(name)?;
        let gateway = GatewayRef { id: *id, name: Arc::clone(name) };
        Some((gateway, state.role_on(principal, *id)))
    }

    /// The id of a gateway's name, whoever asks: for background jobs.
    #[must_use]
    pub fn gateway_id(&self, name: &str) -> Option<GatewayId> {
        self.read().by_name.get(name).copied()
    }

    /// The name of a gateway.
    #[must_use]
    pub fn gateway_name(&self, id: GatewayId) -> Option<Arc<str>> {
        self.read().gateways.get(&id).map(|gateway| Arc::clone(&gateway.name))
    }

    /// Whether a selector picks a gateway, by its labels as they are now.
    #[must_use]
    pub fn picks(&self, selector: &Selector, gateway: GatewayId) -> bool {
        selector.picks(self.read().labels(gateway))
    }

    /// The highest role that the caller holds anywhere: what the gate asks before a body is read.
    #[must_use]
    pub fn best_role(&self, principal: PrincipalId) -> Role {
        self.read().best_role(principal)
    }

    /// The gateways on which the caller holds at least `least`.
    #[must_use]
    pub fn visible(&self, principal: PrincipalId, least: Role) -> Visible {
        let state = self.read();
        let global = state.global_role(principal);
        if global == Role::Admin {
            return Visible::All;
        }
        let mut bound = state.bound(principal);
        let enough = |id: &GatewayId| state.role_on(principal, *id) >= least;
        if global < least {
            bound.retain(enough);
            return Visible::Only(bound);
        }
        if bound.iter().all(enough) {
            return Visible::All;
        }
        let mut all: Vec<GatewayId> = state.gateways.keys().copied().filter(enough).collect();
        all.sort_unstable();
        Visible::Only(all)
    }

    /// Name and role of each gateway that the caller may see, by name, at most `limit` and whether there are more.
    #[must_use]
    pub fn gateways_of(
        &self,
        principal: PrincipalId,
        limit: usize,
    ) -> (Vec<(Arc<str>, Role)>, bool) {
        let state = self.read();
        let role = |id: GatewayId| state.role_on(principal, id);
        let mut seen: Vec<(Arc<str>, Role)> = if state.global_role(principal) == Role::None {
            // Then bindings alone let it see any: a key of one gateway does not look through the fleet.
            let bound = state.bound(principal).into_iter();
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
