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

use super::tls::{FileHashes, LoadedTls, Tls};
use crate::app::App;
use crate::clock::Timestamp;
use crate::ctx::Ctx;
use crate::error::Error;
use crate::outbox::{EventType, event_types};
use crate::resources::gateways::certificates;
use crate::telemetry::metrics::CERTIFICATE_EXPIRY;
use crate::workers::{TickResult, Worker};

/// Files that were not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RejectedFiles {
    /// Files that could not be read.
    Unreadable,
    /// Files that do not match each other, or that hold an expired certificate.
    Invalid(FileHashes),
}

/// Problems that were already reported.
#[derive(Debug, Default)]
struct ReportState {
    rejected: Option<RejectedFiles>,
    expiry: Option<(Timestamp, i64)>,
}

/// The listener of the API.
#[derive(Debug, Default)]
pub struct ListenerState {
    /// TLS, once the listener is started and if it uses TLS.
    pub(super) tls: OnceLock<Tls>,
    /// Whether it accepts connections.
    pub(super) listening: AtomicBool,
    reload: Notify,
    reported: Mutex<ReportState>,
}

impl ListenerState {
    /// Requests a reload of the TLS files.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    fn reported(&self) -> MutexGuard<'_, ReportState> {
        self.reported.lock()
    }
}

/// Checks the files periodically.
pub const TLS_RELOAD: Worker = Worker {
    name: "tls-reload",
    interval: |config| Duration::from_secs(config.server.tls.reload_seconds),
    lease: false,
    wake: Some(|app| &app.part::<ListenerState>().reload),
    tick: |ctx, _| Box::pin(tick(ctx)),
};

async fn tick(ctx: &Ctx) -> Result<TickResult, Error> {
    let Some(tls) = ctx.app().part::<ListenerState>().tls.get() else {
        return Ok(TickResult::IDLE);
    };
    let swapped = reload_if_changed(ctx, tls).await?;
    report_expiry(ctx.app(), tls);
    Ok(TickResult { done: usize::from(swapped), more: false })
}

/// Starts to use new files if they are valid. Returns whether it did.
async fn reload_if_changed(ctx: &Ctx, tls: &Tls) -> Result<bool, Error> {
    let files = match tls.read_files().await {
        Ok(files) => files,
        Err(error) => return report_rejected(ctx, RejectedFiles::Unreadable, &error).await,
    };
    let hashes = files.hashes();
    if hashes == tls.current().hashes {
        ctx.app().part::<ListenerState>().reported().rejected = None;
        return Ok(false);
    }
    let served = match LoadedTls::from_files(&files) {
        Ok(served) if served.expires_at.is_some_and(|at| at <= ctx.now()) => {
            let error = Error::invalid("server.tls.cert_path", "is an expired certificate");
            return report_rejected(ctx, RejectedFiles::Invalid(hashes), &error).await;
        }
        Ok(served) => served,
        // Certificate and key may not have been replaced at the same time; the next check finds both.
        Err(error) => return report_rejected(ctx, RejectedFiles::Invalid(hashes), &error).await,
    };
    let ends = served.expires_at.map(|at| at.to_string());
    tls.swap(served);
    ctx.app().part::<ListenerState>().reported().rejected = None;
    info!(ends, "the listener's certificate was read again");
    let payload = json!({ "replica": &*ctx.app().replica, "expire_time": ends });
    emit_event(ctx, event_types::SERVER_CERTIFICATE_RELOADED, payload).await?;
    Ok(true)
}

async fn report_rejected(ctx: &Ctx, what: RejectedFiles, error: &Error) -> Result<bool, Error> {
    if ctx.app().part::<ListenerState>().reported().rejected.replace(what) == Some(what) {
        return Ok(false);
    }
    error!(why = %error, "the listener's new certificate is not served, the former one is");
    let payload = json!({ "replica": &*ctx.app().replica, "why": error.to_string() });
    emit_event(ctx, event_types::SERVER_CERTIFICATE_REFUSED, payload).await?;
    Ok(false)
}

async fn emit_event(
    ctx: &Ctx,
    event_type: EventType,
    payload: serde_json::Value,
) -> Result<(), Error> {
    let event = ctx.new_event(event_type, payload);
    ctx.transaction(async |tx| tx.emit(event.clone()).await).await?;
    Ok(())
}

/// Updates the metric of the certificate's expiry, and logs a warning 30, 7 and 1 days before it.
fn report_expiry(app: &App, tls: &Tls) {
    let Some(ends) = tls.current().expires_at else { return };
    #[expect(clippy::cast_precision_loss, reason = "seconds of a year fit")]
    gauge!(CERTIFICATE_EXPIRY).set((ends.unix_seconds() - app.clock.now().unix_seconds()) as f64);
    let Some(days) = certificates::due_report(app.clock.now(), ends) else { return };
    let mut reported = app.part::<ListenerState>().reported();
    if reported.expiry.is_none_or(|(at, before)| at != ends || days < before) {
        reported.expiry = Some((ends, days));
        warn!(%ends, "the listener's certificate ends within {days} days");
    }
}
