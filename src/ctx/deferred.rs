//! Work that outlives its call: the intent goes along with it, and is closed when the work has ended.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Ctx;
use crate::access::live::Ended;
use crate::access::live_work::{LiveWork, Right};
use crate::access::principal::{Began, Caller};
use crate::audit::{Ending, OpenEntry, Outcome};
use crate::error::Error;
use crate::role::Role;
use crate::upstream::unanswered::Unanswered;

impl Ctx {
    /// Takes the open intent out of the call, which from here on neither closes it nor misses it: whoever takes it
    /// closes it with the true outcome. None where there is none, or it was taken before.
    #[must_use]
    pub(crate) fn defer(&self) -> Option<OpenEntry> {
        let mut note = self.call.as_ref()?.note.lock();
        let entry = note.entry.take()?;
        note.deferred = true;
        Some(entry)
    }

    /// Whether the intent was taken out of the call by work that outlives it.
    pub(super) fn outlives_its_call(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.note.lock().deferred)
    }

    /// Tells the audit log what the call turned out to be about, where its message could not say.
    pub fn named(&self, target: impl Into<String>) {
        if let Some(call) = &self.call {
            call.note.lock().named = Some(target.into());
        }
    }

    /// How work that outlived its call has ended, with everything that was noted on the way.
    #[must_use]
    pub(crate) fn deferred_outcome(&self, ending: Ending, code: i32) -> Outcome {
        let noted = self.call.as_ref().map(|call| {
            let mut note = call.note.lock();
            (std::mem::take(&mut note.detail), note.named.take())
        });
        let (detail, target) = noted.unwrap_or_default();
        let unknown = ending != Ending::Ok && self.unanswered().is_open();
        let ending = if unknown { Ending::Unknown } else { ending };
        Outcome {
            at: self.now(),
            ending,
            code,
            took: self.call.as_ref().map_or(Duration::ZERO, |call| call.started.elapsed()),
            detail: (!detail.is_empty()).then_some(detail.into()),
            bytes: None,
            target,
        }
    }

    /// Whether a gateway may have acted for the call and has not told.
    #[must_use]
    pub(crate) fn unanswered(&self) -> Unanswered {
        self.call.as_ref().map(|call| call.note.unanswered.clone()).unwrap_or_default()
    }

    /// The key under which the caller may repeat the call.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<String> {
        self.call.as_ref().and_then(|call| call.note.lock().idempotency_key.clone())
    }

    /// The credential that begins work for this call. `None` for the server's own work.
    #[must_use]
    pub(crate) fn began(&self) -> Option<Began> {
        let unknown = |principal| Began { principal, version: None, session: None, bound: None };
        let known = self.caller().map(Caller::began);
        known.or_else(|| self.principal().map(unknown))
    }

    /// Registers work on the gateway of the call. `stop` stops it when the caller loses the right to it. `None` for the
    /// server's own work.
    #[must_use]
    pub(crate) fn live_work(&self, least: Role, stop: &CancellationToken) -> Option<LiveWork> {
        let (began, on) = (self.began()?, self.gateway()?.id);
        let right = Right { began, on, least };
        Some(self.app.live.works.enter(right, stop, &self.app.snapshot))
    }

    /// Checks the caller of a call that has waited, such as for a gateway or a password hash, right before the act.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID` if the credential has ended, `ROLE_TOO_LOW` if the role was lowered, `ACCESS_STALE`.
    pub fn recheck(&self) -> Result<(), Error> {
        let Some(caller) = self.caller() else { return Ok(()) };
        self.app.snapshot.check_fresh()?;
        if !self.app.snapshot.is_live(caller) {
            return Err(Ended::CredentialGone.into());
        }
        if self.role_now() < self.role {
            return Err(Ended::RoleTooLow.into());
        }
        Ok(())
    }

    /// The role that the caller has on the gateway of the call at this moment, which may be another than it had when the
    /// call was let through: for calls that wait.
    #[must_use]
    pub fn role_now(&self) -> Role {
        match (self.principal(), &self.on) {
            (Some(principal), Some(gateway)) => {
                self.app.snapshot.role_on_kept(principal, gateway.id)
            }
            (Some(principal), None) => self.app.snapshot.global_role(principal),
            (None, _) if self.is_system() => self.role,
            (None, _) => Role::None,
        }
    }
}
