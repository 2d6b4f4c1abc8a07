//! Calls that stream: answers ([`call_stream`]), a request ([`call_upload`]), or both ([`call_duplex`]).
//!
//! Invariants
//! - of a request that streams the first message alone names what the call is about, and it is checked before the
//!   second is read;
//! - a stream of answers is the receiver of a bounded channel, fed by a task that ends with its reader, with the
//!   caller's right to it, or when the server drains;
//! - an intent that was stored is closed when the stream has ended, with the bytes that have passed.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::call::{Reply, call_of, close, write};
use super::status::status;
use super::taking::Taking;
use crate::access::live::{Ended, LiveStream};
use crate::access::policy::{Audit, Rpc};
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::ctx::{self, Call, Grant};
use crate::error::{Error, Reason};

/// What a streaming handler answers: each message is checked when it is sent, so that none that waited for a slow reader
/// reaches a caller that has lost its right to it.
#[derive(Debug)]
pub struct Stream<R> {
    answers: ReceiverStream<Result<R, Status>>,
    app: Arc<App>,
    standing: Standing,
}

impl<R> futures_util::Stream for Stream<R> {
    type Item = Result<R, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let answer = ready!(Pin::new(&mut this.answers).poll_next(cx));
        if let Some(Ok(_)) = &answer
            && let Err(ended) = this.standing.check(&this.app.snapshot)
        {
            this.answers.close();
            return Poll::Ready(Some(Err(status(ended.into()))));
        }
        Poll::Ready(answer)
    }
}

/// Answers that wait for a slow reader, per stream.
const STREAM_BUFFER: usize = 16;
/// How long the next message of a request may take to arrive where nothing else is waited for.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Where a stream's answers go.
#[derive(Debug)]
pub struct Sink<R> {
    answers: mpsc::Sender<Result<R, Status>>,
    /// Time that the reader may take for one answer.
    within: Duration,
    taking: Option<Arc<Taking>>,
}

impl<R> Sink<R> {
    /// Sends one answer.
    ///
    /// # Errors
    /// `Late` if the reader is gone, or has taken nothing for `limits.answer_seconds`: its stream is reset then.
    pub async fn send(&self, answer: R) -> Result<(), Error> {
        match self.answers.send_timeout(Ok(answer), self.within).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Closed(_)) => {
                Err(Error::Late { why: "the reader is gone".to_owned() })
            }
            Err(SendTimeoutError::Timeout(_)) => {
                if let Some(taking) = &self.taking {
                    taking.give_up();
                }
                Err(Error::Late { why: "the reader takes no answers".to_owned() })
            }
        }
    }
}

/// The messages of a request after the first. They end with the caller's right to the call.
#[derive(Debug)]
pub struct Upload<M> {
    messages: Streaming<M>,
    app: Arc<App>,
    standing: Option<Standing>,
    live: Option<LiveStream>,
}

impl<M> Upload<M> {
    fn new(app: &Arc<App>, messages: Streaming<M>, standing: Option<Standing>) -> Self {
        let mut upload = Self { messages, app: Arc::clone(app), standing: None, live: None };
        upload.of(standing);
        upload
    }

    /// Registers the upload as a stream of a caller.
    fn of(&mut self, standing: Option<Standing>) {
        self.live = standing.clone().map(|standing| self.app.live.enter_as(standing));
        self.standing = standing;
    }

    /// Returns the next message, whenever it comes, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        let ended = self.live.as_ref().map(LiveStream::ended);
        let revoked = async {
            match &ended {
                Some(ended) => ended.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = self.messages.message() => message.map_err(|_| broken_off())?,
            () = revoked => {
                let why = self.live.as_ref().and_then(LiveStream::why);
                return Err(why.unwrap_or(Ended::Stale).into());
            }
        };
        self.check()?;
        Ok(message)
    }

    /// Checks the caller as it is now: what has arrived is acted upon next.
    fn check(&self) -> Result<(), Error> {
        let standing = self.standing.as_ref();
        standing.map_or(Ok(()), |standing| standing.check(&self.app.snapshot).map_err(Into::into))
    }

    /// The next one, which must come soon; none at the end.
    pub async fn next_soon(&mut self) -> Result<Option<M>, Error> {
        let late = |_| Error::Late { why: "the request has not arrived in time".to_owned() };
        timeout(MESSAGE_TIME, self.next()).await.map_err(late)?
    }
}

fn broken_off() -> Error {
    Error::refused(Reason::MalformedMessage, "the request broke off, or can't be decoded")
}

async fn first<M: Rpc>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
) -> Result<(Call, M, Upload<M>), Error> {
    let (call, stream) = call_of(request)?;
    // The place is known with the first message; until then the caller must hold the role somewhere.
    let caller = call.caller.clone();
    let standing = caller.map(|caller| Standing::new(caller, Place::Anywhere, M::METHOD.least()));
    let mut rest = Upload::new(app, stream, standing);
    let first = rest.next_soon().await?;
    let none = || Error::refused(Reason::MalformedMessage, "the request has no message");
    Ok((call, first.ok_or_else(none)?, rest))
}

