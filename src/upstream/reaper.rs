//! Resets abandoned streams, at a rate that the gateway tolerates.
//!
//! Dropping an h2 stream that has not ended sends a reset. A peer closes the whole connection, including all other
//! streams on it, after 20 resets of streams that it has not processed yet: callers that hang up at the same time would
//! abort the calls of others. Abandoned streams are therefore queued here and dropped slowly; no caller waits for them.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use tokio::time::Instant;

/// Maximum number of resets in any [`WINDOW`], below the 20 that peers tolerate.
const RESETS_MAX: usize = 16;
/// Time window of [`RESETS_MAX`].
const WINDOW: Duration = Duration::from_millis(100);

/// One handle of a stream that is to be reset.
#[derive(Debug)]
pub(crate) enum StreamHandle {
    /// A response that has not begun.
    Response(ResponseFuture),
    /// A response that has not ended.
    Body(RecvStream),
    /// A request that has not ended. Held only to be dropped.
    #[expect(dead_code, reason = "it is kept only to be dropped")]
    Request(SendStream<Bytes>),
}

/// Handles that wait to be dropped.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: VecDeque<StreamHandle>,
    recent_resets: VecDeque<Instant>,
}

impl Reaper {
    /// Returns the number of waiting handles.
    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a handle.
    pub(crate) fn push(&mut self, handle: StreamHandle) {
        self.waiting.push_back(handle);
    }

    /// Returns when the next handle can be dropped, or `None` if nothing waits for that.
    pub(crate) fn next_reset(&self) -> Option<Instant> {
        let full = self.recent_resets.len() >= RESETS_MAX;
        let first = self.recent_resets.front().filter(|_| full && !self.waiting.is_empty())?;
        Some(*first + WINDOW)
    }

    /// Drops the handles that may be dropped now.
    pub(crate) fn reset_due(&mut self, now: Instant) {
        self.drain();
        while !self.waiting.is_empty() {
            if self.recent_resets.len() >= RESETS_MAX {
                if self.recent_resets.front().is_some_and(|first| now < *first + WINDOW) {
                    return;
                }
                self.recent_resets.pop_front();
            }
            self.waiting.pop_front();
            self.recent_resets.push_back(now);
        }
    }

    /// Reads what still arrives for the queued streams: unread data would fill the window of the connection that they
    /// share with others. Removes streams that have ended, which need no reset.
    fn drain(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.waiting.retain_mut(|handle| !handle.is_ended(&mut cx));
    }
}

impl StreamHandle {
    fn is_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if let Self::Response(response) = self {
            match response.poll_unpin(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(response)) => *self = Self::Body(response.into_body()),
            }
        }
        match self {
            Self::Body(body) => loop {
                match body.poll_data(cx) {
                    Poll::Pending => return false,
                    Poll::Ready(None | Some(Err(_))) => return true,
                    Poll::Ready(Some(Ok(data))) => {
                        if body.flow_control().release_capacity(data.len()).is_err() {
                            return true;
                        }
                    }
                }
            },
            Self::Response(_) | Self::Request(_) => false,
        }
    }
}
