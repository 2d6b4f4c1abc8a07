//! Handle for Shoreguard's own calls to a gateway: unary calls and streams over the connections of the main runtime.
//!
//! Invariants
//! - it runs on the main runtime; unary calls and the opening of streams have timeouts;
//! - each call uses the gateway's current credentials, no matter how old the handle is; no call is sent if a different
//!   gateway is now registered under the name;
//! - a request is sent again only if the gateway provably did not process it;
//! - a request that has passed the gate is sent before its intent ends, by the clock that includes sleep: a replica
//!   that was frozen sends nothing afterwards (T13);
//! - a forwarded request uses no budget, as if it were sent directly;
//! - streaming calls use other connections than unary calls, and count against the caller that needs them;
//! - data from a gateway is bounded before it is stored, and never passed on as Shoreguard's own.

use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::messages::MESSAGE_BYTES_MAX;
pub(crate) use super::messages::{ForwardedResponse, Messages};
use super::reached::Usage;
pub(crate) use super::terms::Forwarding;
use super::terms::Terms;
use crate::app::App;
use crate::ctx::Ctx;
use crate::db::types::GatewayRef;
use crate::error::Error;
use crate::net::spawn_owned;
use crate::upstream::budget::{Budget, BudgetClass};
use crate::upstream::connection::{Connection, Lease};
use crate::upstream::exchange::{Exchange, ExchangeError, RequestSource, ResponseStart};
use crate::upstream::generation::Generation;
use crate::upstream::lane::Lane;
use crate::upstream::targets::Target;
use crate::upstream::unanswered::OutcomeUnknown;
use crate::upstream::unreachable::error_from_http_status;
use crate::upstream::{headers, message};

/// Default timeout of a unary call.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(20);
/// Number of request messages that are buffered for the gateway.
const REQUEST_BUFFER: usize = 16;
/// Maximum number of connections on which a call is attempted if the gateway did not process it.
const TRIES: u32 = 3;
/// The same for a forwarded call that the gateway refused unprocessed: it is sent again once.
const FORWARDED_TRIES: u32 = 2;

/// A gateway that can be called, in the generation that was probed on its connection.
#[derive(Debug)]
pub struct Gateway {
    pub(super) app: Arc<App>,
    pub(super) target: Arc<Target>,
    pub(super) generation: Generation,
    pub(super) lease: Mutex<Lease>,
    /// The call on whose behalf the gateway is called; `None` for the server's own work.
    pub(super) on_behalf: Option<Arc<Ctx>>,
    /// Whether the gateway may have processed the last call.
    pub(super) maybe_processed: AtomicBool,
    /// Maximum size of the message of a response, in bytes.
    pub(super) message_bytes_max: usize,
    /// Whether the message of the last call's response was larger than what is read.
    pub(super) was_too_large: AtomicBool,
    /// Usage of the calls since it was last read.
    pub(super) usage: Mutex<Usage>,
    /// Whether the gateway may have acted for the current call and did not report the outcome.
    pub(super) outcome_unknown: OutcomeUnknown,
}

fn find_target(app: &App, gateway: &GatewayRef) -> Result<Arc<Target>, Error> {
    let found = app.fleet.targets.get(gateway.id);
    found.ok_or_else(|| Connection::removed(&gateway.name))
}

type Body = StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

