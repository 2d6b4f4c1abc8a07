//! The list of services, one line per resource.

use std::sync::{Arc, LazyLock};

use tonic::service::{Routes, RoutesBuilder};

use crate::app::App;
use crate::pb::descriptors::{self, Descriptors};
use crate::resources::{
    access_bindings, approval_workflows, approvals, audit, auth, boot_hooks, events, gateways,
    groups, operations, policies, sandboxes, sboms, service_principals, users, webhooks,
};
use crate::upstream::generation::Generation;

/// Returns every service that this process serves itself, except [`reflection`]. `health` reports through the handle
/// that created it.
pub fn routes(
    app: &Arc<App>,
    health: tonic_health::pb::health_server::HealthServer<
        impl tonic_health::pb::health_server::Health,
    >,
) -> Routes {
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(access_bindings::rpc::service(app))
        .add_service(approval_workflows::rpc::service(app))
        .add_service(approvals::rpc::service(app))
        .add_service(audit::rpc::service(app))
        .add_service(auth::rpc::service(app))
        .add_service(boot_hooks::rpc::service(app))
        .add_service(events::rpc::service(app))
        .add_service(gateways::rpc::service(app))
        .add_service(groups::rpc::service(app))
        .add_service(operations::rpc::service(app))
        .add_service(policies::rpc::service(app))
        .add_service(sandboxes::rpc::service(app))
        .add_service(sboms::rpc::service(app))
        .add_service(service_principals::rpc::service(app))
        .add_service(users::rpc::service(app))
        .add_service(webhooks::rpc::service(app))
        .add_service(health);
    routes.routes()
}

/// Returns reflection as a gateway of this generation provides it, with Shoreguard's own services. The first call
/// decodes and indexes all descriptors, so it must not run on a core.
pub fn reflection(generation: Generation) -> axum::Router {
    match generation {
        Generation::V0_0 => REFLECTION_V0_0.clone(),
        Generation::V0_1 => REFLECTION_V0_1.clone(),
    }
}

/// Built on first use: it holds several megabytes, and few servers are called for it.
static REFLECTION_V0_0: LazyLock<axum::Router> =
    LazyLock::new(|| build_reflection(&descriptors::V0_0));
static REFLECTION_V0_1: LazyLock<axum::Router> =
    LazyLock::new(|| build_reflection(&descriptors::V0_1));

/// Builds reflection of Shoreguard's own services and the proxied ones. The generations share full names, so one pool
/// can hold only one of them.
fn build_reflection(upstream: &Descriptors) -> axum::Router {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors::OWN.encoded())
            .register_encoded_file_descriptor_set(upstream.encoded())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().expect("descriptor sets that the build made");
    let v1alpha = builder().build_v1alpha().expect("descriptor sets that the build made");
    let mut routes = RoutesBuilder::default();
    routes.add_service(v1).add_service(v1alpha);
    routes.routes().prepare().into_axum_router()
}
