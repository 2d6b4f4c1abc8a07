//! Body of a response: Shoreguard's own or one from a gateway. The proxied path does not box it.
//!
//! Invariants
//! - a body with a `ReadTracker` does not end before all of its parts were sent: the shares of the call are held until
//!   then.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Code;

use super::in_flight::InFlightGuard;
use super::layers::open_calls::Shares;
use super::layers::telemetry::CallMeasurement;
use super::until::EndCondition;
use crate::fair::MemoryAccount;
use crate::net::taking::{ReadTracker, ResponsePart};
use crate::proxy::ProxiedBody;
use crate::status;

/// Maximum size of a part, in bytes: the server must notice that a caller reads a large response slowly.
const PART_BYTES_MAX: usize = 16 << 10;

/// Body of a response, measured to its end. Its state is in a box, since each layer passes the body on by value.
#[derive(Debug)]
pub struct Body(Box<BodyState>);

#[derive(Debug)]
struct BodyState {
    inner: Inner,
    /// Unsent rest of the last frame that was read.
    rest: Bytes,
    end: End,
    measurement: Option<CallMeasurement>,
    /// Tracks whether the caller reads it. For a proxied response, the gateway waits instead.
    read_tracker: Option<Arc<ReadTracker>>,
    /// Shares that the call holds until its response was read.
    shares: Option<(Shares, Option<MemoryAccount>)>,
    /// Ends the body early, for a reason outside the body.
    end_condition: Option<EndCondition>,
    /// Makes a drain wait for the body.
    in_flight: Option<InFlightGuard>,
}

/// Whether the end was read.
#[derive(Debug)]
enum End {
    Unread,
    /// Read, with the trailers until they are sent.
    Read(Option<HeaderMap>),
}

#[derive(Debug)]
enum Inner {
    Empty,
    /// The whole encoded response of one of Shoreguard's own unary calls.
    Unary(Option<Bytes>, Option<HeaderMap>),
    Service(tonic::body::Body),
    Proxied(ProxiedBody),
}

impl Default for Body {
    fn default() -> Self {
        Self::new(Inner::Empty)
    }
}

impl Body {
    fn new(inner: Inner) -> Self {
        let (read_tracker, shares, end_condition, in_flight) = (None, None, None, None);
        let (rest, end, measurement) = (Bytes::new(), End::Unread, None);
        Self(Box::new(BodyState {
            inner,
            rest,
            end,
            measurement,
            read_tracker,
            shares,
            end_condition,
            in_flight,
        }))
    }

    /// Wraps the body of one of Shoreguard's own services.
    #[must_use]
    pub fn from_service(body: tonic::body::Body) -> Self {
        Self::new(Inner::Service(body))
    }

    /// Wraps an encoded response of one of Shoreguard's own services.
    #[must_use]
    pub fn unary(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self::new(Inner::Unary(data, trailers))
    }

    /// Wraps a body from a gateway.
    #[must_use]
    pub fn from_gateway(body: ProxiedBody) -> Self {
        Self::new(Inner::Proxied(body))
    }

    /// Holds the shares of the call until the response was read.
    #[must_use]
    pub(super) fn with_shares(mut self, shares: Shares, memory: Option<MemoryAccount>) -> Self {
        self.0.shares = Some((shares, memory));
        self
    }

    /// Tracks whether the caller reads the response.
    #[must_use]
    pub(super) fn with_read_tracking(mut self, read_tracker: &Arc<ReadTracker>) -> Self {
        self.0.read_tracker = Some(Arc::clone(read_tracker));
        self
    }

    /// Ends the body early with the status of `condition`.
    pub(super) fn with_end_condition(mut self, condition: EndCondition) -> Self {
        self.0.end_condition = Some(condition);
        self
    }

    /// Counts the call as in flight until the body ends.
    pub(super) fn with_in_flight(mut self, in_flight: Option<InFlightGuard>) -> Self {
        self.0.in_flight = in_flight;
        self
    }

    /// Records the call when the body ends, with the code of its trailers. A body that is dropped earlier counts as
    /// canceled.
    pub fn set_measurement(&mut self, measurement: CallMeasurement) {
        self.0.measurement = Some(measurement);
    }
}

