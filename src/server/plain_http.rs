//! Requests that are not gRPC: plain HTTP, only for the token service.
//!
//! Invariants
//! - no such request is forwarded to a gateway;
//! - it has its own rate limiter besides that of the address, a body limit and a timeout;
//! - an unknown path costs one lookup and gets no body.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::ServiceExt;
use tracing::{Instrument, info, info_span, warn};

use super::layers::address_limit::AddressLimit;
use super::layers::{on_main, telemetry};
use super::stages::IncomingBody;
use crate::app::App;
use crate::ctx::Call;
use crate::db::turns::CallerKey;
use crate::error::Error;
use crate::net::guard::accounting_address;
use crate::rpc::request_id;
use crate::token_service::{self, OAuthError};

/// Maximum size of a request body, in bytes. A form with a key has a few hundred.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Timeout of reading a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The routes and their rate limiter.
#[derive(Clone)]
pub(super) struct PlainHttp {
    router: Option<axum::Router>,
    limit: Arc<AddressLimit>,
}

impl PlainHttp {
    /// Builds the routes and the limiter from the configuration.
    pub(super) fn new(app: &Arc<App>) -> Self {
        let per_minute = app.config.limits.token_requests_per_minute;
        let limit = Arc::new(AddressLimit::for_public_methods(per_minute, per_minute));
        Self { router: token_service::router(app), limit }
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        app: &Arc<App>,
        ip: IpAddr,
        request: Request<IncomingBody>,
    ) -> axum::response::Response {
        let Some((path, router)) =
            token_service::match_path(request.uri().path()).zip(self.router.clone())
        else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let call = Call {
            request_id: request_id::from_headers(request.headers(), || app.new_request_id()),
            at: app.clock.now(),
            started: Instant::now(),
            deadline: None,
            client_ip: Some(ip),
            caller: None,
            method: path,
            note: Arc::default(),
            traceparent: None,
            memory: None,
            read_tracker: None,
        };
        let (id, started) = (call.request_id, call.started);
        let answering = AssertUnwindSafe(self.serve_limited(app, ip, call, router, request));
        let mut response = match answering.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(refusal)) => refusal.into_response(),
            Err(_) => OAuthError::server_error().into_response(),
        };
        telemetry::record_http(path, response.status(), started);
        if !response.status().is_success() {
            let status = response.status().as_u16();
            info!(request_id = %id, path, status, "refused or failed");
        }
        response.headers_mut().insert(request_id::HEADER, request_id::to_header(id));
        response
    }

    async fn serve_limited(
        &self,
        app: &Arc<App>,
        ip: IpAddr,
        call: Call,
        router: axum::Router,
        request: Request<IncomingBody>,
    ) -> Result<axum::response::Response, OAuthError> {
        if let Err(Error::Exhausted { retry_in, .. }) = self.limit.admit(ip) {
            return Err(OAuthError::too_many(retry_in));
        }
        if app.stop.is_cancelled() {
            return Err(OAuthError::unavailable("the server is stopping"));
        }
        let span = info_span!("request", request_id = %call.request_id, path = call.method);
        let request = read_body(call, request).await?;
        let answering = on_main::run(
            app.main_runtime(),
            app.db.run_as(
                CallerKey::Address(accounting_address(ip)),
                router.oneshot(request).instrument(span),
            ),
        );
        match tokio::time::timeout(RESPONSE_TIMEOUT, answering).await {
            Ok(Ok(Ok(response))) => Ok(response),
            Ok(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "a request ended in a panic");
                Err(OAuthError::server_error())
            }
            Err(_) => Err(OAuthError::unavailable("the answer took too long")),
        }
    }
}

/// Reads the whole body on the core, so that a slow caller holds nothing of main.
async fn read_body(
    call: Call,
    request: Request<IncomingBody>,
) -> Result<Request<axum::body::Body>, OAuthError> {
    let (mut head, body) = request.into_parts();
    let reading = Limited::new(body, BODY_BYTES_MAX).collect();
    let body = match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return Err(OAuthError::invalid_body(StatusCode::PAYLOAD_TOO_LARGE, &message));
        }
        Ok(Err(_)) => {
            return Err(OAuthError::invalid_body(StatusCode::BAD_REQUEST, "the body broke off"));
        }
        Err(_) => {
            return Err(OAuthError::invalid_body(
                StatusCode::REQUEST_TIMEOUT,
                "the body took too long",
            ));
        }
    };
    head.extensions.insert(call);
    Ok(Request::from_parts(head, body.into()))
}

/// Sets the headers of every plain HTTP response: no caching, no content sniffing, no framing and no referrer.
pub(super) fn set_security_headers(headers: &mut HeaderMap) {
    let policy = "default-src 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
