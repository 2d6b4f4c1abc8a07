//! One stream to a gateway: its request on the way out, its answer on the way in.
//!
//! The request is pumped by whoever waits for the answer, so that an ordinary call needs no task; only a request that
//! goes on beyond the answer's beginning gets one, so that neither direction waits for the other.
//!
//! Invariants
//! - one chunk of a request is in hand at a time: a gateway that doesn't read stops the caller (`pump`);
//! - a stream that is left before its end goes to the reaper and is never just dropped;
//! - what is sent again was not processed: refused unlooked at, or its one message never went out whole.

use std::collections::VecDeque;
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

use super::connection::Lease;
use super::pump::{Broken, Pump, Sent};
use super::reaper::Piece;
use super::unanswered::Unanswered;
use crate::access::standing::Guard;
use crate::digest::{Digest, Streamed};
use crate::error::Error;

/// What is kept of a request until its answer begins, for another try.
const HELD_BYTES_MAX: usize = 64 << 10;
/// Connections without window that a request is moved away from; on the next it waits.
const STALLS_MAX: u32 = 3;

/// Counts, and digests, the bytes of a request as they pass.
#[derive(Default)]
pub(crate) struct Meter {
    /// Bytes from the caller.
    pub(crate) sent: AtomicU64,
    /// Bytes to the caller.
    pub(crate) received: AtomicU64,
    digest: Mutex<Option<Streamed>>,
}

impl Meter {
    /// With a digest, where the bytes may have one.
    pub(crate) fn new(digest: Option<Streamed>) -> Self {
        Self { digest: Mutex::new(digest), ..Self::default() }
    }

    fn passed(&self, data: &[u8]) {
        self.sent.fetch_add(data.len() as u64, Ordering::Relaxed);
        let mut digest = self.digest.lock();
        if let Some(digest) = digest.as_mut() {
            digest.update(data);
        }
    }

    /// The digest of what has passed.
    pub(crate) fn finish(&self) -> Option<Digest> {
        self.digest.lock().take().map(Streamed::finish)
    }
}

/// A request on its way: what was read of it, then the rest as it comes.
pub(crate) struct Source<B> {
    replay: VecDeque<Bytes>,
    body: Option<B>,
    held: Option<VecDeque<Bytes>>,
    held_bytes: usize,
    meter: Option<Arc<Meter>>,
    /// Chunks that pass for the second time and were counted the first time.
    counted: usize,
    /// Checks the caller before each chunk: the head of the call may have come long before.
    guard: Option<Guard>,
    /// Told when the gateway may act on it.
    unanswered: Unanswered,
    /// How often it got no window.
    stalls: u32,
    /// When the rest of it comes too late, if it has a time.
    late: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes> + Unpin> Source<B> {
    /// `read` goes first; where nothing follows there is no body.
    pub(crate) fn new(read: Option<Bytes>, body: Option<B>, meter: Option<Arc<Meter>>) -> Self {
        let (replay, held) = (read.into_iter().collect(), Some(VecDeque::new()));
        let (guard, late, unanswered) = (None, None, Unanswered::default());
        let (held_bytes, counted, stalls) = (0, 0, 0);
        Self { replay, body, held, held_bytes, meter, counted, guard, unanswered, stalls, late }
    }

    /// Gives the rest of it, if there is one, so much time to arrive.
    pub(crate) fn arriving_within(self, within: Option<Duration>) -> Self {
        let within = within.filter(|_| self.body.is_some());
        Self { late: within.map(|within| Box::pin(sleep(within))), ..self }
    }

    /// Checks the caller before each chunk is sent.
    pub(crate) fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Tells when the gateway may act on it, and that it has not where that is proven.
    pub(crate) fn telling(self, unanswered: Unanswered) -> Self {
        Self { unanswered, ..self }
    }

    /// Whether the gateway has acted on it is open.
    pub(crate) fn unanswered(&self) -> &Unanswered {
        &self.unanswered
    }

    /// Checks whether the caller may still make the call.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.guard.as_ref().map_or(Ok(()), Guard::check)
    }

    /// Whether nothing follows.
    pub(crate) fn is_end(&self) -> bool {
        self.replay.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// The next chunk; none at the end, an error where the caller has broken off.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        let chunk = if let Some(chunk) = self.replay.pop_front() {
            chunk
        } else {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_trailers) => return Poll::Ready(None),
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Broken::CallerGone))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let Some(late) = self.late.as_mut() else { return Poll::Pending };
                    return late.as_mut().poll(cx).map(|()| Some(Err(Broken::Late)));
                }
            }
        };
        self.hold(&chunk);
        match (&self.meter, self.counted) {
            (Some(meter), 0) => meter.passed(&chunk),
            (_, counted) => self.counted = counted.saturating_sub(1),
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    fn hold(&mut self, chunk: &Bytes) {
        let Some(held) = &mut self.held else { return };
        self.held_bytes += chunk.len();
        if self.held_bytes <= HELD_BYTES_MAX {
            held.push_back(chunk.clone());
        } else {
            self.held = None;
        }
    }

    /// Whether it can be sent again where it gets no window; counts how often that is asked.
    pub(crate) fn again_for_window(&mut self) -> bool {
        self.stalls += 1;
        self.held.is_some() && self.stalls <= STALLS_MAX
    }

    /// Keeps nothing for another try from now on.
    fn pass_on(&mut self) {
        self.held = None;
    }

    /// From the beginning again, where all that has passed is still held.
    pub(crate) fn again(mut self) -> Option<Self> {
        let mut replay = self.held.take()?;
        let counted = replay.len();
        replay.append(&mut self.replay);
        Some(Self { replay, counted, ..self })
    }
}

