//! Forwards calls of the OpenShell API to their gateway.
//!
//! Invariants
//! - a path is forwarded only if it is a row of the gateway's own generation and the caller holds the row's role there;
//! - a request that can change a policy is one message that can be parsed in only one way, and passes the gate
//!   (`governance`). The checked bytes are forwarded (`annotate` appends to them), encoded again if a rule applies;
//! - a required audit intent is durable before the first byte is sent;
//! - no credential or identifying header of the caller reaches a gateway, and nothing from a gateway is passed on as
//!   Shoreguard's own;
//! - bodies are never buffered completely, except for messages that are parsed: in both directions the reader sets the
//!   pace;
//! - rejections are [`Error`](crate::error::Error)s, converted to a status in one place.

mod admit;
mod annotate;
mod audit;
mod body;
mod concerned;
mod early;
mod forward;
mod gate_call;
mod generation_check;
mod governance;
mod ids;
mod read_request;
mod revocation;
mod rewrite;
mod sandboxes;
pub(crate) mod target;
mod update_config;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use futures_util::future::BoxFuture;
use http_body::Body;

pub use self::body::ProxiedBody;
pub use self::ids::RequestIds;
pub use self::sandboxes::SandboxIds;

use crate::access::policy::UpstreamMethod;
use crate::app::App;
use crate::ctx::Call;
use crate::net::BoxError;
use crate::net::public_address::PublicAddress;
use crate::status::to_response;
use crate::upstream::channels::Channels;

/// Forwards the calls of one runtime. Its connections are used only from that runtime.
#[derive(Debug)]
pub struct Proxy {
    app: Arc<App>,
    channels: Channels,
    public: PublicAddress,
}

impl Proxy {
    /// Creates the proxy for the runtime that calls [`Proxy::forward`].
    ///
    /// # Panics
    /// If the configured public URL is invalid, which loading the configuration rejects.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let public = PublicAddress::parse(&app.config.server.public_url());
        let public = public.expect("the configuration was checked");
        let config = Arc::new(app.config.gateways.clone());
        Self {
            channels: Channels::new(&app.fleet.targets, &config, &app.fleet.call_limits),
            app,
            public,
        }
    }

    /// Forwards one call that passed the layers, given its rows in both generations. Returns the gateway's response, or
    /// Shoreguard's own if the call is rejected or the gateway is unreachable. In a box: it is large, and would be copied
    /// with every future that contains it.
    pub fn forward<B>(
        &self,
        call: Call,
        path: &'static str,
        v0_0: Option<&'static UpstreamMethod>,
        v0_1: Option<&'static UpstreamMethod>,
        request: http::Request<B>,
    ) -> BoxFuture<'_, http::Response<ProxiedBody>>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let rows = admit::MethodRows { path, v0_0, v0_1 };
        Box::pin(forward::run(self, call, rows, request).unwrap_or_else(to_response))
    }
}

/// Returns the policy of a method of the OpenShell service, by its name.
#[cfg(test)]
fn openshell_policy(
    generation: crate::upstream::generation::Generation,
    method: &str,
) -> &'static crate::access::policy::UpstreamPolicy {
    let path = format!("/openshell.v1.OpenShell/{method}");
    crate::access::policy::find_upstream_policy(generation, &path).expect("it is forwarded")
}
