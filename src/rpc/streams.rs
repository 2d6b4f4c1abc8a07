//! Streaming calls: a response stream ([`handle_stream`]), a request stream ([`handle_upload`]), or both
//! ([`handle_duplex`]).
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

use super::call::{Reply, close_audit_entry, run_write, split_request};
use super::feed;
use crate::access::live::{EndReason, LiveStream};
use crate::access::policy::{AuditMode, Rpc};
use crate::access::standing::{AccessCheck, RoleScope};
use crate::app::App;
use crate::ctx::{self, Call, CallContext, Refusal};
use crate::db::turns::inherit_caller;
use crate::error::{Error, Reason};
use crate::fair::too_many_bytes;
use crate::net::deadline;
use crate::net::taking::ReadTracker;
use crate::role::Role;
use crate::status::{error_from_wire_status, to_status};

/// The response stream of a handler.
pub type ResponseStream<R> = feed::ResponseMessages<R>;

/// How long the next message of a request may take, unless the handler also waits for something else.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Sends the messages of a response stream.
#[derive(Debug)]
pub struct ResponseSink<R> {
    pub(super) answers: mpsc::Sender<feed::QueuedMessage<R>>,
    /// Bytes that may still wait for the reader.
    pub(super) room: Arc<Semaphore>,
    /// How long the reader may take for one message.
    pub(super) within: Duration,
    pub(super) read_tracker: Option<Arc<ReadTracker>>,
}

impl<R: Message> ResponseSink<R> {
    /// Sends one message.
    ///
    /// # Errors
    /// `Late` if the reader has hung up, or has not read anything for `limits.answer_seconds`; its stream is reset in
    /// that case.
    pub async fn send(&self, answer: R) -> Result<(), Error> {
        self.send_if_allowed(None, answer).await
    }

    /// Sends one message. It is dropped if the caller no longer has this role in this scope when the message is about
    /// to be sent. `None` requires only the role of the stream.
    ///
    /// # Errors
    /// Those of [`ResponseSink::send`].
    pub async fn send_if_allowed(
        &self,
        needs: Option<(RoleScope, Role)>,
        answer: R,
    ) -> Result<(), Error> {
        match timeout(self.within, self.enqueue(needs, answer)).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(Error::DeadlineExceeded { why: "the reader has disconnected".to_owned() })
            }
            Err(_) => {
                if let Some(read_tracker) = &self.read_tracker {
                    read_tracker.abort();
                }
                let why =
                    "the response was not read for `limits.answer_seconds`: the stream was ended";
                Err(Error::DeadlineExceeded { why: why.to_owned() })
            }
        }
    }

    /// Waits until there is room for a message. Returns `false` if the reader has hung up.
    async fn enqueue(&self, needs: Option<(RoleScope, Role)>, answer: R) -> bool {
        let bytes = u32::try_from(answer.encoded_len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.min(feed::BUFFER_BYTES));
        let room = tokio::select! {
            biased;
            room = room => room.ok(),
            () = self.answers.closed() => return false,
        };
        self.answers.send(feed::QueuedMessage { answer, needs, _room: room }).await.is_ok()
    }
}

/// The messages of a request after the first. They end with an error when the caller loses its access.
#[derive(Debug)]
pub struct RequestStream<M> {
    messages: Streaming<M>,
    app: Arc<App>,
    access_check: Option<AccessCheck>,
    live: Option<LiveStream>,
}

impl<M> RequestStream<M> {
    fn new(app: &Arc<App>, messages: Streaming<M>, access_check: Option<AccessCheck>) -> Self {
        let mut upload = Self { messages, app: Arc::clone(app), access_check: None, live: None };
        upload.register(access_check);
        upload
    }

    /// Registers the upload as a stream of a caller.
    fn register(&mut self, access_check: Option<AccessCheck>) {
        self.live =
            access_check.clone().map(|access_check| self.app.live.register_check(access_check));
        self.access_check = access_check;
    }

    /// Returns the next message, without a time limit, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<M>, Error> {
        let ended = self.live.as_ref().map(LiveStream::cancel_token);
        let revoked = async {
            match &ended {
                Some(ended) => ended.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            message = self.messages.message() => message.map_err(|status| read_error(&status))?,
            () = revoked => {
                let why = self.live.as_ref().and_then(LiveStream::end_reason);
                return Err(why.unwrap_or(EndReason::Stale).into());
            }
        };
        self.check()?;
        Ok(message)
    }

    /// Checks the current access of the caller before the message is handled.
    fn check(&self) -> Result<(), Error> {
        let access_check = self.access_check.as_ref();
        access_check.map_or(Ok(()), |access_check| {
            access_check.check(&self.app.snapshot).map_err(Into::into)
        })
    }

    /// Returns the next message, which must arrive within 30 seconds, or `None` at the end.
    pub async fn next_in_time(&mut self) -> Result<Option<M>, Error> {
        let late = |_| deadline::request_timed_out();
        timeout(MESSAGE_TIME, self.next()).await.map_err(late)?
    }
}

/// Converts the status of a message that could not be read: a Shoreguard error if the body was refused, otherwise a
/// decoding error.
fn read_error(status: &Status) -> Error {
    let ours = !status.details().is_empty();
    if ours && status.code() == Code::DeadlineExceeded {
        return Error::DeadlineExceeded { why: status.message().to_owned() };
    }
    if ours && status.code() == Code::ResourceExhausted {
        return too_many_bytes();
    }
    error_from_wire_status(status).unwrap_or_else(malformed_request)
}

