//! Ends streams that nobody waits for any more, at a pace that the gateway bears.
//!
//! Dropping an h2 stream that is not over sends a reset. A peer closes the whole connection after 20 resets of streams
//! that it has not looked at yet, with every neighbour on it: callers that hang up together would take down the others.
//! So what a caller leaves behind comes here, and is dropped slowly: the caller is gone already.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use tokio::time::Instant;

/// Resets in any [`WINDOW`], below the 20 that peers bear.
const RESETS_MAX: usize = 16;
/// The time that [`RESETS_MAX`] counts for.
const WINDOW: Duration = Duration::from_millis(100);

/// One handle of a stream that is to end.
#[derive(Debug)]
pub(crate) enum Piece {
    /// An answer that has not begun.
    Answer(ResponseFuture),
    /// An answer that has not ended.
    Body(RecvStream),
    /// A request that has not ended. Held only to be dropped.
    #[expect(dead_code, reason = "dropping it is what it is for")]
    Request(SendStream<Bytes>),
}

/// What waits to be dropped.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    waiting: VecDeque<Piece>,
    sent: VecDeque<Instant>,
}

impl Reaper {
    /// How many wait.
    pub(crate) fn backlog(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a piece over.
    pub(crate) fn bury(&mut self, piece: Piece) {
        self.waiting.push_back(piece);
    }

    /// When there is something to do again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let full = self.sent.len() >= RESETS_MAX;
        let first = self.sent.front().filter(|_| full && !self.waiting.is_empty())?;
        Some(*first + WINDOW)
    }

    /// Drops what may be dropped now.
    pub(crate) fn work(&mut self, now: Instant) {
        self.drain();
        while !self.waiting.is_empty() {
            if self.sent.len() >= RESETS_MAX {
                if self.sent.front().is_some_and(|first| now < *first + WINDOW) {
                    return;
                }
                self.sent.pop_front();
            }
            self.waiting.pop_front();
            self.sent.push_back(now);
        }
    }

    /// Takes in what still arrives for those that wait. Unread it would fill the window that they share with their
    /// neighbours; and a stream that has ended by itself needs no reset.
    fn drain(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.waiting.retain_mut(|piece| !piece.is_over(&mut cx));
    }
}

impl Piece {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if let Self::Answer(answer) = self {
            match answer.poll_unpin(cx) {
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
            Self::Answer(_) | Self::Request(_) => false,
        }
    }
}