type BodyError = Box<dyn std::error::Error + Send + Sync>;

impl BodyState {
    fn finish(&mut self, code: Code) {
        drop(self.in_flight.take());
        if let Some(measurement) = self.measurement.take() {
            measurement.finish(code);
        }
    }

    /// Reads the next frame, or the status that ends the body early.
    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Polled first: if the next frame is always ready, nothing else would poll it.
        if let Some(condition) = &mut self.end_condition
            && let Poll::Ready(error) = condition.poll_unpin(cx)
        {
            self.inner = Inner::Empty;
            self.end_condition = None;
            return Poll::Ready(Some(Ok(Frame::trailers(status::to_trailers(error)))));
        }
        match &mut self.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Unary(data, trailers) => Poll::Ready(
                data.take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(Frame::trailers))
                    .map(Ok),
            ),
            Inner::Service(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Inner::Proxied(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    /// Splits a part off the data that was read.
    fn next_part(&mut self) -> Frame<ResponsePart> {
        let data = self.rest.split_to(self.rest.len().min(PART_BYTES_MAX));
        Frame::data(ResponsePart::new(data, self.read_tracker.as_ref()))
    }

    fn has_unsent_parts(&self) -> bool {
        self.read_tracker.as_ref().is_some_and(|read_tracker| read_tracker.has_unread())
    }
}

impl HttpBody for Body {
    type Data = ResponsePart;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<ResponsePart>, BodyError>>> {
        let this = &mut *self.get_mut().0;
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(this.next_part())));
        }
        if matches!(this.end, End::Unread) {
            let end = match ready!(this.poll_inner(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        this.rest = data;
                        return Poll::Ready(Some(Ok(this.next_part())));
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    this.finish(Code::Unavailable);
                    return Poll::Ready(Some(Err(error)));
                }
                None => None,
            };
            this.inner = Inner::Empty;
            this.end = End::Read(end);
        }
        if let Some(read_tracker) = &this.read_tracker {
            ready!(read_tracker.poll_drained(cx));
        }
        let trailers = match std::mem::replace(&mut this.end, End::Read(None)) {
            End::Read(trailers) => trailers,
            End::Unread => None,
        };
        let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
        this.finish(status.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes())));
        Poll::Ready(trailers.map(Frame::trailers).map(Ok))
    }

    /// Returns false while a part was not sent: hyper would drop the body with the last part.
    fn is_end_stream(&self) -> bool {
        let this = &*self.0;
        if !this.rest.is_empty()
            || matches!(this.end, End::Read(Some(_)))
            || this.has_unsent_parts()
        {
            return false;
        }
        match &this.inner {
            Inner::Empty | Inner::Unary(None, None) => true,
            Inner::Unary(..) => false,
            Inner::Service(body) => body.is_end_stream(),
            Inner::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let this = &*self.0;
        let hint = match &this.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Unary(data, _) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Inner::Service(body) => body.size_hint(),
            Inner::Proxied(body) => body.size_hint(),
        };
        let rest = this.rest.len() as u64;
        let mut all = SizeHint::new();
        all.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all
    }
}

impl Drop for BodyState {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_body_ends_only_after_its_parts_were_sent() {
        let data = Bytes::from(vec![7; PART_BYTES_MAX + 1]);
        let status = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        for trailers in [Some(status), None] {
            let read_tracker = Arc::default();
            let body = Body::unary(Some(data.clone()), trailers.clone());
            let mut body = body.with_read_tracking(&read_tracker);
            let mut parts = Vec::new();
            for bytes in [PART_BYTES_MAX, 1] {
                parts.push(body.frame().await.unwrap().unwrap().into_data().unwrap());
                assert_eq!(parts.last().unwrap().remaining(), bytes);
                assert!(!body.is_end_stream(), "hyper would drop it");
            }
            for _ in 0..2 {
                assert!(body.frame().now_or_never().is_none());
                parts.pop();
            }
            let end = body.frame().await.map(|end| end.unwrap().into_trailers().unwrap());
            assert_eq!(end, trailers);
            assert!(body.is_end_stream());
        }
    }
}
