//! Which headers pass, in either direction.
//!
//! Invariants
//! - nothing by which a gateway could be told who calls comes from the caller: credentials, and every header that some
//!   front end uses to name a principal or an address, are left out;
//! - what is ours to say (`x-shoreguard-*`, `x-request-id`) is never what a gateway said;
//! - an answer has one status, in one place; what has none, several or no code is no answer;
//! - UNAUTHENTICATED from a gateway is about our credential and does not pass;
//! - the rest passes as it came: user agent, trace context, the caller's own metadata.

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

/// gRPC's UNAUTHENTICATED.
const UNAUTHENTICATED: i32 = 16;

/// What a caller sends and a gateway must not get.
const DROPPED: [&str; 35] = [
    // Credentials.
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "x-amz-security-token",
    // Who and where the caller is, as a front end would say.
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
    // Of this hop alone.
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "content-length",
    // Said anew.
    "grpc-timeout",
    "x-request-id",
];

/// Beginnings of such names.
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

fn passes(name: &str) -> bool {
    // Most headers of a call begin with another letter than any prefix does: the usual ones cost one comparison.
    let may_have_prefix = matches!(name.as_bytes().first(), Some(b'x' | b'c' | b'p' | b't'));
    let has_prefix =
        || DROPPED_PREFIXES.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()));
    !(DROPPED.contains(&name) || may_have_prefix && has_prefix())
}

/// What is put on in place of what was taken off.
#[derive(Debug)]
pub(crate) struct Ours {
    /// The gateway's own credential.
    pub(crate) authorization: Option<HeaderValue>,
    /// What is left of the deadline.
    pub(crate) timeout: Option<String>,
    /// Id of the call.
    pub(crate) request_id: HeaderValue,
    /// The answer is going to be read, so it must not be compressed.
    pub(crate) read: bool,
    /// In place of the caller's, where the call is traced.
    pub(crate) traceparent: Option<HeaderValue>,
}

/// Returns the headers of a call of our own, with the credential of the connection that it goes through.
pub(crate) fn own(authorization: Option<HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    headers
}

/// The headers of a request as the gateway gets them. The caller's stay as they are, for another try.
pub(crate) fn request(from: &HeaderMap, ours: &Ours) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(from.len() + 4);
    for (name, value) in from {
        let unread = ours.read && name == "grpc-accept-encoding";
        if passes(name.as_str()) && !unread {
            headers.append(name, value.clone());
        }
    }
    if let Some(traceparent) = &ours.traceparent {
        headers.insert(TRACEPARENT, traceparent.clone());
        // It goes with the caller's, and says nothing about ours.
        headers.remove("tracestate");
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(REQUEST_ID, ours.request_id.clone());
    if let Some(authorization) = &ours.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    if let Some(timeout) = ours.timeout.as_deref().and_then(|t| HeaderValue::from_str(t).ok()) {
        headers.insert(TIMEOUT, timeout);
    }
    headers
}

/// Whether an answer is gRPC at all.
pub(crate) fn is_grpc(status: StatusCode, headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    status == StatusCode::OK
        && content
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Makes the headers of an answer fit for the caller, and says who answered.
pub(crate) fn response(headers: &mut HeaderMap, gateway: HeaderValue, request_id: HeaderValue) {
    clean(headers);
    headers.insert(GATEWAY, gateway);
    headers.insert(REQUEST_ID, request_id);
}

/// Takes out of headers or trailers what a gateway may not say (T20).
pub(crate) fn clean(headers: &mut HeaderMap) {
    if headers.keys().any(|name| is_not_theirs(name.as_str())) {
        let names: Vec<HeaderName> =
            headers.keys().filter(|name| is_not_theirs(name.as_str())).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
    // A length that was wrong would break the caller's connection instead of this one stream.
    headers.remove(CONTENT_LENGTH);
    if headers.contains_key(DETAILS) {
        clean_details(headers);
    }
    if !is_readable_message(headers) {
        headers.remove(MESSAGE);
    }
}

fn is_not_theirs(name: &str) -> bool {
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

/// Reasons of our domain come from us alone: a client may act on `CREDENTIAL_INVALID` or on a retry that we promise.
fn clean_details(headers: &mut HeaderMap) {
    let mut values = headers.get_all(DETAILS).iter();
    let cleaned = match (values.next(), values.next()) {
        (Some(value), None) => cleaned(value),
        // Which of two counts is for each client to guess.
        _ => Cleaned::Unreadable,
    };
    match cleaned {
        Cleaned::AsItWas => {}
        Cleaned::Unreadable => {
            headers.remove(DETAILS);
        }
        Cleaned::Without(value) => {
            headers.insert(DETAILS, value);
        }
    }
}

enum Cleaned {
    AsItWas,
    Unreadable,
    Without(HeaderValue),
}

fn cleaned(value: &HeaderValue) -> Cleaned {
    let text = value.as_bytes();
    let decoded = STANDARD_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text));
    let Some(mut status) = decoded.ok().and_then(|b| Status::decode(b.as_slice()).ok()) else {
        return Cleaned::Unreadable;
    };
    let before = status.details.len();
    status.details.retain(|detail| {
        let is_info = detail.type_url.rsplit('/').next() == Some("google.rpc.ErrorInfo");
        !is_info
            || ErrorInfo::decode(detail.value.as_slice())
                .is_ok_and(|info| !info.domain.trim().eq_ignore_ascii_case(DOMAIN))
    });
    if status.details.len() == before {
        return Cleaned::AsItWas;
    }
    let encoded = STANDARD_NO_PAD.encode(status.encode_to_vec());
    HeaderValue::try_from(encoded).map_or(Cleaned::Unreadable, Cleaned::Without)
}

/// The error for headers or trailers by which a gateway, or a front end before it, rejects our credential. Stock clients
/// log out on UNAUTHENTICATED, so it never passes.
pub(crate) fn credential_refusal(
    gateway: &str,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Error> {
    if status == StatusCode::UNAUTHORIZED {
        return Some(credential::refused(gateway, ""));
    }
    let refuses = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.trim().parse() == Ok(UNAUTHENTICATED))
    };
    // Any of several: clients differ in which of them counts.
    if !headers.get_all(STATUS).iter().any(refuses) {
        return None;
    }
    let said = tonic::Status::from_header_map(headers);
    Some(credential::refused(gateway, said.as_ref().map_or("", tonic::Status::message)))
}

/// The status of an answer, of what it has begun and ended with: the one value that there is in all of it. None where
/// there is no value, where there are several, which clients read in different ways, and where it is no code.
pub(crate) fn verdict<'a>(said: impl IntoIterator<Item = &'a HeaderMap>) -> Option<i32> {
    let mut values = said.into_iter().flat_map(|headers| headers.get_all(STATUS));
    let (Some(code), None) = (values.next(), values.next()) else { return None };
    match code.as_bytes() {
        [digit @ b'0'..=b'9'] => Some(i32::from(digit - b'0')),
        [b'1', digit @ b'0'..=b'6'] => Some(i32::from(10 + digit - b'0')),
        _ => None,
    }
}

/// Whether headers or trailers say how the answer ends.
pub(crate) fn has_status(headers: &HeaderMap) -> bool {
    headers.contains_key(STATUS)
}

/// Takes the status out of what an answer begins with that goes on: a caller gets one status, where the answer ends.
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

/// Whether the text beside a status is one that every client can read; where it is not, some take the status for another.
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
