//! The listener's certificate, its key and the CA for callers, read again when their files change or on SIGHUP.
//!
//! Invariants
//! - what does not fit together, or has ended, is not served: what was served before goes on, and is told of once;
//! - each process does it for itself;
//! - connections that stand go on, but those of callers who were known by a certificate under a CA that is another now.

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

/// What was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// Files that could not be read.
    Unread,
    /// Files that do not fit.
    Unfit(Content),
}

/// What was told of already.
#[derive(Debug, Default)]
struct Told {
    refused: Option<Refused>,
    ends: Option<(Timestamp, i64)>,
}

/// The listener of the API.
#[derive(Debug, Default)]
pub struct Listener {
    /// Speaks TLS, once it listens and if it does.
    pub(super) tls: OnceLock<Tls>,
    /// Whether it takes connections.
    pub(super) listening: AtomicBool,
    reload: Notify,
    told: Mutex<Told>,
}

impl Listener {
    /// Reads the files of TLS again.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock()
    }
}

/// Looks at the files.
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

/// Serves what is new and fits. Answers whether there was such.
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
        // Of certificate and key one may have been replaced before the other: the next look finds both.
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

/// Shows when the certificate ends, and warns 30, 7 and 1 days before.
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
