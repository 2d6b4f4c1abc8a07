//! Audits a forwarded call: stores an intent before anything is sent, and the outcome when the call has ended.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::Code;
use tracing::error;

use super::admit::AdmittedCall;
use super::concerned::RequestSubject;
use super::ids::CountedRequestId;
use super::target::SelectedGateway;
use crate::access::policy::{StreamingMode, UpstreamPolicy};
use crate::app::App;
use crate::audit::{Ending, Intent, OpenEntry, Outcome};
use crate::ctx::{Call, Refusal};
use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::seal::hex;
use crate::status::code_and_reason;
use crate::upstream::errors;
use crate::upstream::exchange::Meter;
use crate::upstream::unanswered::OutcomeUnknown;

/// Records a rejected call for the audit layer.
pub(crate) fn record_refusal(
    call: &Call,
    guard: Option<&UpstreamPolicy>,
    subject: &RequestSubject,
    selected: Option<&SelectedGateway>,
    error: &Error,
) {
    let refusal = Refusal {
        about: subject.audit_about(guard),
        gateway: selected.map(|selected| selected.gateway.clone().into()),
        role: selected.map_or(crate::role::Role::None, |selected| selected.role),
        reason: error.into(),
    };
    call.note.lock().refusal = Some(refusal);
}

/// Stores the intent. Returns when it is durable.
///
/// # Errors
/// `AUDIT_UNAVAILABLE` if it cannot be stored: nothing may be sent. If the call must end during the wait, returns the
/// reason; an intent that is stored afterwards is closed with that reason.
pub(super) async fn open(
    app: &Arc<App>,
    admitted: &AdmittedCall<'_>,
    subject: &RequestSubject,
    digest: Option<Digest>,
) -> Result<OpenIntent, Error> {
    let AdmittedCall { call, selected, guard, watch, .. } = admitted;
    let intent = Intent {
        actor: call.caller.as_ref().map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: call.caller.as_ref().map(crate::access::principal::Caller::principal),
        role: selected.role,
        gateway: Some(selected.gateway.clone().into()),
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        detail: subject.audit_detail(guard),
        ..Intent::new(app.clock.now(), subject.audit_about(Some(guard)))
    };
    let (app, started) = (Arc::clone(app), call.started);
    let (opened, mut answer) = oneshot::channel::<Result<OpenIntent, Error>>();
    let call_end = Arc::new(OnceLock::<CallEnd>::new());
    let why = Arc::clone(&call_end);
    // Runs in a separate task: if the caller hangs up meanwhile, the stored intent must still be closed. The task sends
    // the `OpenIntent` itself, which closes the intent when it is dropped unreceived.
    let main = Arc::clone(&app);
    main.spawn(async move {
        let entry = app.audit.open(intent).await;
        let (meter, request_id, outcome_unknown) = (None, None, OutcomeUnknown::default());
        let open_intent = entry.map(|entry| {
            let entry = Some(entry);
            OpenIntent { app, entry, started, meter, request_id, outcome_unknown }
        });
        if let Err(Ok(mut open_intent)) = opened.send(open_intent)
            && let Some(CallEnd { ending, code }) = why.get()
        {
            open_intent.end(*ending, *code);
        }
    });
    let error = match watch.within(&mut answer).await {
        Ok(stored) => {
            return stored.unwrap_or_else(|_| {
                let why = "the audit log cannot be written";
                Err(Error::unavailable(Reason::AuditUnavailable, why))
            });
        }
        Err(error) => error,
    };
    let _ = call_end.set(CallEnd::from_error(&error));
    answer.close();
    if let Ok(Ok(open_intent)) = answer.try_recv() {
        open_intent.finish_with_error(&error);
    }
    Err(error)
}

/// Outcome of a call to which the gateway did not respond.
#[derive(Debug, Clone, Copy)]
struct CallEnd {
    ending: Ending,
    code: i32,
}

impl CallEnd {
    fn from_error(error: &Error) -> Self {
        let denied = matches!(error, Error::Unauthenticated { .. } | Error::Denied { .. });
        let ending = if denied { Ending::Denied } else { Ending::Failed };
        Self { ending, code: code_and_reason(error).0 as i32 }
    }
}

