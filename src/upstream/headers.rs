//! Decides which headers are forwarded, in either direction.
//!
//! Invariants
//! - nothing that identifies the caller to a gateway is forwarded: credentials, and all headers in which front ends
//!   pass a principal or an address, are dropped;
//! - headers that only Shoreguard sets (`x-shoreguard-*`, `x-request-id`) are never forwarded from a gateway;
//! - a response has exactly one status, in one place; a response with none, several or an invalid code is rejected;
//! - UNAUTHENTICATED from a gateway is about Shoreguard's credential and is not forwarded;
//! - everything else is forwarded unchanged: user agent, trace context, the caller's own metadata.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode;
use prost::Message;
use tonic_types::pb::{ErrorInfo, Status};

use super::credential;
use crate::error::Error;
use crate::status::DOMAIN;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GATEWAY: HeaderName = HeaderName::from_static("x-shoreguard-gateway");

/// gRPC status code UNAUTHENTICATED.
const UNAUTHENTICATED: i32 = 16;

/// Request headers that are not forwarded to a gateway.
const DROPPED: [&str; 35] = [
    // Credentials.
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "x-amz-security-token",
    // Identity and address of the caller, as set by front ends.
    "forwarded",
    "via",
    "host",
    "origin",
    "referer",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-client-cert",
    "true-client-ip",
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "remote-user",
    "remote-groups",
    "remote-name",
    "remote-email",
    // Hop-by-hop headers.
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "content-length",
    // Set by Shoreguard.
    "grpc-timeout",
    "x-request-id",
];

/// Prefixes of request headers that are not forwarded.
const DROPPED_PREFIXES: [&str; 19] = [
    "x-shoreguard-",
    "x-forwarded-",
    "x-auth-request-",
    "x-remote-",
    "x-user-",
    "x-webauth-",
    "x-authentik-",
    "x-pomerium-",
    "x-vouch-",
    "x-token-",
    "x-ssl-",
    "x-goog-iap-",
    "x-goog-authenticated-user-",
    "x-amzn-oidc-",
    "x-ms-client-principal",
    "x-envoy-",
    "cf-access-",
    "proxy-",
    "tailscale-user-",
];

fn is_forwarded(name: &str) -> bool {
    // Checking the first letter first avoids the prefix comparisons for most headers.
    let may_have_prefix = matches!(name.as_bytes().first(), Some(b'x' | b'c' | b'p' | b't'));
    let has_prefix =
        || DROPPED_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()));
    !(DROPPED.contains(&name) || may_have_prefix && has_prefix())
}

/// Headers that Shoreguard sets on a forwarded request.
#[derive(Debug)]
pub(crate) struct AddedHeaders {
    /// The gateway's own credential.
    pub(crate) authorization: Option<HeaderValue>,
    /// Remaining time of the deadline.
    pub(crate) timeout: Option<String>,
    /// Id of the call.
    pub(crate) request_id: HeaderValue,
    /// Whether the response will be read, so that it must not be compressed.
    pub(crate) reads_response: bool,
    /// Replaces the caller's trace context if the call is traced.
    pub(crate) traceparent: Option<HeaderValue>,
}

/// Returns the headers of one of Shoreguard's own calls, with the credential of its connection.
pub(crate) fn for_own_call(authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

/// Builds the headers of the forwarded request. The caller's headers stay unchanged, for a retry.
pub(crate) fn for_forwarding(from: &HeaderMap, added: &AddedHeaders) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(from.len() + 4);
    for (name, value) in from {
        let unread = added.reads_response && name == "grpc-accept-encoding";
        if is_forwarded(name.as_str()) && !unread {
            headers.append(name, value.clone());
        }
    }
    if let Some(traceparent) = &added.traceparent {
        headers.insert(TRACEPARENT, traceparent.clone());
        // It belongs to the caller's `traceparent`, not to the new one.
        headers.remove("tracestate");
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(REQUEST_ID, added.request_id.clone());
    if let Some(authorization) = &added.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    if let Some(timeout) = added.timeout.as_deref().and_then(|t| HeaderValue::from_str(t).ok()) {
        headers.insert(TIMEOUT, timeout);
    }
    headers
}

/// Whether a response is gRPC.
pub(crate) fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    status == StatusCode::OK
        && content
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Cleans the headers of a response for the caller, and adds the gateway's name and the request id.
pub(crate) fn clean_response(
    headers: &mut HeaderMap,
    gateway: HeaderValue,
    request_id: HeaderValue,
) {
    clean(headers);
    headers.insert(GATEWAY, gateway);
    headers.insert(REQUEST_ID, request_id);
}

/// Removes from headers or trailers what a gateway must not set (T20).
pub(crate) fn clean(headers: &mut HeaderMap) {
    if headers.keys().any(|name| is_reserved(name.as_str())) {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
    // A wrong length would break the caller's whole connection instead of this one stream.
    headers.remove(CONTENT_LENGTH);
    if headers.contains_key(DETAILS) {
        clean_details(headers);
    }
    if !is_readable_message(headers) {
        headers.remove(MESSAGE);
    }
}

fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "set-cookie"
            | "set-cookie2"
            | "alt-svc"
            | "x-request-id"
            | "strict-transport-security"
            | "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "upgrade"
            | "trailer"
            | "te"
    ) || name.starts_with("x-shoreguard-")
        || name.starts_with("proxy-")
}

