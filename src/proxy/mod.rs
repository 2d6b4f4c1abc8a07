//! Forwards calls of the OpenShell API to the gateway that they are for.
//!
//! Invariants
//! - only a path that is a row of the gateway's own generation is forwarded, by a caller that holds the row's role there;
//! - a governed request is one message that can be read in one way, and what was checked is what goes on;
//! - where an intent is due it is durable before the first byte leaves;
//! - nothing of the caller's identity reaches a gateway, nothing that a gateway says passes as ours;
//! - bodies are never gathered, but for the messages that are read: both directions wait for who reads them;
//! - refusals are [`Error`](crate::error::Error)s, made into a status in one place.

mod admit;
mod annotate;
mod body;
mod concerned;
mod early;
mod forward;
mod governed;
mod ids;
mod lifecycle;
mod prepare;
mod record;
mod rewrite;
mod sandboxes;
mod skew;
pub(crate) mod target;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;

pub use self::body::ProxiedBody;
pub use self::ids::RequestIds;
pub use self::sandboxes::SandboxIds;

use crate::access::policy::UpstreamMethod;
use crate::app::App;
use crate::ctx::Call;
use crate::net::BoxError;
use crate::net::public_address::PublicAddress;
use crate::status::response;
use crate::upstream::channels::Channels;

/// Forwards the calls of one runtime. Its connections are used from that runtime alone.
#[derive(Debug)]
pub struct Proxy {
    app: Arc<App>,
    channels: Channels,
    public: PublicAddress,
}

impl Proxy {
    /// For the runtime that calls [`Proxy::forward`].
    ///
    /// # Panics
    /// Where the configured public URL is none, which loading the configuration refuses.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let public = PublicAddress::parse(&app.config.server.public_url());
        let public = public.expect("the configuration was checked");
        let config = Arc::new(app.config.gateways.clone());
        Self {
            channels: Channels::new(&app.fleet.targets, &config, &app.fleet.streams),
            app,
            public,
        }
    }

    /// Forwards one call, which the layers have let through, with its rows in either generation. The answer is the
    /// gateway's or, where the call is refused or the gateway is away, ours.
    pub async fn forward<B>(
        &self,
        call: Call,
        path: &'static str,
        v0_0: Option<&'static UpstreamMethod>,
        v0_1: Option<&'static UpstreamMethod>,
        request: http::Request<B>,
    ) -> http::Response<ProxiedBody>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let rows = admit::Rows { path, v0_0, v0_1 };
        forward::run(self, call, rows, request).await.unwrap_or_else(response)
    }
}
