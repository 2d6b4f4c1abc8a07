//! The task behind a response stream, and the stream that its reader gets.
//!
//! Invariants
//! - the call is answered after the first step of its handler, which determines what the stream follows; an error of
//!   that step is the status of the call;
//! - a stream that is cut short (deadline, loss of access, drain) ends with that status at once and drops its buffered
//!   messages; if the handler ends the stream, its status follows its messages, however slowly they are read;
//! - a stored intent is closed before the task ends, even if the response is not read;
//! - opening is never interrupted: a caller that hangs up meanwhile leaves no intent without an outcome;
//! - each step is in a box, which is freed when the step has ended: the task of an idle stream is small.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tonic::Status;

use super::call::close_audit_entry;
use super::streams::{OpenedStream, ResponseSink};
use crate::access::live::{EndReason, LiveStream};
use crate::access::policy::Rpc;
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::ctx::{Call, CallContext, Refusal};
use crate::db::turns::inherit_caller;
use crate::error::{Error, ResourceKind};
use crate::net::deadline;
use crate::role::Role;
use crate::status::to_status;

/// Number of messages that wait for a slow reader, per stream.
const STREAM_BUFFER: usize = 16;
/// Bytes of the messages that wait, per stream. A larger message waits alone.
pub(super) const BUFFER_BYTES: u32 = 128 << 10;
/// How long the status of a stream that is cut short may be delayed until its outcome is stored.
const CLOSE_TIME: Duration = Duration::from_millis(250);

/// A message that waits for its reader.
#[derive(Debug)]
pub(super) struct QueuedMessage<R> {
    pub(super) answer: R,
    /// The role needed to see the message and where it must be held, if they differ from those of the stream.
    pub(super) needs: Option<(RoleScope, Role)>,
    /// The share of the stream's buffer that the message uses, returned when the message is read.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// The messages of a stream, followed by its final status.
#[derive(Debug)]
pub struct ResponseMessages<R> {
    messages: mpsc::Receiver<QueuedMessage<R>>,
    /// Sent once, by the task.
    end: Option<oneshot::Receiver<StreamEnd>>,
    /// The status after the last message.
    last: Option<Status>,
    /// Checked for each message: a message that waited for a slow reader is not sent to a caller that has lost its
    /// access.
    right: Option<(Arc<App>, AccessCheck)>,
}

/// How a stream ends.
#[derive(Debug)]
enum StreamEnd {
    /// Immediately, with this status.
    Cut(Status),
    /// After its messages, with the result of the handler.
    Done(Option<Status>),
}

/// The reason for cutting a stream short.
#[derive(Debug, Clone, Copy)]
enum CutReason {
    AccessEnded(EndReason),
    DeadlineExceeded,
}

impl From<CutReason> for Error {
    fn from(cut: CutReason) -> Self {
        match cut {
            CutReason::AccessEnded(ended) => ended.into(),
            CutReason::DeadlineExceeded => deadline::deadline_exceeded(),
        }
    }
}

impl<R> ResponseMessages<R> {
    /// Returns why the caller has lost its access to the stream, or `None` if it has not.
    fn lost_access(&self) -> Option<EndReason> {
        let (app, access_check) = self.right.as_ref()?;
        access_check.check(&app.snapshot).err()
    }

    /// Returns whether the caller may see a message. It may have lost that access after the message was sent.
    fn can_see(&self, needs: Option<(RoleScope, Role)>) -> bool {
        let (Some((app, access_check)), Some((scope, min_role))) = (&self.right, needs) else {
            return true;
        };
        scope.current_role(&app.snapshot, access_check.caller().principal()) >= min_role
    }

