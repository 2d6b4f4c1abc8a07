//! Authenticates the caller. Inside audit and panic catch, so that a refused credential is counted and a panic in a
//! verifier gets a response.
//!
//! All but one kind of credential is verified on the core, from memory. A token of an OIDC issuer whose keys are not
//! cached is sent to main once; `oidc::cache` limits how often keys are fetched, for all callers together.

use std::sync::Arc;

use http::{HeaderMap, Response};
use tower::Service;
use tracing::debug;

use crate::access::authn::{AuthnError, PeerCertificate};
use crate::access::principal::Caller;
use crate::app::App;
use crate::error::{Error, Reason};
use crate::oidc::provider;
use crate::server::body::Body;
use crate::server::stages::{CallFailure, IdentifiedCall, StartedCall};

/// Authenticates the caller. From then on, a refusal of the call is recorded however the call ends.
pub(in crate::server) async fn identify<S>(
    started: StartedCall,
    mut inner: S,
) -> Result<Response<Body>, CallFailure>
where
    S: Service<IdentifiedCall, Response = Response<Body>, Error = CallFailure>,
{
    let StartedCall(mut state) = started;
    let certificate = state.peer.certificate.as_ref();
    match authenticate(&state.shared.app, state.request.headers(), certificate).await {
        Ok(caller) => state.call.caller = caller,
        Err(error) => return Err(state.into_failure(error)),
    }
    state.call.record_refusals_on_drop(&state.shared.app);
    inner.call(IdentifiedCall(state)).await
}

/// Returns the caller, or `None` if no credential was sent.
async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    certificate: Option<&PeerCertificate>,
) -> Result<Option<Caller>, Error> {
    let invalid = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let (provider, token) = match app.authn.authenticate(headers, certificate, &app.snapshot, None)
    {
        Ok(caller) => return Ok(caller),
        Err(AuthnError::Refused(error)) => return Err(error),
        Err(AuthnError::KeysNotCached(provider, token)) => (provider, token),
    };
    let issuer = Arc::clone(&provider);
    let claims = app.spawn(async move { issuer.verify_access_token(&token).await }).await;
    let claims = match claims.map_err(Error::internal)? {
        Ok(claims) => claims,
        Err(provider::ProviderError::Unavailable(error)) => return Err(error),
        Err(provider::ProviderError::Refused(why)) => {
            debug!(provider = provider.config.name, why, "a token of an issuer is not accepted");
            return Err(invalid());
        }
    };
    match app.authn.authenticate(headers, certificate, &app.snapshot, Some(&claims)) {
        Ok(caller) => Ok(caller),
        Err(AuthnError::Refused(error)) => Err(error),
        Err(AuthnError::KeysNotCached(..)) => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use tower::service_fn;

    use super::*;
    use crate::server::layers::fixture::{
        Fixture, LIST_GATEWAYS, empty_response, grpc_request, refusal,
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_without_a_credential_has_no_caller() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |identified: IdentifiedCall| {
            assert!(identified.0.call.caller.is_none());
            Ok(empty_response())
        });
        identify(fixture.started(grpc_request(LIST_GATEWAYS)), inner).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unknown_credential_is_refused() {
        let fixture = Fixture::new("").await;
        let inner = service_fn(async |_: IdentifiedCall| panic!("it was called"));
        let call =
            fixture.started(grpc_request(LIST_GATEWAYS).header("authorization", "Bearer unknown"));
        let (error, route) = refusal(identify(call, inner).await);
        let invalid = Error::Unauthenticated { reason: Reason::CredentialInvalid };
        assert_eq!(error.to_string(), invalid.to_string());
        assert_eq!(route.unwrap().path(), LIST_GATEWAYS);
    }
}
