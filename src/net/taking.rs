//! Ends calls whose response is not read.
//!
//! A caller that closes its HTTP/2 window, or reads nothing, keeps a response in memory for as long as the stream
//! exists. hyper does not poll a body that is not read, so the body cannot end itself. Instead, the task that hyper
//! runs for the stream is ended, which resets the stream and frees its memory. Other streams of the connection are not
//! affected.
//!
//! Even with a window of one byte, hyper passes a whole frame to h2, which buffers the rest until the window grows.
//! Each [`ResponsePart`] of a response therefore reports when h2 drops it: it was written to the socket, or the stream
//! was reset. A body does not end before that, and neither does the task of its stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep};

/// Bytes of one response that h2 buffers for the socket if the window of the caller is larger.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Tracks whether the response of one call is being read.
#[derive(Debug, Default)]
pub struct ReadTracker {
    /// Parts that were passed to hyper and are not dropped yet.
    unread_parts: AtomicUsize,
    /// Incremented when a part is dropped.
    dropped_parts: AtomicU32,
    /// Set while the body waits for the last part to be dropped.
    body_ended: AtomicBool,
    aborted: AtomicBool,
    /// The caller may pause without a time limit.
    may_pause: AtomicBool,
    waker: AtomicWaker,
}

impl ReadTracker {
    /// Whether a part waits for the caller.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread_parts.load(Ordering::SeqCst) > 0
    }

    /// Waits until all parts are dropped.
    pub(crate) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_unread() {
            self.waker.register(cx.waker());
            self.body_ended.store(true, Ordering::SeqCst);
            if self.has_unread() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn part_dropped(&self) {
        self.dropped_parts.fetch_add(1, Ordering::Relaxed);
        if self.unread_parts.fetch_sub(1, Ordering::SeqCst) == 1
            && self.body_ended.load(Ordering::SeqCst)
        {
            self.waker.wake();
        }
    }

    /// Allows the caller to pause without a time limit.
    pub(crate) fn allow_pause(&self) {
        self.may_pause.store(true, Ordering::Relaxed);
    }

    /// Ends the stream, since its response is not read.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A part of a response, on its way through hyper and h2 to the socket.
#[derive(Debug)]
pub struct ResponsePart {
    data: Bytes,
    /// Notified when the part is dropped.
    read_tracker: Option<Arc<ReadTracker>>,
}

impl ResponsePart {
    /// Counts the part as waiting, if `taking` is set. An empty part needs no window and is not counted.
    pub(crate) fn new(data: Bytes, read_tracker: Option<&Arc<ReadTracker>>) -> Self {
        let read_tracker = read_tracker.filter(|_| !data.is_empty()).cloned();
        if let Some(read_tracker) = &read_tracker {
            read_tracker.unread_parts.fetch_add(1, Ordering::SeqCst);
        }
        Self { data, read_tracker }
    }
}

impl ResponsePart {
    /// Returns the bytes, to be sent in another form.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        std::mem::take(&mut self.data)
    }
}

impl Buf for ResponsePart {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}

impl Drop for ResponsePart {
    fn drop(&mut self) {
        if let Some(read_tracker) = &self.read_tracker {
            read_tracker.part_dropped();
        }
    }
}

/// Runs the streams of one connection, each with the [`ReadTracker`] of its call.
#[derive(Debug, Clone)]
pub(crate) struct StreamExecutor {
    within: Duration,
    /// Hands the state of a call to its task, which hyper creates right after the call.
    next: Arc<Mutex<Option<Arc<ReadTracker>>>>,
}

impl StreamExecutor {
    /// Creates an executor that ends streams whose caller reads nothing for `within`.
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, next: Arc::default() }
    }

    /// Begins a call, whose stream is the next stream that hyper runs.
    pub(crate) fn begin(&self) -> Arc<ReadTracker> {
        let read_tracker = Arc::<ReadTracker>::default();
        *self.next.lock() = Some(Arc::clone(&read_tracker));
        read_tracker
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let read_tracker = self.next.lock().take();
        let Some(read_tracker) = read_tracker else {
            super::spawn_owned(stream);
            return;
        };
        super::spawn_owned(StreamTask {
            running: Box::pin(stream),
            read_tracker,
            within: self.within,
            timer: None,
            dropped_parts: 0,
        });
    }
}

/// The task of one stream.
struct StreamTask<F> {
    running: Pin<Box<F>>,
    read_tracker: Arc<ReadTracker>,
    within: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Value of `ReadTracker::dropped_parts` at the last poll.
    dropped_parts: u32,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.running.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        this.read_tracker.waker.register(cx.waker());
        if this.read_tracker.aborted.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !this.read_tracker.has_unread() || this.read_tracker.may_pause.load(Ordering::Relaxed) {
            this.timer = None;
            return Poll::Pending;
        }
        let dropped_parts = this.read_tracker.dropped_parts.load(Ordering::Relaxed);
        if dropped_parts != this.dropped_parts
            && let Some(timer) = &mut this.timer
        {
            timer.as_mut().reset(Instant::now() + this.within);
        }
        this.dropped_parts = dropped_parts;
        let within = this.within;
        this.timer.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::sync::oneshot;

    /// Starts a stream that never ends by itself. Returns its state, and a channel that closes when the stream is
    /// dropped.
    fn stream(within: Duration) -> (Arc<ReadTracker>, oneshot::Receiver<()>) {
        let streams = StreamExecutor::new(within);
        let read_tracker = streams.begin();
        let (held, dropped) = oneshot::channel::<()>();
        streams.execute(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        (read_tracker, dropped)
    }

    fn part(read_tracker: &Arc<ReadTracker>) -> ResponsePart {
        ResponsePart::new(Bytes::from_static(b"part"), Some(read_tracker))
    }

    #[tokio::test]
    async fn a_stream_with_an_unread_response_is_closed_and_an_idle_stream_is_not() {
        let within = Duration::from_millis(20);
        let (idle, mut kept) = stream(within);
        drop(part(&idle));
        let (waiting, ended) = stream(within);
        let _held = part(&waiting);
        assert!(ended.await.is_err(), "dropped");
        assert_eq!(kept.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[tokio::test]
    async fn an_abandoned_stream_is_closed_immediately() {
        let (read_tracker, ended) = stream(Duration::from_hours(1));
        read_tracker.abort();
        assert!(ended.await.is_err(), "dropped");
    }
}
