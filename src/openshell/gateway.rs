//! A gateway as we call it on our own account: unary calls and streams over the connections of main.
//!
//! Invariants
//! - it runs on main, with deadlines of its own; nothing here waits for good;
//! - each call shows the credentials that are the gateway's now, however long the handle is held; none goes on to a
//!   gateway that has become another one under its name;
//! - nothing is sent twice unless the gateway has provably not looked at it;
//! - calls that stream have connections apart from unary ones, and count for the caller that they are made for;
//! - what a gateway says is bounded before it is kept and never passes as ours.

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

pub(crate) use super::messages::{Messages, Passed};
use super::outgoing;
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

/// How long a unary call may take that says nothing else.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(20);
/// Messages of a request that wait for the gateway.
const REQUEST_BUFFER: usize = 16;
/// Connections that are tried for one call, where nothing of it was looked at.
const TRIES: u32 = 3;

/// A gateway that is reached, in the generation that its connection was probed for.
#[derive(Debug)]
pub struct Gateway {
    pub(super) app: Arc<App>,
    pub(super) target: Arc<Target>,
    pub(super) generation: Generation,
    pub(super) lease: Mutex<Lease>,
    /// Caller that the gateway is reached for; `None` for the server's own work.
    pub(super) caller: Option<PrincipalId>,
    /// Whether it may have looked at the last call.
    seen: AtomicBool,
    /// Whether it may have acted for the call that it is reached for, and has not told.
    pub(super) unanswered: Unanswered,
}

type Body = StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

impl Gateway {
    /// Reaches a gateway.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_OVER_BUDGET`, or `WIRE_UNSUPPORTED` where this build does not speak its generation.
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

    /// Its generation.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How much of it is read.
    pub(super) fn budget(&self) -> &Budget {
        &self.target.budget
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.target.name
    }

    fn unreachable(&self) -> Error {
        Connection::unreachable(&self.target.name)
    }

    /// One call with one answer.
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
            // An answer counts when the gateway says that all went well, which comes after it.
            while stream.next().await?.is_some() {}
            Ok(answer)
        };
        let answer = timeout(within, answer).await.unwrap_or_else(|_| Err(self.late(path)));
        self.told(path, answer)
    }

    /// One call in the caller's own bytes: the answer as the gateway gave it, whatever it says.
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

    /// A call whose answer streams.
    pub(crate) async fn stream(
        &self,
        path: &'static str,
        request: &[u8],
    ) -> Result<Messages, Error> {
        let source = Source::new(Some(message::framed(request)), None, None);
        let opened = timeout(CALL_TIME, self.open(Lane::Streams, path, None, source)).await;
        self.told(path, opened.unwrap_or_else(|_| Err(self.unreachable())))
    }

    /// A call in which both sides stream.
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
                Some((headers, until)) => outgoing::passed(headers, *until, &lease),
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

    /// Whether the gateway may have looked at the last call that was made through this handle, whatever came of it.
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
