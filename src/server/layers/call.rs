//! Begins a call: its id, so that everything after can name it, its time, and the row of its method.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::Response;
use tower::{Service, ServiceExt};

use super::gate::{self, Route};
use super::open_calls::Shares;
use crate::ctx::Call;
use crate::rpc::request_id;
use crate::server::body::Body;
use crate::server::stages::{Arriving, Begun, State};

/// Stands in for the method of a path that no table has.
const UNKNOWN_METHOD: &str = "unknown";

/// Makes a call of a request. It is in flight until its answer was sent or dropped, unless it streams.
pub(in crate::server) async fn begin<S>(
    arriving: Arriving,
    inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Begun, Response = Response<Body>, Error = Infallible>,
{
    let Arriving { shared, peer, taking, request } = arriving;
    let (app, headers) = (&shared.app, request.headers());
    let ip = shared.address_limit.client_ip(peer.address.ip(), headers);
    let route = gate::route(request.uri().path());
    let streams = route.as_ref().is_ok_and(Route::streams);
    let counted = (!streams).then(|| peer.in_flight.enter());
    let call = Call {
        request_id: request_id::of(headers, || app.new_id()),
        at: app.clock.now(),
        started: Instant::now(),
        deadline: None,
        client_ip: Some(ip),
        caller: None,
        method: route.as_ref().map_or(UNKNOWN_METHOD, Route::path),
        note: Arc::default(),
        traceparent: None,
        held: None,
        taking: Some(taking),
    };
    let shares = Shares::default();
    let state = State { shared, peer, ip, call, route, shares, request };
    let response = inner.oneshot(Begun(Box::new(state))).await?;
    Ok(response.map(|body| body.counted(counted)))
}