/// A write whose request streams: like [`call_write`](super::call::call_write), with the messages that follow.
pub async fn call_upload<M, R, F, Fut>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
    f: F,
) -> Reply<R>
where
    M: Rpc,
    M::Grant: Grant,
    R: Message + Default + 'static,
    F: FnOnce(M::Grant, M, Upload<M>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, Error>> + Send,
{
    let (call, message, mut rest) = first(app, request).await.map_err(status)?;
    rest.of(ctx::authorize(app, call.clone(), &message).map_err(status)?.standing());
    let (task_app, span) = (Arc::clone(app), tracing::Span::current());
    let task =
        app.spawn(tracing::Instrument::instrument(
            async move {
                write(&task_app, call, message, |grant, message| f(grant, message, rest)).await
            },
            span,
        ));
    match task.await {
        Ok(answer) => answer.map(Response::new).map_err(status),
        Err(gone) => Err(status(Error::internal(gone))),
    }
}

/// A server stream: checked once, then fed by a task until it ends, the reader goes, the caller loses the right to it
/// or the server drains.
pub async fn call_stream<M, R, F, Fut>(
    app: &Arc<App>,
    request: Request<M>,
    f: F,
) -> Reply<Stream<R>>
where
    M: Rpc,
    M::Grant: Grant,
    R: Send + 'static,
    F: FnOnce(M::Grant, M, Sink<R>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let (call, message) = call_of(request).map_err(status)?;
    let opened = open(app, call, message).await.map_err(status)?;
    Ok(feed(app, opened, f))
}

/// Both directions stream. The first message names what the call is about and is checked before another is read.
pub async fn call_duplex<M, R, F, Fut>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
    f: F,
) -> Reply<Stream<R>>
where
    M: Rpc,
    M::Grant: Grant,
    R: Send + 'static,
    F: FnOnce(M::Grant, M, Upload<M>, Sink<R>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let (call, message, mut rest) = first(app, request).await.map_err(status)?;
    let opened = open(app, call, message).await.map_err(status)?;
    rest.of(Some(opened.standing.clone()));
    Ok(feed(app, opened, |grant, message, sink| f(grant, message, rest, sink)))
}

/// A stream that was let through, its intent stored where one is due.
struct Opened<M: Rpc> {
    call: Call,
    message: M,
    grant: M::Grant,
    standing: Standing,
    live: LiveStream,
}

async fn open<M>(app: &Arc<App>, call: Call, message: M) -> Result<Opened<M>, Error>
where
    M: Rpc,
    M::Grant: Grant,
{
    let granted = ctx::authorize(app, call.clone(), &message)?;
    let unknown = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let standing = granted.standing().ok_or_else(unknown)?;
    let live = app.live.enter_as(standing.clone());
    let write = M::METHOD.audit == Audit::Write;
    let digest = if write { app.digest(M::METHOD.request, &message.encode_to_vec()) } else { None };
    match M::Grant::grant(granted, digest, write).await {
        Ok(grant) => Ok(Opened { call, message, grant, standing, live }),
        Err(error) => {
            // The intent may be stored already.
            close(app, &call, Some(&error)).await;
            Err(error)
        }
    }
}

fn feed<M, R, F, Fut>(app: &Arc<App>, opened: Opened<M>, f: F) -> Response<Stream<R>>
where
    M: Rpc,
    M::Grant: Grant,
    R: Send + 'static,
    F: FnOnce(M::Grant, M, Sink<R>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let Opened { call, message, grant, standing, live } = opened;
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    let gone = sender.clone();
    let (within, taking) = (app.config.limits.answer(), call.taking.clone());
    let sink = Sink { answers: sender, within, taking };
    let task_app = Arc::clone(app);
    app.spawn(async move {
        let ended = live.ended();
        let hung_up = || Error::Late { why: "the reader is gone".to_owned() };
        let error = tokio::select! {
            answer = AssertUnwindSafe(f(grant, message, sink)).catch_unwind() => {
                answer.unwrap_or_else(|_| Err(Error::internal("a handler panicked"))).err()
            }
            () = gone.closed() => Some(hung_up()),
            () = ended.cancelled() => live.why().map(Error::from),
        };
        close(&task_app, &call, error.as_ref()).await;
        if let Some(error) = error.filter(|_| !gone.is_closed()) {
            // Waits for a slow reader no longer than this: its right to the stream is gone.
            let _ = timeout(Duration::from_secs(1), gone.send(Err(status(error)))).await;
        }
    });
    let answers = ReceiverStream::new(receiver);
    Response::new(Stream { answers, app: Arc::clone(app), standing })
}