    fn finish(&mut self, end: StreamEnd) {
        self.end = None;
        match end {
            StreamEnd::Done(last) => self.last = last,
            StreamEnd::Cut(status) => {
                self.messages.close();
                while self.messages.try_recv().is_ok() {}
                self.last = Some(status);
            }
        }
    }
}

impl<R> futures_util::Stream for ResponseMessages<R> {
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = self.end.as_mut()
            && let Poll::Ready(end) = Pin::new(end).poll(cx)
        {
            // The task was dropped without sending an end: the process is stopping.
            let gone = |_| StreamEnd::Cut(to_status(EndReason::Draining.into()));
            self.finish(end.unwrap_or_else(gone));
        }
        let message = loop {
            match ready!(self.messages.poll_recv(cx)) {
                Some(QueuedMessage { needs, .. }) if !self.can_see(needs) => {}
                message => break message,
            }
        };
        match message {
            Some(QueuedMessage { answer, .. }) => Poll::Ready(Some(match self.lost_access() {
                None => Ok(answer),
                Some(ended) => {
                    let why = to_status(ended.into());
                    self.finish(StreamEnd::Cut(why.clone()));
                    self.last = None;
                    Err(why)
                }
            })),
            // The task has dropped its sender and is about to send the end.
            None if self.end.is_some() => Poll::Pending,
            None => Poll::Ready(self.last.take().map(Err)),
        }
    }
}

/// Opens a stream, runs the first step of its handler, and spawns a task for the second step.
///
/// # Errors
/// Those of opening and of the first step.
pub(super) async fn start<M, S, R, P, Prepared, F, Followed>(
    app: &Arc<App>,
    opening: impl Future<Output = Result<OpenedStream<M>, Error>> + Send + 'static,
    prepare: P,
    follow: F,
) -> Result<ResponseMessages<R>, Error>
where
    M: Rpc,
    M::Context: CallContext,
    S: Send + 'static,
    R: Send + 'static,
    P: FnOnce(M::Context, M) -> Prepared + Send + 'static,
    Prepared: Future<Output = Result<S, Error>> + Send,
    F: FnOnce(S, ResponseSink<R>) -> Followed + Send + 'static,
    Followed: Future<Output = Result<(), Error>> + Send,
{
    let (mut begun, begins) = oneshot::channel();
    let (task_app, span) = (Arc::clone(app), tracing::Span::current());
    let opening = Box::pin(opening);
    let task = async move {
        let OpenedStream { call, message, context, access_check, live, refusal } =
            match opening.await {
                Ok(opened) => opened,
                Err(error) => return drop(begun.send(Err(error))),
            };
        let live = live.end_at_drain();
        let prepared = tokio::select! {
            biased;
            cut = wait_for_cut(&live, call.deadline) => Err(cut.into()),
            () = begun.closed() => Err(reader_disconnected()),
            prepared = catch_panic(Box::pin(prepare(context, message))) => prepared,
        };
        match prepared {
            Ok(state) => {
                let (feed, mut answers) = new_feed();
                answers.right = Some((Arc::clone(&task_app), access_check));
                drop(begun.send(Ok(answers)));
                feed.run(&task_app, &call, &live, |sink| follow(state, sink)).await;
            }
            Err(error) => {
                note_refusal(&call, refusal, &error);
                close_audit_entry(&task_app, &call, Some(&error)).await;
                drop(begun.send(Err(error)));
            }
        }
    };
    app.spawn(tracing::Instrument::instrument(inherit_caller(task), span));
    begins.await.map_err(Error::internal)?
}

/// The task's side of a stream.
struct StreamFeed<R> {
    messages: mpsc::Sender<QueuedMessage<R>>,
    end: oneshot::Sender<StreamEnd>,
}

fn new_feed<R>() -> (StreamFeed<R>, ResponseMessages<R>) {
    let (messages, receiver) = mpsc::channel(STREAM_BUFFER);
    let (end, ends) = oneshot::channel();
    (
        StreamFeed { messages, end },
        ResponseMessages { messages: receiver, end: Some(ends), last: None, right: None },
    )
}

