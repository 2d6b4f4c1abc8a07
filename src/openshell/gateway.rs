//! Handle for Shoreguard's own calls to a gateway: unary calls and streams over the connections of the main runtime.
//!
//! Invariants
//! - it runs on the main runtime; unary calls and the opening of streams have timeouts;
//! - each call uses the gateway's current credentials, no matter how old the handle is; no call is sent if a different
//!   gateway is now registered under the name;
//! - a request is sent again only if the gateway provably did not process it;
//! - streaming calls use other connections than unary calls, and count against the caller that needs them;
//! - data from a gateway is bounded before it is stored, and never passed on as Shoreguard's own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::headers::passed;
pub(crate) use super::messages::{Messages, Passed};
use crate::access::principal::PrincipalId;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::{Error, Said};
use crate::net::own;
use crate::upstream::budget::{Budget, Draw};
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::exchange::{Answer, Exchange, Failed, Source};
use crate::upstream::generation::Generation;
use crate::upstream::lane::Lane;
use crate::upstream::targets::Target;
use crate::upstream::unanswered::Unanswered;
use crate::upstream::{headers, message};

/// Default timeout of a unary call.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(20);
/// Number of request messages that are buffered for the gateway.
const REQUEST_BUFFER: usize = 16;
/// Maximum number of connections on which a call is attempted if the gateway did not process it.
const TRIES: u32 = 3;

/// A gateway that can be called, in the generation that was probed on its connection.
#[derive(Debug)]
pub struct Gateway {
    pub(super) app: Arc<App>,
    pub(super) target: Arc<Target>,
    pub(super) generation: Generation,
    pub(super) lease: Mutex<Lease>,
    /// Caller on whose behalf the gateway is called; `None` for the server's own work.
    pub(super) caller: Option<PrincipalId>,
    /// Whether the gateway may have processed the last call.
    seen: AtomicBool,
    /// Whether the gateway may have acted for the current call and did not report the outcome.
    pub(super) unanswered: Unanswered,
}

type Body = StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

impl Gateway {
    /// Connects to a gateway.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_TOKEN_UNAVAILABLE`, `GATEWAY_BUSY`, `GATEWAY_OVER_BUDGET`, or `WIRE_UNSUPPORTED`
    /// if this build does not support its generation.
    pub async fn reach(app: &Arc<App>, id: GatewayId) -> Result<Self, Error> {
        let target = app.fleet.targets.get(id).ok_or_else(|| Connection::unreachable("?"))?;
        target.budget.check(Draw::Single)?;
        let lease = app.fleet.channels.lease(&target).await?;
        let generation = lease.probe().spoken(&target.name)?;
        Ok(Self {
            app: Arc::clone(app),
            target,
            generation,
            lease: lease.into(),
            caller: None,
            seen: AtomicBool::new(false),
            unanswered: Unanswered::default(),
        })
    }

    /// Returns its generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns the budget for reading its responses.
    pub(super) fn budget(&self) -> &Budget {
        &self.target.budget
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.target.name
    }

    fn unreachable(&self) -> Error {
        Connection::unreachable(&self.target.name)
    }

    /// Makes a call with one response message.
    pub(crate) async fn unary(
        &self,
        path: &'static str,
        request: &[u8],
        within: Duration,
    ) -> Result<Bytes, Error> {
        let answer = async {
            let mut stream = self
                .open(
                    Lane::Unary,
                    path,
                    None,
                    Source::new(Some(message::framed(request)), None, None),
                )
                .await?;
            let answer = stream.next().await?.ok_or_else(|| self.unreachable())?;
            // The message counts only if the gateway then reports success.
            while stream.next().await?.is_some() {}
            Ok(answer)
        };
        let answer = timeout(within, answer).await.unwrap_or_else(|_| Err(self.late(path)));
        self.told(path, answer)
    }

    /// Makes a call with the caller's own bytes. Returns the response of the gateway, including an error.
    pub(crate) async fn pass(
        &self,
        path: &'static str,
        headers: (HeaderMap, Option<Instant>),
        request: &[u8],
        within: Duration,
    ) -> Result<Passed, Error> {
        let passed = async {
            let source = Source::new(Some(message::framed(request)), None, None);
            let mut stream = self.open(Lane::Unary, path, Some(headers), source).await?;
            let mut message = None;
            let refused = loop {
                match stream.next().await {
                    Ok(Some(next)) => message = Some(next),
                    Ok(None) => break None,
                    Err(error) if stream.trailers.is_some() => break Some(error),
                    Err(error) => return Err(error),
                }
            };
            let trailers = stream.trailers.take().unwrap_or_default();
            Ok(Passed { head: stream.head, message, trailers, refused })
        };
        let passed = timeout(within, passed).await.unwrap_or_else(|_| Err(self.late(path)));
        let refused = passed.as_ref().ok().and_then(|passed| passed.refused.as_ref());
        if !matches!(refused, Some(Error::Gateway { said: Said::Uncertain | Said::Late, .. })) {
            return self.told(path, passed);
        }
        passed
    }

