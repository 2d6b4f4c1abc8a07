//! Work that outlives the call that started it. It stops within a second of its caller losing access.
//!
//! Unlike a stream, work continues past the planned expiry of its credential, such as the fifteen minutes of a session
//! token. It stops if the credential is revoked or replaced, if its holder is deactivated, deleted or expired, or if
//! the holder's role on the gateway is too low. Stale access data does not stop it: work keeps its own lease in the
//! database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use super::principal::WorkCredential;
use super::snapshot::Snapshot;
use crate::db::types::GatewayId;
use crate::role::Role;

/// Why work must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The credential was revoked or replaced, or its holder can no longer call.
    Credential,
    /// The role on the gateway is too low.
    Role,
}

impl StopReason {
    /// Returns the reason, as shown in the error message of the operation.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "the credential that began the operation is no longer valid",
            Self::Role => "the role of the caller on the gateway is too low now",
        }
    }
}

/// Condition that must hold while work runs.
#[derive(Debug, Clone, Copy)]
pub struct WorkCondition {
    /// The credential that started it.
    pub credential: WorkCredential,
    /// The gateway.
    pub gateway: GatewayId,
    /// The lowest sufficient role on the gateway.
    pub min_role: Role,
}

impl WorkCondition {
    /// Returns why the condition no longer holds, or `None` if it holds.
    #[must_use]
    pub fn stop_reason(&self, snapshot: &Snapshot) -> Option<StopReason> {
        if !snapshot.can_continue(&self.credential) {
            return Some(StopReason::Credential);
        }
        // Work on a removed gateway fails on its own, and the role on it is only the global one.
        let there = snapshot.gateway_name(self.gateway).is_some();
        let role = snapshot.role_on(self.credential.principal, self.gateway);
        (there && role < self.min_role).then_some(StopReason::Role)
    }
}

#[derive(Debug)]
struct WorkEntry {
    condition: WorkCondition,
    state: Arc<WorkState>,
}

#[derive(Debug)]
struct WorkState {
    stop: CancellationToken,
    lost: Mutex<Option<StopReason>>,
}

impl WorkState {
    fn stop_for(&self, lost: StopReason) {
        self.lost.lock().get_or_insert(lost);
        self.stop.cancel();
    }
}

/// Registered work of this process. Operations limit its amount.
#[derive(Debug, Default)]
pub struct LiveWorks {
    works: Mutex<HashMap<u64, WorkEntry>>,
    next: AtomicU64,
}

impl LiveWorks {
    fn works(&self) -> MutexGuard<'_, HashMap<u64, WorkEntry>> {
        self.works.lock()
    }

    /// Registers work that `stop` cancels. The condition is checked at once, so that no change between the check of the
    /// call and this is missed. Dropping the returned value unregisters the work.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        condition: WorkCondition,
        stop: &CancellationToken,
        snapshot: &Snapshot,
    ) -> LiveWork {
        let state = Arc::new(WorkState { stop: stop.clone(), lost: Mutex::new(None) });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.works().insert(id, WorkEntry { condition, state: Arc::clone(&state) });
        // After the registration: the next sweep notices a change that this check misses.
        if let Some(lost) = condition.stop_reason(snapshot) {
            state.stop_for(lost);
        }
        LiveWork { works: Arc::clone(self), id, state }
    }

    /// Checks all work against the current snapshot.
    pub fn recheck_all(&self, snapshot: &Snapshot) {
        for watched in self.works().values() {
            if let Some(lost) = watched.condition.stop_reason(snapshot) {
                watched.state.stop_for(lost);
            }
        }
    }
}

/// Registered work.
#[derive(Debug)]
pub struct LiveWork {
    works: Arc<LiveWorks>,
    id: u64,
    state: Arc<WorkState>,
}

impl LiveWork {
    /// Returns why the work must stop, or `None` if it can continue.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        *self.state.lost.lock()
    }
}

