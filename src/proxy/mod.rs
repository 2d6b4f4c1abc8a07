//! The OpenShell API, forwarded to the right gateway.
use crate::access::policy::UpstreamMethod;
use crate::app::App;
use crate::ctx::Call;
use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
#[derive(Debug)]
pub struct ProxiedBody;
impl http_body::Body for ProxiedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }
}
#[derive(Debug)]
pub struct Proxy {
    _app: Arc<App>,
}
impl Proxy {
    pub fn new(app: Arc<App>) -> Self {
        Self { _app: app }
    }
    pub async fn forward(
        &self,
        _call: Call,
        _p: &'static str,
        _a: Option<&'static UpstreamMethod>,
        _b: Option<&'static UpstreamMethod>,
        _r: http::Request<hyper::body::Incoming>,
    ) -> http::Response<ProxiedBody> {
        http::Response::new(ProxiedBody)
    }
}
