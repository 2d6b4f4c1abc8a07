//! The answer of a forwarded call as the caller gets it.
//!
//! Invariants
//! - it always ends with one status, at its end: one that breaks off in the middle, or says several, gets ours;
//! - no part of it goes to a caller that has lost the right to the call, or whose deadline has passed;
//! - what it ends with is what the audit log gets, once; dropped before its end, the caller has gone, unless something
//!   else has ended the call.

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

use super::record::Closing;
use super::sandboxes::Learn;
use super::watch::Watch;
use crate::error::Error;
use crate::fair::{Share, too_many_bytes};
use crate::status::{code_of, trailers};
use crate::upstream::connection::Connection;
use crate::upstream::exchange::{Meter, Part, Receiving};
use crate::upstream::headers;

/// Largest part of an answer that does not count for its caller: the number of calls is bounded, and most answers are small.
const SMALL_PART_BYTES: usize = 4 << 10;

/// The body of an answer.
#[derive(Default)]
pub struct ProxiedBody {
    state: State,
}

#[derive(Default)]
enum State {
    /// Nothing follows.
    #[default]
    Empty,
    /// An answer that was read whole.
    Whole(Option<Bytes>, Option<HeaderMap>),
    /// An answer on its way.
    Passing(Box<Passing>),
}

/// An answer on its way, with what ends together with it.
pub(crate) struct Passing {
    /// Where it comes from.
    pub(crate) receiving: Receiving,
    /// The rest of the request.
    pub(crate) request: Option<AbortOnDropHandle<()>>,
    /// What may end it early.
    pub(crate) watch: Watch,
    /// Ends it from outside, where it streams and the caller takes nothing.
    pub(crate) outside: Option<AbortOnDropHandle<()>>,
    /// What the audit log waits for.
    pub(crate) closing: Option<Closing>,
    /// Its success is one only when it has been rewritten: until then the audit log waits.
    pub(crate) rewrites: bool,
    /// Counts its bytes.
    pub(crate) meter: Option<Arc<Meter>>,
    /// Sandboxes that it tells of.
    pub(crate) learn: Option<Learn>,
    /// A status that came in the headers already: it goes to the end, and there is none besides.
    pub(crate) early: Option<HeaderMap>,
    /// Counts the part of a unary answer that waits for the caller.
    pub(crate) share: Option<Share>,
    /// The place of a unary call among those of its caller.
    pub(crate) _unary: Option<Share>,
}

impl std::fmt::Debug for ProxiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxiedBody").finish_non_exhaustive()
    }
}

impl ProxiedBody {
    /// One that was read whole.
    pub(crate) fn whole(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { state: State::Whole(data, trailers) }
    }

    /// One that passes.
    pub(crate) fn passing(passing: Box<Passing>) -> Self {
        Self { state: State::Passing(passing) }
    }
}

impl Passing {
    /// The next part. With the end, everything is closed.
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
                Poll::Ready(Ok(Part::Data(_))) => Err(self.broken("it goes on after its status")),
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

    /// Counts a part that is about to wait for the caller, in place of the one before it, which was taken.
    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        let Some(share) = &mut self.share else { return Ok(()) };
        share.clear();
        if bytes <= SMALL_PART_BYTES {
            return Ok(());
        }
        share.grow(bytes as u64).map_err(|_| too_many_bytes())
    }

    /// What the gateway has answered was rewritten, and the caller gets it.
    pub(crate) fn is_rewritten(&mut self) {
        if let Some(closing) = self.closing.take() {
            closing.answered(0, None);
        }
    }

    /// Counts and reads along what goes to the caller.
    fn passes(&mut self, data: Bytes) -> Part {
        if let Some(meter) = &self.meter {
            meter.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let Some(learn) = &mut self.learn {
            learn.push(&data);
        }
        Part::Data(data)
    }

    /// The status that the caller gets, and what stands around it.
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