impl Drop for LiveWork {
    fn drop(&mut self) {
        self.works.works().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::access::principal::PrincipalId;
    use crate::access::snapshot::{AccessUpdate, Bindings, GatewayFacts, PreviousKey, UserFacts};
    use crate::access::snapshot::{ServicePrincipalFacts as Program, Snapshot};
    use crate::clock::Clock;
    use crate::db::types::{ServicePrincipalId, SessionId, UserId};
    use crate::labels::Labels;

    const ANA: UserId = UserId(1);
    const CI: ServicePrincipalId = ServicePrincipalId(2);
    const EDGE: GatewayId = GatewayId(3);

    fn ana() -> UserFacts {
        UserFacts {
            email: "ana@example.com".into(),
            role: Role::Operator,
            active: true,
            password_version: 4,
            groups: vec![],
            bindings: Bindings::default(),
            revoked: vec![],
            identity: None,
        }
    }

    fn ci() -> Program {
        Program {
            name: "ci".into(),
            role: Role::Operator,
            key_hash: [7; 32],
            key_version: 4,
            previous: None,
            expires_at: None,
            bindings: Bindings::default(),
            used: Arc::default(),
            maker: None,
            rotated_by: None,
        }
    }

    fn lost(
        clock: &Clock,
        principal: PrincipalId,
        changes: Vec<AccessUpdate>,
    ) -> Option<StopReason> {
        let snapshot = Snapshot::new(clock.clone(), Duration::from_secs(5));
        let gateway = GatewayFacts { name: "edge".into(), labels: Labels::default() };
        snapshot.apply(
            1,
            vec![AccessUpdate::Gateway(EDGE, Some(gateway))],
            Some(clock.since_boot()),
        );
        snapshot.apply(2, changes, Some(clock.since_boot()));
        let credential = WorkCredential {
            principal,
            version: Some(4),
            session: Some(SessionId(9)),
            bound_gateway: None,
        };
        let works = Arc::new(LiveWorks::default());
        let stop = CancellationToken::new();
        let condition = WorkCondition { credential, gateway: EDGE, min_role: Role::Operator };
        let work = works.register(condition, &stop, &snapshot);
        let lost = work.stop_reason();
        works.recheck_all(&snapshot);
        assert_eq!((work.stop_reason(), stop.is_cancelled()), (lost, lost.is_some()));
        drop(work);
        assert!(works.works().is_empty());
        lost
    }

    #[test]
    fn t14_work_stops_when_its_caller_loses_the_credential_or_the_role() {
        let (clock, credential) = (Clock::default(), Some(StopReason::Credential));
        let bound = |role: Role| {
            let direct = [(EDGE, role)].into_iter().collect();
            Bindings { direct, ..Bindings::default() }
        };
        for (what, facts, expected) in [
            ("as it was", Some(ana()), None),
            ("deleted", None, Some(StopReason::Credential)),
            ("deactivated", Some(UserFacts { active: false, ..ana() }), credential),
            ("another password", Some(UserFacts { password_version: 5, ..ana() }), credential),
            (
                "the session is revoked",
                Some(UserFacts { revoked: vec![SessionId(9)], ..ana() }),
                Some(StopReason::Credential),
            ),
            (
                "another session is revoked",
                Some(UserFacts { revoked: vec![SessionId(8)], ..ana() }),
                None,
            ),
            ("demoted", Some(UserFacts { role: Role::Viewer, ..ana() }), Some(StopReason::Role)),
            (
                "demoted here",
                Some(UserFacts { bindings: bound(Role::Viewer), ..ana() }),
                Some(StopReason::Role),
            ),
            (
                "promoted here",
                Some(UserFacts { role: Role::Viewer, bindings: bound(Role::Operator), ..ana() }),
                None,
            ),
        ] {
            let changes = vec![AccessUpdate::User(ANA, facts)];
            assert_eq!(lost(&clock, PrincipalId::User(ANA), changes), expected, "{what}");
        }
        let now = clock.now();
        let previous = PreviousKey { hash: [6; 32], ends_at: now.minus(Duration::from_secs(1)) };
        for (what, facts, expected) in [
            ("as it was", Some(ci()), None),
            ("deleted", None, Some(StopReason::Credential)),
            ("rotated at once", Some(Program { key_version: 5, ..ci() }), credential),
            (
                "rotated with an overlap that has ended as planned",
                Some(Program { key_version: 5, previous: Some(previous), ..ci() }),
                None,
            ),
            (
                "rotated twice",
                Some(Program { key_version: 6, previous: Some(previous), ..ci() }),
                Some(StopReason::Credential),
            ),
            ("expired", Some(Program { expires_at: Some(now), ..ci() }), credential),
        ] {
            let changes = vec![AccessUpdate::ServicePrincipal(CI, facts)];
            let principal = PrincipalId::ServicePrincipal(CI);
            assert_eq!(lost(&clock, principal, changes), expected, "{what}");
        }
    }
}