/// Removes error infos with Shoreguard's domain, which only Shoreguard may send: a client may act on
/// `CREDENTIAL_INVALID` or on a promised retry.
fn clean_details(headers: &mut HeaderMap) {
    let mut values = headers.get_all(DETAILS).iter();
    let cleaned = match (values.next(), values.next()) {
        (Some(value), None) => filter_details(value),
        // With several values, clients differ in which of them counts.
        _ => CleanedDetails::Unreadable,
    };
    match cleaned {
        CleanedDetails::Unchanged => {}
        CleanedDetails::Unreadable => {
            headers.remove(DETAILS);
        }
        CleanedDetails::Filtered(value) => {
            headers.insert(DETAILS, value);
        }
    }
}

enum CleanedDetails {
    Unchanged,
    Unreadable,
    Filtered(HeaderValue),
}

fn filter_details(value: &HeaderValue) -> CleanedDetails {
    let text = value.as_bytes();
    let decoded = STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text));
    let Some(mut status) = decoded.ok().and_then(|b| Status::decode(b.as_slice()).ok()) else {
        return CleanedDetails::Unreadable;
    };
    let before = status.details.len();
    status.details.retain(|detail| {
        let is_info = detail.type_url.rsplit('/').next() == Some("google.rpc.ErrorInfo");
        !is_info
            || ErrorInfo::decode(detail.value.as_slice())
                .is_ok_and(|info| !info.domain.trim().eq_ignore_ascii_case(DOMAIN))
    });
    if status.details.len() == before {
        return CleanedDetails::Unchanged;
    }
    let encoded = STANDARD_NO_PAD.encode(status.encode_to_vec());
    HeaderValue::try_from(encoded).map_or(CleanedDetails::Unreadable, CleanedDetails::Filtered)
}

/// Returns the error for headers or trailers by which a gateway rejects Shoreguard's credential. Stock clients log out
/// on UNAUTHENTICATED, so it is never forwarded.
pub(crate) fn credential_error(gateway: &str, headers: &HeaderMap) -> Option<Error> {
    let refuses = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.trim().parse() == Ok(UNAUTHENTICATED))
    };
    // Any of several values counts: clients differ in which one they use.
    if !headers.get_all(STATUS).iter().any(refuses) {
        return None;
    }
    let status = tonic::Status::from_header_map(headers);
    Some(credential::unauthenticated_error(
        gateway,
        status.as_ref().map_or("", tonic::Status::message),
    ))
}

/// Returns the only status code in the headers and trailers of a response. Returns `None` if the status is missing, if
/// there are several, which clients interpret differently, or if it is not a valid code.
pub(crate) fn status_code<'a>(parts: impl IntoIterator<Item = &'a HeaderMap>) -> Option<i32> {
    let mut values = parts.into_iter().flat_map(|headers| headers.get_all(STATUS));
    let (Some(code), None) = (values.next(), values.next()) else { return None };
    match code.as_bytes() {
        [digit @ b'0'..=b'9'] => Some(i32::from(digit - b'0')),
        [b'1', digit @ b'0'..=b'6'] => Some(i32::from(10 + digit - b'0')),
        _ => None,
    }
}

/// Returns the trailers of a response without an error.
pub(crate) fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])
}

/// Whether headers or trailers contain a status.
pub(crate) fn has_status(headers: &HeaderMap) -> bool {
    headers.contains_key(STATUS)
}

/// Removes the status from the headers of a response that continues: a caller gets one status, at the end of the
/// response.
pub(crate) fn take_status(head: &mut HeaderMap) -> Option<HeaderMap> {
    if !has_status(head) {
        return None;
    }
    let mut taken = HeaderMap::with_capacity(3);
    for name in [STATUS, MESSAGE, DETAILS] {
        for value in head.get_all(&name) {
            taken.append(name.clone(), value.clone());
        }
        head.remove(&name);
    }
    Some(taken)
}

/// Whether every client can decode the message of a status. If they cannot, some report a different status.
fn is_readable_message(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(MESSAGE).iter();
    let readable = |value: &HeaderValue| {
        let is_ascii = value.as_bytes().iter().all(u8::is_ascii);
        is_ascii && percent_decode(value.as_bytes()).decode_utf8().is_ok()
    };
    values.next().is_none_or(readable) && values.next().is_none()
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
