//! Limits on open calls: in total, of one address, and of one caller.
//!
//! A rate limits what a caller sends; these limit what it holds. The shares of a call are returned when its response
//! was read or its stream has ended.

use std::net::IpAddr;
use std::sync::Arc;

use http::Response;
use tower::{Service, ServiceExt};

use super::gate::Route;
use crate::access::policy::{Method, Streaming};
use crate::access::principal::Caller;
use crate::config::Limits;
use crate::error::{Error, Reason};
use crate::fair::{Held, Holder, Limit, RETRY_IN, Share, too_many_bytes};
use crate::server::body::Body;
use crate::server::stages::{Admitted, Failure, Gated, Identified, State};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Counts a call for its caller, or for its address if it has no credential.
pub(in crate::server) async fn count<S>(
    identified: Identified,
    inner: S,
) -> Result<Response<Body>, Failure>
where
    S: Service<Identified, Response = Response<Body>, Error = Failure>,
{
    let Identified(mut state) = identified;
    let State { shared, ip, call, shares, .. } = &mut *state;
    match shared.open_calls.identified(shares, *ip, call.caller.as_ref()) {
        Ok(()) => inner.oneshot(Identified(state)).await,
        Err(error) => Err(state.refused(error)),
    }
}

/// Counts a stream of Shoreguard's own API, and opens the account of the bytes that the call holds. Both are released
/// when the response was read.
pub(in crate::server) async fn hold<S>(gated: Gated, inner: S) -> Result<Response<Body>, Failure>
where
    S: Service<Admitted, Response = Response<Body>, Error = Failure>,
{
    let Gated { mut state, route } = gated;
    let State { shared, ip, call, shares, .. } = &mut *state;
    let refuse = |error| Failure::Refused(error, Some(route));
    let (open_calls, caller) = (&shared.open_calls, call.caller.as_ref());
    open_calls.routed(shares, *ip, caller, &route).map_err(refuse)?;
    let held = open_calls.held(*ip, caller).map_err(refuse)?;
    call.held = Some(held.clone());
    let shares = std::mem::take(shares);
    let response = inner.oneshot(Admitted { state, route }).await?;
    Ok(response.map(|body| body.holding(shares, Some(held))))
}

/// Limits that all calls of this process share.
#[derive(Debug)]
pub struct OpenCalls {
    /// Calls, in total and of one address.
    addresses: Arc<Limit>,
    /// Calls of one authenticated caller.
    principals: Arc<Limit>,
    /// Calls without a credential, of one address.
    anonymous: Arc<Limit>,
    /// Streams of Shoreguard's own API, of one caller or, without a credential, of one address.
    streams: Arc<Limit>,
    /// Bytes of requests and responses, in total and of one caller or address.
    bytes: Arc<Limit>,
}

/// Shares that one call has taken.
#[derive(Debug, Default)]
pub struct Shares {
    calls: [Option<Share>; 2],
    stream: Option<Share>,
}

impl OpenCalls {
    /// Sets the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            addresses: Limit::new(limits.calls_max.into(), limits.calls_per_address.into()),
            principals: Limit::new(0, limits.calls_per_principal.into()),
            anonymous: Limit::new(0, limits.anonymous_calls_per_address.into()),
            streams: Limit::new(0, limits.streams_per_caller.into()),
            bytes: Limit::new(limits.held_mib_max * MIB, limits.held_mib_per_caller * MIB),
        }
    }

    /// Counts a call for its address, before authentication.
    ///
    /// # Errors
    /// `TOO_MANY_CALLS`.
    pub fn arrived(&self, shares: &mut Shares, address: IpAddr) -> Result<(), Error> {
        shares.calls[0] = Some(take(&self.addresses, Holder::of_address(address))?);
        Ok(())
    }

    /// Counts a call for its caller, or for its address if it has no credential.
    ///
    /// # Errors
    /// `TOO_MANY_CALLS`.
    pub fn identified(
        &self,
        shares: &mut Shares,
        address: IpAddr,
        caller: Option<&Caller>,
    ) -> Result<(), Error> {
        let limit = if caller.is_some() { &self.principals } else { &self.anonymous };
        shares.calls[1] = Some(take(limit, holder(address, caller))?);
        Ok(())
    }

    /// Counts a stream of Shoreguard's own API, including health and reflection. Proxied streams have their limits
    /// where their connections are opened.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn routed(
        &self,
        shares: &mut Shares,
        address: IpAddr,
        caller: Option<&Caller>,
        route: &Route,
    ) -> Result<(), Error> {
        let streams = match route {
            Route::Own(Method { streaming, .. }) => *streaming != Streaming::Unary,
            Route::Open(_) => true,
            Route::Proxied { .. } => false,
        };
        if streams {
            let share = self.streams.take(holder(address, caller), 1);
            let full = |_| Error::Exhausted { reason: Reason::TooManyStreams, retry_in: RETRY_IN };
            shares.stream = Some(share.map_err(full)?);
        }
        Ok(())
    }

    /// Opens the account of the bytes that a call holds.
    ///
    /// # Errors
    /// `TOO_MANY_BYTES`.
    pub fn held(&self, address: IpAddr, caller: Option<&Caller>) -> Result<Held, Error> {
        Held::open(&self.bytes, holder(address, caller)).map_err(|_| too_many_bytes())
    }
}

fn holder(address: IpAddr, caller: Option<&Caller>) -> Holder {
    caller
        .map_or_else(|| Holder::of_address(address), |caller| Holder::Principal(caller.principal()))
}

fn take(limit: &Arc<Limit>, holder: Holder) -> Result<Share, Error> {
    let full = |_| Error::Exhausted { reason: Reason::TooManyCalls, retry_in: RETRY_IN };
    limit.take(holder, 1).map_err(full)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{
        Fixture, LIST_GATEWAYS, WATCH_EVENTS, answer, grpc, refusal,
    };

    #[tokio::test]
    async fn an_anonymous_call_counts_for_its_address_until_it_is_dropped() {
        let fixture = Fixture::new("[limits]\nanonymous_calls_per_address = 1").await;
        let inner = service_fn(async |identified: Identified| {
            // While this call is open, a second one exceeds the limit.
            let another = fixture.identified(grpc(LIST_GATEWAYS));
            let never = service_fn(async |_: Identified| panic!("it was called"));
            let (error, _) = refusal(count(another, never).await);
            let full = Reason::TooManyCalls;
            assert!(matches!(error, Error::Exhausted { reason, .. } if reason == full), "{error}");
            drop(identified);
            Ok(answer())
        });
        for _ in 0..2 {
            count(fixture.identified(grpc(LIST_GATEWAYS)), inner).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_stream_counts_until_its_response_is_dropped() {
        let fixture = Fixture::new("[limits]\nstreams_per_caller = 1").await;
        let inner = service_fn(async |admitted: Admitted| {
            assert!(admitted.state.call.held.is_some());
            Ok(answer())
        });
        let open = hold(fixture.gated(grpc(WATCH_EVENTS)), inner).await.unwrap();
        let (error, _) = refusal(hold(fixture.gated(grpc(WATCH_EVENTS)), inner).await);
        let full = Reason::TooManyStreams;
        assert!(matches!(error, Error::Exhausted { reason, .. } if reason == full), "{error}");
        hold(fixture.gated(grpc(LIST_GATEWAYS)), inner).await.unwrap();
        drop(open);
        hold(fixture.gated(grpc(WATCH_EVENTS)), inner).await.unwrap();
    }
}
