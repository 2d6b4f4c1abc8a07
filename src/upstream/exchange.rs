//! One stream to a gateway: sends the request, receives the response.
//!
//! The task that waits for the response also pumps the request, so that an ordinary call needs no extra task. Only a
//! request that continues after the response has begun gets one, so that neither direction waits for the other.
//!
//! Invariants
//! - at most one chunk of a request is buffered: a gateway that does not read blocks the caller (`pump`);
//! - a stream that is abandoned before its end goes to the reaper and is never simply dropped;
//! - only a provably unprocessed request is retried: the gateway refused it unprocessed, or its one message was never
//!   sent completely.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response};
use http_body::Body;
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

use super::chunks::Chunks;
use super::connection::Lease;
use super::pump::{Pump, SendOutcome, SourceError};
use super::reaper::StreamHandle;
use super::unanswered::OutcomeUnknown;
use super::unreachable::BrokenResponse;
use crate::access::standing::AccessGuard;
use crate::digest::{Digest, StreamDigest};
use crate::error::Error;

/// Maximum size of a request that is buffered for a retry until its response begins.
const RETRY_BYTES_MAX: usize = 64 << 10;
/// Connections without send window from which a request is moved; on the next one it waits.
const STALLS_MAX: u32 = 3;

/// Counts and digests the bytes of a request as they pass.
#[derive(Default)]
pub(crate) struct Meter {
    /// Bytes from the caller.
    pub(crate) sent: AtomicU64,
    /// Bytes to the caller.
    pub(crate) received: AtomicU64,
    digest: Mutex<Option<StreamDigest>>,
}

impl Meter {
    /// Creates a meter. `digest` is `None` if the bytes must not be digested.
    pub(crate) fn new(digest: Option<StreamDigest>) -> Self {
        Self { digest: Mutex::new(digest), ..Self::default() }
    }

    fn record_sent(&self, data: &[u8]) {
        self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
        let mut digest = self.digest.lock();
        if let Some(digest) = digest.as_mut() {
            digest.update(data);
        }
    }

    /// Returns the digest of the bytes so far, once.
    pub(crate) fn finish(&self) -> Option<Digest> {
        self.digest.lock().take().map(StreamDigest::finish)
    }
}

