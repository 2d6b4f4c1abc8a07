//! Calls that stream: answers ([`call_stream`]), a request ([`call_upload`]), or both ([`call_duplex`]).
//!
//! Invariants
//! - of a request that streams the first message alone names what the call is about, and it is checked before the
//!   second is read;
//! - a handler that streams its answers has two steps: the first gets the request and fixes what is followed, and the
//!   call is answered after it; the second gets what the first has returned, and nothing else;
//! - a stream of answers is fed by a task that ends with its reader, with the caller's right to it, at the deadline of
//!   the call, or when the server drains;
//! - an intent that was stored is closed when the stream has ended, with the bytes that have passed.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use super::call::{Reply, call_of, write};
use super::feed;
use super::status::status;
use crate::access::live::LiveStream;
use crate::access::policy::{Access, Audit, Rpc};
use crate::access::roles::Role;
use crate::app::App;
use crate::ctx::{self, Call, Grant, Granted, Refusal};
use crate::error::{Error, Reason};

/// What a streaming handler answers.
pub type Stream<R> = feed::Answers<R>;

/// How long the next message of a request may take to arrive where nothing else is waited for.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Where a stream's answers go.
#[derive(Debug)]
pub struct Sink<R>(pub(super) mpsc::Sender<Result<R, Status>>);

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
        self.0.message().await.map_err(|_| broken_off())
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

/// A server stream: checked once, then fed by a task until it ends, the reader goes, the caller loses the right to it,
/// its deadline passes or the server drains.
///
/// `prepare` runs before the call is answered: it fixes the position that is read from, so that what happens after the
/// answer's headers is part of the stream. `follow` gets what `prepare` has returned, and neither request nor grant.
pub async fn call_stream<M, S, R, P, Prepared, F, Followed>(
    app: &Arc<App>,
    request: Request<M>,
    prepare: P,
    follow: F,
) -> Reply<Stream<R>>
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
    let (call, message) = call_of(request).map_err(status)?;
    let opening = opening(app, call, message);
    feed::start(app, opening, prepare, follow).await.map(Response::new).map_err(status)
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
    let opening = opening(app, call, message);
    let prepare = async move |grant, message| Ok((grant, message, rest));
    let follow = |(grant, message, rest), sink| f(grant, message, rest, sink);
    feed::start(app, opening, prepare, follow).await.map(Response::new).map_err(status)
}

/// A stream that was let through, its intent stored where one is due.
pub(super) struct Opened<M: Rpc> {
    pub(super) call: Call,
    pub(super) message: M,
    pub(super) grant: M::Grant,
    pub(super) live: LiveStream,
    /// What the audit log is to hold of it where the handler refuses it.
    pub(super) refusal: Refusal,
}

fn opening<M>(
    app: &Arc<App>,
    call: Call,
    message: M,
) -> impl Future<Output = Result<Opened<M>, Error>> + Send + use<M>
where
    M: Rpc,
    M::Grant: Grant,
{
    let app = Arc::clone(app);
    async move { open(&app, call, message).await }
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
    let refusal = granted.refusal();
    let grant = M::Grant::grant(granted, digest, write).await?;
    Ok(Opened { call, message, grant, live, refusal })
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
