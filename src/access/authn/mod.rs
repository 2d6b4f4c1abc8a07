//! Authenticates the caller of a request. One credential per call (T19).

mod foreign;
pub mod hash_turns;
pub mod password;
pub mod token;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

use super::principal::{Caller, PrincipalId};
use super::snapshot::Snapshot;
use crate::clock::Timestamp;
use crate::error::{Error, Reason};
use crate::net::dn::DistinguishedName;
use crate::oidc::claims::Claims;
use crate::oidc::verify::TOKEN_BYTES_MAX;
use crate::oidc::{Oidc, Provider};
use token::TokenKeys;

/// Headers of Shoreguard that a caller can send, each at most once.
pub const OWN_HEADERS: [&str; 2] = ["x-shoreguard-gateway", "x-request-id"];

const SCHEME: &str = "bearer";

/// Maximum length of `authorization`, in bytes: the scheme, a space, and the longest token that an exchange accepts
/// too.
pub const CREDENTIAL_BYTES_MAX: usize = SCHEME.len() + 1 + TOKEN_BYTES_MAX;

/// Fields of a client certificate that the mapping uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Distinguished name of the issuer.
    pub issuer: DistinguishedName,
    /// All subject alternative names, as `DNS:`, `URI:` or `email:` and the value.
    pub names: Vec<String>,
    /// End of its validity. The handshake checks it once; each call on the connection checks it again.
    pub ends_at: Timestamp,
}

/// Mapping of a certificate to a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// Full distinguished name of the issuer.
    pub issuer: DistinguishedName,
    /// The whole subject alternative name, such as `URI:spiffe://example/ci`.
    pub san: String,
    /// The principal by its permanent id: a principal that is created again under the same name inherits nothing.
    pub principal: PrincipalId,
}

/// Verifies credentials against the snapshot.
#[derive(Debug)]
pub struct Authn {
    /// Keys of Shoreguard's own tokens.
    pub tokens: TokenKeys,
    /// Certificates that authenticate callers.
    pub certificates: Vec<CertificateIdentity>,
    /// Issuers whose tokens can be used directly.
    pub oidc: Arc<Oidc>,
}

/// Why a caller is not authenticated.
#[derive(Debug)]
pub enum AuthnError {
    /// The credential is refused.
    Refused(Error),
    /// The keys of the token's issuer are not cached. Retry with the claims once the token was verified.
    KeysNotCached(Arc<Provider>, String),
}