    fn late(&self, path: &'static str) -> Error {
        warn!(gateway = %self.target.name, path, "a gateway has not answered in time");
        Error::Late { why: format!("gateway `{}` has not answered in time", self.target.name) }
    }

    /// Opens a call with a response stream.
    pub(crate) async fn stream(
        &self,
        path: &'static str,
        request: &[u8],
    ) -> Result<Messages, Error> {
        let source = Source::new(Some(message::framed(request)), None, None);
        let opened = timeout(CALL_TIME, self.open(Lane::Streams, path, None, source)).await;
        self.told(path, opened.unwrap_or_else(|_| Err(self.unreachable())))
    }

    /// Opens a call with streams in both directions.
    pub(crate) async fn duplex(
        &self,
        path: &'static str,
        first: &[u8],
    ) -> Result<(mpsc::Sender<Bytes>, Messages), Error> {
        let (sender, receiver) = mpsc::channel::<Bytes>(REQUEST_BUFFER);
        let rest = ReceiverStream::new(receiver)
            .map(|bytes| Ok::<_, Infallible>(Frame::data(message::framed(&bytes))));
        let body: Body = StreamBody::new(Box::pin(rest));
        let source = Source::new(Some(message::framed(first)), Some(body), None);
        let opened = timeout(CALL_TIME, self.open(Lane::Exclusive, path, None, source)).await;
        let opened = self.told(path, opened.unwrap_or_else(|_| Err(self.unreachable())));
        Ok((sender, opened?))
    }

    async fn open(
        &self,
        lane: Lane,
        path: &'static str,
        with: Option<(HeaderMap, Option<Instant>)>,
        mut source: Source<Body>,
    ) -> Result<Messages, Error> {
        let draw = self.draw(path);
        self.seen.store(false, Ordering::Relaxed);
        self.target.budget.check(draw)?;
        if self.acts(path) {
            source = source.telling(self.unanswered.clone());
        }
        for _ in 0..TRIES {
            let lease = self.current(lane).await?;
            self.allows(&lease, path)?;
            let headers = match &with {
                Some((headers, until)) => passed(headers, *until, &lease),
                None => headers::own(lease.authorization()),
            };
            self.seen.store(true, Ordering::Relaxed);
            source = match Exchange::start(lease.again(), path, headers, source) {
                Err((_, unsent)) => *unsent,
                Ok(mut exchange) => {
                    match std::future::poll_fn(|cx| exchange.poll_answer(cx)).await {
                        Ok(answer) => return self.begun(draw, answer),
                        Err(Failed::Unprocessed(unprocessed) | Failed::Stalled(unprocessed)) => {
                            *unprocessed
                        }
                        Err(Failed::Broken(why)) => {
                            warn!(gateway = %self.target.name, why, "a gateway did not answer");
                            return Err(self.unreachable());
                        }
                        Err(Failed::CallerGone) => {
                            return Err(Error::internal("our own body broke"));
                        }
                        Err(Failed::Refused(error)) => return Err(error),
                    }
                }
            };
            self.seen.store(false, Ordering::Relaxed);
            lease.retire();
        }
        Err(self.unreachable())
    }

    /// Whether the gateway may have processed the last call of this handle, regardless of the result.
    pub(crate) fn may_have_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    fn begun(&self, draw: Draw, answer: Answer<Body>) -> Result<Messages, Error> {
        let (head, ()) = answer.head.into_parts();
        let name = &self.target.name;
        if let Some(error) = headers::credential_refusal(name, head.status, &head.headers) {
            return Err(error);
        }
        if !headers::is_grpc(head.status, &head.headers) {
            warn!(gateway = %self.target.name, status = %head.status, "an answer is not gRPC");
            return Err(self.unreachable());
        }
        let (early, head) = if headers::has_status(&head.headers) {
            (Some(head.headers), HeaderMap::new())
        } else {
            (None, head.headers)
        };
        Ok(Messages {
            head,
            gateway: Arc::clone(&self.target.name),
            budget: Arc::clone(&self.target.budget),
            draw,
            receiving: answer.body,
            _request: answer.pump.map(|pump| AbortOnDropHandle::new(own(pump))),
            early,
            trailers: None,
            bytes: BytesMut::new(),
            ready: VecDeque::new(),
            ended: false,
        })
    }
}