/// A call whose answer has not begun.
pub(crate) struct Exchange<B> {
    response: Option<ResponseFuture>,
    pump: Option<Pump<B>>,
    sent: bool,
    lease: Option<Lease>,
}

/// Why there is no answer.
pub(crate) enum Failed<B> {
    /// The gateway has not looked at it, and it can be sent again.
    Unprocessed(Box<Source<B>>),
    /// It got no window before its message was whole, and can be sent again. Its connection is retired.
    Stalled(Box<Source<B>>),
    /// Anything else; the text is for the log.
    Broken(String),
    /// The caller has gone.
    CallerGone,
    /// The caller may not make the call any more.
    Refused(Error),
}

/// An answer that has begun, with what belongs to it.
pub(crate) struct Answer<B> {
    /// Its headers.
    pub(crate) head: Response<()>,
    /// Its messages and trailers.
    pub(crate) body: Receiving,
    /// The rest of the request.
    pub(crate) pump: Option<Pump<B>>,
}

impl<B: Body<Data = Bytes> + Unpin> Exchange<B> {
    /// Opens a stream and sends what is there.
    pub(crate) fn start(
        lease: Lease,
        path: &'static str,
        headers: HeaderMap,
        source: Source<B>,
    ) -> Result<Self, (h2::Error, Box<Source<B>>)> {
        match lease.start(path, headers, false) {
            Err(error) => Err((error, Box::new(source))),
            Ok((response, stream)) => {
                let second = lease.again();
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

    /// The beginning of the answer; pumps the request meanwhile.
    pub(crate) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer<B>, Failed<B>>> {
        if let (false, Some(pump)) = (self.sent, self.pump.as_mut()) {
            match pump.poll(cx) {
                Poll::Ready(Sent::CallerGone) => return Poll::Ready(Err(Failed::CallerGone)),
                Poll::Ready(Sent::Refused(error)) => {
                    return Poll::Ready(Err(Failed::Refused(error)));
                }
                Poll::Ready(Sent::Stalled) => return Poll::Ready(Err(self.stalled())),
                Poll::Ready(Sent::Done) => self.sent = true,
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
                    pump.source_mut().pass_on();
                    pump
                });
                let body = Receiving { stream: Some(stream), lease };
                Ok(Answer { head: Response::from_parts(parts, ()), body, pump })
            }
            Err(error) => Err(failed(&error, pump)),
        })
    }

    /// Leaves the stream; the request is sent again on another connection.
    fn stalled(&mut self) -> Failed<B> {
        let source = self.pump.take().and_then(|mut pump| {
            pump.bury();
            pump.into_source()
        });
        let why = || Failed::Broken("no send window".to_owned());
        source.map_or_else(why, |source| Failed::Stalled(Box::new(source)))
    }
}

/// What is provably unprocessed may be sent again; anything else might happen twice.
fn failed<B: Body<Data = Bytes> + Unpin>(error: &h2::Error, pump: Option<Pump<B>>) -> Failed<B> {
    // h2 gives a remote GOAWAY to those streams alone that are above the last one that the peer looked at.
    let above_last = error.is_go_away() && error.is_remote();
    let refused =
        error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    let unprocessed = pump.filter(|_| above_last || refused).map(|mut pump| {
        pump.source_mut().unanswered().settle();
        pump
    });
    let source = unprocessed.and_then(Pump::into_source);
    source.map_or_else(
        || Failed::Broken(error.to_string()),
        |source| Failed::Unprocessed(Box::new(source)),
    )
}

impl<B> Drop for Exchange<B> {
    fn drop(&mut self) {
        if let (Some(response), Some(lease)) = (self.response.take(), &self.lease) {
            lease.bury(Piece::Answer(response));
        }
    }
}

/// An answer on its way in.
pub(crate) struct Receiving {
    stream: Option<RecvStream>,
    lease: Lease,
}

/// The next part of an answer.
pub(crate) enum Part {
    /// Bytes of messages.
    Data(Bytes),
    /// The end, with trailers where there are some.
    End(Option<HeaderMap>),
}

impl Receiving {
    /// The connection that it comes on.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether nothing follows the headers.
    pub(crate) fn is_end(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    /// The next part; the error is for the log.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, String>> {
        let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Ok(Part::End(None))) };
        let part = match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // Read when the caller has taken what came before: one that stops reading stops the gateway.
                match stream.flow_control().release_capacity(data.len()) {
                    Ok(()) => return Poll::Ready(Ok(Part::Data(data))),
                    Err(error) => Err(error.to_string()),
                }
            }
            // The whole answer is there; this only says that the rest of the request is not wanted.
            Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                Ok(Part::End(None))
            }
            Some(Err(error)) => Err(error.to_string()),
            None => match ready!(stream.poll_trailers(cx)) {
                Ok(trailers) => Ok(Part::End(trailers)),
                Err(error) => Err(error.to_string()),
            },
        };
        self.stream = None;
        Poll::Ready(part)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take().filter(|stream| !stream.is_end_stream()) {
            self.lease.bury(Piece::Body(stream));
        }
    }
}
