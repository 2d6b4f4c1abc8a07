//! Detects the protocol of a request: gRPC, gRPC-Web or plain HTTP.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode, Version};

/// Protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, over either version of HTTP.
    GrpcWeb,
    /// Neither; with the HTTP status to return if the path is that of a call.
    Plain(StatusCode),
}

impl Protocol {
    /// Detects the protocol from method, content type and version.
    pub fn detect<B>(request: &Request<B>) -> Self {
        if request.method() != Method::POST {
            return Self::Plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let content = content_type(request.headers());
        // The content types that gRPC-Web defines; `-text` is Base64, for browsers that cannot read bytes as they
        // arrive.
        if matches!(
            content,
            b"application/grpc-web"
                | b"application/grpc-web+proto"
                | b"application/grpc-web-text"
                | b"application/grpc-web-text+proto"
        ) {
            return Self::GrpcWeb;
        }
        let rest = content.strip_prefix(b"application/grpc").map(<[u8]>::first);
        if !matches!(rest, Some(None | Some(b'+' | b';'))) {
            return Self::Plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        // HTTP/1 clients do not read trailers, so they would get no status.
        if request.version() < Version::HTTP_2 {
            return Self::Plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        }
        Self::Grpc
    }
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_and_http_version_select_the_protocol() {
        let unsupported = Protocol::Plain(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        for (content, version, expected) in [
            ("application/grpc", Version::HTTP_2, Protocol::Grpc),
            ("application/grpc+proto", Version::HTTP_2, Protocol::Grpc),
            ("application/grpc-web", Version::HTTP_2, Protocol::GrpcWeb),
            ("application/grpc-web-text+proto", Version::HTTP_11, Protocol::GrpcWeb),
            ("application/grpc-web+json", Version::HTTP_2, unsupported),
            ("application/grpcx", Version::HTTP_2, unsupported),
            ("application/json", Version::HTTP_11, unsupported),
        ] {
            let request = Request::post("/").version(version).header(CONTENT_TYPE, content);
            assert_eq!(Protocol::detect(&request.body(()).unwrap()), expected, "{content}");
        }
        let old = Request::post("/").header(CONTENT_TYPE, "application/grpc").body(()).unwrap();
        let unsupported = Protocol::Plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        assert_eq!(Protocol::detect(&old), unsupported);
        let got = Request::get("/").body(()).unwrap();
        assert_eq!(Protocol::detect(&got), Protocol::Plain(StatusCode::METHOD_NOT_ALLOWED));
    }
}
