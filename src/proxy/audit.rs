//! Audits a forwarded call: stores an intent before anything is sent, and the outcome when the call has ended.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::Code;
use tracing::error;

use super::admit::Admitted;
use super::concerned::Concerned;
use super::ids::Counted;
use super::target::Chosen;
use crate::access::policy::{Guard, Streaming};
use crate::app::App;
use crate::audit::{Ending, Intent, OpenEntry, Outcome};
use crate::ctx::{Call, Refusal};
use crate::digest::Digest;
use crate::error::{Error, Reason};
use crate::seal::hex;
use crate::status::code_of;
use crate::upstream::errors;
use crate::upstream::exchange::Meter;
use crate::upstream::unanswered::Unanswered;

/// Records a rejected call for the audit layer.
pub(crate) fn refuse(
    call: &Call,
    guard: Option<&Guard>,
    concerned: &Concerned,
    chosen: Option<&Chosen>,
    error: &Error,
) {
    let refusal = Refusal {
        about: concerned.about(guard),
        gateway: chosen.map(|chosen| chosen.gateway.clone().into()),
        role: chosen.map_or(crate::role::Role::None, |chosen| chosen.role),
        why: error.into(),
    };
    call.note.lock().refused = Some(refusal);
}

/// Stores the intent. Returns when it is durable.
///
/// # Errors
/// `AUDIT_UNAVAILABLE` if it cannot be stored: nothing may be sent. If the call must end during the wait, returns the
/// reason; an intent that is stored afterwards is closed with that reason.
pub(super) async fn open(
    app: &Arc<App>,
    admitted: &Admitted<'_>,
    concerned: &Concerned,
    digest: Option<Digest>,
) -> Result<Closing, Error> {
    let Admitted { call, chosen, guard, watch, .. } = admitted;
    let intent = Intent {
        actor: call.caller.as_ref().map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: call.caller.as_ref().map(crate::access::principal::Caller::principal),
        role: chosen.role,
        gateway: Some(chosen.gateway.clone().into()),
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        detail: concerned.detail(guard),
        ..Intent::new(app.clock.now(), concerned.about(Some(guard)))
    };
    let (app, started) = (Arc::clone(app), call.started);
    let (opened, mut answer) = oneshot::channel::<Result<Closing, Error>>();
    let given_up = Arc::new(OnceLock::<Ended>::new());
    let why = Arc::clone(&given_up);
    // Runs in a separate task: if the caller hangs up meanwhile, the stored intent must still be closed. The task sends
    // the `Closing` itself, which closes the intent when it is dropped unreceived.
    let main = Arc::clone(&app);
    main.spawn(async move {
        let entry = app.audit.open(intent).await;
        let (meter, ids, unanswered) = (None, None, Unanswered::default());
        let closing = entry.map(|entry| {
            let entry = Some(entry);
            Closing { app, entry, started, meter, ids, unanswered }
        });
        if let Err(Ok(mut closing)) = opened.send(closing)
            && let Some(Ended { ending, code }) = why.get()
        {
            closing.end(*ending, *code);
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
    let _ = given_up.set(Ended::of(&error));
    answer.close();
    if let Ok(Ok(closing)) = answer.try_recv() {
        closing.ended(&error);
    }
    Err(error)
}

/// Outcome of a call to which the gateway did not respond.
#[derive(Debug, Clone, Copy)]
struct Ended {
    ending: Ending,
    code: i32,
}

impl Ended {
    fn of(error: &Error) -> Self {
        let denied = matches!(error, Error::Unauthenticated { .. } | Error::Denied { .. });
        let ending = if denied { Ending::Denied } else { Ending::Failed };
        Self { ending, code: code_of(error).0 as i32 }
    }
}

/// An open audit intent. Dropping it without an outcome records that the caller canceled the call.
///
/// The caller decides when it hangs up and how long it waits, so neither proves that nothing was done: if the gateway
/// may have acted and did not report the outcome, the outcome is recorded as unknown.
pub(crate) struct Closing {
    app: Arc<App>,
    entry: Option<OpenEntry>,
    started: std::time::Instant,
    meter: Option<(Arc<Meter>, Streaming)>,
    ids: Option<Counted>,
    unanswered: Unanswered,
}

impl Closing {
    /// Returns the flag that is set when the gateway may act on the request.
    pub(super) fn unanswered(&self) -> Unanswered {
        self.unanswered.clone()
    }

    /// Records that the gateway began to stream its response: it accepted the request, so the outcome is no longer
    /// unknown.
    pub(super) fn begun(&mut self) {
        self.unanswered = Unanswered::default();
    }

    /// Records that the gateway reported the outcome.
    pub(super) fn told(&self) {
        self.unanswered.settle();
    }

    /// Closes the intent with the status from the gateway.
    pub(super) fn answered(self, code: i32, status: Option<&HeaderMap>) {
        if !errors::leaves_open(code, status) {
            self.told();
        }
        self.finish(code);
    }

    /// Adds the byte counts of a stream, and the digest of its request bytes, to the outcome.
    pub(crate) fn metered(&mut self, meter: &Arc<Meter>, streaming: Streaming) {
        self.meter = Some((Arc::clone(meter), streaming));
    }

    /// Counts the request id of the call with the outcome.
    pub(super) fn counts(&mut self, ids: Option<Counted>) {
        self.ids = ids;
    }

    /// Closes the intent with the final code, from the gateway or from Shoreguard.
    pub(crate) fn finish(mut self, code: i32) {
        if let Some(ids) = self.ids.take() {
            ids.finish(code);
        }
        self.close(code);
    }

    /// Closes the intent of a call that was rejected after the intent was stored. Nothing was sent.
    pub(crate) fn refused(mut self, error: &Error) {
        self.end(Ending::Denied, code_of(error).0 as i32);
    }

    /// Closes the intent of a call that ended with one of Shoreguard's own errors.
    pub(super) fn ended(mut self, error: &Error) {
        let Ended { ending, code } = Ended::of(error);
        if let (Some(ids), Ending::Failed) = (self.ids.take(), ending) {
            ids.finish(code);
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
        let known = ending == Ending::Ok || !self.unanswered.is_open();
        let ending = if known { ending } else { Ending::Unknown };
        let meter = self.meter.take();
        let bytes = meter.as_ref().filter(|(_, s)| *s != Streaming::Unary).map(|(meter, _)| {
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

impl Drop for Closing {
    fn drop(&mut self) {
        self.close(Code::Cancelled as i32);
    }
}

fn digest_detail(digest: &Digest) -> Value {
    json!({ "digest": hex(&digest.bytes), "digest_key": &*digest.key_id })
}