/// A request being sent: first the part that was already read, then the rest as it arrives.
pub(crate) struct RequestSource<B> {
    replay: Chunks,
    body: Option<B>,
    retry_buffer: Option<Chunks>,
    retry_bytes: usize,
    meter: Option<Arc<Meter>>,
    /// Chunks that are sent again and were already counted.
    counted: usize,
    /// Checks the caller before each chunk, which may arrive long after the headers of the call.
    guard: Option<AccessGuard>,
    /// Records whether the gateway may have acted on the request; `None` if that does not matter.
    outcome_unknown: Option<OutcomeUnknown>,
    /// Number of times it got no window.
    stalls: u32,
    /// Fires when the rest of the request is late; `None` without a time limit.
    arrival_timeout: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Unpin> RequestSource<B> {
    /// Creates a source that sends `read` first. `body` is `None` if nothing follows.
    pub(crate) fn new(read: Option<Bytes>, body: Option<B>, meter: Option<Arc<Meter>>) -> Self {
        let (replay, retry_buffer) = (Chunks::new(read), Some(Chunks::default()));
        let (guard, arrival_timeout, outcome_unknown) = (None, None, None);
        let (retry_bytes, counted, stalls) = (0, 0, 0);
        Self {
            replay,
            body,
            retry_buffer,
            retry_bytes,
            meter,
            counted,
            guard,
            outcome_unknown,
            stalls,
            arrival_timeout,
        }
    }

    /// Limits the time in which the rest of the request, if any, must arrive.
    pub(crate) fn with_arrival_timeout(self, within: Option<Duration>) -> Self {
        let within = within.filter(|_| self.body.is_some());
        Self { arrival_timeout: within.map(|within| Box::pin(sleep(within))), ..self }
    }

    /// Checks the caller before each chunk is sent.
    pub(crate) fn with_guard(self, guard: AccessGuard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Records in `outcome_unknown` when the gateway may act on the request, and clears it if it provably did not.
    pub(crate) fn with_outcome_flag(self, outcome_unknown: Option<OutcomeUnknown>) -> Self {
        Self { outcome_unknown, ..self }
    }

    /// Records whether the gateway may have acted on the request.
    pub(crate) fn set_outcome_unknown(&self, unknown: bool) {
        if let Some(flag) = &self.outcome_unknown {
            flag.store(unknown);
        }
    }

    /// Checks whether the caller may still make the call.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.guard.as_ref().map_or(Ok(()), AccessGuard::check)
    }

    /// Whether nothing follows.
    pub(crate) fn is_end(&self) -> bool {
        self.replay.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Returns the next chunk, `None` at the end, or an error if the caller aborted or is late.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = if let Some(chunk) = self.replay.pop() {
            chunk
        } else {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => return Poll::Ready(None),
                },
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Some(Err(SourceError::CallerGone)));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let Some(timer) = self.arrival_timeout.as_mut() else { return Poll::Pending };
                    return timer.as_mut().poll(cx).map(|()| Some(Err(SourceError::Late)));
                }
            }
        };
        self.buffer_for_retry(&chunk);
        match (&self.meter, self.counted) {
            (Some(meter), 0) => meter.record_sent(&chunk),
            (_, counted) => self.counted = counted.saturating_sub(1),
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    fn buffer_for_retry(&mut self, chunk: &Bytes) {
        let Some(retry_buffer) = &mut self.retry_buffer else { return };
        self.retry_bytes += chunk.len();
        if self.retry_bytes <= RETRY_BYTES_MAX {
            retry_buffer.push(chunk.clone());
        } else {
            self.retry_buffer = None;
        }
    }

    /// Counts a stall and returns whether the request can be retried on another connection.
    pub(crate) fn retry_after_stall(&mut self) -> bool {
        self.stalls += 1;
        self.retry_buffer.is_some() && self.stalls <= STALLS_MAX
    }

    /// Restarts from the beginning. Returns `None` if not all of the sent bytes are still buffered.
    pub(crate) fn rewind(mut self) -> Option<Self> {
        let mut replay = self.retry_buffer.take()?;
        let counted = replay.len();
        replay.append(self.replay);
        Some(Self { replay, counted, ..self })
    }
}

/// A call whose response has not begun.
pub(crate) struct Exchange<B> {
    response: Option<ResponseFuture>,
    pump: Option<Pump<B>>,
    sent: bool,
    lease: Option<Lease>,
}

/// Reason why there is no response.
pub(crate) enum ExchangeError<B> {
    /// The gateway did not process the request, and it can be retried.
    Unprocessed(Box<RequestSource<B>>),
    /// It got no window before its message was sent completely, and can be retried. Its connection is retired.
    Stalled(Box<RequestSource<B>>),
    /// Any other failure.
    Broken(BrokenResponse),
    /// The caller disconnected.
    CallerGone,
    /// The caller lost the permission for the call.
    Refused(Error),
}

/// A response that has begun.
pub(crate) struct ResponseStart<B> {
    /// Its headers.
    pub(crate) head: Response<()>,
    /// Its messages and trailers.
    pub(crate) body: ResponseBody,
    /// The rest of the request; `None` if it was sent completely.
    pub(crate) pump: Option<Pump<B>>,
}

impl<B: Body<Data = Bytes> + Unpin> Exchange<B> {
    /// Opens a stream for the request.
    pub(crate) fn start(
        lease: Lease,
        path: &'static str,
        headers: HeaderMap,
        source: RequestSource<B>,
    ) -> Result<Self, (h2::Error, Box<RequestSource<B>>)> {
        match lease.start(path, headers, false) {
            Err(error) => Err((error, Box::new(source))),
            Ok((response, stream)) => {
                let second = lease.duplicate();
                let pump = Pump::new(source, stream, lease);
                Ok(Self {
                    response: Some(response),
                    pump: Some(pump),
                    sent: false,
                    lease: Some(second),
                })
            }
        }
    }

