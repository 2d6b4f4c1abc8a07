//! Response bodies for scripted failures: slow, broken off, or with a status only.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

/// The content type of every response.
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A body that emits its bytes in pieces, one per interval.
pub(super) struct SlowBody {
    inner: Body,
    rest: Bytes,
    pause: Pin<Box<Sleep>>,
    every: Duration,
    bytes: usize,
}

impl SlowBody {
    /// Slows a body down.
    pub(super) fn wrap(inner: Body, bytes: usize, every: Duration) -> Body {
        let pause = Box::pin(sleep(every));
        Body::new(Self { inner, rest: Bytes::new(), pause, every, bytes: bytes.max(1) })
    }
}

impl http_body::Body for SlowBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        ready!(self.pause.as_mut().poll(cx));
        self.pause = Box::pin(sleep(self.every));
        let size = self.bytes.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }
}

/// Delay between the half message and the reset, which would otherwise overtake it.
const RESET_AFTER: Duration = Duration::from_millis(50);

/// A body that breaks off within its first message, which resets the stream.
pub(super) struct TruncatedBody {
    inner: Body,
    reset_after: Option<Pin<Box<Sleep>>>,
}

impl TruncatedBody {
    /// Breaks a body off.
    pub(super) fn wrap(inner: Body) -> Body {
        Body::new(Self { inner, reset_after: None })
    }
}

impl http_body::Body for TruncatedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let reset = || Some(Err(io::Error::other("reset by script")));
        if let Some(pause) = &mut self.reset_after {
            ready!(pause.as_mut().poll(cx));
            return Poll::Ready(reset());
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some(data) = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()) else {
            return Poll::Ready(reset());
        };
        self.reset_after = Some(Box::pin(sleep(RESET_AFTER)));
        Poll::Ready(Some(Ok(Frame::data(data.slice(..data.len() / 2)))))
    }
}

/// A body without data, with a status in its trailers.
struct TrailersBody(Option<HeaderMap>);

impl http_body::Body for TrailersBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

/// Builds an error response: headers, then the status in the trailers.
pub(super) fn error_response(code: Code, message: String, details: Bytes) -> http::Response<Body> {
    let mut trailers = HeaderMap::new();
    // If the status cannot be encoded as headers, the stream ends without one.
    let _ = Status::with_details(code, message, details).add_header(&mut trailers);
    let mut answer = http::Response::new(Body::new(TrailersBody(Some(trailers))));
    answer.headers_mut().insert(http::header::CONTENT_TYPE, GRPC);
    answer
}

/// Builds an error response with a single block of headers.
pub(super) fn trailers_only_response(status: Status) -> http::Response<Body> {
    status.into_http()
}
