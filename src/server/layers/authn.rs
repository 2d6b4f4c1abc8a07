//! Who calls. Inside audit and panic catch, so that a refused credential is counted and a fault in a verifier answers.
//!
//! All but one kind of credential is verified where the call arrives, from memory. A token of an OIDC issuer whose keys
//! are not at hand goes to main once, where keys are fetched as seldom as `oidc::cache` says, whoever asks.

use std::sync::Arc;

use http::HeaderMap;
use tracing::debug;

use crate::access::authn::{PeerCertificate, Unknown};
use crate::access::principal::Caller;
use crate::app::App;
use crate::error::{Error, Reason};
use crate::oidc::provider::Failure;

/// The caller, or none where no credential was sent.
pub async fn caller(
    app: &App,
    headers: &HeaderMap,
    certificate: Option<&PeerCertificate>,
) -> Result<Option<Caller>, Error> {
    let invalid = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
    let (provider, token) = match app.authn.authenticate(headers, certificate, &app.snapshot, None)
    {
        Ok(caller) => return Ok(caller),
        Err(Unknown::Refused(error)) => return Err(error),
        Err(Unknown::KeysWanted(provider, token)) => (provider, token),
    };
    let asked = Arc::clone(&provider);
    let claims = app.spawn(async move { asked.access(&token).await }).await;
    let claims = match claims.map_err(Error::internal)? {
        Ok(claims) => claims,
        Err(Failure::Away(error)) => return Err(error),
        Err(Failure::Refused(why)) => {
            debug!(provider = provider.config.name, why, "a token of an issuer is not taken");
            return Err(invalid());
        }
    };
    match app.authn.authenticate(headers, certificate, &app.snapshot, Some(&claims)) {
        Ok(caller) => Ok(caller),
        Err(Unknown::Refused(error)) => Err(error),
        Err(Unknown::KeysWanted(..)) => Err(invalid()),
    }
}