impl Gateway {
    /// Connects to a gateway.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_TOKEN_UNAVAILABLE`, `GATEWAY_BUSY`, `GATEWAY_OVER_BUDGET`, or `WIRE_UNSUPPORTED`
    /// if this build does not support its generation.
    pub fn connect<'a>(
        app: &'a Arc<App>,
        gateway: &'a GatewayRef,
    ) -> BoxFuture<'a, Result<Self, Error>> {
        Box::pin(async move {
            let target = find_target(app, gateway)?;
            target.budget.check(BudgetClass::Single)?;
            Self::open_handle(app, target).await
        })
    }

    /// Connects to a gateway to forward a call, even if the gateway is over its budget.
    ///
    /// # Errors
    /// Those of [`Gateway::connect`], except for `GATEWAY_OVER_BUDGET`.
    pub(crate) fn connect_to_forward<'a>(
        app: &'a Arc<App>,
        gateway: &'a GatewayRef,
    ) -> BoxFuture<'a, Result<Self, Error>> {
        Box::pin(async move { Self::open_handle(app, find_target(app, gateway)?).await })
    }

    async fn open_handle(app: &Arc<App>, target: Arc<Target>) -> Result<Self, Error> {
        let lease = app.fleet.channels.lease(&target).await?;
        let generation = lease.probe().supported_generation(&target.name)?;
        Ok(Self {
            app: Arc::clone(app),
            target,
            generation,
            lease: lease.into(),
            on_behalf: None,
            maybe_processed: AtomicBool::new(false),
            message_bytes_max: MESSAGE_BYTES_MAX,
            was_too_large: AtomicBool::new(false),
            usage: Mutex::default(),
            outcome_unknown: OutcomeUnknown::default(),
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

    /// Logs a failed call, if a line is due.
    fn log_failure(&self, why: impl std::fmt::Display) {
        self.target.failures.warn(&self.target.name, why);
    }

    /// Makes a call with one response message.
    pub(crate) fn unary<'a>(
        &'a self,
        path: &'static str,
        request: &'a [u8],
        within: Duration,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        self.call(path, request, within, Terms::Own { send_until: None })
    }

    /// Makes a call with one response message that must end at a time of the clock that includes sleep.
    pub(crate) fn unary_until<'a>(
        &'a self,
        path: &'static str,
        request: &'a [u8],
        until: Duration,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        let within = until.saturating_sub(self.app.clock.since_boot());
        self.call(path, request, within, Terms::Own { send_until: Some(until) })
    }

    fn call<'a>(
        &'a self,
        path: &'static str,
        request: &'a [u8],
        within: Duration,
        terms: Terms,
    ) -> BoxFuture<'a, Result<Bytes, Error>> {
        Box::pin(async move {
            self.begin_call();
            let answer = async {
                let source = RequestSource::new(Some(message::encode_frame(request)), None, None);
                let mut stream = self.open(Lane::Unary, path, &terms, source).await?;
                let answer = stream.next().await;
                self.note_size(answer.as_ref().ok().and_then(Option::as_ref), stream.is_too_large);
                let answer = answer?.ok_or_else(|| self.unreachable())?;
                // The message counts only if the gateway then reports success.
                while stream.next().await?.is_some() {}
                Ok(answer)
            };
            let answer = match terms {
                // Its deadline is a time of this clock.
                Terms::Own { send_until: Some(_) } => {
                    self.app.clock.timeout(within, Box::pin(answer)).await
                }
                Terms::Own { send_until: None } | Terms::Forwarded(_) => {
                    timeout(within, answer).await.ok()
                }
            };
            self.record_outcome(path, answer.unwrap_or_else(|| Err(self.timeout_error(path))))
        })
    }

    /// Makes a call with the caller's own bytes. Returns the response of the gateway, including an error. Without
    /// `within`, the caller of this function limits the wait for it.
    pub(crate) fn forward<'a>(
        &'a self,
        path: &'static str,
        mut forwarding: Forwarding,
        request: &'a [u8],
        within: Option<Duration>,
    ) -> BoxFuture<'a, Result<ForwardedResponse, Error>> {
        Box::pin(async move {
            let guard = forwarding.guard.take();
            let terms = Terms::Forwarded(Box::new(forwarding));
            let response = async {
                let source = RequestSource::new(Some(message::encode_frame(request)), None, None);
                let source = match guard {
                    Some(guard) => source.with_guard(guard),
                    None => source,
                };
                let mut stream = self.open(Lane::Unary, path, &terms, source).await?;
                let mut message = None;
                let error = loop {
                    match stream.next().await {
                        Ok(Some(next)) => message = Some(next),
                        Ok(None) => break None,
                        Err(error) if stream.trailers.is_some() => break Some(error),
                        Err(error) => return Err(error),
                    }
                };
                let trailers = stream.trailers.take().unwrap_or_default();
                Ok(ForwardedResponse { headers: stream.headers, message, trailers, error })
            };
            let response = match within {
                Some(within) => timeout(within, response)
                    .await
                    .unwrap_or_else(|_| Err(self.timeout_error(path))),
                None => response.await,
            };
            let error = response.as_ref().ok().and_then(|response| response.error.as_ref());
            match error {
                Some(Error::Gateway { refusal, .. }) if !refusal.reports_outcome() => response,
                _ => self.record_outcome(path, response),
            }
        })
    }

    fn timeout_error(&self, path: &'static str) -> Error {
        self.log_failure(format_args!("`{path}` was not answered in time"));
        Error::DeadlineExceeded {
            why: format!("gateway `{}` has not answered in time", self.target.name),
        }
    }

    /// Opens a call with a response stream.
    pub(crate) fn stream<'a>(
        &'a self,
        path: &'static str,
        request: &'a [u8],
    ) -> BoxFuture<'a, Result<Messages, Error>> {
        Box::pin(async move {
            let source = RequestSource::new(Some(message::encode_frame(request)), None, None);
            let terms = Terms::Own { send_until: None };
            let opened = timeout(CALL_TIME, self.open(Lane::Streams, path, &terms, source)).await;
            self.record_outcome(path, opened.unwrap_or_else(|_| Err(self.unreachable())))
        })
    }

    /// Opens a call with streams in both directions.
    pub(crate) fn duplex<'a>(
        &'a self,
        path: &'static str,
        first: &'a [u8],
    ) -> BoxFuture<'a, Result<(mpsc::Sender<Bytes>, Messages), Error>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel::<Bytes>(REQUEST_BUFFER);
            let rest = ReceiverStream::new(receiver)
                .map(|bytes| Ok::<_, Infallible>(Frame::data(message::encode_frame(&bytes))));
            let body: Body = StreamBody::new(Box::pin(rest));
            let source = RequestSource::new(Some(message::encode_frame(first)), Some(body), None);
            let terms = Terms::Own { send_until: None };
            let opened = timeout(CALL_TIME, self.open(Lane::Exclusive, path, &terms, source)).await;
            let opened =
                self.record_outcome(path, opened.unwrap_or_else(|_| Err(self.unreachable())));
            Ok((sender, opened?))
        })
    }

    fn open<'a>(
        &'a self,
        lane: Lane,
        path: &'static str,
        terms: &'a Terms,
        mut source: RequestSource<Body>,
    ) -> BoxFuture<'a, Result<Messages, Error>> {
        Box::pin(async move {
            let budget_class = terms.is_own().then(|| self.budget_class(path));
            self.maybe_processed.store(false, Ordering::Relaxed);
            if let Some(budget_class) = budget_class {
                self.target.budget.check(budget_class)?;
            }
            let mut unprocessed_max = if terms.is_own() { TRIES } else { FORWARDED_TRIES };
            if self.is_write(path) {
                source = source.with_outcome_flag(Some(self.outcome_unknown.clone()));
            }
            for _ in 0..TRIES {
                let lease = self.lease_for(lane).await?;
                self.check_before_sending(&lease, path, terms)?;
                let headers = match terms {
                    Terms::Forwarded(forwarding) => forwarding.headers_on(&lease)?,
                    Terms::Own { .. } => headers::for_own_call(lease.authorization()),
                };
                terms.check_time(&self.app.clock)?;
                self.maybe_processed.store(true, Ordering::Relaxed);
                source = match Exchange::start(lease.duplicate(), path, headers, source) {
                    Err((_, unsent)) => *unsent,
                    Ok(mut exchange) => {
                        match std::future::poll_fn(|cx| exchange.poll_response(cx)).await {
                            Ok(answer) => return self.response_messages(budget_class, answer),
                            Err(ExchangeError::Unprocessed(unprocessed)) => {
                                unprocessed_max -= 1;
                                if unprocessed_max == 0 {
                                    lease.retire();
                                    self.maybe_processed.store(false, Ordering::Relaxed);
                                    return Err(self.unreachable());
                                }
                                *unprocessed
                            }
                            Err(ExchangeError::Stalled(unprocessed)) => *unprocessed,
                            Err(ExchangeError::Broken(broken)) => {
                                self.log_failure(&broken);
                                return Err(broken.to_error(&self.target.name));
                            }
                            Err(ExchangeError::CallerGone) => {
                                return Err(Error::internal("our own body broke"));
                            }
                            Err(ExchangeError::Refused(error)) => return Err(error),
                        }
                    }
                };
                self.maybe_processed.store(false, Ordering::Relaxed);
                lease.retire();
            }
            Err(self.unreachable())
        })
    }

    /// Whether the gateway may have processed the last call of this handle, regardless of the result.
    pub(crate) fn may_have_processed(&self) -> bool {
        self.maybe_processed.load(Ordering::Relaxed)
    }

    fn response_messages(
        &self,
        budget_class: Option<BudgetClass>,
        answer: ResponseStart<Body>,
    ) -> Result<Messages, Error> {
        let (head, ()) = answer.head.into_parts();
        let name = &self.target.name;
        if head.status != StatusCode::OK {
            let error = error_from_http_status(name, head.status);
            self.log_failure(&error);
            return Err(error);
        }
        if let Some(error) = headers::credential_error(name, &head.headers) {
            return Err(error);
        }
        if !headers::is_grpc(head.status, &head.headers) {
            self.log_failure("an answer is not gRPC");
            return Err(self.unreachable());
        }
        let (header_status, headers) = if headers::has_status(&head.headers) {
            (Some(head.headers), HeaderMap::new())
        } else {
            (None, head.headers)
        };
        Ok(Messages {
            headers,
            gateway: Arc::clone(&self.target.name),
            budget: budget_class.map(|class| (Arc::clone(&self.target.budget), class)),
            body: answer.body,
            _request: answer.pump.map(|pump| AbortOnDropHandle::new(spawn_owned(pump))),
            header_status,
            trailers: None,
            bytes: BytesMut::new(),
            message_bytes_max: self.message_bytes_max,
            ready: VecDeque::new(),
            ended: false,
            is_too_large: false,
        })
    }
}
