//! Reads the deadline of the caller, and refuses calls that arrive while the server stops.

use crate::error::{Error, Reason};
use crate::net::deadline;
use crate::server::stages::{AdmittedCall, CallFailure};

/// Reads `grpc-timeout`. The code that waits for the response enforces it.
pub(in crate::server) fn bound(mut admitted: AdmittedCall) -> Result<AdmittedCall, CallFailure> {
    let AdmittedCall { state, route } = &mut admitted;
    let route = *route;
    let refuse = |error| CallFailure::Refused(error, Some(route));
    let deadline = deadline::from_headers(state.request.headers(), state.call.started);
    state.call.deadline = deadline.map_err(refuse)?;
    if state.shared.app.stop.is_cancelled() {
        return Err(refuse(Error::unavailable(Reason::Draining, "the server is stopping")));
    }
    Ok(admitted)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::server::layers::fixture::{Fixture, LIST_GATEWAYS, grpc_request, refusal};

    #[tokio::test(flavor = "multi_thread")]
    async fn the_grpc_timeout_of_the_caller_sets_the_deadline_of_the_call() {
        let fixture = Fixture::new("").await;
        let call = fixture.admitted(grpc_request(LIST_GATEWAYS).header("grpc-timeout", "3S"));
        let deadline = bound(call).unwrap().state.call.deadline.unwrap();
        assert!(deadline <= Instant::now() + Duration::from_secs(3));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_invalid_timeout_or_a_draining_server_refuses_the_call() {
        let fixture = Fixture::new("").await;
        let bad = fixture.admitted(grpc_request(LIST_GATEWAYS).header("grpc-timeout", "soon"));
        let (error, route) = refusal(bound(bad));
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert_eq!(route.unwrap().path(), LIST_GATEWAYS);
        fixture.shared.app.stop.cancel();
        let (error, _) = refusal(bound(fixture.admitted(grpc_request(LIST_GATEWAYS))));
        assert!(matches!(error, Error::Unavailable { reason: Reason::Draining, .. }), "{error}");
    }
}
