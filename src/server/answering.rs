//! Passes the requests of a connection to the layer stack. A call is in flight until its response is sent or dropped.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::ServiceExt;

use super::connections::{CountedBody, Slot};
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
