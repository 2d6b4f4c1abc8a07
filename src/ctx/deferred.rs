//! Work that outlives its call: it takes over the audit entry and closes it when it ends.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Ctx;
use crate::access::live::EndReason;
use crate::access::live_work::{LiveWork, WorkCondition};
use crate::access::principal::{Caller, WorkCredential};
use crate::audit::{Ending, OpenEntry, Outcome};
use crate::db::types::AuditId;
use crate::error::Error;
use crate::role::Role;
use crate::upstream::unanswered::OutcomeUnknown;

impl Ctx {
    /// Takes the open audit entry out of the call. The call then neither closes it nor reports it as missing: the
    /// caller of this function must close it with the true outcome. Returns `None` if no audit entry is open or it was
    /// already taken.
    #[must_use]
    pub(crate) fn defer_audit_entry(&self) -> Option<OpenEntry> {
        let mut note = self.call.as_ref()?.note.lock();
        let entry = note.entry.take()?;
        note.deferred = Some(entry);
        Some(entry)
    }

    /// Whether work that outlives the call has taken over its audit entry.
    fn is_deferred(&self) -> bool {
        self.call.as_ref().is_some_and(|call| call.note.lock().deferred.is_some())
    }

    /// The open audit entry of the call, even if work that outlives the call has taken it over. `None` for work without
    /// an entry of its own.
    #[must_use]
    pub fn audit_id(&self) -> Option<AuditId> {
        let note = self.call.as_ref()?.note.lock();
        note.entry.or(note.deferred).map(|entry| entry.id)
    }

    /// Sets the target of the audit entry, if the message did not contain it.
    pub fn set_audit_target(&self, target: impl Into<String>) {
        if let Some(call) = &self.call {
            call.note.lock().target = Some(target.into());
        }
    }

    /// Builds the outcome of work that outlived its call, with everything that was noted for the audit log.
    #[must_use]
    pub(crate) fn deferred_outcome(&self, ending: Ending, code: i32) -> Outcome {
        let noted = self.call.as_ref().map(|call| {
            let mut note = call.note.lock();
            (std::mem::take(&mut note.detail), note.target.take())
        });
        let (detail, target) = noted.unwrap_or_default();
        let unknown = ending != Ending::Ok && self.unanswered().is_set();
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

    /// Whether a gateway may have acted on the call without reporting the result.
    #[must_use]
    pub(crate) fn unanswered(&self) -> OutcomeUnknown {
        let note = self.call.as_ref().map(|call| &call.note);
        note.map(|note| note.unanswered.get_or_init(OutcomeUnknown::default).clone())
            .unwrap_or_default()
    }

    /// The idempotency key of the call.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<String> {
        self.call.as_ref().and_then(|call| call.note.lock().idempotency_key.clone())
    }

    /// The credential that work for this call is started with. `None` for the server's own work.
    #[must_use]
    pub(crate) fn work_credential(&self) -> Option<WorkCredential> {
        let unknown = |principal| WorkCredential {
            principal,
            version: None,
            session: None,
            bound_gateway: None,
        };
        let known = self.caller().map(Caller::work_credential);
        known.or_else(|| self.principal().map(unknown))
    }

    /// Registers work on the gateway of the call. `stop` stops it when the caller loses the right to it. `None` for the
    /// server's own work.
    #[must_use]
    pub(crate) fn register_work(
        &self,
        min_role: Role,
        stop: &CancellationToken,
    ) -> Option<LiveWork> {
        let (credential, gateway) = (self.work_credential()?, self.gateway()?.id);
        let condition = WorkCondition { credential, gateway, min_role };
        Some(self.app.live.works.register(condition, stop, &self.app.snapshot))
    }

    /// Checks the caller again right before the change, after a wait such as for a gateway or a password hash.
    ///
    /// # Errors
    /// `CREDENTIAL_INVALID` if the credential is no longer valid, `ROLE_TOO_LOW` if the role was lowered,
    /// `ACCESS_STALE`.
    pub fn recheck(&self) -> Result<(), Error> {
        let Some(caller) = self.caller() else { return Ok(()) };
        self.app.snapshot.check_fresh()?;
        if !self.app.snapshot.is_live(caller) {
            return Err(EndReason::CredentialGone.into());
        }
        if self.current_role() < self.role {
            return Err(EndReason::RoleTooLow.into());
        }
        Ok(())
    }

    /// Does the same as [`Ctx::recheck`] for a call. Work that outlives its call is not checked here: its `LiveWork`
    /// stops it when access is lost, and it undoes what it has done.
    ///
    /// # Errors
    /// Those of [`Ctx::recheck`].
    pub(crate) fn recheck_call(&self) -> Result<(), Error> {
        if self.is_deferred() { Ok(()) } else { self.recheck() }
    }

    /// The caller's current role on the gateway of the call. For calls that wait: it may differ from the role that the
    /// caller had when the call was checked.
    #[must_use]
    pub fn current_role(&self) -> Role {
        match (self.principal(), &self.gateway) {
            (Some(principal), Some(gateway)) => {
                self.app.snapshot.role_on_maybe_removed(principal, gateway.id)
            }
            (Some(principal), None) => self.app.snapshot.global_role(principal),
            (None, _) if self.is_system() => self.role,
            (None, _) => Role::None,
        }
    }
}
