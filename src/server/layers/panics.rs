//! Catches panics of the inner layers and of the proxy. Inside audit, which records a panic as an outcome.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::Response;
use tower::{Service, ServiceExt};

use crate::server::body::Body;
use crate::server::stages::{CallFailure, StartedCall};

/// Turns a panic into a failure.
pub(in crate::server) async fn catch<S>(
    started: StartedCall,
    inner: S,
) -> Result<Response<Body>, CallFailure>
where
    S: Service<StartedCall, Response = Response<Body>, Error = CallFailure>,
{
    let answering = AssertUnwindSafe(inner.oneshot(started)).catch_unwind();
    answering.await.unwrap_or(Err(CallFailure::Panic))
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{Fixture, LOGIN, empty_response, grpc_request};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_becomes_a_failure_and_a_response_passes() {
        let fixture = Fixture::new("").await;
        let broken = service_fn(async |started: StartedCall| match started.0.call.method {
            LOGIN => panic!("on purpose"),
            _ => Ok(empty_response()),
        });
        assert!(matches!(
            catch(fixture.started(grpc_request(LOGIN)), broken).await,
            Err(CallFailure::Panic)
        ));
        catch(fixture.started(grpc_request("/a.B/C")), broken).await.unwrap();
    }
}
