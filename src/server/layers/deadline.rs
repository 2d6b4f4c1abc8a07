//! The deadline that the caller has set, and the refusal of calls that come while the server stops.

use http::Response;
use tower::{Service, ServiceExt};

use crate::error::{Error, Reason};
use crate::net::deadline;
use crate::server::body::Body;
use crate::server::stages::{Admitted, Failure};

/// Reads `grpc-timeout`. What waits for the answer observes it.
pub(in crate::server) async fn bound<S>(
    mut admitted: Admitted,
    inner: S,
) -> Result<Response<Body>, Failure>
where
    S: Service<Admitted, Response = Response<Body>, Error = Failure>,
{
    let Admitted { state, route } = &mut admitted;
    let route = *route;
    let refuse = |error| Failure::Refused(error, Some(route));
    let deadline = deadline::deadline(state.request.headers(), state.call.started);
    state.call.deadline = deadline.map_err(refuse)?;
    if state.shared.app.stop.is_cancelled() {
        return Err(refuse(Error::unavailable(Reason::Draining, "the server is stopping")));
    }
    inner.oneshot(admitted).await
}
