//! Passes the requests of a connection to the layer stack. A call is in flight until its response is sent or dropped.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tower::ServiceExt;

use super::connections::{Counted, Slot};
use super::shared::Shared;
use super::stack;
use super::stages::{Arriving, Peer, Source};
use crate::net::taking::Streams;

/// Returns the service that answers the requests of one connection.
pub(super) fn answering(
    shared: Arc<Shared>,
    peer: Peer,
    slot: Arc<Slot>,
    streams: Option<Streams>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Counted>,
    Error = Infallible,
    Future: Send + 'static,
> {
    let (peer, stack) = (Arc::new(peer), stack::stack());
    service_fn(move |request: Request<Incoming>| {
        let (stack, shared) = (stack.clone(), Arc::clone(&shared));
        let (peer, call) = (Arc::clone(&peer), slot.call());
        let taking = streams.as_ref().map(Streams::begin).unwrap_or_default();
        // Boxed once here, since it is large: hyper would move it by value several times on its way into a task.
        Box::pin(async move {
            let request = request.map(Source::Http);
            let response = stack.oneshot(Arriving { shared, peer, taking, request }).await?;
            Ok(response.map(|body| Counted::new(body, call)))
        })
    })
}
