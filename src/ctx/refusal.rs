//! Refused calls of known callers, and how they reach the audit log.
//!
//! Invariants
//! - a noted refusal is recorded once: by the layer when the call is answered, otherwise when the last holder of the
//!   [`AuditNotes`] drops it. Hanging up does not prevent the record;
//! - the response does not wait for the record: nothing has happened that could be lost;
//! - repeats are counted, see [`Recorder::refused`](crate::audit::recorder::Recorder::count_refusal).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::{AuditNotes, Call};
use crate::access::policy::AuditSubject;
use crate::access::principal::Caller;
use crate::app::App;
use crate::audit::{Ending, Intent, Outcome};
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, NamedGateway};
use crate::error::{Error, Reason};
use crate::role::Role;
use crate::status::code_and_reason;

/// The gRPC codes that count as denials: `NOT_FOUND`, `PERMISSION_DENIED` and `UNAUTHENTICATED`. Other codes are
/// failures.
const DENIALS: [i32; 3] = [5, 7, 16];
/// gRPC's `PERMISSION_DENIED`.
const CODE_DENIED: i32 = 7;

/// A refused call.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The action and target of the audit entry.
    pub about: AuditSubject,
    /// The gateway, as named by the caller.
    pub gateway: Option<NamedGateway>,
    /// The caller's role there.
    pub role: Role,
    /// The reason of the refusal.
    pub reason: RefusalReason,
}

/// The gRPC status code and the reason of a refusal.
#[derive(Debug, Clone, Copy)]
pub struct RefusalReason {
    code: i32,
    reason: Reason,
}

impl Default for RefusalReason {
    fn default() -> Self {
        Self { code: CODE_DENIED, reason: Reason::RoleTooLow }
    }
}

impl From<&Error> for RefusalReason {
    fn from(error: &Error) -> Self {
        let (code, reason) = code_and_reason(error);
        Self { code: code as i32, reason }
    }
}

impl Refusal {
    /// Returns the gateway, if it is known.
    #[must_use]
    pub fn gateway_id(&self) -> Option<GatewayId> {
        self.gateway.as_ref().and_then(|gateway| gateway.id)
    }

    /// Sets the reason of the refusal from `error`.
    #[must_use]
    pub fn with_reason(self, error: &Error) -> Self {
        Self { reason: error.into(), ..self }
    }
}

/// The data needed to record a refusal. The note holds it as soon as the caller is known.
#[derive(Debug)]
pub(super) struct RefusalRecorder {
    app: Arc<App>,
    caller: Caller,
    at: Timestamp,
    started: Instant,
    client_ip: Option<IpAddr>,
    request_id: Uuid,
    method: &'static str,
}

impl RefusalRecorder {
    fn record(&self, refusal: Refusal) {
        let app = &self.app;
        let known = Some(refusal.role).filter(|role| *role > Role::None);
        let role = known.unwrap_or_else(|| app.snapshot.best_role(self.caller.principal()));
        let intent = Intent {
            actor: Arc::clone(self.caller.actor()),
            principal: Some(self.caller.principal()),
            role,
            gateway: refusal.gateway,
            client_ip: self.client_ip,
            request_id: self.request_id,
            method: self.method.into(),
            ..Intent::new(self.at, refusal.about)
        };
        let RefusalReason { code, reason } = refusal.reason;
        let denied = DENIALS.contains(&code);
        let ending = if denied { Ending::Denied } else { Ending::Failed };
        let outcome = Outcome {
            took: self.started.elapsed(),
            detail: Some(serde_json::json!({ "reason": reason.as_str() })),
            ..Outcome::new(app.clock.now(), ending, code)
        };
        record(app, reason, intent, outcome);
    }
}

/// Records the refusal of a known caller, or counts it if it repeats a refusal of the current minute.
pub(crate) fn record(app: &Arc<App>, reason: Reason, intent: Intent, outcome: Outcome) {
    let Some(first) = app.audit.count_refusal(reason.as_str(), intent, outcome) else { return };
    app.spawn(first.wait_stored());
}

impl Call {
    /// Makes sure that a refusal noted on this call is recorded, however the call ends. Does nothing if the caller is
    /// not known.
    pub(crate) fn record_refusals_on_drop(&self, app: &Arc<App>) {
        let Some(caller) = self.caller.clone() else { return };
        let recorder = RefusalRecorder {
            app: Arc::clone(app),
            caller,
            at: self.at,
            started: self.started,
            client_ip: self.client_ip,
            request_id: self.request_id,
            method: self.method,
        };
        // A call has one caller, so a second guard would be identical.
        let _ = self.note.recorder.set(recorder);
    }
}

impl AuditNotes {
    /// Returns the caller, once it is known.
    pub(crate) fn caller(&self) -> Option<&Caller> {
        self.recorder.get().map(|recorder| &recorder.caller)
    }

    /// Records the noted refusal, once.
    pub(crate) fn record_refusal(&self) {
        let refusal = self.lock().refusal.take();
        if let (Some(recorder), Some(refusal)) = (self.recorder.get(), refusal) {
            recorder.record(refusal);
        }
    }
}

impl Drop for AuditNotes {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let refusal = state.refusal.take();
        if let (Some(recorder), Some(refusal)) = (self.recorder.get(), refusal) {
            recorder.record(refusal);
        }
    }
}
