//! Answers requests that are not gRPC. They have no gRPC status and no method, and are never forwarded.

use std::convert::Infallible;

use axum::response::IntoResponse;
use http::{Response, StatusCode, Version};
use tower::Service;

use super::gate;
use super::grpc_web;
use super::limits::Protocol;
use super::open_calls::Shares;
use crate::server::body::Body;
use crate::server::plain_http;
use crate::server::stages::IncomingRequest;

/// Answers plain HTTP: one of its own paths, otherwise only a status. It counts as a call without a credential.
pub(in crate::server) async fn split<S>(
    incoming: IncomingRequest,
    mut inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<IncomingRequest, Response = Response<Body>, Error = Infallible>,
{
    let code = match Protocol::detect(&incoming.request) {
        Protocol::Grpc | Protocol::GrpcWeb => return inner.call(incoming).await,
        Protocol::Plain(code) => code,
    };
    let in_flight = incoming.peer.in_flight.enter();
    // Rare, and larger than the futures of calls.
    let response = Box::pin(answer(incoming, code)).await;
    Ok(response.map(|body| body.with_in_flight(Some(in_flight))))
}

async fn answer(incoming: IncomingRequest, code: StatusCode) -> Response<Body> {
    let IncomingRequest { shared, peer, read_tracker, request } = incoming;
    let ip = shared.address_limit.client_ip(peer.address.ip(), request.headers());
    let path = gate::method_path(request.uri());
    let known = gate::route(path).is_ok();
    let multiplexed = request.version() == Version::HTTP_2;
    let mut shares = Shares::default();
    let mut admit = || {
        shared.address_limit.admit(ip)?;
        shared.open_calls.count_for_address(&mut shares, ip)?;
        shared.open_calls.count_for_caller(&mut shares, ip, None)
    };
    let mut response = if admit().is_err() {
        StatusCode::TOO_MANY_REQUESTS.into_response()
    } else if let Some(response) =
        grpc_web::preflight(&shared, request.method(), request.uri(), request.headers()).await
    {
        response
    } else if known || code == StatusCode::HTTP_VERSION_NOT_SUPPORTED {
        code.into_response()
    } else {
        shared.plain_http.answer(&shared.app, ip, request).await
    };
    plain_http::set_security_headers(response.headers_mut());
    response.map(|body| {
        let body = Body::from_service(tonic::body::Body::new(body)).with_shares(shares, None);
        // HTTP/1 has no flow-control windows: the socket takes the response.
        if multiplexed { body.with_read_tracking(&read_tracker) } else { body }
    })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::CONTENT_TYPE;
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{self, Fixture, LOGIN};

    #[tokio::test(flavor = "multi_thread")]
    async fn grpc_requests_pass_and_other_requests_get_an_http_error() {
        let fixture = Fixture::new("").await;
        let inner =
            service_fn(async |_: IncomingRequest| Ok::<_, Infallible>(fixture::empty_response()));
        let passed = split(fixture.incoming(fixture::grpc_request(LOGIN)), inner).await.unwrap();
        assert!(passed.headers().is_empty());

        let never = service_fn(async |_: IncomingRequest| -> Result<_, Infallible> {
            panic!("it was called")
        });
        let json = Request::post(LOGIN).header(CONTENT_TYPE, "application/json");
        for (request, code) in [
            (Request::get(LOGIN), StatusCode::METHOD_NOT_ALLOWED),
            (json, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (Request::get("/nothing"), StatusCode::NOT_FOUND),
        ] {
            let answer = split(fixture.incoming(request), never).await.unwrap();
            assert_eq!(answer.status(), code);
            assert_eq!(answer.headers()["cache-control"], "no-store");
        }
    }
}
