//! Who calls. Inside audit and panic catch, so that a refused credential is counted and a fault in a verifier answers.

use http::HeaderMap;

use crate::access::authn::PeerCertificate;
use crate::access::principal::Caller;
use crate::app::App;
use crate::error::Error;

/// The caller, or none where no credential was sent.
pub fn caller(
    app: &App,
    headers: &HeaderMap,
    certificate: Option<&PeerCertificate>,
) -> Result<Option<Caller>, Error> {
    app.authn.authenticate(headers, certificate, &app.snapshot)
}
