//! Catches panics of the inner layers and of the proxy. Inside audit, which records a panic as an outcome.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::Response;
use tower::{Service, ServiceExt};

use crate::server::body::Body;
use crate::server::stages::{Begun, Failure};

/// Turns a panic into a failure.
pub(in crate::server) async fn catch<S>(begun: Begun, inner: S) -> Result<Response<Body>, Failure>
where
    S: Service<Begun, Response = Response<Body>, Error = Failure>,
{
    let answering = AssertUnwindSafe(inner.oneshot(begun)).catch_unwind();
    answering.await.unwrap_or(Err(Failure::Panic))
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{Fixture, LOGIN, answer, grpc};

    #[tokio::test]
    async fn a_panic_becomes_a_failure_and_a_response_passes() {
        let fixture = Fixture::new("").await;
        let broken = service_fn(async |begun: Begun| match begun.0.call.method {
            LOGIN => panic!("on purpose"),
            _ => Ok(answer()),
        });
        assert!(matches!(catch(fixture.begun(grpc(LOGIN)), broken).await, Err(Failure::Panic)));
        catch(fixture.begun(grpc("/a.B/C")), broken).await.unwrap();
    }
}
