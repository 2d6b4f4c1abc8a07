//! Response of one of Shoreguard's own RPCs, as returned by the router.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;

use super::body::Body;
use crate::error::Error;
use crate::fair::MemoryAccount;
use crate::fair::too_many_bytes;

/// Size of the largest response that may be followed by as much unused capacity of the encoder.
const SPARE_BYTES_MAX: usize = 8 << 10;

/// Encodes the response of a unary call, so that the bytes that wait for the caller are known and count against its
/// limit. The response of a completed write (`done`) is returned even above the limit.
///
/// # Errors
/// `TOO_MANY_BYTES` if the caller already holds too much.
pub(super) async fn encode_unary(
    response: Response<axum::body::Body>,
    memory: &MemoryAccount,
    done: bool,
) -> Result<Response<Body>, Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.map_err(Error::internal)?;
    let trailers = collected.trailers().cloned();
    let data = without_spare_capacity(collected.to_bytes());
    let mut share = memory.lock();
    // The request was read and handled: its bytes no longer count.
    share.clear();
    let bytes = data.len() as u64;
    if done {
        share.force_grow(bytes);
    } else {
        share.grow(bytes).map_err(|_| too_many_bytes())?;
    }
    drop(share);
    let data = Some(data).filter(|data| !data.is_empty());
    Ok(Response::from_parts(parts, Body::unary(data, trailers)))
}

/// Returns the bytes without the unused capacity of the encoder, which can be as large as the data.
fn without_spare_capacity(data: Bytes) -> Bytes {
    if data.len() <= SPARE_BYTES_MAX { data } else { Bytes::copy_from_slice(&data) }
}

/// Wraps the response of a stream.
pub(super) fn wrap_stream(body: axum::body::Body) -> Body {
    Body::from_service(tonic::body::Body::new(body))
}
