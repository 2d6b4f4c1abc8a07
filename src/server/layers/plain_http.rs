//! Answers requests that are not gRPC. They have no gRPC status and no method, and are never forwarded.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::{Response, StatusCode, Version};
use tower::{Service, ServiceExt};

use super::gate;
use super::grpc_web;
use super::limits::Protocol;
use super::open_calls::Shares;
use crate::server::body::Body;
use crate::server::plain_http;
use crate::server::stages::Arriving;

/// Answers plain HTTP: one of its own paths, otherwise only a status. It counts as a call without a credential.
pub(in crate::server) async fn split<S>(
    arriving: Arriving,
    inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Arriving, Response = Response<Body>, Error = Infallible>,
{
    let code = match Protocol::of(&arriving.request) {
        Protocol::Grpc | Protocol::GrpcWeb => return inner.oneshot(arriving).await,
        Protocol::Plain(code) => code,
    };
    let counted = arriving.peer.in_flight.enter();
    let response = answer(arriving, code).await;
    Ok(response.map(|body| body.counted(Some(counted))))
}

async fn answer(arriving: Arriving, code: StatusCode) -> Response<Body> {
    let Arriving { shared, peer, taking, request } = arriving;
    let ip = shared.address_limit.client_ip(peer.address.ip(), request.headers());
    let known = gate::route(request.uri().path()).is_ok();
    let multiplexed = request.version() == Version::HTTP_2;
    let mut shares = Shares::default();
    let mut admit = || {
        shared.address_limit.admit(ip)?;
        shared.open_calls.arrived(&mut shares, ip)?;
        shared.open_calls.identified(&mut shares, ip, None)
    };
    let mut response = if admit().is_err() {
        StatusCode::TOO_MANY_REQUESTS.into_response()
    } else if let Some(response) =
        grpc_web::preflight(&shared, request.method(), request.uri().path(), request.headers())
            .await
    {
        response
    } else if known || code == StatusCode::HTTP_VERSION_NOT_SUPPORTED {
        code.into_response()
    } else {
        shared.plain.answer(&shared.app, ip, request).await
    };
    plain_http::finish(response.headers_mut());
    response.map(|body| {
        let body = Body::own(tonic::body::Body::new(body)).holding(shares, None);
        // HTTP/1 has no flow-control windows: the socket takes the response.
        if multiplexed { body.taken_by(&taking) } else { body }
    })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::CONTENT_TYPE;
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{self, Fixture, LOGIN};

    #[tokio::test]
    async fn grpc_requests_pass_and_other_requests_get_an_http_error() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |_: Arriving| Ok::<_, Infallible>(fixture::answer()));
        let passed = split(fixture.arriving(fixture::grpc(LOGIN)), inner).await.unwrap();
        assert!(passed.headers().is_empty());

        let never =
            service_fn(async |_: Arriving| -> Result<_, Infallible> { panic!("it was called") });
        let json = Request::post(LOGIN).header(CONTENT_TYPE, "application/json");
        for (request, code) in [
            (Request::get(LOGIN), StatusCode::METHOD_NOT_ALLOWED),
            (json, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (Request::get("/nothing"), StatusCode::NOT_FOUND),
        ] {
            let answer = split(fixture.arriving(request), never).await.unwrap();
            assert_eq!(answer.status(), code);
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
    }
}
