//! Headers of calls that are forwarded to a gateway.

use std::time::Instant;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::net::deadline;
use crate::upstream::connection::Lease;

/// Returns a caller's headers with the credential of this connection and the remaining time.
pub(super) fn forwarding_headers(
    from: &HeaderMap,
    deadline: Option<Instant>,
    lease: &Lease,
) -> HeaderMap {
    let mut headers = from.clone();
    headers.remove(AUTHORIZATION);
    if let Some(authorization) = lease.authorization() {
        headers.insert(AUTHORIZATION, authorization);
    }
    let time_left = deadline.map(|at| deadline::remaining_timeout(at, Instant::now()));
    if let Some(time_left) = time_left.and_then(|time_left| HeaderValue::from_str(&time_left).ok())
    {
        headers.insert("grpc-timeout", time_left);
    }
    headers
}
