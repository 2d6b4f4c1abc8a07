//! Ends calls whose response is not read.
//!
//! A caller that closes its HTTP/2 window, or reads nothing, keeps a response in memory for as long as the stream
//! exists. hyper does not poll a body that is not read, so the body cannot end itself. Instead, the task that hyper
//! runs for the stream is ended, which resets the stream and frees its memory. Other streams of the connection are not
//! affected.
//!
//! Even with a window of one byte, hyper passes a whole frame to h2, which buffers the rest until the window grows.
//! Each [`Part`] of a response therefore reports when h2 drops it: it was written to the socket, or the stream was
//! reset. A body does not end before that, and neither does the task of its stream.

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
pub struct Taking {
    /// Parts that were passed to hyper and are not dropped yet.
    parts: AtomicUsize,
    /// Incremented when a part is dropped.
    taken: AtomicU32,
    /// Set while the body waits for the last part to be dropped.
    ends: AtomicBool,
    given_up: AtomicBool,
    /// The caller may pause without a time limit.
    patient: AtomicBool,
    waker: AtomicWaker,
}

impl Taking {
    /// Whether a part waits for the caller.
    pub(crate) fn waits(&self) -> bool {
        self.parts.load(Ordering::SeqCst) > 0
    }

    /// Waits until all parts are dropped.
    pub(crate) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits() {
            self.waker.register(cx.waker());
            self.ends.store(true, Ordering::SeqCst);
            if self.waits() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    fn left(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if self.parts.fetch_sub(1, Ordering::SeqCst) == 1 && self.ends.load(Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Allows the caller to pause without a time limit.
    pub(crate) fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Ends the stream, since its response is not read.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A part of a response, on its way through hyper and h2 to the socket.
#[derive(Debug)]
pub struct Part {
    data: Bytes,
    /// Notified when the part is dropped.
    taking: Option<Arc<Taking>>,
}

impl Part {
    /// Counts the part as waiting, if `taking` is set. An empty part needs no window and is not counted.
    pub(crate) fn new(data: Bytes, taking: Option<&Arc<Taking>>) -> Self {
        let taking = taking.filter(|_| !data.is_empty()).cloned();
        if let Some(taking) = &taking {
            taking.parts.fetch_add(1, Ordering::SeqCst);
        }
        Self { data, taking }
    }
}

impl Part {
    /// Returns the bytes, to be sent in another form.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        std::mem::take(&mut self.data)
    }
}

impl Buf for Part {
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

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(taking) = &self.taking {
            taking.left();
        }
    }
}

/// Runs the streams of one connection, each with the [`Taking`] of its call.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    within: Duration,
    /// Hands the state of a call to its task, which hyper creates right after the call.
    next: Arc<Mutex<Option<Arc<Taking>>>>,
}

impl Streams {
    /// Creates an executor that ends streams whose caller reads nothing for `within`.
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, next: Arc::default() }
    }

    /// Begins a call, whose stream is the next stream that hyper runs.
    pub(crate) fn begin(&self) -> Arc<Taking> {
        let taking = Arc::<Taking>::default();
        *self.next.lock() = Some(Arc::clone(&taking));
        taking
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let taking = self.next.lock().take();
        let Some(taking) = taking else {
            super::own(stream);
            return;
        };
        super::own(Stream {
            running: Box::pin(stream),
            taking,
            within: self.within,
            timer: None,
            taken: 0,
        });
    }
}

/// The task of one stream.
struct Stream<F> {
    running: Pin<Box<F>>,
    taking: Arc<Taking>,
    within: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Value of `Taking::taken` at the last poll.
    taken: u32,
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.running.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        this.taking.waker.register(cx.waker());
        if this.taking.given_up.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !this.taking.waits() || this.taking.patient.load(Ordering::Relaxed) {
            this.timer = None;
            return Poll::Pending;
        }
        let taken = this.taking.taken.load(Ordering::Relaxed);
        if taken != this.taken
            && let Some(timer) = &mut this.timer
        {
            timer.as_mut().reset(Instant::now() + this.within);
        }
        this.taken = taken;
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
    fn stream(within: Duration) -> (Arc<Taking>, oneshot::Receiver<()>) {
        let streams = Streams::new(within);
        let taking = streams.begin();
        let (held, dropped) = oneshot::channel::<()>();
        streams.execute(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        (taking, dropped)
    }

    fn part(taking: &Arc<Taking>) -> Part {
        Part::new(Bytes::from_static(b"part"), Some(taking))
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
        let (taking, ended) = stream(Duration::from_hours(1));
        taking.give_up();
        assert!(ended.await.is_err(), "dropped");
    }
}
