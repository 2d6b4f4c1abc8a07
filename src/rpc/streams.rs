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

/// What a streaming handler answers.
pub type Stream<R> = feed::Answers<R>;

/// How long the next message of a request may take to arrive where nothing else is waited for.
const MESSAGE_TIME: Duration = Duration::from_secs(30);

/// Where a stream's answers go.
#[derive(Debug)]
pub struct Sink<R> {
    pub(super) answers: mpsc::Sender<feed::Message<R>>,
    /// Bytes that may wait for the reader.
    pub(super) room: Arc<Semaphore>,
    /// Time that the reader may take for one answer.
    pub(super) within: Duration,
    pub(super) taking: Option<Arc<Taking>>,
}

impl<R: Message> Sink<R> {
    /// Sends one answer.
    ///
    /// # Errors
    /// `Late` if the reader is gone, or has taken nothing for `limits.answer_seconds`: its stream is reset then.
    pub async fn send(&self, answer: R) -> Result<(), Error> {
        self.send_of(None, answer).await
    }

    /// Sends one answer that is dropped where the caller does not have this role on this gateway any more when the
    /// answer's turn comes.
    ///
    /// # Errors
    /// Those of [`Sink::send`].
    pub async fn send_of(&self, needs: Option<(GatewayId, Role)>, answer: R) -> Result<(), Error> {
        match timeout(self.within, self.enqueue(needs, answer)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Late { why: "the reader is gone".to_owned() }),
            Err(_) => {
                if let Some(taking) = &self.taking {
                    taking.give_up();
                }
                Err(Error::Late { why: "the reader takes no answers".to_owned() })
            }
        }
    }

    /// Waits until there is room for an answer. Returns whether there is a reader.
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
            message = self.messages.message() => message.map_err(|status| fault(&status))?,
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
        let late = |_| deadline::late_request();
        timeout(MESSAGE_TIME, self.next()).await.map_err(late)?
    }
}

/// The error behind the status of a message that did not arrive: ours, if the body was refused, or one about its bytes.
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
    let work = async move {
        write(&task_app, call, message, |grant, message| f(grant, message, rest)).await
    };
    let task = app.spawn(tracing::Instrument::instrument(inherited(work), span));
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
    let (call, message, mut rest) = first(app, request).await.map_err(status)?;
    rest.of(ctx::authorize(app, call.clone(), &message).map_err(status)?.standing());
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
    pub(super) standing: Standing,
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
    let write = M::METHOD.audit == Audit::Write;
    // From here on it records itself.
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
            // The intent may be stored already.
            close(app, &call, Some(&error)).await;
            Err(error)
        }
    }
}
