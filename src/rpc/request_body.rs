//! The request body of Shoreguard's own rpcs, before the decoder.
//!
//! Invariants
//! - a message that has begun to arrive must end within the configured time, and so must the whole body of a unary
//!   call: a caller that stops sending does not hold memory;
//! - bytes of an incomplete message count for their caller; those of a unary call count until the call ends;
//! - an error carries a Shoreguard status, which the decoder passes on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame};
use tokio::time::Sleep;

use crate::error::Error;
use crate::fair::MemoryAccount;
use crate::fair::too_many_bytes;
use crate::status::to_status;

/// Length of the prefix of a message: one byte of compression flag, four of length.
const PREFIX_BYTES: usize = 5;

/// Content of the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyShape {
    /// One message, then the end.
    Unary,
    /// Any number of messages, at any time.
    Stream,
}

/// Wraps the body of a request and enforces its limits.
#[derive(Debug)]
pub(crate) struct RequestBody<B> {
    body: B,
    shape: BodyShape,
    memory: MemoryAccount,
    within: Duration,
    began: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    frames: FrameTracker,
}

impl<B> RequestBody<B> {
    /// Limits a body that began to arrive at `began`: its time to `within`, its bytes to what `memory` allows.
    pub(crate) fn new(
        body: B,
        shape: BodyShape,
        memory: MemoryAccount,
        began: Instant,
        within: Duration,
    ) -> Self {
        Self { body, shape, memory, within, began, timer: None, frames: FrameTracker::default() }
    }

    /// Whether the time limit applies to the data that must arrive next.
    fn is_timed(&self) -> bool {
        self.shape == BodyShape::Unary || self.frames.is_within_a_message()
    }

    fn count_data(&mut self, data: &Bytes) -> Result<(), Error> {
        let before = self.frames;
        self.frames.advance(data);
        let mut memory = self.memory.lock();
        if self.shape == BodyShape::Stream && self.frames.messages > before.messages {
            memory.clear();
            self.began = Instant::now();
            self.timer = None;
            return memory.grow(self.frames.arrived).map_err(|_| too_many_bytes());
        }
        if self.shape == BodyShape::Stream && !before.is_within_a_message() {
            self.began = Instant::now();
        }
        memory.grow(data.len() as u64).map_err(|_| too_many_bytes())
    }

    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_timed() {
            self.timer = None;
            return Poll::Pending;
        }
        let ends = self.began + self.within;
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(ends.into())));
        timer.as_mut().poll(cx)
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let refused = |error| Poll::Ready(Some(Err(to_status(error).into())));
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                match frame.data_ref().map_or(Ok(()), |data| this.count_data(data)) {
                    Ok(()) => Poll::Ready(Some(Ok(frame))),
                    Err(error) => refused(error),
                }
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|ended| ended.map_err(Into::into))),
            Poll::Pending => match this.poll_timeout(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => refused(Error::DeadlineExceeded {
                    why: format!("the request has not arrived within {} s", this.within.as_secs()),
                }),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Tracks the gRPC frames of a body.
#[derive(Debug, Default, Clone, Copy)]
struct FrameTracker {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Bytes of the current message that have not arrived.
    missing: u64,
    /// Bytes of the current message that have arrived, including its prefix.
    arrived: u64,
    /// Number of complete messages.
    messages: u64,
}

impl FrameTracker {
    fn is_within_a_message(&self) -> bool {
        self.arrived > 0
    }

    fn advance(&mut self, data: &[u8]) {
        let mut data = data;
        while !data.is_empty() {
            if self.prefix_bytes < PREFIX_BYTES {
                let n = data.len().min(PREFIX_BYTES - self.prefix_bytes);
                self.prefix[self.prefix_bytes..self.prefix_bytes + n].copy_from_slice(&data[..n]);
                self.prefix_bytes += n;
                self.arrived += n as u64;
                data.advance(n);
                if self.prefix_bytes == PREFIX_BYTES {
                    self.missing = (&self.prefix[1..]).get_u32().into();
                }
            } else {
                let n = u64::min(data.len() as u64, self.missing);
                self.missing -= n;
                self.arrived += n;
                data.advance(usize::try_from(n).unwrap_or(data.len()));
            }
            if self.prefix_bytes == PREFIX_BYTES && self.missing == 0 {
                let messages = self.messages + 1;
                *self = Self { messages, ..Self::default() };
            }
        }
    }
}

/// Wraps a body that the proxy reads completely. Its bytes count for the caller until the call ends.
#[derive(Debug)]
pub(crate) struct CountedBody<'a, B> {
    body: &'a mut B,
    memory: Option<&'a MemoryAccount>,
}