    /// Returns the beginning of the response; pumps the request meanwhile.
    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseStart<B>, ExchangeError<B>>> {
        if let (false, Some(pump)) = (self.sent, self.pump.as_mut()) {
            match pump.poll(cx) {
                Poll::Ready(SendOutcome::CallerGone) => {
                    return Poll::Ready(Err(ExchangeError::CallerGone));
                }
                Poll::Ready(SendOutcome::Refused(error)) => {
                    return Poll::Ready(Err(ExchangeError::Refused(error)));
                }
                Poll::Ready(SendOutcome::Stalled) => {
                    return Poll::Ready(Err(self.abandon_stalled()));
                }
                Poll::Ready(SendOutcome::Done) => self.sent = true,
                Poll::Pending => {}
            }
        }
        let response = self.response.as_mut().expect("polled until it is ready");
        let result = ready!(response.poll_unpin(cx));
        self.response = None;
        let pump = self.pump.take();
        Poll::Ready(match result {
            Ok(response) => {
                let (parts, stream) = response.into_parts();
                let lease = self.lease.take().expect("taken once");
                let pump = pump.filter(|_| !self.sent).map(|mut pump| {
                    pump.source_mut().retry_buffer = None;
                    pump
                });
                let body = ResponseBody { stream: Some(stream), lease };
                Ok(ResponseStart { head: Response::from_parts(parts, ()), body, pump })
            }
            Err(error) => Err(classify_error(&error, pump)),
        })
    }

    /// Abandons the stream, so that the request can be retried on another connection.
    fn abandon_stalled(&mut self) -> ExchangeError<B> {
        let source = self.pump.take().and_then(|mut pump| {
            pump.abandon();
            pump.into_source()
        });
        let why = || ExchangeError::Broken(BrokenResponse::new("no send window"));
        source.map_or_else(why, |source| ExchangeError::Stalled(Box::new(source)))
    }
}

/// Classifies a failure. Only a provably unprocessed request may be retried; anything else might run twice.
fn classify_error<B: Body<Data = Bytes> + Unpin>(
    error: &h2::Error,
    pump: Option<Pump<B>>,
) -> ExchangeError<B> {
    // h2 reports a remote GOAWAY only to streams above the last stream that the peer processed.
    let above_last = error.is_go_away() && error.is_remote();
    let refused =
        error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    let unprocessed = pump.filter(|_| above_last || refused).map(|mut pump| {
        pump.source_mut().set_outcome_unknown(false);
        pump
    });
    let source = unprocessed.and_then(Pump::into_source);
    source.map_or_else(
        || ExchangeError::Broken(error.into()),
        |source| ExchangeError::Unprocessed(Box::new(source)),
    )
}

impl<B> Drop for Exchange<B> {
    fn drop(&mut self) {
        if let (Some(response), Some(lease)) = (self.response.take(), &self.lease) {
            lease.abandon(StreamHandle::Response(response));
        }
    }
}

/// A response being received.
pub(crate) struct ResponseBody {
    stream: Option<RecvStream>,
    lease: Lease,
}

/// The next part of a response.
pub(crate) enum ResponsePart {
    /// Bytes of messages.
    Data(Bytes),
    /// The end, with trailers if there are any.
    End(Option<HeaderMap>),
}

impl ResponseBody {
    /// Returns the lease of its connection.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether nothing follows the headers.
    pub(crate) fn is_end(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// Returns the next part.
    pub(crate) fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponsePart, BrokenResponse>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Ok(ResponsePart::End(None)));
        };
        let part = match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // Releases window only when the caller has read the previous part: a slow reader throttles the gateway.
                match stream.flow_control().release_capacity(data.len()) {
                    Ok(()) => return Poll::Ready(Ok(ResponsePart::Data(data))),
                    Err(error) => Err(BrokenResponse::from(&error)),
                }
            }
            // The response is complete; the reset only means that the rest of the request is not needed.
            Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                Ok(ResponsePart::End(None))
            }
            Some(Err(error)) => Err(BrokenResponse::from(&error)),
            None => match ready!(stream.poll_trailers(cx)) {
                Ok(trailers) => Ok(ResponsePart::End(trailers)),
                Err(error) => Err(BrokenResponse::from(&error)),
            },
        };
        self.stream = None;
        Poll::Ready(part)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) {
            self.lease.abandon(StreamHandle::Body(stream));
        }
    }
}
