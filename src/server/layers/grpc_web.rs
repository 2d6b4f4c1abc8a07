//! Calls from browsers: translates gRPC-Web to gRPC before the call begins, so that all inner layers see one protocol.
//! Outside audit, which needs the gRPC status: gRPC-Web moves it into the body.
//!
//! Invariants
//! - only unary calls and server streams of Shoreguard's own API are available to browsers;
//! - a page of an origin that is neither Shoreguard's nor configured cannot call: its request is rejected here, and its
//!   browser is not allowed to read the rejection;
//! - a request that names a host which is not Shoreguard's is rejected, with any origin: see `own_hosts`;
//! - a rejection counts against the rate of its address, as a call does.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, HeaderName, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame};
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::gate::{self, Route};
use super::limits::Protocol;
use super::own_hosts::{self, OwnHosts};
use crate::access::policy::StreamingMode;
use crate::config;
use crate::net::BoxError;
use crate::net::taking::ReadTracker;
use crate::server::body::Body;
use crate::server::shared::SharedState;
use crate::server::stages::{IncomingBody, IncomingRequest};

/// Time that a browser can cache the response to a preflight.
const PREFLIGHT_TIME: Duration = Duration::from_hours(1);
/// Headers that a page can send in addition to the CORS-safelisted ones.
const REQUEST_HEADERS: [HeaderName; 6] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-grpc-web"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-user-agent"),
];
/// Response headers that a page can read.
const RESPONSE_HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("x-request-id"),
];

/// Origins whose pages can call.
#[derive(Debug, Clone)]
pub struct AllowedOrigins {
    hosts: OwnHosts,
    own: HeaderValue,
    configured: Vec<HeaderValue>,
    cors: CorsLayer,
}

impl AllowedOrigins {
    /// Uses the configured origins.
    ///
    /// # Panics
    /// If an origin is invalid, which loading the configuration rejects.
    #[must_use]
    pub fn new(server: &config::Server) -> Self {
        let value = |origin: &str| HeaderValue::from_str(origin).expect("it was checked");
        let configured: Vec<HeaderValue> =
            server.browser_origins.iter().map(|o| value(o)).collect();
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(configured.clone()))
            .allow_methods([Method::POST])
            .allow_headers(REQUEST_HEADERS)
            .expose_headers(RESPONSE_HEADERS)
            .max_age(PREFLIGHT_TIME);
        let public = server.public_url();
        let own = value(&own_hosts::origin_of(&public).unwrap_or(public));
        Self { hosts: OwnHosts::new(server), own, configured, cors }
    }

    /// Returns whether a request does not come from a page, or comes from a page of an allowed origin. Its host must
    /// have been admitted.
    fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => {
                *origin == self.own
                    || self.configured.contains(origin)
                    || origin
                        .to_str()
                        .is_ok_and(|text| own_hosts::is_own_loopback(text, uri, headers))
            }
            (Some(_), Some(_)) => false,
        }
    }

    /// Returns the status with which a gRPC-Web request is rejected.
    fn refuse(&self, uri: &Uri, headers: &HeaderMap) -> Option<StatusCode> {
        if !self.hosts.admit(uri, headers) {
            Some(StatusCode::MISDIRECTED_REQUEST)
        } else if !is_for_browsers(gate::method_path(uri)) {
            Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        } else if !self.admit(uri, headers) {
            Some(StatusCode::FORBIDDEN)
        } else {
            None
        }
    }
}

/// Returns whether a method can be called with gRPC-Web.
fn is_for_browsers(path: &str) -> bool {
    let Ok(Route::Own(method)) = gate::route(path) else { return false };
    matches!(method.streaming, StreamingMode::Unary | StreamingMode::Server)
}

/// Answers a CORS preflight. `None` if the request is not a preflight, or the page cannot call the method.
pub(super) async fn preflight(
    shared: &SharedState,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Response<axum::body::Body>> {
    let asks = *method == Method::OPTIONS
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && headers.get(ORIGIN).is_some_and(|origin| shared.origins.configured.contains(origin))
        && shared.origins.hosts.admit(uri, headers)
        && is_for_browsers(gate::method_path(uri));
    if !asks {
        return None;
    }
    let mut question = Request::new(());
    *question.method_mut() = Method::OPTIONS;
    *question.headers_mut() = headers.clone();
    let nothing =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(StatusCode::OK.into_response()));
    let Ok(answer) = shared.origins.cors.layer(nothing).oneshot(question).await;
    Some(answer)
}