/// An open audit intent. Dropping it without an outcome records that the caller canceled the call.
///
/// The caller decides when it hangs up and how long it waits, so neither proves that nothing was done: if the gateway
/// may have acted and did not report the outcome, the outcome is recorded as unknown.
pub(crate) struct OpenIntent {
    app: Arc<App>,
    entry: Option<OpenEntry>,
    started: std::time::Instant,
    meter: Option<(Arc<Meter>, StreamingMode)>,
    request_id: Option<CountedRequestId>,
    outcome_unknown: OutcomeUnknown,
}

impl OpenIntent {
    /// Returns the flag that is set when the gateway may act on the request.
    pub(super) fn outcome_unknown(&self) -> OutcomeUnknown {
        self.outcome_unknown.clone()
    }

    /// Records that the gateway began to stream its response: it accepted the request, so the outcome is no longer
    /// unknown.
    pub(super) fn mark_accepted(&mut self) {
        self.outcome_unknown = OutcomeUnknown::default();
    }

    /// Records that the gateway reported the outcome.
    pub(super) fn mark_outcome_known(&self) {
        self.outcome_unknown.clear();
    }

    /// Closes the intent with the status from the gateway.
    pub(super) fn finish_with_status(self, code: i32, status: Option<&HeaderMap>) {
        if !errors::is_outcome_unknown(code, status) {
            self.mark_outcome_known();
        }
        self.finish(code);
    }

    /// Adds the byte counts of a stream, and the digest of its request bytes, to the outcome.
    pub(crate) fn set_meter(&mut self, meter: &Arc<Meter>, streaming: StreamingMode) {
        self.meter = Some((Arc::clone(meter), streaming));
    }

    /// Counts the request id of the call with the outcome.
    pub(super) fn set_request_id(&mut self, request_id: Option<CountedRequestId>) {
        self.request_id = request_id;
    }

    /// Closes the intent with the final code, from the gateway or from Shoreguard.
    pub(crate) fn finish(mut self, code: i32) {
        if let Some(request_id) = self.request_id.take() {
            request_id.finish(code);
        }
        self.close(code);
    }

    /// Closes the intent of a call that was rejected after the intent was stored. Nothing was sent.
    pub(crate) fn finish_refused(mut self, error: &Error) {
        self.end(Ending::Denied, code_and_reason(error).0 as i32);
    }

    /// Closes the intent of a call that ended with one of Shoreguard's own errors.
    pub(super) fn finish_with_error(mut self, error: &Error) {
        let CallEnd { ending, code } = CallEnd::from_error(error);
        if let (Some(request_id), Ending::Failed) = (self.request_id.take(), ending) {
            request_id.finish(code);
        }
        self.end(ending, code);
    }

    /// Returns the entry, which the caller of this function must close.
    pub(crate) fn into_entry(mut self) -> Option<OpenEntry> {
        self.entry.take()
    }

    fn close(&mut self, code: i32) {
        self.end(if code == 0 { Ending::Ok } else { Ending::Failed }, code);
    }

    fn end(&mut self, ending: Ending, code: i32) {
        let Some(entry) = self.entry.take() else { return };
        let known = ending == Ending::Ok || !self.outcome_unknown.is_set();
        let ending = if known { ending } else { Ending::Unknown };
        let meter = self.meter.take();
        let bytes = meter.as_ref().filter(|(_, s)| *s != StreamingMode::Unary).map(|(meter, _)| {
            (meter.sent.load(Ordering::Relaxed), meter.received.load(Ordering::Relaxed))
        });
        let outcome = Outcome {
            took: self.started.elapsed(),
            detail: meter
                .and_then(|(meter, _)| meter.finish())
                .map(|digest| digest_detail(&digest)),
            bytes,
            ..Outcome::new(self.app.clock.now(), ending, code)
        };
        let app = Arc::clone(&self.app);
        self.app.spawn(async move {
            if let Err(error) = app.audit.close(entry, outcome).await {
                error!(%error, "the outcome of a forwarded call could not be recorded");
            }
        });
    }
}

impl Drop for OpenIntent {
    fn drop(&mut self) {
        self.close(Code::Cancelled as i32);
    }
}

fn digest_detail(digest: &Digest) -> Value {
    json!({ "digest": hex(&digest.bytes), "digest_key": &*digest.key_id })
}
