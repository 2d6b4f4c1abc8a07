//! Moves a request into its stream, as fast as the gateway grants window for it.
//!
//! Invariants
//! - a request that gets no window for [`STALL_TIME`] retires its connection: other requests on it would wait as well;
//! - it is sent again on another connection only while its first message has not gone out whole, so that the gateway can
//!   have processed nothing of it;
//! - what a gateway can have acted upon is told as soon as the first message goes out whole;
//! - no byte of it is sent for a caller that has lost its right to the call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use super::connection::Lease;
use super::exchange::Source;
use super::lane::Lane;
use super::reaper::Piece;
use crate::error::Error;
use crate::net::deadline::late_request;

/// How long a request waits for send window before its connection is retired. Far longer than a round trip.
const STALL_TIME: Duration = Duration::from_secs(1);

/// Length of a message's prefix.
const PREFIX_BYTES: usize = 5;

/// Why the rest of a request does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The caller has broken it off.
    CallerGone,
    /// It has not arrived in time.
    Late,
}

/// How a request has ended.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All of it has gone, or the gateway wants no more.
    Done,
    /// The caller has broken it off.
    CallerGone,
    /// It got no window, and can be sent again.
    Stalled,
    /// The caller may not make the call any more.
    Refused(Error),
}

/// Moves a request into its stream.
pub(crate) struct Pump<B> {
    source: Source<B>,
    stream: Option<SendStream<Bytes>>,
    chunk: Bytes,
    /// Bytes to go until the first message is whole; none until its prefix is known.
    first: Option<usize>,
    stall: Stall,
    lease: Lease,
}

/// Whether the gateway has stopped to grant window.
enum Stall {
    /// It grants some.
    None,
    /// It grants none, which is borne until then.
    Until(Pin<Box<Sleep>>),
    /// It has granted none for too long; the connection is retired.
    Over,
}

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
    /// Nothing sent yet.
    pub(crate) fn new(source: Source<B>, stream: SendStream<Bytes>, lease: Lease) -> Self {
        let stall = Stall::None;
        Self { source, stream: Some(stream), chunk: Bytes::new(), first: None, stall, lease }
    }

    /// The request.
    pub(crate) fn source_mut(&mut self) -> &mut Source<B> {
        &mut self.source
    }

    /// Sends what there is and what there is window for.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Sent::Done) };
            if !self.chunk.is_empty() {
                stream.reserve_capacity(self.chunk.len());
                let room = match stream.capacity() {
                    0 => match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(room))) => room,
                        // The gateway takes no more; why not is for the answer to say.
                        Poll::Ready(Some(Err(_)) | None) => return self.over(),
                        Poll::Pending => return self.wait(cx),
                    },
                    room => room,
                };
                self.stall = Stall::None;
                // The chunk may have waited, and the head of the call may have come long before it.
                if let Err(error) = self.source.check() {
                    return self.refused(error);
                }
                let part = self.chunk.split_to(room.min(self.chunk.len()));
                self.first = self.first.map(|left| left.saturating_sub(part.len()));
                if self.first == Some(0) {
                    self.source.unanswered().open();
                }
                let last = self.chunk.is_empty() && self.source.is_end();
                if stream.send_data(part, last).is_err() || last {
                    return self.over();
                }
                continue;
            }
            match ready!(self.source.poll_chunk(cx)) {
                Some(Ok(chunk)) => {
                    self.first = self.first.or_else(|| Some(message_bytes(&chunk)));
                    self.chunk = chunk;
                }
                None => {
                    if let Err(error) = self.source.check() {
                        return self.refused(error);
                    }
                    // An error means that the stream is closed, which is what it should be.
                    let _ = stream.send_data(Bytes::new(), true);
                    return self.over();
                }
                Some(Err(Broken::CallerGone)) => {
                    self.bury();
                    return Poll::Ready(Sent::CallerGone);
                }
                Some(Err(Broken::Late)) => return self.refused(late_request()),
            }
        }
    }

    /// Waits for window; not for good where other calls wait on the same connection.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        if self.lease.lane() == Lane::Exclusive || matches!(self.stall, Stall::Over) {
            return Poll::Pending;
        }
        if matches!(self.stall, Stall::None) {
            self.stall = Stall::Until(Box::pin(sleep(STALL_TIME)));
        }
        if let Stall::Until(timer) = &mut self.stall {
            ready!(timer.as_mut().poll(cx));
        }
        self.stall = Stall::Over;
        self.lease.retire();
        let unprocessed = self.first.is_some_and(|left| left > 0);
        if unprocessed && self.source.again_for_window() {
            return Poll::Ready(Sent::Stalled);
        }
        Poll::Pending
    }

    fn refused(&mut self, error: Error) -> Poll<Sent> {
        self.bury();
        Poll::Ready(Sent::Refused(error))
    }

    fn over(&mut self) -> Poll<Sent> {
        self.stream = None;
        Poll::Ready(Sent::Done)
    }

    /// The request for another try; the stream is closed or left already.
    pub(crate) fn into_source(mut self) -> Option<Source<B>> {
        self.stream = None;
        std::mem::replace(&mut self.source, Source::new(None, None, None)).again()
    }
}

/// Returns the length of the message that a chunk begins, or 0 if the chunk is too short to tell.
fn message_bytes(chunk: &[u8]) -> usize {
    let length = chunk.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    length.map_or(0, |length| PREFIX_BYTES + u32::from_be_bytes(length) as usize)
}

impl<B> Pump<B> {
    /// Leaves the stream to be reset.
    pub(crate) fn bury(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.lease.bury(Piece::Request(stream));
        }
    }
}

impl<B> Drop for Pump<B> {
    fn drop(&mut self) {
        self.bury();
    }
}

impl<B: Body<Data = Bytes> + Unpin> Future for Pump<B> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pump::poll(&mut self, cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_is_measured_by_its_prefix() {
        assert_eq!(message_bytes(&[0, 0, 0, 1, 2, 9, 9]), PREFIX_BYTES + 258);
        assert_eq!(message_bytes(&[0, 0, 0, 0, 0]), PREFIX_BYTES);
        assert_eq!(message_bytes(&[0, 0, 0, 0]), 0, "too short to tell: never sent again");
        assert_eq!(message_bytes(&[]), 0);
    }
}
