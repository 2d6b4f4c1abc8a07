//! The task behind a response stream, and the stream that its reader gets.
//!
//! Invariants
//! - the call is answered after the first step of its handler, which determines what the stream follows; an error of
//!   that step is the status of the call;
//! - a stream that is cut short (deadline, loss of access, drain) ends with that status at once and drops its buffered
//!   messages; if the handler ends the stream, its status follows its messages, however slowly they are read;
//! - a stored intent is closed before the task ends, even if the response is not read;
//! - opening is never interrupted: a caller that hangs up meanwhile leaves no intent without an outcome.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep_until, timeout};
use tonic::Status;

use super::call::close;
use super::streams::{Opened, Sink};
use crate::access::live::{Ended, LiveStream};
use crate::access::policy::Rpc;
use crate::access::standing::Standing;
use crate::app::App;
use crate::ctx::{Call, Grant, Refusal};
use crate::db::turns::inherited;
use crate::db::types::GatewayId;
use crate::error::{Error, Kind};
use crate::net::deadline;
use crate::role::Role;
use crate::status::status;

/// Number of messages that wait for a slow reader, per stream.
const STREAM_BUFFER: usize = 16;
/// Bytes of the messages that wait, per stream. A larger message waits alone.
pub(super) const BUFFER_BYTES: u32 = 128 << 10;
/// How long the status of a stream that is cut short may be delayed until its outcome is stored.
const CLOSE_TIME: Duration = Duration::from_millis(250);

/// A message that waits for its reader.
#[derive(Debug)]
pub(super) struct Message<R> {
    pub(super) answer: R,
    /// The gateway and role needed to see the message, if they differ from those of the stream.
    pub(super) needs: Option<(GatewayId, Role)>,
    /// The share of the stream's buffer that the message uses, returned when the message is read.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// The messages of a stream, followed by its final status.
#[derive(Debug)]
pub struct Answers<R> {
    messages: mpsc::Receiver<Message<R>>,
    /// Sent once, by the task.
    end: Option<oneshot::Receiver<End>>,
    /// The status after the last message.
    last: Option<Status>,
    /// Checked for each message: a message that waited for a slow reader is not sent to a caller that has lost its
    /// access.
    right: Option<(Arc<App>, Standing)>,
}

/// How a stream ends.
#[derive(Debug)]
enum End {
    /// Immediately, with this status.
    Cut(Status),
    /// After its messages, with the result of the handler.
    Done(Option<Status>),
}

/// The reason for cutting a stream short.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Ended(Ended),
    Late,
}

impl From<Cut> for Error {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Ended(ended) => ended.into(),
            Cut::Late => deadline::late(),
        }
    }
}

impl<R> Answers<R> {
    /// Returns why the caller has lost its access to the stream, or `None` if it has not.
    fn lost(&self) -> Option<Ended> {
        let (app, standing) = self.right.as_ref()?;
        standing.check(&app.snapshot).err()
    }

    /// Returns whether the caller may see a message about a gateway. It may have lost that access after the message was
    /// sent.
    fn sees(&self, needs: Option<(GatewayId, Role)>) -> bool {
        let (Some((app, standing)), Some((gateway, least))) = (&self.right, needs) else {
            return true;
        };
        app.snapshot.role_on(standing.caller().principal(), gateway) >= least
    }

    fn end(&mut self, end: End) {
        self.end = None;
        match end {
            End::Done(last) => self.last = last,
            End::Cut(status) => {
                self.messages.close();
                while self.messages.try_recv().is_ok() {}
                self.last = Some(status);
            }
        }
    }
}

