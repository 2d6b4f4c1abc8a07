//! Decides whether a caller is still allowed to do what it was admitted for.
//!
//! A call waits for its body, for the audit log and for a gateway. A credential can be revoked and a role can be
//! lowered during each wait, so the check is repeated right before the action (T13, T14). A check from memory that
//! finds nothing changed since the last one costs two atomic loads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::live::EndReason;
use super::principal::{Caller, PrincipalId};
use super::snapshot::Snapshot;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::role::Role;

/// Where a role is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleScope {
    /// The global role.
    Global,
    /// The highest role on any gateway, or the global role if it is higher.
    Anywhere,
    /// The role on a registered gateway.
    Gateway(GatewayId),
    /// The role on a gateway; after the gateway was unregistered, only a global admin has one.
    MaybeRemovedGateway(GatewayId),
}

impl RoleScope {
    /// Returns the gateway, or `None` if the place is not one gateway.
    #[must_use]
    pub fn gateway(self) -> Option<GatewayId> {
        match self {
            Self::Global | Self::Anywhere => None,
            Self::Gateway(gateway) | Self::MaybeRemovedGateway(gateway) => Some(gateway),
        }
    }

    /// Returns the role that a principal holds here now; [`Role::None`] on a [`Self::Gateway`] that is not registered.
    #[must_use]
    pub fn current_role(self, snapshot: &Snapshot, principal: PrincipalId) -> Role {
        match self {
            Self::Global => snapshot.global_role(principal),
            Self::Anywhere => snapshot.best_role(principal),
            Self::Gateway(gateway) => match snapshot.gateway_name(gateway) {
                Some(_) => snapshot.role_on(principal, gateway),
                None => Role::None,
            },
            Self::MaybeRemovedGateway(gateway) => {
                snapshot.role_on_maybe_removed(principal, gateway)
            }
        }
    }
}

impl From<Option<GatewayId>> for RoleScope {
    fn from(gateway: Option<GatewayId>) -> Self {
        gateway.map_or(Self::Anywhere, Self::Gateway)
    }
}

/// A caller, where it acts, and the lowest role that it needs there.
#[derive(Debug)]
pub struct AccessCheck {
    caller: Caller,
    scope: RoleScope,
    min_role: Role,
    /// Version of the snapshot that confirmed a credential that can only end by a change, plus one; 0 before that.
    confirmed: AtomicU64,
}

impl Clone for AccessCheck {
    /// The same check has the same result, so a confirmation is copied too.
    fn clone(&self) -> Self {
        let confirmed = AtomicU64::new(self.confirmed.load(Ordering::Relaxed));
        Self { caller: self.caller.clone(), scope: self.scope, min_role: self.min_role, confirmed }
    }
}

impl AccessCheck {
    /// Describes a caller that was admitted with `min_role` in `scope`.
    #[must_use]
    pub fn new(caller: Caller, scope: RoleScope, min_role: Role) -> Self {
        Self { caller, scope, min_role, confirmed: AtomicU64::new(0) }
    }

    /// Raises the required role.
    pub fn require_role(&mut self, role: Role) {
        self.min_role = self.min_role.max(role);
        *self.confirmed.get_mut() = 0;
    }

    /// Returns the caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the place.
    #[must_use]
    pub fn scope(&self) -> RoleScope {
        self.scope
    }

    /// Checks the credential, the freshness and the role as they are now.
    ///
    /// # Errors
    /// Why the caller is no longer allowed to act.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), EndReason> {
        if snapshot.check_fresh().is_err() {
            return Err(EndReason::Stale);
        }
        let version = snapshot.version() + 1;
        if self.confirmed.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        self.role(snapshot)?;
        // A credential that expires, such as an old key during an overlap, becomes invalid without a change of the
        // snapshot.
        if self.is_stable(snapshot) {
            self.confirmed.store(version, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns whether a valid caller stays valid until the access data changes: it has the current credential, and
    /// neither the credential nor its holder expires.
    fn is_stable(&self, snapshot: &Snapshot) -> bool {
        let current = snapshot.caller(self.caller.principal());
        self.caller.expires_at().is_none()
            && current.is_some_and(|now| {
                now.version() == self.caller.version() && now.expires_at().is_none()
            })
    }

    /// Returns the role that the caller holds at the place now, if it is still sufficient.
    ///
    /// # Errors
    /// Why the caller is no longer allowed to act.
    pub fn role(&self, snapshot: &Snapshot) -> Result<Role, EndReason> {
        if snapshot.check_fresh().is_err() {
            return Err(EndReason::Stale);
        }
        if !snapshot.is_live(&self.caller) {
            return Err(EndReason::CredentialGone);
        }
        match (self.scope, self.scope.current_role(snapshot, self.caller.principal())) {
            (RoleScope::Gateway(gateway), _) if snapshot.gateway_name(gateway).is_none() => {
                Err(EndReason::GatewayRemoved)
            }
            // The gateway is now hidden from the caller, for any required role.
            (RoleScope::Gateway(_), Role::None) => Err(EndReason::GatewayGone),
            (RoleScope::MaybeRemovedGateway(_), Role::None) if self.min_role > Role::None => {
                Err(EndReason::GatewayGone)
            }
            (_, role) if role < self.min_role => Err(EndReason::RoleTooLow),
            (_, role) => Ok(role),
        }
    }
}

/// Checks a caller before each part of its request is sent.
#[derive(Debug, Clone)]
pub struct AccessGuard {
    snapshot: Arc<Snapshot>,
    access_check: AccessCheck,
}

impl AccessGuard {
    /// Checks against the current state of `snapshot`.
    #[must_use]
    pub fn new(snapshot: &Arc<Snapshot>, access_check: AccessCheck) -> Self {
        Self { snapshot: Arc::clone(snapshot), access_check }
    }

    /// Checks the caller as it is now.
    ///
    /// # Errors
    /// Why the call must end.
    pub fn check(&self) -> Result<(), Error> {
        self.access_check.check(&self.snapshot).map_err(Into::into)
    }
}