fn malformed_request() -> Error {
    Error::refused(Reason::MalformedMessage, "the request ended early or cannot be decoded")
}

async fn read_first<M: Rpc>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
) -> Result<(Call, M, RequestStream<M>), Error> {
    let (call, stream) = split_request(request)?;
    // The first message names the scope; until then the caller must hold the role on at least one gateway.
    let caller = call.caller.clone();
    let access_check =
        caller.map(|caller| AccessCheck::new(caller, RoleScope::Anywhere, M::METHOD.min_role()));
    let mut rest = RequestStream::new(app, stream, access_check);
    let first = rest.next_in_time().await?;
    let none = || Error::refused(Reason::MalformedMessage, "the request has no message");
    Ok((call, first.ok_or_else(none)?, rest))
}

/// Runs a write whose request is a stream: like [`handle_write`](super::call::handle_write), with the messages that
/// follow.
pub async fn handle_upload<M, R, F, Fut>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
    f: F,
) -> Reply<R>
where
    M: Rpc,
    M::Context: CallContext,
    R: Message + Default + 'static,
    F: FnOnce(M::Context, M, RequestStream<M>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R, Error>> + Send,
{
    let (call, message, mut rest) = read_first(app, request).await.map_err(to_status)?;
    rest.register(ctx::authorize(app, call.clone(), &message).map_err(to_status)?.access_check());
    let (task_app, span) = (Arc::clone(app), tracing::Span::current());
    let work = async move {
        run_write(&task_app, call, message, |context, message| f(context, message, rest)).await
    };
    let task = app.spawn(tracing::Instrument::instrument(inherit_caller(work), span));
    match task.await {
        Ok(answer) => answer.map(Response::new).map_err(to_status),
        Err(gone) => Err(to_status(Error::internal(gone))),
    }
}

/// Runs a response stream: checks the caller once, then spawns a task that feeds the stream until it ends, the reader
/// hangs up, the caller loses its access, the deadline passes or the server drains.
///
/// `prepare` runs before the call is answered and determines the start position, so that the stream includes everything
/// that happens after the response headers. `follow` gets only what `prepare` returned, neither request nor grant.
pub async fn handle_stream<M, S, R, P, Prepared, F, Followed>(
    app: &Arc<App>,
    request: Request<M>,
    prepare: P,
    follow: F,
) -> Reply<ResponseStream<R>>
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
    let (call, message) = split_request(request).map_err(to_status)?;
    let opening = open_owned(app, call, message);
    feed::start(app, opening, prepare, follow).await.map(Response::new).map_err(to_status)
}

/// Runs a call with streams in both directions. The first message names the target and is checked before the next one
/// is read.
pub async fn handle_duplex<M, R, F, Fut>(
    app: &Arc<App>,
    request: Request<Streaming<M>>,
    f: F,
) -> Reply<ResponseStream<R>>
where
    M: Rpc,
    M::Context: CallContext,
    R: Send + 'static,
    F: FnOnce(M::Context, M, RequestStream<M>, ResponseSink<R>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let (call, message, mut rest) = read_first(app, request).await.map_err(to_status)?;
    rest.register(ctx::authorize(app, call.clone(), &message).map_err(to_status)?.access_check());
    let opening = open_owned(app, call, message);
    let prepare = async move |context, message| Ok((context, message, rest));
    let follow = |(context, message, rest), sink| f(context, message, rest, sink);
    feed::start(app, opening, prepare, follow).await.map(Response::new).map_err(to_status)
}

/// A stream that passed the check. Its intent is stored if the method is a write.
pub(super) struct OpenedStream<M: Rpc> {
    pub(super) call: Call,
    pub(super) message: M,
    pub(super) context: M::Context,
    pub(super) access_check: AccessCheck,
    pub(super) live: LiveStream,
    /// The audit entry to write if the handler refuses the call.
    pub(super) refusal: Refusal,
}

fn open_owned<M>(
    app: &Arc<App>,
    call: Call,
    message: M,
) -> impl Future<Output = Result<OpenedStream<M>, Error>> + Send + use<M>
where
    M: Rpc,
    M::Context: CallContext,
{
    let app = Arc::clone(app);
    async move { open_stream(&app, call, message).await }
}

async fn open_stream<M>(app: &Arc<App>, call: Call, message: M) -> Result<OpenedStream<M>, Error>
where
    M: Rpc,
    M::Context: CallContext,
{
    let write = M::METHOD.audit == AuditMode::Write;
    // The stream closes its own audit entry.
    if write && !call.note.lock().begin_write() {
        return Err(deadline::deadline_exceeded());
    }
    let authorized = ctx::authorize(app, call.clone(), &message)?;
    let unknown = || Error::Unauthenticated { reason: Reason::CredentialMissing };
    let access_check = authorized.access_check().ok_or_else(unknown)?;
    let live = app.live.register_check(access_check.clone());
    let digest = if write { app.digest(M::METHOD.request, &message.encode_to_vec()) } else { None };
    let refusal = authorized.refusal();
    match M::Context::from_authorized(authorized, digest, write).await {
        Ok(context) => Ok(OpenedStream { call, message, context, access_check, live, refusal }),
        Err(error) => {
            // The intent may already be stored.
            close_audit_entry(app, &call, Some(&error)).await;
            Err(error)
        }
    }
}
