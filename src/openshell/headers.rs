//! Headers of calls that are forwarded to a gateway.

use std::time::Instant;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::net::deadline;
use crate::upstream::connection::Lease;

/// Returns a caller's headers with the credential of this connection and the remaining time.
pub(super) fn passed(from: &HeaderMap, until: Option<Instant>, lease: &Lease) -> HeaderMap {
    let mut headers = from.clone();
    headers.remove(AUTHORIZATION);
    if let Some(authorization) = lease.authorization() {
        headers.insert(AUTHORIZATION, authorization);
    }
    let left = until.map(|until| deadline::remaining(until, Instant::now()));
    if let Some(left) = left.and_then(|left| HeaderValue::from_str(&left).ok()) {
        headers.insert("grpc-timeout", left);
    }
    headers
}