impl<'a, B> CountedBody<'a, B> {
    /// Counts the bytes of `body` in `memory`, if the call has a memory account.
    pub(crate) fn new(body: &'a mut B, memory: Option<&'a MemoryAccount>) -> Self {
        Self { body, memory }
    }
}

impl<B> HttpBody for CountedBody<'_, B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this.body).poll_frame(cx).map_err(Into::into);
        if let (Poll::Ready(Some(Ok(frame))), Some(memory)) = (&polled, this.memory)
            && let Some(data) = frame.data_ref()
            && memory.lock().grow(data.len() as u64).is_err()
        {
            return Poll::Ready(Some(Err(too_many_bytes().into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full as Whole, StreamBody};
    use tonic::Status;

    use std::sync::Arc;

    use super::*;
    use crate::access::principal::PrincipalId;
    use crate::db::types::UserId;
    use crate::fair::{FairLimit, LimitHolder};

    const ANA: LimitHolder = LimitHolder::Principal(PrincipalId::User(UserId(1)));

    fn body<B>(
        body: B,
        shape: BodyShape,
        limit: &Arc<FairLimit>,
    ) -> (RequestBody<B>, MemoryAccount) {
        let memory = MemoryAccount::new(limit, ANA).unwrap();
        let within = Duration::from_millis(20);
        (RequestBody::new(body, shape, memory.clone(), Instant::now(), within), memory)
    }

    fn message(length: u8) -> Vec<u8> {
        let mut message = vec![0, 0, 0, 0, length];
        message.resize(5 + usize::from(length), 7);
        message
    }

    #[test]
    fn message_frames_are_parsed_across_any_chunk_boundary() {
        let all = [message(3), message(0), message(200), message(1)].concat();
        for cut in 1..all.len() {
            let mut frames = FrameTracker::default();
            for part in all.chunks(cut) {
                frames.advance(part);
            }
            assert_eq!((frames.messages, frames.is_within_a_message()), (4, false), "{cut}");
        }
        let mut frames = FrameTracker::default();
        frames.advance(&all[..10]);
        assert_eq!((frames.messages, frames.arrived), (1, 2));
    }

    #[tokio::test]
    async fn a_unary_body_counts_until_the_call_ends_and_is_refused_over_the_limit() {
        for (bound, fits) in [(25, true), (24, false)] {
            let limit = FairLimit::new(0, bound);
            let (read, memory) =
                body(Whole::new(Bytes::from(message(20))), BodyShape::Unary, &limit);
            let collected = read.collect().await;
            assert_eq!(collected.is_ok(), fits);
            if let Err(error) = collected {
                let status = error.downcast::<Status>().unwrap();
                assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            }
            drop(memory);
            assert_eq!(limit.in_use(), 0);
        }
    }

    #[tokio::test]
    async fn a_stream_counts_only_its_incomplete_message() {
        let limit = FairLimit::new(0, 25);
        let parts = [message(20), message(20), message(20)[..9].to_vec()];
        let parts = parts.map(|part| Ok::<_, Error>(Frame::data(Bytes::from(part))));
        let stream = StreamBody::new(futures_util::stream::iter(parts));
        let (mut read, _held) = body(stream, BodyShape::Stream, &limit);
        for left in [0, 0, 9] {
            read.frame().await.unwrap().unwrap();
            assert_eq!(limit.in_use(), left);
        }
    }

    #[tokio::test]
    async fn a_stalled_body_times_out_and_a_stream_idle_between_messages_does_not() {
        let limit = FairLimit::new(0, 0);
        for (shape, part, late) in [
            (BodyShape::Stream, message(20), false),
            (BodyShape::Unary, message(20), true),
            (BodyShape::Stream, message(20)[..24].to_vec(), true),
        ] {
            let part = Ok::<_, Error>(Frame::data(Bytes::from(part)));
            let rest = futures_util::stream::pending();
            let parts = futures_util::StreamExt::chain(futures_util::stream::iter([part]), rest);
            let (mut read, _held) = body(StreamBody::new(parts), shape, &limit);
            read.frame().await.unwrap().unwrap();
            if !late {
                // Twice the time limit of the other bodies.
                let next = tokio::time::timeout(Duration::from_millis(40), read.frame()).await;
                assert!(next.is_err(), "{shape:?}");
                continue;
            }
            let error = read.frame().await.unwrap().unwrap_err();
            let status = error.downcast::<Status>().unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{shape:?}");
        }
    }
}
