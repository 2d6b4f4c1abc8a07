//! Reloads the listener's certificate, its key and the CA for callers when their files change or on SIGHUP.
//!
//! Invariants
//! - files that do not match, or a certificate that has expired, are not used: the previous ones stay in use, and the
//!   problem is reported once;
//! - each process reloads on its own;
//! - established connections are kept, except those with a client certificate if the CA for callers has changed.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use metrics::gauge;
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::tls::{Content, Served, Tls};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::outbox::{EventType, event_types};
use crate::resources::gateways::certificates;
use crate::telemetry::metrics::CERTIFICATE_EXPIRY;
use crate::workers::{Worked, Worker};

/// Files that were not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Files that could not be read.
    Unread,
    /// Files that do not match each other, or that hold an expired certificate.
    Unfit(Content),
}

/// What was already reported.
#[derive(Debug, Default)]
struct Told {
    refused: Option<Refused>,
    ends: Option<(Timestamp, i64)>,
}

/// The listener of the API.
#[derive(Debug, Default)]
pub struct Listener {
    /// TLS, once the listener is started and if it uses TLS.
    pub(super) tls: OnceLock<Tls>,
    /// Whether it accepts connections.
    pub(super) listening: AtomicBool,
    reload: Notify,
    told: Mutex<Told>,
}

impl Listener {
    /// Requests a reload of the TLS files.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock()
    }
}

/// Checks the files periodically.
pub const RELOAD: Worker = Worker {
    name: "tls-reload",
    every: |config| Duration::from_secs(config.server.tls.reload_seconds),
    lease: false,
    wake: Some(|app| &app.part::<Listener>().reload),
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<Worked, Error> {
    let Some(tls) = ctx.app().part::<Listener>().tls.get() else { return Ok(Worked::NOTHING) };
    let swapped = look(ctx, tls).await?;
    tell_end(ctx.app(), tls);
    Ok(Worked { done: usize::from(swapped), more: false })
}

/// Starts to use new files if they are valid. Returns whether it did.
async fn look(ctx: &Ctx, tls: &Tls) -> Result<bool, Error> {
    let files = match tls.read().await {
        Ok(files) => files,
        Err(why) => return refused(ctx, Refused::Unread, &why).await,
    };
    let content = files.content();
    if content == tls.served().content {
        ctx.app().part::<Listener>().told().refused = None;
        return Ok(false);
    }
    let served = match Served::of(&files) {
        Ok(served) if served.ends.is_some_and(|at| at <= ctx.now()) => {
            let why = Error::invalid("server.tls.cert_path", "is a certificate that has ended");
            return refused(ctx, Refused::Unfit(content), &why).await;
        }
        Ok(served) => served,
        // Certificate and key may not have been replaced at the same time; the next check finds both.
        Err(why) => return refused(ctx, Refused::Unfit(content), &why).await,
    };
    let ends = served.ends.map(|at| at.to_string());
    tls.swap(served);
    ctx.app().part::<Listener>().told().refused = None;
    info!(ends, "the listener's certificate was read again");
    let payload = json!({ "replica": &*ctx.app().replica, "expire_time": ends });
    tell(ctx, event_types::SERVER_CERTIFICATE_RELOADED, payload).await?;
    Ok(true)
}

async fn refused(ctx: &Ctx, what: Refused, why: &Error) -> Result<bool, Error> {
    if ctx.app().part::<Listener>().told().refused.replace(what) == Some(what) {
        return Ok(false);
    }
    error!(%why, "the listener's new certificate is not served, the former one is");
    let payload = json!({ "replica": &*ctx.app().replica, "why": why.to_string() });
    tell(ctx, event_types::SERVER_CERTIFICATE_REFUSED, payload).await?;
    Ok(false)
}

async fn tell(ctx: &Ctx, event_type: EventType, payload: serde_json::Value) -> Result<(), Error> {
    let event = ctx.event(event_type, payload);
    ctx.transaction(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Updates the metric of the certificate's expiry, and logs a warning 30, 7 and 1 days before it.
fn tell_end(app: &App, tls: &Tls) {
    let Some(ends) = tls.served().ends else { return };
    #[expect(clippy::cast_precision_loss, reason = "seconds of a year fit")]
    gauge!(CERTIFICATE_EXPIRY).set((ends.unix_seconds() - app.clock.now().unix_seconds()) as f64);
    let Some(days) = certificates::due(app.clock.now(), ends) else { return };
    let mut told = app.part::<Listener>().told();
    if told.ends.is_none_or(|(at, before)| at != ends || days < before) {
        told.ends = Some((ends, days));
        warn!(%ends, "the listener's certificate ends within {days} days");
    }
}
