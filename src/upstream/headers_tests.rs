//! Tests of the forwarded headers.

use std::collections::HashMap;

use tonic_types::{ErrorDetails, StatusExt};

use super::*;

fn ours() -> AddedHeaders {
    let mut authorization = HeaderValue::from_static("Bearer of-the-gateway");
    authorization.set_sensitive(true);
    AddedHeaders {
        authorization: Some(authorization),
        timeout: Some("5000u".to_owned()),
        request_id: HeaderValue::from_static("ours"),
        reads_response: false,
        traceparent: None,
    }
}

#[test]
fn t19_headers_that_identify_the_caller_are_not_forwarded() {
    let mut from = HeaderMap::new();
    for name in DROPPED {
        from.append(HeaderName::from_static(name), HeaderValue::from_static("smuggled"));
    }
    for name in [
        "x-shoreguard-gateway",
        "x-shoreguard-role",
        "x-forwarded-for",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-auth-request-email",
        "x-remote-user",
        "cf-access-jwt-assertion",
        "cf-access-token",
        "proxy-authorization",
        "x-ms-client-principal-name",
    ] {
        from.append(HeaderName::from_static(name), HeaderValue::from_static("smuggled"));
    }
    let headers = for_forwarding(&from, &ours());
    assert!(headers.values().all(|value| value != "smuggled"), "{headers:?}");
    assert_eq!(headers["authorization"], "Bearer of-the-gateway");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["grpc-timeout"], "5000u");
    assert_eq!(headers["x-request-id"], "ours");
    assert_eq!(headers.len(), 4);
}

#[test]
fn headers_that_do_not_identify_the_caller_are_forwarded() {
    let mut from = HeaderMap::new();
    let kept =
        ["user-agent", "traceparent", "tracestate", "content-type", "grpc-encoding", "my-key-bin"];
    for name in kept {
        from.append(name, HeaderValue::from_static("a"));
        from.append(name, HeaderValue::from_static("b"));
    }
    let headers = for_forwarding(&from, &ours());
    for name in kept {
        assert_eq!(headers.get_all(name).iter().count(), 2, "{name}");
    }
    let without =
        AddedHeaders { authorization: None, timeout: None, reads_response: true, ..ours() };
    from.append("grpc-accept-encoding", HeaderValue::from_static("gzip"));
    let headers = for_forwarding(&from, &without);
    for name in ["authorization", "grpc-timeout", "grpc-accept-encoding"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[test]
fn t20_a_gateway_cannot_set_headers_of_shoreguard() {
    let mut headers = HeaderMap::new();
    for name in ["x-shoreguard-gateway", "x-shoreguard-x", "set-cookie", "alt-svc", "x-request-id"]
    {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static("theirs"));
    }
    headers.append("their-own", HeaderValue::from_static("kept"));
    let (gateway, id) = (HeaderValue::from_static("prod"), HeaderValue::from_static("ours"));
    clean_response(&mut headers, gateway, id);
    assert_eq!(headers.len(), 3);
    assert_eq!(headers["x-shoreguard-gateway"], "prod");
    assert_eq!(headers["x-request-id"], "ours");
    assert_eq!(headers["their-own"], "kept");
}

fn with_info(domain: &str) -> HeaderMap {
    let mut details = ErrorDetails::with_error_info("REASON", domain, HashMap::new());
    details.add_bad_request_violation("name", "is too long");
    let code = tonic::Code::InvalidArgument;
    let mut headers = HeaderMap::new();
    tonic::Status::with_error_details(code, "no", details).add_header(&mut headers).unwrap();
    headers
}

fn info_of(headers: &HeaderMap) -> (Option<String>, bool) {
    let status = tonic::Status::from_header_map(headers).unwrap();
    let details = status.get_error_details();
    (details.error_info().map(|info| info.domain.clone()), details.bad_request().is_some())
}

#[test]
fn t20_error_details_with_the_shoreguard_domain_are_removed() {
    for (domain, kept) in
        [("openshell", true), ("shoreguard", false), ("Shoreguard", false), (" shoreguard ", false)]
    {
        let mut headers = with_info(domain);
        let before = headers.clone();
        clean(&mut headers);
        assert_eq!(info_of(&headers), (kept.then(|| domain.to_owned()), true), "{domain}");
        assert_eq!(headers == before, kept);
    }
    let mut headers = with_info("openshell");
    headers.append("grpc-status-details-bin", HeaderValue::from_static("AAAA"));
    clean(&mut headers);
    assert!(!headers.contains_key("grpc-status-details-bin"));
}

#[test]
fn only_a_response_with_a_grpc_content_type_is_accepted() {
    let mut headers = HeaderMap::new();
    assert!(!is_grpc(StatusCode::OK, &headers));
    for (content, yes) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("text/html", false),
    ] {
        headers.insert("content-type", content.parse().unwrap());
        assert_eq!(is_grpc(StatusCode::OK, &headers), yes, "{content}");
        assert!(!is_grpc(StatusCode::BAD_GATEWAY, &headers));
    }
}

#[test]
fn t20_a_grpc_status_must_be_a_single_valid_code() {
    let said = |values: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(STATUS, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    };
    for code in 0..=16 {
        let one = said(&[code.to_string().as_bytes()]);
        assert_eq!(status_code([&one]), Some(code));
        assert_eq!(status_code([&HeaderMap::new(), &one]), Some(code), "in any of the header maps");
        assert_eq!(status_code([&one, &one]), None, "in one place");
    }
    for lie in ["", " 0", "00", "07", "-1", "+1", "17", "20", "160", "99999999999", "OK"] {
        assert_eq!(status_code([&said(&[lie.as_bytes()])]), None, "{lie}");
    }
    assert_eq!(status_code([&said(&[b"\x80"])]), None);
    assert_eq!(status_code([&said(&[b"0", b"0"])]), None);
    assert_eq!(status_code([&HeaderMap::new()]), None);
}

#[test]
fn t20_a_grpc_message_that_is_not_utf8_is_removed() {
    for (text, passes) in
        [(&b"gone"[..], true), (b"caf%C3%A9 100%", true), (b"\x80", false), (b"%80", false)]
    {
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, HeaderValue::from_static("5"));
        trailers.insert(MESSAGE, HeaderValue::from_bytes(text).unwrap());
        clean(&mut trailers);
        assert_eq!(trailers.contains_key(MESSAGE), passes, "{text:?}");
        trailers.append(MESSAGE, HeaderValue::from_static("a"));
        trailers.append(MESSAGE, HeaderValue::from_static("b"));
        clean(&mut trailers);
        assert!(!trailers.contains_key(MESSAGE), "which of them counts?");
    }
}
