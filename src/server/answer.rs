//! The answer of one of our own rpcs, as the router gives it.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;

use super::body::Body;
use crate::error::Error;
use crate::fair::Held;
use crate::fair::too_many_bytes;

/// What the encoder reserves for the smallest answer.
const ENCODER_BYTES: usize = 8 << 10;

/// Encodes the answer of a unary call, so that the bytes that wait for the caller are known and count for it. The answer
/// of a write that is `done` is given in any case.
///
/// # Errors
/// `TOO_MANY_BYTES` if the caller holds too much already.
pub(super) async fn whole(
    response: Response<axum::body::Body>,
    held: &Held,
    done: bool,
) -> Result<Response<Body>, Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.map_err(Error::internal)?;
    let trailers = collected.trailers().cloned();
    let data = exact(collected.to_bytes());
    let mut share = held.lock();
    // The request has been read and its work is done: its bytes count no longer.
    share.clear();
    let bytes = data.len() as u64;
    if done {
        share.grow_anyway(bytes);
    } else {
        share.grow(bytes).map_err(|_| too_many_bytes())?;
    }
    drop(share);
    let data = Some(data).filter(|data| !data.is_empty());
    Ok(Response::from_parts(parts, Body::whole(data, trailers)))
}

/// Returns the bytes without what the encoder has reserved beyond them, which may be as much again.
fn exact(data: Bytes) -> Bytes {
    if data.len() <= ENCODER_BYTES { data } else { Bytes::copy_from_slice(&data) }
}

/// Wraps the answer of a stream.
pub(super) fn streamed(body: axum::body::Body) -> Body {
    Body::own(tonic::body::Body::new(body))
}
