//! Streaming calls: a response stream ([`call_stream`]), a request stream ([`call_upload`]), or both ([`call_duplex`]).
//!
//! Invariants
//! - only the first message of a request stream names the target of the call, and it is checked before the second
//!   message is read;
//! - a handler with a response stream has two steps: the first gets the request and determines what is followed, and
//!   the call is answered after it; the second gets only what the first returned;
//! - a response stream is fed by a task that ends when the reader hangs up, when the caller loses its access, at the
//!   deadline of the call, or when the server drains;
//! - the audit entry is closed when the stream has ended, with the number of bytes that were transferred.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::{Reply, call_of, close, write};
use super::feed;
use crate::access::live::{Ended, LiveStream};
use crate::access::policy::{Audit, Rpc};
use crate::access::standing::{Place, Standing};
use crate::app::App;
use crate::ctx::{self, Call, Grant, Refusal};
use crate::db::turns::inherited;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::fair::too_many_bytes;
use crate::net::deadline;
use crate::net::taking::Taking;
use crate::role::Role;
use crate::status::{of_the_wire, status};

/// The response stream of a handler.
pub type Stream<R> = feed::Answers<R>;

/// How long the next message of a request may take, unless the handler also waits for something else.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Sends the messages of a response stream.
#[derive(Debug)]
pub struct Sink<R> {
    pub(super) answers: mpsc::Sender<feed::Message<R>>,
    /// Bytes that may still wait for the reader.
    pub(super) room: Arc<Semaphore>,
    /// How long the reader may take for one message.
    pub(super) within: Duration,
    pub(super) taking: Option<Arc<Taking>>,
}

impl<R: Message> Sink<R> {
    /// Sends one message.
    ///
    /// # Errors
    /// `Late` if the reader has hung up, or has not read anything for `limits.answer_seconds`; its stream is reset in
    /// that case.
    pub async fn send(&self, answer: R) -> Result<(), Error> {
        self.send_of(None, answer).await
    }

    /// Sends one message. It is dropped if the caller no longer has this role on this gateway when the message is about
    /// to be sent.
    ///
    /// # Errors
    /// Those of [`Sink::send`].
    pub async fn send_of(&self, needs: Option<(GatewayId, Role)>, answer: R) -> Result<(), Error> {
        match timeout(self.within, self.enqueue(needs, answer)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Late { why: "the reader has disconnected".to_owned() }),
            Err(_) => {
                if let Some(taking) = &self.taking {
                    taking.give_up();
                }
                let why =
                    "the response was not read for `limits.answer_seconds`: the stream was ended";
                Err(Error::Late { why: why.to_owned() })
            }
        }
    }

    /// Waits until there is room for a message. Returns `false` if the reader has hung up.
    async fn enqueue(&self, needs: Option<(GatewayId, Role)>, answer: R) -> bool {
        let bytes = u32::try_from(answer.encoded_len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.min(feed::BUFFER_BYTES));
        let room = tokio::select! {
            biased;
            room = room => room.ok(),
            () = self.answers.closed() => return false,
        };
        self.answers.send(feed::Message { answer, needs, _room: room }).await.is_ok()
    }
}

/// The messages of a request after the first. They end with an error when the caller loses its access.
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

    /// Returns the next message, without a time limit, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        let ended = self.live.as_ref().map(LiveStream::ended);
        let revoked = async {
            match &ended {
                Some(ended) => ended.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = self.messages.message() => message.map_err(|status| fault(&status))?,
            () = revoked => {
                let why = self.live.as_ref().and_then(LiveStream::why);
                return Err(why.unwrap_or(Ended::Stale).into());
            }
        };
        self.check()?;
        Ok(message)
    }

    /// Checks the current access of the caller before the message is handled.
    fn check(&self) -> Result<(), Error> {
        let standing = self.standing.as_ref();
        standing.map_or(Ok(()), |standing| standing.check(&self.app.snapshot).map_err(Into::into))
    }

    /// Returns the next message, which must arrive within 30 seconds, or `None` at the end.
    pub async fn next_soon(&mut self) -> Result<Option<M>, Error> {
        let late = |_| deadline::late_request();
        timeout(MESSAGE_TIME, self.next()).await.map_err(late)?
    }
}

