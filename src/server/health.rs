//! `grpc.health.v1`: a service is `SERVING` while calls to it can be answered.
//!
//! `NOT_SERVING` while draining, while the audit log cannot be written, and while the access data is stale.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost_reflect::DescriptorPool;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::reload::Listener;
use crate::app::App;
use crate::pb;

/// Interval at which readiness is checked. A drain is noticed at once.
const EVERY: Duration = Duration::from_millis(500);

/// Returns the reported service names: Shoreguard's own, the proxied ones, and the empty name for the whole server.
fn names() -> Vec<String> {
    let services = |set: &[u8]| -> Vec<String> {
        let pool = DescriptorPool::decode(set).expect("the build made it");
        pool.services().map(|service| service.full_name().to_owned()).collect()
    };
    let mut names = services(pb::DESCRIPTORS);
    names.extend(services(pb::V0_1_DESCRIPTORS));
    names.push(String::new());
    names
}

/// Returns the service, and starts the task that updates it until the process stops.
pub fn start(
    app: &Arc<App>,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health> {
    let (reporter, service) = health_reporter();
    let task_app = Arc::clone(app);
    app.spawn(async move { keep(&task_app, &reporter).await });
    service
}

async fn keep(app: &App, reporter: &HealthReporter) {
    let names = names();
    let mut told = None;
    loop {
        let ready = can_answer(app);
        if told.replace(ready) != Some(ready) {
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
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Returns whether calls are accepted and can be answered.
#[must_use]
pub fn is_ready(app: &App) -> bool {
    app.part::<Listener>().listening.load(Ordering::Acquire) && can_answer(app)
}

/// Returns whether accepted calls can be answered.
fn can_answer(app: &App) -> bool {
    !app.stop.is_cancelled() && app.audit.is_writable() && app.snapshot.check_fresh().is_ok()
}
