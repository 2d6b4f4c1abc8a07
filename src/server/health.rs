//! `grpc.health.v1`: a service is `SERVING` while calls to it can be answered.
//!
//! `NOT_SERVING` while draining, while the audit log cannot be written, and while the access data is stale.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::reload::ListenerState;
use crate::access::policy::{METHODS, UPSTREAM_V0_1};
use crate::app::App;

/// Interval at which readiness is checked. A drain is noticed at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Returns the reported service names: Shoreguard's own, the proxied ones, and the empty name for the whole server.
fn service_names() -> BTreeSet<&'static str> {
    let own = METHODS.iter().map(|method| method.path);
    let paths = own.chain(UPSTREAM_V0_1.iter().map(|method| method.path));
    paths.filter_map(|path| path.split('/').nth(1)).chain([""]).collect()
}

/// Returns the service, and starts the task that updates it until the process stops.
pub fn start(
    app: &Arc<App>,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, service) = health_reporter();
    let task_app = Arc::clone(app);
    app.spawn(async move { report_status(&task_app, &reporter).await });
    service
}

async fn report_status(app: &App, reporter: &HealthReporter) {
    let names = service_names();
    let mut last = None;
    loop {
        let ready = can_answer(app);
        if last.replace(ready) != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            for name in &names {
                reporter.set_service_status(name, status).await;
            }
        }
        if app.stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = app.stop.cancelled() => {}
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
    }
}

/// Returns whether calls are accepted and can be answered.
#[must_use]
pub fn is_ready(app: &App) -> bool {
    app.part::<ListenerState>().listening.load(Ordering::Acquire) && can_answer(app)
}

/// Returns whether accepted calls can be answered.
fn can_answer(app: &App) -> bool {
    !app.stop.is_cancelled() && app.audit.is_writable() && app.snapshot.check_fresh().is_ok()
}
