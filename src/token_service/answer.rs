//! What is answered: JSON, or an error as OAuth has it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, JSON)], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A request that is not served, as RFC 6749 section 5.2 and RFC 8628 section 3.5 tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    why: String,
    retry_in: Option<Duration>,
}

#[derive(Serialize)]
struct Shown<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: &'static str, why: impl Into<String>) -> Self {
        Self { status, error, why: why.into(), retry_in: None }
    }

    /// Too many requests; a client that polls takes the error for what it is.
    #[must_use]
    pub(crate) fn too_many(retry_in: Duration) -> Self {
        let seconds = retry_in.as_secs().max(1);
        let why = format!("too many requests, try again in {seconds} s");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "slow_down", why);
        Self { retry_in: Some(Duration::from_secs(seconds)), ..refusal }
    }

    /// The body did not come, or too much of it.
    #[must_use]
    pub(crate) fn body(status: StatusCode, why: &str) -> Self {
        Self::new(status, "invalid_request", why)
    }

    /// Something that is needed is away; the request may be repeated.
    #[must_use]
    pub(crate) fn unavailable(why: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", why)
    }

    /// A fault of ours.
    #[must_use]
    pub(crate) fn fault() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "a fault of the server")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response =
            json(self.status, &Shown { error: self.error, error_description: &self.why });
        if let Some(retry_in) = self.retry_in {
            response.headers_mut().insert(RETRY_AFTER, retry_in.as_secs().into());
        }
        response
    }
}
