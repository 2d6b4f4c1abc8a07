//! Response body of a forwarded call.
//!
//! Invariants
//! - it has exactly one status, at its end: Shoreguard's own if the response breaks off or contains several;
//! - no part of it is sent to a caller that lost the permission for the call, or whose deadline has passed;
//! - its final status is recorded in the audit log, once. If it is dropped before its end, the call counts as canceled
//!   by the caller, unless the deadline or a lost permission ended it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::audit::Closing;
use super::revocation::Watch;
use super::sandboxes::Learn;
use crate::error::Error;
use crate::fair::{Share, too_many_bytes};
use crate::status::{code_of, trailers};
use crate::upstream::connection::Connection;
use crate::upstream::exchange::{Meter, Part, Receiving};
use crate::upstream::headers;

/// Maximum size of a part of a unary response that is not counted against its caller: the number of calls is limited,
/// and most responses are small.
const SMALL_PART_BYTES: usize = 4 << 10;

/// Body of a response.
#[derive(Default)]
pub struct ProxiedBody {
    state: State,
}

#[derive(Default)]
enum State {
    /// Nothing follows.
    #[default]
    Empty,
    /// A response that was read completely.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// A response that is being forwarded.
    Passing(Box<Passing>),
}

/// A response that is being forwarded, and everything that ends with it.
pub(crate) struct Passing {
    /// Source of the response.
    pub(crate) receiving: Receiving,
    /// Task that sends the rest of the request.
    pub(crate) request: Option<AbortOnDropHandle<()>>,
    /// Ends the response early: deadline or lost permission.
    pub(crate) watch: Watch,
    /// Task that resets a response stream that must end and whose caller reads nothing.
    pub(crate) outside: Option<AbortOnDropHandle<()>>,
    /// Open audit record.
    pub(crate) closing: Option<Closing>,
    /// Whether the response is rewritten. The audit log then records success only after that.
    pub(crate) rewrites: bool,
    /// Counts its bytes.
    pub(crate) meter: Option<Arc<Meter>>,
    /// Collects the sandbox ids in it.
    pub(crate) learn: Option<Learn>,
    /// Status that was already in the headers. It is sent at the end, and no other may follow.
    pub(crate) early: Option<HeaderMap>,
    /// Counts the part of a unary response that is buffered for the caller.
    pub(crate) share: Option<Share>,
    /// Counts the call as one of its caller's unary calls.
    pub(crate) _unary: Option<Share>,
}

impl std::fmt::Debug for ProxiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxiedBody").finish_non_exhaustive()
    }
}

impl ProxiedBody {
    /// Creates the body of a response that was read completely.
    pub(crate) fn whole(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { state: State::Whole(data, trailers) }
    }

    /// Creates the body of a response that is being forwarded.
    pub(crate) fn passing(passing: Box<Passing>) -> Self {
        Self { state: State::Passing(passing) }
    }
}

impl Passing {
    /// Returns the next part. The end also closes the audit record and stops the tasks.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Part> {
        let part = match self.watch.over() {
            Some(error) => Err(error),
            None => match self.receiving.poll_part(cx) {
                Poll::Ready(Ok(Part::Data(data))) if self.early.is_none() || data.is_empty() => {
                    match self.hold(data.len()) {
                        Ok(()) => return Poll::Ready(self.passes(data)),
                        Err(error) => Err(error),
                    }
                }
                Poll::Ready(Ok(Part::Data(_))) => Err(self.broken("it continues after its status")),
                Poll::Ready(Ok(Part::End(trailers))) => self.ended(trailers),
                Poll::Ready(Err(why)) => Err(self.broken(&why)),
                Poll::Pending => Err(ready!(self.watch.poll(cx))),
            },
        };
        self.request = None;
        self.outside = None;
        let (code, trailers) = match part {
            Ok((code, trailers)) => {
                let waits = self.rewrites && code == 0;
                if let Some(closing) = self.closing.take_if(|_| !waits) {
                    closing.answered(code, trailers.as_ref());
                }
                (code, trailers)
            }
            Err(error) => {
                let code = code_of(&error).0 as i32;
                if let Some(closing) = self.closing.take() {
                    closing.finish(code);
                }
                (code, Some(trailers(error)))
            }
        };
        if let Some(learn) = self.learn.take().filter(|_| code == 0) {
            learn.finish();
        }
        Poll::Ready(Part::End(trailers))
    }

    /// Counts a part that is about to be buffered for the caller. It replaces the previous part, which the caller has
    /// read.
    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let Some(share) = &mut self.share else { return Ok(()) };
        share.clear();
        if bytes <= SMALL_PART_BYTES {
            return Ok(());
        }
        share.grow(bytes as u64).map_err(|_| too_many_bytes())
    }

    /// Records the success of a response that was rewritten.
    pub(crate) fn is_rewritten(&mut self) {
        if let Some(closing) = self.closing.take() {
            closing.answered(0, None);
        }
    }

    /// Counts a part that goes to the caller, and collects the sandbox ids in it.
    fn passes(&mut self, data: Bytes) -> Part {
        if let Some(meter) = &self.meter {
            meter.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let Some(learn) = &mut self.learn {
            learn.push(&data);
        }
        Part::Data(data)
    }

    /// Returns the final status code and the trailers for the caller.
    fn ended(&mut self, trailers: Option<HeaderMap>) -> Result<(i32, Option<HeaderMap>), Error> {
        let early = self.early.take();
        let gateway = self.receiving.lease().gateway();
        let refusal = |end| headers::credential_refusal(gateway, StatusCode::OK, end);
        if let Some(error) = trailers.as_ref().and_then(refusal) {
            warn!(%gateway, "a gateway does not accept our credential");
            return Err(error);
        }
        let code = headers::verdict(early.iter().chain(&trailers));
        let code = code.ok_or_else(|| self.broken("it ended without a status that is one"))?;
        let mut trailers = trailers.unwrap_or_default();
        for (name, value) in early.iter().flatten() {
            trailers.append(name, value.clone());
        }
        headers::clean(&mut trailers);
        Ok((code, Some(trailers)))
    }

    fn broken(&self, why: &str) -> Error {
        let gateway = self.receiving.lease().gateway();
        warn!(%gateway, why, "an answer has broken off");
        Connection::unreachable(gateway)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let Some(closing) = self.closing.take() else { return };
        if let Some(error) = self.watch.over() {
            closing.finish(code_of(&error).0 as i32);
        }
    }
}

impl Body for ProxiedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = match &mut self.state {
            State::Empty => return Poll::Ready(None),
            State::Whole(data, trailers) => match data.take() {
                Some(data) => Part::Data(data),
                None => Part::End(trailers.take()),
            },
            State::Passing(passing) => ready!(passing.poll(cx)),
        };
        Poll::Ready(match part {
            Part::Data(data) => Some(Ok(Frame::data(data))),
            Part::End(trailers) => {
                self.state = State::Empty;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Empty | State::Whole(None, None))
    }
}
