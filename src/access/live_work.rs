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

use super::principal::Began;
use super::snapshot::Snapshot;
use crate::db::types::GatewayId;
use crate::role::Role;

/// Why work must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The credential was revoked or replaced, or its holder can no longer call.
    Credential,
    /// The role on the gateway is too low.
    Role,
}

impl Lost {
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
pub struct Right {
    /// The credential that started it.
    pub began: Began,
    /// The gateway.
    pub on: GatewayId,
    /// The lowest sufficient role on the gateway.
    pub least: Role,
}

impl Right {
    /// Returns why the condition no longer holds, or `None` if it holds.
    #[must_use]
    pub fn lost(&self, snapshot: &Snapshot) -> Option<Lost> {
        if !snapshot.can_go_on(&self.began) {
            return Some(Lost::Credential);
        }
        // Work on a removed gateway fails on its own, and the role on it is only the global one.
        let there = snapshot.gateway_name(self.on).is_some();
        let role = snapshot.role_on(self.began.principal, self.on);
        (there && role < self.least).then_some(Lost::Role)
    }
}

#[derive(Debug)]
struct Watched {
    right: Right,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    stop: CancellationToken,
    lost: Mutex<Option<Lost>>,
}

impl State {
    fn lose(&self, lost: Lost) {
        self.lost.lock().get_or_insert(lost);
        self.stop.cancel();
    }
}

/// Registered work of this process. Operations limit its amount.
#[derive(Debug, Default)]
pub struct LiveWorks {
    works: Mutex<HashMap<u64, Watched>>,
    next: AtomicU64,
}

impl LiveWorks {
    fn works(&self) -> MutexGuard<'_, HashMap<u64, Watched>> {
        self.works.lock()
    }

    /// Registers work that `stop` cancels. The condition is checked at once, so that no change between the check of the
    /// call and this is missed. Dropping the returned value unregisters the work.
    #[must_use]
    pub fn enter(
        self: &Arc<Self>,
        right: Right,
        stop: &CancellationToken,
        snapshot: &Snapshot,
    ) -> LiveWork {
        let state = Arc::new(State { stop: stop.clone(), lost: Mutex::new(None) });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.works().insert(id, Watched { right, state: Arc::clone(&state) });
        // After the registration: the next sweep notices a change that this check misses.
        if let Some(lost) = right.lost(snapshot) {
            state.lose(lost);
        }
        LiveWork { works: Arc::clone(self), id, state }
    }

    /// Checks all work against the current snapshot.
    pub fn sweep(&self, snapshot: &Snapshot) {
        for watched in self.works().values() {
            if let Some(lost) = watched.right.lost(snapshot) {
                watched.state.lose(lost);
            }
        }
    }
}

/// Registered work.
#[derive(Debug)]
pub struct LiveWork {
    works: Arc<LiveWorks>,
    id: u64,
    state: Arc<State>,
}

impl LiveWork {
    /// Returns why the work must stop, or `None` if it can continue.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
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
    use crate::access::snapshot::{Bindings, Change, GatewayFacts, PreviousKey, UserFacts};
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
        }
    }

    fn lost(clock: &Clock, principal: PrincipalId, changes: Vec<Change>) -> Option<Lost> {
        let snapshot = Snapshot::new(clock.clone(), Duration::from_secs(5));
        let gateway = GatewayFacts { name: "edge".into(), labels: Labels::default() };
        snapshot.apply(1, vec![Change::Gateway(EDGE, Some(gateway))], clock.since_boot());
        snapshot.apply(2, changes, clock.since_boot());
        let began = Began { principal, version: Some(4), session: Some(SessionId(9)), bound: None };
        let works = Arc::new(LiveWorks::default());
        let stop = CancellationToken::new();
        let right = Right { began, on: EDGE, least: Role::Operator };
        let work = works.enter(right, &stop, &snapshot);
        let lost = work.lost();
        works.sweep(&snapshot);
        assert_eq!((work.lost(), stop.is_cancelled()), (lost, lost.is_some()));
        drop(work);
        assert!(works.works().is_empty());
        lost
    }

    #[test]
    fn t14_work_stops_when_its_caller_loses_the_credential_or_the_role() {
        let clock = Clock::default();
        let bound = |role: Role| {
            let direct = [(EDGE, role)].into_iter().collect();
            Bindings { direct, ..Bindings::default() }
        };
        for (what, facts, expected) in [
            ("as it was", Some(ana()), None),
            ("deleted", None, Some(Lost::Credential)),
            ("deactivated", Some(UserFacts { active: false, ..ana() }), Some(Lost::Credential)),
            (
                "another password",
                Some(UserFacts { password_version: 5, ..ana() }),
                Some(Lost::Credential),
            ),
            (
                "the session is revoked",
                Some(UserFacts { revoked: vec![SessionId(9)], ..ana() }),
                Some(Lost::Credential),
            ),
            (
                "another session is revoked",
                Some(UserFacts { revoked: vec![SessionId(8)], ..ana() }),
                None,
            ),
            ("demoted", Some(UserFacts { role: Role::Viewer, ..ana() }), Some(Lost::Role)),
            (
                "demoted here",
                Some(UserFacts { bindings: bound(Role::Viewer), ..ana() }),
                Some(Lost::Role),
            ),
            (
                "promoted here",
                Some(UserFacts { role: Role::Viewer, bindings: bound(Role::Operator), ..ana() }),
                None,
            ),
        ] {
            let changes = vec![Change::User(ANA, facts)];
            assert_eq!(lost(&clock, PrincipalId::User(ANA), changes), expected, "{what}");
        }
        let now = clock.now();
        let previous = PreviousKey { hash: [6; 32], ends_at: now.minus(Duration::from_secs(1)) };
        for (what, facts, expected) in [
            ("as it was", Some(ci()), None),
            ("deleted", None, Some(Lost::Credential)),
            ("rotated at once", Some(Program { key_version: 5, ..ci() }), Some(Lost::Credential)),
            (
                "rotated with an overlap that has ended as planned",
                Some(Program { key_version: 5, previous: Some(previous), ..ci() }),
                None,
            ),
            (
                "rotated twice",
                Some(Program { key_version: 6, previous: Some(previous), ..ci() }),
                Some(Lost::Credential),
            ),
            ("expired", Some(Program { expires_at: Some(now), ..ci() }), Some(Lost::Credential)),
        ] {
            let changes = vec![Change::ServicePrincipal(CI, facts)];
            let principal = PrincipalId::ServicePrincipal(CI);
            assert_eq!(lost(&clock, principal, changes), expected, "{what}");
        }
    }
}
