//! Begins a call: sets its id, which all later records use, its time, and the row of its method.

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
use crate::server::in_flight::Counted;
use crate::server::stages::{Arriving, Begun, State};

/// Method name of a path that no table has.
const UNKNOWN_METHOD: &str = "unknown";

/// Turns a request into a call. It is in flight until its response was sent or dropped, unless it streams.
pub(in crate::server) async fn begin<S>(
    arriving: Arriving,
    inner: S,
) -> Result<Response<Body>, Infallible>
where
    S: Service<Begun, Response = Response<Body>, Error = Infallible>,
{
    let (begun, counted) = begun(arriving);
    let response = inner.oneshot(begun).await?;
    Ok(response.map(|body| body.counted(counted)))
}

/// Turns a request into a call, and counts it unless it streams.
pub(super) fn begun(arriving: Arriving) -> (Begun, Option<Counted>) {
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
    (Begun(Box::new(state)), counted)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{Fixture, LOGIN, WATCH_EVENTS, answer, grpc};

    #[tokio::test]
    async fn a_call_of_a_known_method_has_the_request_id_of_its_caller() {
        let (fixture, id) = (Fixture::new("").await, uuid::Uuid::from_u128(7));
        let inner = service_fn(async |begun: Begun| {
            let state = begun.0;
            let known = state.route.is_ok();
            assert_eq!(state.call.method, if known { LOGIN } else { UNKNOWN_METHOD });
            assert_eq!(state.call.request_id == id, known);
            Ok::<_, Infallible>(answer())
        });
        let named = grpc(LOGIN).header(request_id::HEADER, id.to_string());
        begin(fixture.arriving(named), inner).await.unwrap();
        begin(fixture.arriving(grpc("/a.B/C")), inner).await.unwrap();
    }

    #[tokio::test]
    async fn a_drain_waits_for_calls_and_not_for_streams() {
        let fixture = Fixture::new("").await;
        assert!(begun(fixture.arriving(grpc(LOGIN))).1.is_some());
        assert!(begun(fixture.arriving(grpc(WATCH_EVENTS))).1.is_none());
    }
}
