//! Sends a request into its stream as fast as the gateway grants window.
//!
//! Invariants
//! - a request that gets no window for [`STALL_TIME`] retires its connection, since other requests on it would wait as
//!   well;
//! - it is retried on another connection only if its first message was not sent completely, so that the gateway cannot
//!   have processed any of it;
//! - the call is recorded as unanswered as soon as its first message is sent completely, since the gateway may then act
//!   on it;
//! - no byte is sent for a caller that lost the permission for the call.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http_body::Body;
use tokio::time::{Sleep, sleep};

use super::connection::Lease;
use super::exchange::RequestSource;
use super::lane::Lane;
use super::reaper::StreamHandle;
use crate::error::Error;
use crate::net::deadline::request_timed_out;

/// How long a request waits for send window before its connection is retired. Much longer than a round trip.
const STALL_TIME: Duration = Duration::from_secs(1);

/// Length of the prefix of a message.
const PREFIX_BYTES: usize = 5;

/// Reason why the rest of a request does not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceError {
    /// The caller aborted it.
    CallerGone,
    /// It did not arrive in time.
    Late,
}

/// Result of sending a request.
#[derive(Debug)]
pub(crate) enum SendOutcome {
    /// It was sent completely, or the gateway reads no more of it.
    Done,
    /// The caller aborted it.
    CallerGone,
    /// It got no window and can be retried.
    Stalled,
    /// The request was rejected: the caller lost the permission for it, or the rest arrived too late.
    Refused(Error),
}

/// Sends a request into its stream.
pub(crate) struct Pump<B> {
    source: RequestSource<B>,
    stream: Option<SendStream<Bytes>>,
    chunk: Bytes,
    /// Bytes left of the first message; `None` until its prefix is known.
    first: Option<usize>,
    stall: Stall,
    lease: Lease,
}

/// Whether the gateway has stopped granting window.
enum Stall {
    /// It grants window.
    None,
    /// It grants none; the timer limits the wait.
    Until(Pin<Box<Sleep>>),
    /// It granted none for too long; the connection is retired.
    Over,
}

impl<B: Body<Data = Bytes> + Unpin> Pump<B> {
    /// Creates a pump with nothing sent.
    pub(crate) fn new(source: RequestSource<B>, stream: SendStream<Bytes>, lease: Lease) -> Self {
        let stall = Stall::None;
        Self { source, stream: Some(stream), chunk: Bytes::new(), first: None, stall, lease }
    }

    /// Returns the request.
    pub(crate) fn source_mut(&mut self) -> &mut RequestSource<B> {
        &mut self.source
    }

    /// Sends as much as is available and as the window allows.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SendOutcome> {
        loop {
            let Some(stream) = self.stream.as_mut() else { return Poll::Ready(SendOutcome::Done) };
            if !self.chunk.is_empty() {
                stream.reserve_capacity(self.chunk.len());
                let room = match stream.capacity() {
                    0 => match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(room))) => room,
                        // The gateway reads no more; the response carries the reason.
                        Poll::Ready(Some(Err(_)) | None) => return self.finish(),
                        Poll::Pending => return self.wait(cx),
                    },
                    room => room,
                };
                self.stall = Stall::None;
                // The chunk may have waited, and may have arrived long after the headers of the call.
                if let Err(error) = self.source.check() {
                    return self.reject(error);
                }
                let part = self.chunk.split_to(room.min(self.chunk.len()));
                self.first = self.first.map(|left| left.saturating_sub(part.len()));
                if self.first == Some(0) {
                    self.source.set_outcome_unknown(true);
                }
                let last = self.chunk.is_empty() && self.source.is_end();
                if stream.send_data(part, last).is_err() || last {
                    return self.finish();
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
                        return self.reject(error);
                    }
                    // An error means that the stream is already closed.
                    let _ = stream.send_data(Bytes::new(), true);
                    return self.finish();
                }
                Some(Err(SourceError::CallerGone)) => {
                    self.abandon();
                    return Poll::Ready(SendOutcome::CallerGone);
                }
                Some(Err(SourceError::Late)) => return self.reject(request_timed_out()),
            }
        }
    }

    /// Waits for window, with a time limit if other calls share the connection.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<SendOutcome> {
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
        if unprocessed && self.source.retry_after_stall() {
            return Poll::Ready(SendOutcome::Stalled);
        }
        Poll::Pending
    }

    fn reject(&mut self, error: Error) -> Poll<SendOutcome> {
        self.abandon();
        Poll::Ready(SendOutcome::Refused(error))
    }

    fn finish(&mut self) -> Poll<SendOutcome> {
        self.stream = None;
        Poll::Ready(SendOutcome::Done)
    }

    /// Returns the request for a retry. The stream must already be closed or abandoned.
    pub(crate) fn into_source(mut self) -> Option<RequestSource<B>> {
        self.stream = None;
        std::mem::replace(&mut self.source, RequestSource::new(None, None, None)).rewind()
    }
}

/// Returns the length of the first message including its prefix, or 0 if the chunk is shorter than the prefix.
fn message_bytes(chunk: &[u8]) -> usize {
    let length = chunk.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
    length.map_or(0, |length| PREFIX_BYTES + u32::from_be_bytes(length) as usize)
}

impl<B> Pump<B> {
    /// Hands the stream to the reaper to be reset.
    pub(crate) fn abandon(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.lease.abandon(StreamHandle::Request(stream));
        }
    }
}

impl<B> Drop for Pump<B> {
    fn drop(&mut self) {
        self.abandon();
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
    fn the_size_of_a_first_message_is_computed_from_its_prefix() {
        assert_eq!(message_bytes(&[0, 0, 0, 1, 2, 9, 9]), PREFIX_BYTES + 258);
        assert_eq!(message_bytes(&[0, 0, 0, 0, 0]), PREFIX_BYTES);
        assert_eq!(message_bytes(&[0, 0, 0, 0]), 0, "too short to be recognized: never sent again");
        assert_eq!(message_bytes(&[]), 0);
    }
}