/// Translates gRPC-Web in both directions; gRPC passes unchanged.
pub(in crate::server) async fn translate<S>(
    incoming: IncomingRequest,
    mut inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<IncomingRequest, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let IncomingRequest { shared, peer, read_tracker, request } = incoming;
    if Protocol::detect(&request) != Protocol::GrpcWeb {
        return inner.call(IncomingRequest { shared, peer, read_tracker, request }).await;
    }
    if let Some(refused) = shared.origins.refuse(request.uri(), request.headers()) {
        let ip = shared.address_limit.client_ip(peer.address.ip(), request.headers());
        let in_limit = shared.address_limit.admit(ip).is_ok();
        let code = if in_limit { refused } else { StatusCode::TOO_MANY_REQUESTS };
        let body = code.into_response().into_body();
        let mut response = Response::new(Body::from_service(tonic::body::Body::new(body)));
        *response.status_mut() = code;
        return Ok(response);
    }
    let multiplexed = request.version() == Version::HTTP_2;
    let cors = shared.origins.cors.clone();
    let call = service_fn(move |request: Request<tonic::body::Body>| {
        let (shared, peer) = (Arc::clone(&shared), Arc::clone(&peer));
        // The caller reads the translated response, so only that one is tracked.
        let (read_tracker, request) =
            (Arc::<ReadTracker>::default(), request.map(IncomingBody::GrpcWeb));
        let answer = inner.clone().oneshot(IncomingRequest { shared, peer, read_tracker, request });
        // Boxed, so that the types of the two layers around it stay small.
        answer.map_ok(|response| response.map(BytesBody)).boxed()
    });
    let translated = GrpcWebLayer::new().layer(call);
    let answered: BoxFuture<'_, Result<_, Infallible>> =
        cors.layer(translated).oneshot(request).boxed();
    let Ok(response) = answered.await;
    Ok(response.map(|body| {
        let body = Body::from_service(tonic::body::Body::new(body));
        // HTTP/1 has no flow-control windows: the socket takes the response.
        if multiplexed { body.with_read_tracking(&read_tracker) } else { body }
    }))
}

/// Body of a response that is translated further.
struct BytesBody(Body);

impl HttpBody for BytesBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        polled.map_ok(|frame| frame.map_data(crate::net::taking::ResponsePart::into_bytes))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

    use super::*;
    use crate::server::layers::fixture::{
        Fixture, LIST_SANDBOXES, LOGIN, WATCH_EVENTS, empty_response, grpc_request,
    };

    const WEB: &str = "application/grpc-web+proto";

    fn web(path: &str) -> http::request::Builder {
        Request::post(path).header(CONTENT_TYPE, WEB).header(HOST, "localhost")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_grpc_web_call_is_translated_to_grpc_and_back() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |incoming: IncomingRequest| {
            let content = &incoming.request.headers()[CONTENT_TYPE];
            assert!(content.as_bytes().starts_with(b"application/grpc"), "{content:?}");
            assert!(!content.as_bytes().starts_with(b"application/grpc-web"), "{content:?}");
            Ok::<_, Infallible>(empty_response())
        });
        for path in [LOGIN, WATCH_EVENTS] {
            let answer = translate(fixture.incoming(web(path)), inner).await.unwrap();
            assert_eq!(answer.headers()[CONTENT_TYPE], WEB, "{path}");
        }
        let plain = translate(fixture.incoming(grpc_request(LOGIN)), inner).await.unwrap();
        assert!(plain.headers().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn grpc_web_refuses_proxied_methods_and_foreign_origins() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |_: IncomingRequest| -> Result<_, Infallible> {
            panic!("it was called")
        });
        let proxied = translate(fixture.incoming(web(LIST_SANDBOXES)), inner).await.unwrap();
        assert_eq!(proxied.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let foreign = web(LOGIN).header(ORIGIN, "https://elsewhere.example");
        let foreign = translate(fixture.incoming(foreign), inner).await.unwrap();
        assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn t16_refused_grpc_web_requests_count_against_the_rate_of_their_address() {
        let config = "[limits]\naddress_requests_per_second = 1\naddress_burst = 2";
        let fixture = Fixture::new(config).await;
        let inner = service_fn(async |_: IncomingRequest| -> Result<_, Infallible> {
            panic!("it was called")
        });
        let mut codes = Vec::new();
        for _ in 0..3 {
            let foreign = Request::post(LOGIN).header(CONTENT_TYPE, WEB).header(HOST, "evil.test");
            let answer = translate(fixture.incoming(foreign), inner).await.unwrap();
            codes.push(answer.status());
        }
        let (foreign, late) = (StatusCode::MISDIRECTED_REQUEST, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(codes, [foreign, foreign, late]);
    }
}
