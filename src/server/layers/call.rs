//! Begins a call: sets its id, which all later records use, its time, and the row of its method.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::Response;
use tower::Service;

use super::gate::{self, Route};
use super::open_calls::Shares;
use crate::ctx::Call;
use crate::rpc::request_id;
use crate::server::body::Body;
use crate::server::in_flight::InFlightGuard;
use crate::server::stages::{CallState, IncomingRequest, StartedCall};

/// Method name of a path that no table has.
const UNKNOWN_METHOD: &str = "unknown";

/// Turns a request into a call. It is in flight until its response was sent or dropped, unless it streams.
pub(in crate::server) async fn begin<S>(
    incoming: IncomingRequest,
    mut inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<StartedCall, Response = Response<Body>, Error = Infallible>,
{
    let (started, in_flight) = start_call(incoming);
    let response = inner.call(started).await?;
    Ok(response.map(|body| body.with_in_flight(in_flight)))
}

/// Turns a request into a call, and counts it unless it streams.
pub(super) fn start_call(incoming: IncomingRequest) -> (StartedCall, Option<InFlightGuard>) {
    let IncomingRequest { shared, peer, read_tracker, request } = incoming;
    let (app, headers) = (&shared.app, request.headers());
    let ip = shared.address_limit.client_ip(peer.address.ip(), headers);
    let route = gate::route(gate::method_path(request.uri()));
    let streams = route.as_ref().is_ok_and(Route::is_streaming);
    let in_flight = (!streams).then(|| peer.in_flight.enter());
    let call = Call {
        request_id: request_id::from_headers(headers, || app.new_request_id()),
        at: app.clock.now(),
        started: Instant::now(),
        deadline: None,
        client_ip: Some(ip),
        caller: None,
        method: route.as_ref().map_or(UNKNOWN_METHOD, Route::path),
        note: Arc::default(),
        traceparent: None,
        memory: None,
        read_tracker: Some(read_tracker),
    };
    let shares = Shares::default();
    let state = CallState { shared, peer, ip, call, route, shares, request };
    (StartedCall(Box::new(state)), in_flight)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{
        Fixture, LOGIN, WATCH_EVENTS, empty_response, grpc_request,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_of_a_known_method_has_the_request_id_of_its_caller() {
        let (fixture, id) = (Fixture::new("").await, uuid::Uuid::from_u128(7));
        let inner = service_fn(async |started: StartedCall| {
            let state = started.0;
            let known = state.route.is_ok();
            assert_eq!(state.call.method, if known { LOGIN } else { UNKNOWN_METHOD });
            assert_eq!(state.call.request_id == id, known);
            Ok::<_, Infallible>(empty_response())
        });
        let named = grpc_request(LOGIN).header(request_id::HEADER, id.to_string());
        begin(fixture.incoming(named), inner).await.unwrap();
        begin(fixture.incoming(grpc_request("/a.B/C")), inner).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_drain_waits_for_calls_and_not_for_streams() {
        let fixture = Fixture::new("").await;
        assert!(start_call(fixture.incoming(grpc_request(LOGIN))).1.is_some());
        assert!(start_call(fixture.incoming(grpc_request(WATCH_EVENTS))).1.is_none());
    }
}