impl From<Error> for AuthnError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Authn {
    /// Returns the caller of a request, or `None` if no credential was sent. Only uses memory. `claims` are the claims
    /// of a token that was verified elsewhere after [`AuthnError::KeysNotCached`].
    ///
    /// # Errors
    /// `CREDENTIAL_AMBIGUOUS` for more than one credential, for a certificate that maps to more than one principal, or
    /// for a repeated header of Shoreguard; `CREDENTIAL_INVALID` for an invalid credential; `Invalid` for a credential
    /// of more than [`CREDENTIAL_BYTES_MAX`] bytes; `ACCESS_STALE` if the credential cannot be checked with fresh data.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
        snapshot: &Snapshot,
        claims: Option<&Claims>,
    ) -> Result<Option<Caller>, AuthnError> {
        let twice = |name: &str| headers.get_all(name).iter().nth(1).is_some();
        if twice(AUTHORIZATION.as_str()) || OWN_HEADERS.iter().any(|name| twice(name)) {
            return Err(Error::Unauthenticated { reason: Reason::CredentialAmbiguous }.into());
        }
        let header = headers.get(AUTHORIZATION);
        let mapped = match certificate {
            None => None,
            Some(certificate) => {
                self.certificate_principal(certificate)?.map(|id| (id, certificate.ends_at))
            }
        };
        if header.is_none() && mapped.is_none() {
            return Ok(None);
        }
        snapshot.check_fresh()?;
        let invalid = || Error::Unauthenticated { reason: Reason::CredentialInvalid };
        let by_certificate = match mapped {
            None => None,
            Some((id, ends_at)) => {
                Some(snapshot.caller_by_certificate(id, ends_at).ok_or_else(invalid)?)
            }
        };
        let by_token = match header {
            None => None,
            Some(value) => {
                let token = parse_bearer(value.as_bytes())?.ok_or_else(invalid)?;
                Some(self.verify_token(token, snapshot, claims)?.ok_or_else(invalid)?)
            }
        };
        match (by_certificate, by_token) {
            (Some(a), Some(b)) if a.principal() != b.principal() => {
                Err(Error::Unauthenticated { reason: Reason::CredentialAmbiguous }.into())
            }
            // Both belong to the same principal; the caller expires with the first of them.
            (Some(certificate), Some(token)) => Ok(Some(match certificate.expires_at() {
                None => token,
                Some(at) => token.expiring_by(at),
            })),
            (certificate, token) => Ok(token.or(certificate)),
        }
    }

    /// Returns the holder of an API key, or `None` if the key is not valid.
    #[must_use]
    pub fn verify_api_key(&self, key: &str, snapshot: &Snapshot) -> Option<Caller> {
        snapshot.caller_by_key_hash(&Sha256::digest(key.as_bytes()).into())
    }

    /// Returns the principal that a certificate maps to. The order of the configuration does not matter: a certificate
    /// whose names map to different principals is refused (T19).
    fn certificate_principal(
        &self,
        certificate: &PeerCertificate,
    ) -> Result<Option<PrincipalId>, Error> {
        let mut stands_for = None;
        for identity in &self.certificates {
            if identity.issuer != certificate.issuer || !certificate.names.contains(&identity.san) {
                continue;
            }
            if stands_for.is_some_and(|found| found != identity.principal) {
                return Err(Error::Unauthenticated { reason: Reason::CredentialAmbiguous });
            }
            stands_for = Some(identity.principal);
        }
        Ok(stands_for)
    }

    fn verify_token(
        &self,
        token: &str,
        snapshot: &Snapshot,
        claims: Option<&Claims>,
    ) -> Result<Option<Caller>, AuthnError> {
        // A token has two dots; an API key, which is base64url, has none.
        if !token.contains('.') {
            return Ok(self.verify_api_key(token, snapshot));
        }
        match self.tokens.verify(token, snapshot) {
            Some(caller) => Ok(Some(caller)),
            None => foreign::authenticate(&self.oidc, token, snapshot, claims),
        }
    }
}

/// Returns the token of `Bearer TOKEN`; the scheme is case-insensitive, with one space after it. `None` if the value
/// has another form.
///
/// # Errors
/// `Invalid` if the value is too long.
fn parse_bearer(value: &[u8]) -> Result<Option<&str>, Error> {
    let size = value.len();
    if size > CREDENTIAL_BYTES_MAX {
        let why = format!(
            "is too long: it must have at most {CREDENTIAL_BYTES_MAX} bytes, got {size}; let the issuer put fewer \
             claims into the token"
        );
        return Err(Error::invalid("authorization", why));
    }
    let parts = std::str::from_utf8(value).ok().and_then(|value| value.split_once(' '));
    let is_plain = |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let bearer =
        parts.filter(|(scheme, token)| scheme.eq_ignore_ascii_case(SCHEME) && is_plain(token));
    Ok(bearer.map(|(_, token)| token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_well_formed_bearer_token_is_parsed() {
        assert_eq!(parse_bearer(b"Bearer abc").unwrap(), Some("abc"));
        assert_eq!(parse_bearer(b"bEARER abc").unwrap(), Some("abc"));
        for bad in
            ["Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer  a", "abc", "Bearer \u{e9}"]
        {
            assert_eq!(parse_bearer(bad.as_bytes()).unwrap(), None, "{bad}");
        }
        let at_the_limit = format!("Bearer {}", "a".repeat(TOKEN_BYTES_MAX));
        assert!(parse_bearer(at_the_limit.as_bytes()).unwrap().is_some());
        let refused = parse_bearer(format!("{at_the_limit}a").as_bytes()).unwrap_err().to_string();
        assert!(refused.contains("is too long"), "{refused}");
    }
}
