//! grpc.health.v1: a service is `SERVING` while calls to it can be answered.
//!
//! `NOT_SERVING` while draining, while the audit log can't be written, and while the access data is stale.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost_reflect::DescriptorPool;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::reload::Listener;
use crate::app::App;
use crate::pb;

/// How often readiness is looked at; a change of the access data or a drain is seen at once.
const EVERY: Duration = Duration::from_millis(500);

/// The service names that are reported: ours, the proxied ones, and the empty one for the whole.
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

/// The service, and the task that keeps it true until the process stops.
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

/// Whether calls are taken and can be answered.
#[must_use]
pub fn is_ready(app: &App) -> bool {
    app.part::<Listener>().listening.load(Ordering::Acquire) && can_answer(app)
}

/// The same for a caller that was let in, and so knows that calls are taken.
fn can_answer(app: &App) -> bool {
    !app.stop.is_cancelled() && app.audit.is_writable() && app.snapshot.check_fresh().is_ok()
}
