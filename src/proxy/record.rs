//! What the audit log gets of a forwarded call: an intent before anything is sent, an outcome when it is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tonic::Code;
use tracing::error;

use super::target::Chosen;
use super::upstream::Meter;
use crate::access::policy::{Guard, Streaming};
use crate::app::App;
use crate::ctx::{Call, Digest, Refusal};
use crate::error::{Error, Reason};
use crate::resources::audit::{Ending, Intent, OpenEntry, Outcome};
use crate::resources::sandboxes::input::NAME_CHARACTERS_MAX;
use crate::seal::hex;

/// The sandbox that a request means.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its workspace; empty is `default`.
    pub(crate) workspace: String,
    /// Its name; empty where the request means none.
    pub(crate) sandbox: String,
}

impl Place {
    /// Refuses names that are longer than any that is kept.
    ///
    /// # Errors
    /// `INVALID_FIELD`.
    pub(crate) fn bounded(&self) -> Result<(), Error> {
        for (field, name) in [("workspace", &self.workspace), ("name", &self.sandbox)] {
            let count = name.chars().count();
            if count > NAME_CHARACTERS_MAX {
                let why = format!("must be at most {NAME_CHARACTERS_MAX} characters, got {count}");
                return Err(Error::invalid(field, why));
            }
        }
        Ok(())
    }

    /// As the audit log names it.
    fn target(&self) -> String {
        match (self.workspace.as_str(), self.sandbox.as_str()) {
            (_, "") => String::new(),
            ("" | "default", sandbox) => sandbox.to_owned(),
            (workspace, sandbox) => format!("{workspace}/{sandbox}"),
        }
    }

    fn detail(&self) -> Option<Value> {
        let workspace = if self.workspace.is_empty() { "default" } else { &self.workspace };
        let named = !(self.workspace.is_empty() && self.sandbox.is_empty());
        named.then(|| serde_json::json!({ "workspace": workspace }))
    }
}

/// Leaves word for the audit layer that the call was not let through.
pub(crate) fn refuse(
    call: &Call,
    guard: Option<&Guard>,
    place: &Place,
    chosen: Option<&Chosen>,
    error: &Error,
) {
    let refusal = Refusal {
        action: guard.map_or("gateway.call", |guard| guard.action),
        resource: guard.map_or("gateway", |guard| guard.resource),
        target: place.target(),
        gateway: chosen.map(|chosen| (Some(chosen.id), Arc::clone(&chosen.name))),
        role: chosen.map_or(crate::access::roles::Role::None, |chosen| chosen.role),
        why: error.into(),
    };
    call.note.lock().refused = Some(refusal);
}

/// Stores the intent. Durable when it answers.
///
/// # Errors
/// `AUDIT_UNAVAILABLE`: nothing may be sent.
pub(crate) async fn open(
    app: &Arc<App>,
    call: &Call,
    chosen: &Chosen,
    guard: &'static Guard,
    place: &Place,
    digest: Digest,
) -> Result<Closing, Error> {
    let intent = Intent {
        at: call.at,
        actor: call.caller.as_ref().map_or_else(|| "anonymous".into(), |c| Arc::clone(c.actor())),
        principal: call.caller.as_ref().map(crate::access::principal::Caller::principal),
        role: chosen.role,
        action: guard.action,
        resource_type: guard.resource,
        resource_id: place.target(),
        gateway: Some((Some(chosen.id), Arc::clone(&chosen.name))),
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest,
        detail: place.detail(),
    };
    let (app, started) = (Arc::clone(app), call.started);
    let (opened, answer) = oneshot::channel();
    // In a task of its own: where the caller hangs up meanwhile, what was stored must be closed all the same. The
    // closing is what travels, so one that nobody receives closes itself.
    let main = Arc::clone(&app);
    main.spawn(async move {
        let entry = app.audit.open(intent).await;
        let closing = entry.map(|entry| Closing { app, entry: Some(entry), started, meter: None });
        drop(opened.send(closing));
    });
    answer.await.unwrap_or_else(|_| {
        let why = "the audit log cannot be written";
        Err(Error::unavailable(Reason::AuditUnavailable, why))
    })
}

/// An intent that waits for its outcome. Dropped without one, the caller has gone.
pub(crate) struct Closing {
    app: Arc<App>,
    entry: Option<OpenEntry>,
    started: std::time::Instant,
    meter: Option<(Arc<Meter>, Streaming)>,
}

impl Closing {
    /// Tells the bytes of a stream, and the digest of what has passed, with the outcome.
    pub(crate) fn metered(&mut self, meter: &Arc<Meter>, streaming: Streaming) {
        self.meter = Some((Arc::clone(meter), streaming));
    }

    /// The call has ended with this code.
    pub(crate) fn finish(mut self, code: i32) {
        self.close(code);
    }

    /// Hands the intent on: somebody else closes it.
    pub(crate) fn into_entry(mut self) -> Option<OpenEntry> {
        self.entry.take()
    }

    fn close(&mut self, code: i32) {
        let Some(entry) = self.entry.take() else { return };
        let meter = self.meter.take();
        let bytes = meter.as_ref().filter(|(_, s)| *s != Streaming::Unary).map(|(meter, _)| {
            (meter.sent.load(Ordering::Relaxed), meter.received.load(Ordering::Relaxed))
        });
        let outcome = Outcome {
            at: self.app.clock.now(),
            ending: if code == 0 { Ending::Ok } else { Ending::Failed },
            code,
            took: self.started.elapsed(),
            detail: meter.and_then(|(meter, _)| meter.finish()).map(digest_detail),
            bytes,
            target: None,
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

fn digest_detail((key, digest): (Arc<str>, Vec<u8>)) -> Value {
    let pairs =
        [("digest".to_owned(), hex(&digest).into()), ("digest_key".to_owned(), (&*key).into())];
    Value::Object(Map::from_iter(pairs))
}
