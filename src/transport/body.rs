//! The body of an answer: one of our own, or one that passes from a gateway. No box on the proxied path.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Code;

use super::in_flight::Counted;
use super::layers::open_calls::Shares;
use super::layers::telemetry::Measured;
use super::status;
use super::taking::Taking;
use super::until::Until;
use crate::fair::Held;
use crate::proxy::ProxiedBody;

/// The body of an answer, measured to its end.
#[derive(Debug)]
pub struct Body {
    inner: Inner,
    measured: Option<Measured>,
    /// Whether the caller takes it; of a proxied answer the gateway waits instead.
    taking: Option<Arc<Taking>>,
    /// What the call holds until its answer has been taken.
    shares: Option<(Shares, Option<Held>)>,
    /// What ends it early, where the body itself does not know.
    until: Option<Until>,
    /// A drain waits for it.
    counted: Option<Counted>,
}

#[derive(Debug)]
enum Inner {
    Empty,
    /// The whole answer of a unary call of our own, encoded.
    Whole(Option<Bytes>, Option<HeaderMap>),
    Own(tonic::body::Body),
    Proxied(ProxiedBody),
}

impl Default for Body {
    fn default() -> Self {
        Self::new(Inner::Empty)
    }
}

impl Body {
    fn new(inner: Inner) -> Self {
        let (taking, shares, until, counted) = (None, None, None, None);
        Self { inner, measured: None, taking, shares, until, counted }
    }

    /// From one of our own services.
    #[must_use]
    pub fn own(body: tonic::body::Body) -> Self {
        Self::new(Inner::Own(body))
    }

    /// From one of our own services, encoded.
    #[must_use]
    pub fn whole(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self::new(Inner::Whole(data, trailers))
    }

    /// From a gateway.
    #[must_use]
    pub fn proxied(body: ProxiedBody) -> Self {
        Self::new(Inner::Proxied(body))
    }

    /// Holds what the call has taken until the answer has been taken.
    #[must_use]
    pub(super) fn holding(mut self, shares: Shares, held: Option<Held>) -> Self {
        self.shares = Some((shares, held));
        self
    }

    /// Notes from now on whether the caller takes the answer.
    #[must_use]
    pub(super) fn taken_by(mut self, taking: &Arc<Taking>) -> Self {
        taking.ready();
        self.taking = Some(Arc::clone(taking));
        self
    }

    /// Ends it early, with a status.
    pub(super) fn until(mut self, until: Until) -> Self {
        self.until = Some(until);
        self
    }

    /// Counts it as a call in flight to its end.
    pub(super) fn counted(mut self, counted: Option<Counted>) -> Self {
        self.counted = counted;
        self
    }

    /// Counts the call when the body ends, by its trailers; one that is dropped before was cancelled.
    #[must_use]
    pub fn measured(mut self, measured: Measured) -> Self {
        self.measured = Some(measured);
        self
    }

    fn finish(&mut self, code: Code) {
        drop(self.counted.take());
        if let Some(measured) = self.measured.take() {
            measured.finish(code);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Whole(data, trailers) => Poll::Ready(
                data.take()
                    .map(Frame::data)
                    .or_else(|| trailers.take().map(Frame::trailers))
                    .map(Ok),
            ),
            Inner::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Inner::Proxied(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        };
        let polled = match (polled, &mut this.until) {
            (Poll::Pending, Some(until)) => until.poll_unpin(cx).map(|error| {
                this.inner = Inner::Empty;
                this.until = None;
                Some(Ok(Frame::trailers(status::trailers(error))))
            }),
            (polled, _) => polled,
        };
        match (&this.taking, &polled) {
            (Some(taking), Poll::Ready(_)) => taking.ready(),
            (Some(taking), Poll::Pending) => taking.idle(),
            (None, _) => {}
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let code = trailers
                        .get("grpc-status")
                        .map_or(Code::Unknown, |v| Code::from_bytes(v.as_bytes()));
                    this.finish(code);
                }
            }
            Poll::Ready(Some(Err(_))) => this.finish(Code::Unavailable),
            Poll::Ready(None) => this.finish(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty | Inner::Whole(None, None) => true,
            Inner::Whole(..) => false,
            Inner::Own(body) => body.is_end_stream(),
            Inner::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Whole(data, _) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Inner::Own(body) => body.size_hint(),
            Inner::Proxied(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}
