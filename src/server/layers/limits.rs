//! Rejects requests that are not gRPC.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, StatusCode, Version};

/// Refuses what is not a gRPC call, with the HTTP status for it.
pub fn check_grpc<B>(request: &Request<B>) -> Result<(), StatusCode> {
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    is_grpc(request.headers())?;
    // In HTTP/1 there are no trailers that a client would read, so no status.
    if request.version() < Version::HTTP_2 {
        return Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    }
    Ok(())
}

fn is_grpc(headers: &HeaderMap) -> Result<(), StatusCode> {
    let content = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let rest =
        content.strip_prefix(b"application/grpc").ok_or(StatusCode::UNSUPPORTED_MEDIA_TYPE)?;
    match rest.first() {
        None | Some(b'+' | b';') => Ok(()),
        Some(_) => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
    }
}