impl<R> StreamFeed<R> {
    /// Runs the second step of a handler until it ends or the stream is cut short.
    async fn run<Followed>(
        self,
        app: &App,
        call: &Call,
        live: &LiveStream,
        follow: impl FnOnce(ResponseSink<R>) -> Followed,
    ) where
        Followed: Future<Output = Result<(), Error>> + Send,
    {
        let Self { messages, mut end } = self;
        let (within, read_tracker) = (app.config.limits.answer(), call.read_tracker.clone());
        let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
        let sink = ResponseSink { answers: messages, room, within, read_tracker };
        let done = tokio::select! {
            biased;
            cut = wait_for_cut(live, call.deadline) => Err(cut),
            () = end.closed() => Ok(Err(reader_disconnected())),
            done = catch_panic(Box::pin(follow(sink))) => Ok(done),
        };
        match done {
            Ok(done) => {
                close_audit_entry(app, call, done.as_ref().err()).await;
                drop(end.send(StreamEnd::Done(done.err().map(to_status))));
            }
            Err(cut) => {
                let why = Error::from(cut);
                let mut closing = std::pin::pin!(close_audit_entry(app, call, Some(&why)));
                let closed = timeout(CLOSE_TIME, closing.as_mut()).await.is_ok();
                drop(end.send(StreamEnd::Cut(to_status(cut.into()))));
                if !closed {
                    closing.await;
                }
            }
        }
    }
}

/// Notes a refusal of the first step for the audit log: the domain checked the exact scope and refused.
fn note_refusal(call: &Call, refusal: Refusal, error: &Error) {
    let mut note = call.note.lock();
    if note.entry.is_none()
        && let Error::Denied { .. } | Error::NotFound { kind: ResourceKind::Gateway, .. } = error
    {
        note.refusal = Some(refusal);
    }
}

/// Waits until the stream must be cut short.
async fn wait_for_cut(live: &LiveStream, deadline: Option<Instant>) -> CutReason {
    let ended = live.cancel_token();
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => CutReason::AccessEnded(live.end_reason().unwrap_or(EndReason::Stale)),
        () = late => CutReason::DeadlineExceeded,
    }
}

async fn catch_panic<T, F>(step: Pin<Box<F>>) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let caught = AssertUnwindSafe(step).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("a handler panicked")))
}

fn reader_disconnected() -> Error {
    Error::DeadlineExceeded { why: "the reader has disconnected".to_owned() }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn codes(answers: &mut ResponseMessages<u8>) -> Vec<Result<u8, tonic::Code>> {
        let mut seen = Vec::new();
        while let Some(Some(next)) = answers.next().now_or_never() {
            seen.push(next.map_err(|status| status.code()));
        }
        seen
    }

    #[tokio::test]
    async fn the_status_of_a_handler_follows_its_messages_and_a_forced_end_skips_them() {
        let refused = || to_status(deadline::deadline_exceeded());
        let late = Err(tonic::Code::DeadlineExceeded);
        for (end, expected) in [
            (StreamEnd::Done(None), vec![Ok(1), Ok(2)]),
            (StreamEnd::Done(Some(refused())), vec![Ok(1), Ok(2), late]),
            (StreamEnd::Cut(refused()), vec![late]),
        ] {
            let (StreamFeed { messages, end: says }, mut answers) = new_feed();
            for message in [1, 2] {
                messages
                    .send(QueuedMessage { answer: message, needs: None, _room: None })
                    .await
                    .unwrap();
            }
            drop(messages);
            says.send(end).unwrap();
            assert_eq!(codes(&mut answers), expected);
            assert!(answers.next().now_or_never().unwrap().is_none(), "it has ended");
        }
    }

    #[tokio::test]
    async fn a_stream_does_not_end_before_its_handler_reports_a_status() {
        let (StreamFeed { messages, end }, mut answers) = new_feed::<u8>();
        drop(messages);
        assert!(answers.next().now_or_never().is_none());
        drop(end);
        assert_eq!(codes(&mut answers), [Err(tonic::Code::Unavailable)]);
    }

    #[tokio::test]
    async fn large_responses_wait_for_buffer_space_and_small_responses_do_not() {
        let (StreamFeed { messages, end: _end }, mut answers) = new_feed::<Vec<u8>>();
        let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
        let within = Duration::from_hours(1);
        let sink = ResponseSink { answers: messages, room, within, read_tracker: None };
        let large = vec![0; 2 * BUFFER_BYTES as usize];
        sink.send(large.clone()).now_or_never().expect("it waits alone").unwrap();
        assert!(sink.send(vec![0; 1]).now_or_never().is_none(), "the buffer is full");
        assert_eq!(answers.next().now_or_never().unwrap().unwrap().unwrap(), large);
        for _ in 0..STREAM_BUFFER {
            sink.send(vec![0; 1]).now_or_never().expect("there is room").unwrap();
        }
    }
}
