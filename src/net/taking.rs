//! Ends calls whose answer is not taken.
//!
//! A caller that closes its HTTP/2 window, or reads nothing, leaves an answer in memory for as long as the stream lives.
//! hyper does not poll a body that nobody takes, so the body itself cannot end: what ends is the task that hyper runs for
//! the stream, which resets the stream and frees what it holds. The other streams of the connection do not notice.
//!
//! A window of one byte is enough for hyper to give a whole frame to h2, which keeps the rest until the window grows. So
//! each [`Part`] of an answer tells when h2 drops it: it was written to the socket, or the stream was reset. A body does
//! not end before that, and neither does the task of its stream.

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

/// Bytes of one answer that wait for the socket in h2, where the window of the caller is larger.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Whether the answer of one call is being taken.
#[derive(Debug, Default)]
pub struct Taking {
    /// Parts that were given to hyper and have not left.
    parts: AtomicUsize,
    /// Moves whenever a part leaves.
    taken: AtomicU32,
    /// The body waits for the last part to leave.
    ends: AtomicBool,
    given_up: AtomicBool,
    /// The caller may pause for as long as it likes.
    patient: AtomicBool,
    waker: AtomicWaker,
}

impl Taking {
    /// Whether a part waits for the caller.
    pub(crate) fn waits(&self) -> bool {
        self.parts.load(Ordering::SeqCst) > 0
    }

    /// Waits until every part has left.
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

    /// Lets the caller pause for as long as it likes.
    pub(crate) fn be_patient(&self) {
        self.patient.store(true, Ordering::Relaxed);
    }

    /// Ends the stream: nobody reads its answers.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A part of an answer, on its way through hyper and h2 to the socket.
#[derive(Debug)]
pub struct Part {
    data: Bytes,
    /// Told when the part is dropped.
    taking: Option<Arc<Taking>>,
}

impl Part {
    /// Counts the part as one that waits, if somebody wants to know; an empty one needs no window.
    pub(crate) fn new(data: Bytes, taking: Option<&Arc<Taking>>) -> Self {
        let taking = taking.filter(|_| !data.is_empty()).cloned();
        if let Some(taking) = &taking {
            taking.parts.fetch_add(1, Ordering::SeqCst);
        }
        Self { data, taking }
    }
}

impl Part {
    /// Returns the bytes of a part that goes on in another form.
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

/// Runs the streams of one connection, each with what its call tells of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    within: Duration,
    /// Between the call and its task, which hyper makes right after each other.
    next: Arc<Mutex<Option<Arc<Taking>>>>,
}

impl Streams {
    /// Ends streams whose caller takes nothing for `within`.
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, next: Arc::default() }
    }

    /// Begins a call, whose stream is the next one that hyper runs.
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
    /// What was taken when the timer was set.
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

    /// Starts a stream that never ends by itself; returns its state, and what is closed when the stream is dropped.
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
    async fn a_stream_whose_answer_is_not_taken_ends_and_an_idle_one_does_not() {
        let within = Duration::from_millis(20);
        let (idle, mut kept) = stream(within);
        drop(part(&idle));
        let (waiting, ended) = stream(within);
        let _held = part(&waiting);
        assert!(ended.await.is_err(), "dropped");
        assert_eq!(kept.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[tokio::test]
    async fn a_stream_that_is_given_up_ends_at_once() {
        let (taking, ended) = stream(Duration::from_hours(1));
        taking.give_up();
        assert!(ended.await.is_err(), "dropped");
    }
}
