//! Limits on open calls: in total, of one address, and of one caller.
//!
//! A rate limits what a caller sends; these limit what it holds. The shares of a call are returned when its response
//! was read or its stream has ended.

use std::net::IpAddr;
use std::sync::Arc;

use http::Response;
use tower::Service;

use super::gate::Route;
use crate::access::policy::{Method, StreamingMode};
use crate::access::principal::Caller;
use crate::config::Limits;
use crate::error::{Error, Reason};
use crate::fair::{FairLimit, LimitHolder, LimitShare, MemoryAccount, RETRY_IN, too_many_bytes};
use crate::server::body::Body;
use crate::server::stages::{AdmittedCall, CallFailure, CallState, GatedCall, IdentifiedCall};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Counts a call for its caller, or for its address if it has no credential.
pub(in crate::server) fn count(identified: IdentifiedCall) -> Result<IdentifiedCall, CallFailure> {
    let IdentifiedCall(mut state) = identified;
    let CallState { shared, ip, call, shares, .. } = &mut *state;
    match shared.open_calls.count_for_caller(shares, *ip, call.caller.as_ref()) {
        Ok(()) => Ok(IdentifiedCall(state)),
        Err(error) => Err(state.into_failure(error)),
    }
}

/// Counts a stream of Shoreguard's own API, and opens the account of the bytes that the call holds. Both are released
/// when the response was read.
pub(in crate::server) async fn reserve<S>(
    gated: GatedCall,
    mut inner: S,
) -> Result<Response<Body>, CallFailure>
where
    S: Service<AdmittedCall, Response = Response<Body>, Error = CallFailure>,
{
    let GatedCall { mut state, route } = gated;
    let CallState { shared, ip, call, shares, .. } = &mut *state;
    let refuse = |error| CallFailure::Refused(error, Some(route));
    let (open_calls, caller) = (&shared.open_calls, call.caller.as_ref());
    open_calls.count_stream(shares, *ip, caller, &route).map_err(refuse)?;
    let memory = open_calls.open_memory_account(*ip, caller).map_err(refuse)?;
    call.memory = Some(memory.clone());
    let shares = std::mem::take(shares);
    let response = inner.call(AdmittedCall { state, route }).await?;
    Ok(response.map(|body| body.with_shares(shares, Some(memory))))
}

/// Limits that all calls of this process share.
#[derive(Debug)]
pub struct OpenCalls {
    /// Calls, in total and of one address.
    addresses: Arc<FairLimit>,
    /// Calls of one authenticated caller.
    principals: Arc<FairLimit>,
    /// Calls without a credential, of one address.
    anonymous: Arc<FairLimit>,
    /// Streams of Shoreguard's own API, of one caller or, without a credential, of one address.
    streams: Arc<FairLimit>,
    /// Bytes of requests and responses, in total and of one caller or address.
    bytes: Arc<FairLimit>,
}

/// Shares that one call has taken.
#[derive(Debug, Default)]
pub struct Shares {
    calls: [Option<LimitShare>; 2],
    stream: Option<LimitShare>,
}

impl OpenCalls {
    /// Sets the configured limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            addresses: FairLimit::new(limits.calls_max.into(), limits.calls_per_address.into()),
            principals: FairLimit::new(0, limits.calls_per_principal.into()),
            anonymous: FairLimit::new(0, limits.anonymous_calls_per_address.into()),
            streams: FairLimit::new(0, limits.streams_per_caller.into()),
            bytes: FairLimit::new(limits.held_mib_max * MIB, limits.held_mib_per_caller * MIB),
        }
    }

    /// Counts a call for its address, before authentication.
    ///
    /// # Errors
    /// `TOO_MANY_CALLS`.
    pub fn count_for_address(&self, shares: &mut Shares, address: IpAddr) -> Result<(), Error> {
        shares.calls[0] = Some(take_share(&self.addresses, LimitHolder::from_address(address))?);
        Ok(())
    }

    /// Counts a call for its caller, or for its address if it has no credential.
    ///
    /// # Errors
    /// `TOO_MANY_CALLS`.
    pub fn count_for_caller(
        &self,
        shares: &mut Shares,
        address: IpAddr,
        caller: Option<&Caller>,
    ) -> Result<(), Error> {
        let limit = if caller.is_some() { &self.principals } else { &self.anonymous };
        shares.calls[1] = Some(take_share(limit, holder_of(address, caller))?);
        Ok(())
    }

    /// Counts a stream of Shoreguard's own API, including health and reflection. Proxied streams have their limits
    /// where their connections are opened.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn count_stream(
        &self,
        shares: &mut Shares,
        address: IpAddr,
        caller: Option<&Caller>,
        route: &Route,
    ) -> Result<(), Error> {
        let streams = match route {
            Route::Own(Method { streaming, .. }) => *streaming != StreamingMode::Unary,
            Route::Open(_) => true,
            Route::Proxied { .. } => false,
        };
        if streams {
            let share = self.streams.acquire(holder_of(address, caller), 1);
            let full = |_| Error::Exhausted { reason: Reason::TooManyStreams, retry_in: RETRY_IN };
            shares.stream = Some(share.map_err(full)?);
        }
        Ok(())
    }

    /// Opens the account of the bytes that a call holds.
    ///
    /// # Errors
    /// `TOO_MANY_BYTES`.
    pub fn open_memory_account(
        &self,
        address: IpAddr,
        caller: Option<&Caller>,
    ) -> Result<MemoryAccount, Error> {
        MemoryAccount::new(&self.bytes, holder_of(address, caller)).map_err(|_| too_many_bytes())
    }
}

fn holder_of(address: IpAddr, caller: Option<&Caller>) -> LimitHolder {
    caller.map_or_else(
        || LimitHolder::from_address(address),
        |caller| LimitHolder::Principal(caller.principal()),
    )
}

fn take_share(limit: &Arc<FairLimit>, holder: LimitHolder) -> Result<LimitShare, Error> {
    let full = |_| Error::Exhausted { reason: Reason::TooManyCalls, retry_in: RETRY_IN };
    limit.acquire(holder, 1).map_err(full)
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{
        Fixture, LIST_GATEWAYS, WATCH_EVENTS, empty_response, grpc_request, refusal,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn an_anonymous_call_counts_for_its_address_until_it_is_dropped() {
        let fixture = Fixture::new("[limits]\nanonymous_calls_per_address = 1").await;
        let identified = || fixture.identified(grpc_request(LIST_GATEWAYS));
        for _ in 0..2 {
            let _open = count(identified()).unwrap();
            let (error, _) = refusal(count(identified()));
            let full = Reason::TooManyCalls;
            assert!(matches!(error, Error::Exhausted { reason, .. } if reason == full), "{error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_counts_until_its_response_is_dropped() {
        let fixture = Fixture::new("[limits]\nstreams_per_caller = 1").await;
        let inner = service_fn(async |admitted: AdmittedCall| {
            assert!(admitted.state.call.memory.is_some());
            Ok(empty_response())
        });
        let open = reserve(fixture.gated(grpc_request(WATCH_EVENTS)), inner).await.unwrap();
        let (error, _) = refusal(reserve(fixture.gated(grpc_request(WATCH_EVENTS)), inner).await);
        let full = Reason::TooManyStreams;
        assert!(matches!(error, Error::Exhausted { reason, .. } if reason == full), "{error}");
        reserve(fixture.gated(grpc_request(LIST_GATEWAYS)), inner).await.unwrap();
        drop(open);
        reserve(fixture.gated(grpc_request(WATCH_EVENTS)), inner).await.unwrap();
    }
}
