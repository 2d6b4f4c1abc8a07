//! Responses of the token service: JSON, or an OAuth error.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use tracing::error;

use crate::error::Error;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns a value as a JSON response.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, JSON)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An error response, as specified by RFC 6749 section 5.2 and RFC 8628 section 3.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_in: Option<Duration>,
    challenge: bool,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl OAuthError {
    pub(super) fn new(status: StatusCode, error: &'static str, why: impl Into<String>) -> Self {
        Self { status, error, description: why.into(), retry_in: None, challenge: false }
    }

    /// Too many requests. A client that polls understands the error `slow_down`.
    #[must_use]
    pub(crate) fn too_many(retry_in: Duration) -> Self {
        let seconds = retry_in.as_secs().max(1);
        let why = format!("too many requests, try again in {seconds} s");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", why);
        Self { retry_in: Some(Duration::from_secs(seconds)), ..refusal }
    }

    /// The body did not arrive, or is too large.
    #[must_use]
    pub(crate) fn invalid_body(status: StatusCode, why: &str) -> Self {
        Self::new(status, "invalid_request", why)
    }

    /// A dependency is unavailable; the request may be repeated.
    #[must_use]
    pub(crate) fn unavailable(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why)
    }

    /// The request is malformed or contradictory.
    pub(super) fn invalid_request(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", why)
    }

    /// The client is not authenticated.
    pub(super) fn invalid_client(in_header: bool) -> Self {
        let why = "the client secret is missing or is not a valid API key";
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", why);
        Self { challenge: in_header, ..refusal }
    }

    /// The device code, refresh token or gateway of the request is not valid.
    pub(super) fn invalid_grant(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", why)
    }

    /// The grant type is not supported.
    pub(super) fn unsupported_grant_type() -> Self {
        let why = "unsupported `grant_type`: see the discovery document";
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", why)
    }

    /// Converts an error of the domain. `unauthenticated` is the response to an invalid credential, which depends on
    /// the grant.
    pub(super) fn from_error(error: Error, unauthenticated: Self) -> Self {
        match error {
            Error::Unauthenticated { .. } => unauthenticated,
            Error::NotFound { .. } | Error::Denied { .. } => {
                Self::invalid_grant("the gateway does not exist, or the caller has no role on it")
            }
            Error::Exhausted { retry_in, .. } => Self::too_many(retry_in),
            Error::Unavailable { why, .. } => Self::unavailable(&why),
            Error::DeadlineExceeded { .. } | Error::Conflict { .. } => {
                Self::unavailable("try again")
            }
            Error::Invalid { .. } | Error::Refused { .. } | Error::Explained { .. } => {
                Self::invalid_request(error.to_string())
            }
            Error::AlreadyExists { .. }
            | Error::OutOfRange { .. }
            | Error::Gateway { .. }
            | Error::Unimplemented { .. } => {
                error!(error = &error as &dyn std::error::Error, "a request failed oddly");
                Self::server_error()
            }
            Error::Internal(source) => {
                error!(error = &*source, "a request failed");
                Self::server_error()
            }
        }
    }

    /// An internal error of the server.
    #[must_use]
    pub(crate) fn server_error() -> Self {
        let why = "internal error: the server's log has the cause";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", why)
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let mut response = json(
            self.status,
            &ErrorBody { error: self.error, error_description: &self.description },
        );
        if let Some(retry_in) = self.retry_in {
            response.headers_mut().insert(RETRY_AFTER, retry_in.as_secs().into());
        }
        if self.challenge {
            let basic = HeaderValue::from_static("Basic realm=\"shoreguard\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        response
    }
}
