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
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio_util::task::AbortOnDropHandle;

use super::audit::OpenIntent;
use super::revocation::CallWatch;
use super::sandboxes::IdCollector;
use crate::error::Error;
use crate::fair::{LimitShare, too_many_bytes};
use crate::status::{code_and_reason, to_trailers};
use crate::upstream::exchange::{Meter, ResponseBody, ResponsePart};
use crate::upstream::headers;
use crate::upstream::unreachable::BrokenResponse;

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
    Complete(Option<Bytes>, Option<HeaderMap>),
    /// A response that is being forwarded.
    Forwarding(Box<ForwardedBody>),
}

/// A response that is being forwarded, and everything that ends with it.
pub(crate) struct ForwardedBody {
    /// Source of the response.
    pub(crate) response: ResponseBody,
    /// Task that sends the rest of the request.
    pub(crate) request: Option<AbortOnDropHandle<()>>,
    /// Ends the response early: deadline or lost permission.
    pub(crate) watch: CallWatch,
    /// Task that resets a response stream that must end and whose caller reads nothing.
    pub(crate) reset_task: Option<AbortOnDropHandle<()>>,
    /// Open audit record.
    pub(crate) open_intent: Option<OpenIntent>,
    /// Whether the response is rewritten. The audit log then records success only after that.
    pub(crate) rewrites: bool,
    /// Counts its bytes.
    pub(crate) meter: Option<Arc<Meter>>,
    /// Collects the sandbox ids in it.
    pub(crate) id_collector: Option<IdCollector>,
    /// Status that was already in the headers. It is sent at the end, and no other may follow.
    pub(crate) header_status: Option<HeaderMap>,
    /// Counts the part of a unary response that is buffered for the caller.
    pub(crate) buffer_share: Option<LimitShare>,
    /// Counts the call as one of its caller's unary calls.
    pub(crate) _unary_share: Option<LimitShare>,
}

impl std::fmt::Debug for ProxiedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxiedBody").finish_non_exhaustive()
    }
}

impl ProxiedBody {
    /// Creates the body of a response that was read completely.
    pub(crate) fn complete(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self { state: State::Complete(data, trailers) }
    }

    /// Creates the body of a response that is being forwarded.
    pub(crate) fn forwarding(body: Box<ForwardedBody>) -> Self {
        Self { state: State::Forwarding(body) }
    }
}

impl ForwardedBody {
    /// Returns the next part. The end also closes the audit record and stops the tasks.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ResponsePart> {
        let part = match self.watch.end_reason() {
            Some(error) => Err(error),
            None => match self.response.poll_part(cx) {
                Poll::Ready(Ok(ResponsePart::Data(data)))
                    if self.header_status.is_none() || data.is_empty() =>
                {
                    match self.count_buffered(data.len()) {
                        Ok(()) => return Poll::Ready(self.record_part(data)),
                        Err(error) => Err(error),
                    }
                }
                Poll::Ready(Ok(ResponsePart::Data(_))) => {
                    Err(self.broken_error(&BrokenResponse::new("it continues after its status")))
                }
                Poll::Ready(Ok(ResponsePart::End(trailers))) => self.final_status(trailers),
                Poll::Ready(Err(why)) => Err(self.broken_error(&why)),
                Poll::Pending => Err(ready!(self.watch.poll(cx))),
            },
        };
        self.request = None;
        self.reset_task = None;
        let (code, trailers) = match part {
            Ok((code, trailers)) => {
                let waits = self.rewrites && code == 0;
                if let Some(open_intent) = self.open_intent.take_if(|_| !waits) {
                    open_intent.finish_with_status(code, trailers.as_ref());
                }
                (code, trailers)
            }
            Err(error) => {
                let code = code_and_reason(&error).0 as i32;
                if let Some(open_intent) = self.open_intent.take() {
                    open_intent.finish(code);
                }
                (code, Some(to_trailers(error)))
            }
        };
        if let Some(id_collector) = self.id_collector.take().filter(|_| code == 0) {
            id_collector.finish();
        }
        Poll::Ready(ResponsePart::End(trailers))
    }

    /// Counts a part that is about to be buffered for the caller. It replaces the previous part, which the caller has
    /// read.
    fn count_buffered(&mut self, bytes: usize) -> Result<(), Error> {
        let Some(buffer_share) = &mut self.buffer_share else { return Ok(()) };
        buffer_share.clear();
        if bytes <= SMALL_PART_BYTES {
            return Ok(());
        }
        buffer_share.grow(bytes as u64).map_err(|_| too_many_bytes())
    }

    /// Records the success of a response that was rewritten.
    pub(crate) fn mark_rewritten(&mut self) {
        if let Some(open_intent) = self.open_intent.take() {
            open_intent.finish_with_status(0, None);
        }
    }

    /// Counts a part that goes to the caller, and collects the sandbox ids in it.
    fn record_part(&mut self, data: Bytes) -> ResponsePart {
        if let Some(meter) = &self.meter {
            meter.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        if let Some(id_collector) = &mut self.id_collector {
            id_collector.push(&data);
        }
        ResponsePart::Data(data)
    }

    /// Returns the final status code and the trailers for the caller.
    fn final_status(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(i32, Option<HeaderMap>), Error> {
        let header_status = self.header_status.take();
        let gateway = self.response.lease().gateway();
        let credential_error = |end| headers::credential_error(gateway, end);
        if let Some(error) = trailers.as_ref().and_then(credential_error) {
            self.response.lease().log_failure(&error);
            return Err(error);
        }
        let code = headers::status_code(header_status.iter().chain(&trailers));
        let no_status =
            || self.broken_error(&BrokenResponse::new("it ended without a valid status"));
        let code = code.ok_or_else(no_status)?;
        let mut trailers = trailers.unwrap_or_default();
        for (name, value) in header_status.iter().flatten() {
            trailers.append(name, value.clone());
        }
        headers::clean(&mut trailers);
        Ok((code, Some(trailers)))
    }

    fn broken_error(&self, broken: &BrokenResponse) -> Error {
        let lease = self.response.lease();
        lease.log_failure(format_args!("an answer broke off: {broken}"));
        broken.to_error(lease.gateway())
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        let Some(open_intent) = self.open_intent.take() else { return };
        if let Some(error) = self.watch.end_reason() {
            open_intent.finish(code_and_reason(&error).0 as i32);
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
            State::Complete(data, trailers) => match data.take() {
                Some(data) => ResponsePart::Data(data),
                None => ResponsePart::End(trailers.take()),
            },
            State::Forwarding(body) => ready!(body.poll(cx)),
        };
        Poll::Ready(match part {
            ResponsePart::Data(data) => Some(Ok(Frame::data(data))),
            ResponsePart::End(trailers) => {
                self.state = State::Empty;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Empty | State::Complete(None, None))
    }
}
