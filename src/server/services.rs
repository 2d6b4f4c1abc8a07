//! The list of services, one line per resource.

use std::sync::{Arc, LazyLock};

use tonic::service::{Routes, RoutesBuilder};

use crate::app::App;
use crate::pb::descriptors::{self, Descriptors};
use crate::resources::{
    access_bindings, audit, auth, boot_hooks, events, gateways, groups, operations, sandboxes,
    sboms, service_principals, users,
};

/// Returns every service that this process serves itself. `health` reports through the handle that created it.
pub fn routes(
    app: &Arc<App>,
    health: tonic_health::pb::health_server::HealthServer<
        impl tonic_health::pb::health_server::Health,
    >,
) -> Routes {
    let mut routes = RoutesBuilder::from(REFLECTION_V0_1.clone());
    routes
        .add_service(access_bindings::rpc::service(app))
        .add_service(audit::rpc::service(app))
        .add_service(auth::rpc::service(app))
        .add_service(boot_hooks::rpc::service(app))
        .add_service(events::rpc::service(app))
        .add_service(gateways::rpc::service(app))
        .add_service(groups::rpc::service(app))
        .add_service(operations::rpc::service(app))
        .add_service(sandboxes::rpc::service(app))
        .add_service(sboms::rpc::service(app))
        .add_service(service_principals::rpc::service(app))
        .add_service(users::rpc::service(app))
        .add_service(health);
    routes.routes()
}

/// Returns reflection as a gateway of generation 0.0 provides it.
#[must_use]
pub fn reflection_v0_0() -> Routes {
    REFLECTION_V0_0.clone()
}

/// Built once per process, since all descriptors are decoded and indexed twice for it.
static REFLECTION_V0_0: LazyLock<Routes> = LazyLock::new(|| reflection(&descriptors::V0_0));
static REFLECTION_V0_1: LazyLock<Routes> = LazyLock::new(|| reflection(&descriptors::V0_1));

/// Builds reflection of Shoreguard's own services and the proxied ones. The generations share full names, so one pool
/// can hold only one of them.
fn reflection(upstream: &Descriptors) -> Routes {
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
    routes.routes()
}