impl<R> futures_util::Stream for Answers<R> {
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(end) = self.end.as_mut()
            && let Poll::Ready(end) = Pin::new(end).poll(cx)
        {
            // The task was dropped without sending an end: the process is stopping.
            let gone = |_| End::Cut(status(Ended::Draining.into()));
            self.end(end.unwrap_or_else(gone));
        }
        let message = loop {
            match ready!(self.messages.poll_recv(cx)) {
                Some(Message { needs, .. }) if !self.sees(needs) => {}
                message => break message,
            }
        };
        match message {
            Some(Message { answer, .. }) => Poll::Ready(Some(match self.lost() {
                None => Ok(answer),
                Some(ended) => {
                    let why = status(ended.into());
                    self.end(End::Cut(why.clone()));
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
    opening: impl Future<Output = Result<Opened<M>, Error>> + Send + 'static,
    prepare: P,
    follow: F,
) -> Result<Answers<R>, Error>
where
    M: Rpc,
    M::Grant: Grant,
    S: Send + 'static,
    R: Send + 'static,
    P: FnOnce(M::Grant, M) -> Prepared + Send + 'static,
    Prepared: Future<Output = Result<S, Error>> + Send,
    F: FnOnce(S, Sink<R>) -> Followed + Send + 'static,
    Followed: Future<Output = Result<(), Error>> + Send,
{
    let (mut begun, begins) = oneshot::channel();
    let (task_app, span) = (Arc::clone(app), tracing::Span::current());
    let task = async move {
        let Opened { call, message, grant, standing, live, refusal } = match opening.await {
            Ok(opened) => opened,
            Err(error) => return drop(begun.send(Err(error))),
        };
        let live = live.ending_at_drain();
        let prepared = tokio::select! {
            biased;
            cut = cut(&live, call.deadline) => Err(cut.into()),
            () = begun.closed() => Err(hung_up()),
            prepared = caught(prepare(grant, message)) => prepared,
        };
        match prepared {
            Ok(state) => {
                let (feed, mut answers) = feed();
                answers.right = Some((Arc::clone(&task_app), standing));
                drop(begun.send(Ok(answers)));
                feed.run(&task_app, &call, &live, |sink| follow(state, sink)).await;
            }
            Err(error) => {
                note(&call, refusal, &error);
                close(&task_app, &call, Some(&error)).await;
                drop(begun.send(Err(error)));
            }
        }
    };
    app.spawn(tracing::Instrument::instrument(inherited(task), span));
    begins.await.map_err(Error::internal)?
}

/// The task's side of a stream.
struct Feed<R> {
    messages: mpsc::Sender<Message<R>>,
    end: oneshot::Sender<End>,
}

fn feed<R>() -> (Feed<R>, Answers<R>) {
    let (messages, receiver) = mpsc::channel(STREAM_BUFFER);
    let (end, ends) = oneshot::channel();
    (
        Feed { messages, end },
        Answers { messages: receiver, end: Some(ends), last: None, right: None },
    )
}

impl<R> Feed<R> {
    /// Runs the second step of a handler until it ends or the stream is cut short.
    async fn run<Followed>(
        self,
        app: &App,
        call: &Call,
        live: &LiveStream,
        follow: impl FnOnce(Sink<R>) -> Followed,
    ) where
        Followed: Future<Output = Result<(), Error>> + Send,
    {
        let Self { messages, mut end } = self;
        let (within, taking) = (app.config.limits.answer(), call.taking.clone());
        let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
        let sink = Sink { answers: messages, room, within, taking };
        let done = tokio::select! {
            biased;
            cut = cut(live, call.deadline) => Err(cut),
            () = end.closed() => Ok(Err(hung_up())),
            done = caught(follow(sink)) => Ok(done),
        };
        match done {
            Ok(done) => {
                close(app, call, done.as_ref().err()).await;
                drop(end.send(End::Done(done.err().map(status))));
            }
            Err(cut) => {
                let why = Error::from(cut);
                let mut closing = std::pin::pin!(close(app, call, Some(&why)));
                let closed = timeout(CLOSE_TIME, closing.as_mut()).await.is_ok();
                drop(end.send(End::Cut(status(cut.into()))));
                if !closed {
                    closing.await;
                }
            }
        }
    }
}

/// Notes a refusal of the first step for the audit log: the domain checked the exact scope and refused.
fn note(call: &Call, refusal: Refusal, error: &Error) {
    let mut note = call.note.lock();
    if note.entry.is_none()
        && let Error::Denied { .. } | Error::Missing { kind: Kind::Gateway, .. } = error
    {
        note.refused = Some(refusal);
    }
}

/// Waits until the stream must be cut short.
async fn cut(live: &LiveStream, deadline: Option<Instant>) -> Cut {
    let ended = live.ended();
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => Cut::Ended(live.why().unwrap_or(Ended::Stale)),
        () = late => Cut::Late,
    }
}

async fn caught<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let caught = AssertUnwindSafe(step).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("a handler panicked")))
}

fn hung_up() -> Error {
    Error::Late { why: "the reader has disconnected".to_owned() }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn codes(answers: &mut Answers<u8>) -> Vec<Result<u8, tonic::Code>> {
        let mut seen = Vec::new();
        while let Some(Some(next)) = answers.next().now_or_never() {
            seen.push(next.map_err(|status| status.code()));
        }
        seen
    }

    #[tokio::test]
    async fn the_status_of_a_handler_follows_its_messages_and_a_forced_end_skips_them() {
        let refused = || status(deadline::late());
        let late = Err(tonic::Code::DeadlineExceeded);
        for (end, expected) in [
            (End::Done(None), vec![Ok(1), Ok(2)]),
            (End::Done(Some(refused())), vec![Ok(1), Ok(2), late]),
            (End::Cut(refused()), vec![late]),
        ] {
            let (Feed { messages, end: says }, mut answers) = feed();
            for message in [1, 2] {
                messages.send(Message { answer: message, needs: None, _room: None }).await.unwrap();
            }
            drop(messages);
            says.send(end).unwrap();
            assert_eq!(codes(&mut answers), expected);
            assert!(answers.next().now_or_never().unwrap().is_none(), "it has ended");
        }
    }

    #[tokio::test]
    async fn a_stream_does_not_end_before_its_handler_reports_a_status() {
        let (Feed { messages, end }, mut answers) = feed::<u8>();
        drop(messages);
        assert!(answers.next().now_or_never().is_none());
        drop(end);
        assert_eq!(codes(&mut answers), [Err(tonic::Code::Unavailable)]);
    }

    #[tokio::test]
    async fn large_responses_wait_for_buffer_space_and_small_responses_do_not() {
        let (Feed { messages, end: _end }, mut answers) = feed::<Vec<u8>>();
        let room = Arc::new(Semaphore::new(BUFFER_BYTES as usize));
        let within = Duration::from_hours(1);
        let sink = Sink { answers: messages, room, within, taking: None };
        let large = vec![0; 2 * BUFFER_BYTES as usize];
        sink.send(large.clone()).now_or_never().expect("it waits alone").unwrap();
        assert!(sink.send(vec![0; 1]).now_or_never().is_none(), "there is no room beside it");
        assert_eq!(answers.next().now_or_never().unwrap().unwrap().unwrap(), large);
        for _ in 0..STREAM_BUFFER {
            sink.send(vec![0; 1]).now_or_never().expect("there is room").unwrap();
        }
    }
}
