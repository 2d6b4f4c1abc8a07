//! Passes the requests of a connection to the layer stack. A call is in flight until its response is sent or dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::ServiceExt;

use super::body::Body;
use super::connections::{CallInFlight, Slot};
use super::shared::SharedState;
use super::stack;
use super::stages::{IncomingBody, IncomingRequest, Peer};
use crate::net::taking::StreamExecutor;

/// Returns the service that answers the requests of one connection.
pub(super) fn connection_service(
    shared: Arc<SharedState>,
    peer: Peer,
    slot: Arc<Slot>,
    streams: Option<StreamExecutor>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<CountedBody>,
    Error = Infallible,
    Future: Send + 'static,
> {
    let (peer, stack) = (Arc::new(peer), stack::stack());
    service_fn(move |request: Request<Incoming>| {
        let (stack, shared) = (stack.clone(), Arc::clone(&shared));
        let (peer, call) = (Arc::clone(&peer), slot.call());
        let read_tracker = streams.as_ref().map(StreamExecutor::begin).unwrap_or_default();
        // Boxed once here, since it is large: hyper would move it by value several times on its way into a task.
        Box::pin(async move {
            let request = request.map(IncomingBody::Http);
            let response =
                stack.oneshot(IncomingRequest { shared, peer, read_tracker, request }).await?;
            Ok(response.map(|body| CountedBody::new(body, call)))
        })
    })
}

/// Body of a response whose call is in flight until the body is dropped.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: Body,
    _call: CallInFlight,
}

impl CountedBody {
    fn new(body: Body, call: CallInFlight) -> Self {
        Self { body, _call: call }
    }
}

impl HttpBody for CountedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
