//! Catches panics of the layers inside and of the proxy. Inside audit, for which a panic is an outcome.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::Response;
use tower::{Service, ServiceExt};

use crate::server::body::Body;
use crate::server::stages::{Begun, Failure};

/// Makes a failure of a panic.
pub(in crate::server) async fn catch<S>(begun: Begun, inner: S) -> Result<Response<Body>, Failure>
where
    S: Service<Begun, Response = Response<Body>, Error = Failure>,
{
    let answering = AssertUnwindSafe(inner.oneshot(begun)).catch_unwind();
    answering.await.unwrap_or(Err(Failure::Panic))
}
