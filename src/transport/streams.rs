//! Calls that stream: answers ([`call_stream`]), a request ([`call_upload`]), or both ([`call_duplex`]).
//!
//! Invariants
//! - of a request that streams the first message alone names what the call is about, and it is checked before the
//!   second is read;
//! - a stream of answers is the receiver of a bounded channel, fed by a task that ends with its reader, with the
//!   caller's right to it, or when the server drains;
//! - an intent that was stored is closed when the stream has ended, with the bytes that have passed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::call::{Reply, call_of, close, write};
use super::status::{of_the_wire, status};
use crate::access::live::LiveStream;
use crate::access::policy::{Access, Audit, Rpc};
use crate::access::roles::Role;
use crate::app::App;
use crate::ctx::{self, Call, Grant, Granted};
use crate::error::{Error, Reason};

/// What a streaming handler answers.
pub type Stream<R> = ReceiverStream<Result<R, Status>>;

/// Answers that wait for a slow reader, per stream.
const STREAM_BUFFER: usize = 16;
/// How long the next message of a request may take to arrive where nothing else is waited for.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Where a stream's answers go.
#[derive(Debug)]
pub struct Sink<R>(mpsc::Sender<Result<R, Status>>);

impl<R> Sink<R> {
    /// Sends one answer; an error where nobody reads any more.
    pub async fn send(&self, answer: R) -> Result<(), Error> {
        let gone = |_| Error::Late { why: "the reader is gone".to_owned() };
        self.0.send(Ok(answer)).await.map_err(gone)
    }
}

/// The messages of a request after the first.
#[derive(Debug)]
pub struct Upload<M>(Streaming<M>);

impl<M> Upload<M> {
    /// The next one, whenever it comes; none at the end.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        self.0.message().await.map_err(|status| of_the_wire(&status).unwrap_or_else(broken_off))
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

async fn first<M>(request: Request<Streaming<M>>) -> Result<(Call, M, Upload<M>), Error> {
    let (call, stream) = call_of(request)?;
    let mut rest = Upload(stream);
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
    let (call, message, rest) = first(request).await.map_err(status)?;
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
    let (call, message, rest) = first(request).await.map_err(status)?;
    let opened = open(app, call, message).await.map_err(status)?;
    Ok(feed(app, opened, |grant, message, sink| f(grant, message, rest, sink)))
}

/// A stream that was let through, its intent stored where one is due.
struct Opened<M: Rpc> {
    call: Call,
    message: M,
    grant: M::Grant,
    live: LiveStream,
}

async fn open<M>(app: &Arc<App>, call: Call, message: M) -> Result<Opened<M>, Error>
where
    M: Rpc,
    M::Grant: Grant,
{
    let granted = ctx::authorize(app, call.clone(), &message)?;
    let live = register(app, &granted, M::METHOD.access)?;
    let write = M::METHOD.audit == Audit::Write;
    let digest = if write { app.digest(M::METHOD.request, &message.encode_to_vec()) } else { None };
    let grant = M::Grant::grant(granted, digest, write).await?;
    Ok(Opened { call, message, grant, live })
}

fn register(app: &Arc<App>, granted: &Granted, access: Access) -> Result<LiveStream, Error> {
    let least = match access {
        Access::Role(role) => role,
        Access::Public | Access::Authenticated => Role::None,
    };
    let on = granted.on().map(|(id, _)| *id);
    let caller = granted.caller().cloned();
    let caller = caller.ok_or(Error::Unauthenticated { reason: Reason::CredentialMissing })?;
    Ok(app.live.enter(caller, on, least))
}

fn feed<M, R, F, Fut>(app: &Arc<App>, opened: Opened<M>, f: F) -> Response<Stream<R>>
where
    M: Rpc,
    M::Grant: Grant,
    R: Send + 'static,
    F: FnOnce(M::Grant, M, Sink<R>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let Opened { call, message, grant, live } = opened;
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    let gone = sender.clone();
    let task_app = Arc::clone(app);
    app.spawn(async move {
        let ended = live.ended();
        let hung_up = || Error::Late { why: "the reader is gone".to_owned() };
        let error = tokio::select! {
            answer = AssertUnwindSafe(f(grant, message, Sink(sender))).catch_unwind() => {
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
    Response::new(ReceiverStream::new(receiver))
}
