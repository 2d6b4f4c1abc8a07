//! Serves HTTP/2 or HTTP/1 on an accepted connection until it closes.

use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answering::answering;
use super::connections::{Leave, Slot};
use super::http_version::{self, Version};
use super::in_flight::InFlight;
use super::shared::Shared;
use super::stages::Peer;
use crate::net::taking::{SEND_BUFFER_BYTES, Streams};

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
pub(super) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Detects the HTTP version and serves it until the connection closes. A connection that sends nothing times out (T16).
pub(super) async fn speak<S>(
    shared: Arc<Shared>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = shared.app.stop.clone();
    let within = shared.app.config.server.handshake();
    let told = tokio::select! {
        told = tokio::time::timeout(within, http_version::of(socket)) => told,
        () = stop.cancelled() => return Ok(()),
    };
    let (version, socket) = told??;
    slot.speaks();
    match version {
        Version::Http1 => speak_http1(shared, socket, peer, slot).await,
        Version::Http2 => speak_http2(shared, socket, peer, slot).await,
    }
}

/// Serves HTTP/2. After a stop, or when the connection is idle, it sends GOAWAY and finishes the calls in flight.
async fn speak_http2<S>(
    shared: Arc<Shared>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = &shared.app.config.server;
    let stop = shared.app.stop.clone();
    let streams = Streams::new(shared.app.config.limits.answer());
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
    let answers = answering(Arc::clone(&shared), peer, Arc::clone(slot), Some(streams));
    let serving = builder.serve_connection(TokioIo::new(socket), answers);
    tokio::pin!(serving);
    let leave = tokio::select! {
        ended = serving.as_mut() => return ended.map_err(Into::into),
        () = stop.cancelled() => None,
        leave = slot.leave() => Some(leave),
    };
    serving.as_mut().graceful_shutdown();
    match leave {
        // A displaced connection is aborted by `Slot::cut`.
        Some(Leave::Displaced) => serving.await.map_err(Into::into),
        None => finished(serving, &in_flight).await,
        Some(Leave::Idle) => tokio::select! {
            ended = serving => ended.map_err(Into::into),
            () = slot.unused() => Ok(()),
        },
    }
}

/// Serves HTTP/1. The head of each request has a timeout, counted from the end of the response before it, so an idle
/// connection times out too. After a stop, the current request is finished and no further one is read.
async fn speak_http1<S>(
    shared: Arc<Shared>,
    socket: S,
    peer: Peer,
    slot: &Arc<Slot>,
) -> Result<(), Fault>
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
    let answers = answering(Arc::clone(&shared), peer, Arc::clone(slot), None);
    let serving = builder.serve_connection(TokioIo::new(socket), answers);
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended.map_err(Into::into),
        () = stop.cancelled() => {}
        _ = slot.leave() => {}
    }
    serving.as_mut().graceful_shutdown();
    finished(serving, &in_flight).await
}

/// Waits for the end of a draining connection.
async fn finished<E: Into<Fault>>(
    serving: impl Future<Output = Result<(), E>>,
    in_flight: &InFlight,
) -> Result<(), Fault> {
    tokio::select! {
        ended = serving => ended.map_err(Into::into),
        () = in_flight.over() => Ok(()),
    }
}
