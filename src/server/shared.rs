//! State that the calls of one core share.

use std::sync::Arc;

use super::layers::address_limit::AddressLimit;
use super::layers::call_metrics::CallMetrics;
use super::layers::grpc_web::AllowedOrigins;
use super::layers::open_calls::OpenCalls;
use super::plain_http::PlainHttp;
use crate::app::App;
use crate::proxy::Proxy;

/// State with which one core answers calls.
pub(super) struct SharedState {
    pub(super) app: Arc<App>,
    pub(super) address_limit: Arc<AddressLimit>,
    /// Limit on public methods, such as login: far lower, since each guess costs the server work.
    pub(super) public_limit: Arc<AddressLimit>,
    /// Limits on open calls.
    pub(super) open_calls: Arc<OpenCalls>,
    /// Shoreguard's own services, except reflection.
    pub(super) router: axum::Router,
    pub(super) proxy: Proxy,
    /// Web pages that can call with gRPC-Web.
    pub(super) origins: AllowedOrigins,
    /// Handles requests that are not gRPC.
    pub(super) plain_http: PlainHttp,
    /// Counts and times the calls of this core.
    pub(super) call_metrics: CallMetrics,
}

impl SharedState {
    /// Starts with unused limits, as configured.
    pub(super) fn new(app: &Arc<App>, router: axum::Router) -> Self {
        let (limits, server) = (&app.config.limits, &app.config.server);
        let address_limit = AddressLimit::new(
            limits.address_requests_per_second,
            limits.address_burst,
            server.trusted_proxies.clone(),
        );
        let public_limit = AddressLimit::for_public_methods(
            limits.anonymous_requests_per_minute,
            limits.anonymous_burst,
        );
        Self {
            app: Arc::clone(app),
            address_limit: Arc::new(address_limit),
            public_limit: Arc::new(public_limit),
            open_calls: Arc::new(OpenCalls::new(limits)),
            router,
            proxy: Proxy::new(Arc::clone(app)),
            origins: AllowedOrigins::new(server),
            plain_http: PlainHttp::new(app),
            call_metrics: CallMetrics::default(),
        }
    }

    /// Returns the state of another core: the limits are shared, proxy and metrics are the core's own.
    pub(super) fn for_core(&self) -> Self {
        Self {
            app: Arc::clone(&self.app),
            address_limit: Arc::clone(&self.address_limit),
            public_limit: Arc::clone(&self.public_limit),
            open_calls: Arc::clone(&self.open_calls),
            router: self.router.clone(),
            proxy: Proxy::new(Arc::clone(&self.app)),
            origins: self.origins.clone(),
            plain_http: self.plain_http.clone(),
            call_metrics: CallMetrics::default(),
        }
    }
}
