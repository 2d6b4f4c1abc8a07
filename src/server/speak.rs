//! Serves HTTP/2 or HTTP/1 on an accepted connection until it closes.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answering::connection_service;
use super::connections::{CloseReason, Slot};
use super::http_version::{self, HttpVersion};
use super::in_flight::InFlightCalls;
use super::shared::SharedState;
use super::stages::Peer;
use crate::net::taking::{SEND_BUFFER_BYTES, StreamExecutor};

/// HTTP/2 flow-control window of a stream, in bytes: exec and file streams need more than the protocol's 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2 flow-control window of a connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Maximum size of request headers in either HTTP version, in bytes.
const HEADER_BYTES_MAX: u16 = 16 * 1024;
/// Maximum number of streams that a caller can have reset before they were processed.
const PENDING_RESETS_MAX: usize = 1_000;
/// Maximum number of streams of one connection that Shoreguard has reset for errors of the caller.
const ERROR_RESETS_MAX: usize = 1_024;

/// Why a connection has ended.
pub(super) type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// Detects the HTTP version and serves it until the connection closes. A connection that sends nothing times out (T16).
pub(super) async fn serve_http<S>(
    shared: Arc<SharedState>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = shared.app.stop.clone();
    let within = shared.app.config.server.handshake();
    let detected = tokio::select! {
        detected = tokio::time::timeout(within, http_version::detect(socket)) => detected,
        () = stop.cancelled() => return Ok(()),
    };
    let (version, socket) = detected??;
    slot.mark_version_known();
    // In a box: an idle connection holds only the state of its own version.
    let serving: BoxFuture<'_, Result<(), ConnectionError>> = match version {
        HttpVersion::Http1 => Box::pin(serve_http1(shared, socket, peer, slot)),
        HttpVersion::Http2 => Box::pin(serve_http2(shared, socket, peer, slot)),
    };
    serving.await
}

/// Serves HTTP/2. After a stop, or when the connection is idle, it sends GOAWAY and finishes the calls in flight.
async fn serve_http2<S>(
    shared: Arc<SharedState>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = &shared.app.config.server;
    let stop = shared.app.stop.clone();
    let streams = StreamExecutor::new(shared.app.config.limits.answer());
    let mut builder = http2::Builder::new(streams.clone());
    let in_flight = Arc::clone(&peer.in_flight);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(server.concurrent_streams_max)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX.into())
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .keep_alive_interval(server.keepalive())
        .keep_alive_timeout(server.keepalive());
    let answers = connection_service(Arc::clone(&shared), peer, Arc::clone(slot), Some(streams));
    let serving = builder.serve_connection(TokioIo::new(socket), answers);
    tokio::pin!(serving);
    let reason = tokio::select! {
        ended = serving.as_mut() => return ended.map_err(Into::into),
        () = stop.cancelled() => None,
        reason = slot.close_requested() => Some(reason),
    };
    serving.as_mut().graceful_shutdown();
    match reason {
        // A displaced connection is aborted by `Slot::wait_abort`.
        Some(CloseReason::Displaced) => serving.await.map_err(Into::into),
        None => finish_draining(serving, &in_flight).await,
        Some(CloseReason::Idle) => tokio::select! {
            ended = serving => ended.map_err(Into::into),
            () = slot.wait_unused() => Ok(()),
        },
    }
}

/// Serves HTTP/1. The head of each request has a timeout, counted from the end of the response before it, so an idle
/// connection times out too. After a stop, the current request is finished and no further one is read.
async fn serve_http1<S>(
    shared: Arc<SharedState>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = shared.app.stop.clone();
    let in_flight = Arc::clone(&peer.in_flight);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.app.config.server.handshake())
        .max_buf_size(HEADER_BYTES_MAX.into());
    let answers = connection_service(Arc::clone(&shared), peer, Arc::clone(slot), None);
    let serving = builder.serve_connection(TokioIo::new(socket), answers);
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended.map_err(Into::into),
        () = stop.cancelled() => {}
        _ = slot.close_requested() => {}
    }
    serving.as_mut().graceful_shutdown();
    finish_draining(serving, &in_flight).await
}

/// Waits for the end of a draining connection.
async fn finish_draining<E: Into<ConnectionError>>(
    serving: impl Future<Output = Result<(), E>>,
    in_flight: &InFlightCalls,
) -> Result<(), ConnectionError> {
    tokio::select! {
        ended = serving => ended.map_err(Into::into),
        () = in_flight.wait_drained() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::http_version::RewoundSocket;
    use super::*;

    /// Maximum size of the state of an HTTP/2 connection, without the buffers and streams of h2, in bytes.
    const STATE_BYTES_MAX: usize = 8 << 10;

    type Arguments = (Arc<SharedState>, RewoundSocket<TcpStream>, Peer, &'static Arc<Slot>);

    fn size<F: Future>(_: impl FnOnce(Arguments) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_state_of_a_connection_stays_within_its_size_limit() {
        let bytes = size(|(shared, socket, peer, slot)| serve_http2(shared, socket, peer, slot));
        assert!(bytes <= STATE_BYTES_MAX, "{bytes} bytes");
    }
}