/// Converts the status of a message that could not be read: a Shoreguard error if the body was refused, otherwise a
/// decoding error.
fn fault(status: &Status) -> Error {
    let ours = !status.details().is_empty();
    if ours && status.code() == Code::DeadlineExceeded {
        return Error::Late { why: status.message().to_owned() };
    }
    if ours && status.code() == Code::ResourceExhausted {
        return too_many_bytes();
    }
    of_the_wire(status).unwrap_or_else(broken_off)
}

fn broken_off() -> Error {
    Error::refused(Reason::MalformedMessage, "the request ended early or cannot be decoded")
}

async fn first<M: Rpc>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
) -> Result<(Call, M, Upload<M>), Error> {
    let (call, stream) = call_of(request)?;
    // The first message names the scope; until then the caller must hold the role on at least one gateway.
    let caller = call.caller.clone();
    let standing = caller.map(|caller| Standing::new(caller, Place::Anywhere, M::METHOD.least()));
    let mut rest = Upload::new(app, stream, standing);
    let first = rest.next_soon().await?;
    let none = || Error::refused(Reason::MalformedMessage, "the request has no message");
    Ok((call, first.ok_or_else(none)?, rest))
}

/// Runs a write whose request is a stream: like [`call_write`](super::call::call_write), with the messages that follow.
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
    let work = async move {
        write(&task_app, call, message, |grant, message| f(grant, message, rest)).await
    };
    let task = app.spawn(tracing::Instrument::instrument(inherited(work), span));
    match task.await {
        Ok(answer) => answer.map(Response::new).map_err(status),
        Err(gone) => Err(status(Error::internal(gone))),
    }
}

/// Runs a response stream: checks the caller once, then spawns a task that feeds the stream until it ends, the reader
/// hangs up, the caller loses its access, the deadline passes or the server drains.
///
/// `prepare` runs before the call is answered and determines the start position, so that the stream includes everything
/// that happens after the response headers. `follow` gets only what `prepare` returned, neither request nor grant.
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

/// Runs a call with streams in both directions. The first message names the target and is checked before the next one
/// is read.
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
    rest.of(ctx::authorize(app, call.clone(), &message).map_err(status)?.standing());
    let opening = opening(app, call, message);
    let prepare = async move |grant, message| Ok((grant, message, rest));
    let follow = |(grant, message, rest), sink| f(grant, message, rest, sink);
    feed::start(app, opening, prepare, follow).await.map(Response::new).map_err(status)
}

/// A stream that passed the check. Its intent is stored if the method is a write.
pub(super) struct Opened<M: Rpc> {
    pub(super) call: Call,
    pub(super) message: M,
    pub(super) grant: M::Grant,
    pub(super) standing: Standing,
    pub(super) live: LiveStream,
    /// The audit entry to write if the handler refuses the call.
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
    let write = M::METHOD.audit == Audit::Write;
    // The stream closes its own audit entry.
    if write && !call.note.lock().begin() {
        return Err(deadline::late());
    }
    let granted = ctx::authorize(app, call.clone(), &message)?;
    let unknown = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let standing = granted.standing().ok_or_else(unknown)?;
    let live = app.live.enter_as(standing.clone());
    let digest = if write { app.digest(M::METHOD.request, &message.encode_to_vec()) } else { None };
    let refusal = granted.refusal();
    match M::Grant::grant(granted, digest, write).await {
        Ok(grant) => Ok(Opened { call, message, grant, standing, live, refusal }),
        Err(error) => {
            // The intent may already be stored.
            close(app, &call, Some(&error)).await;
            Err(error)
        }
    }
}
