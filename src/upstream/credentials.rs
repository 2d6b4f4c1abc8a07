//! Authentication of Shoreguard to a gateway: the modes, and the credentials that each requires.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::endpoint::{OidcClient, Scheme};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::net::roots::{client_tls, system_roots};
use crate::net::x509::{check_size, expiry, parse_certificates};
use crate::secret::Secret;
use crate::words;

/// Maximum length of a token and of an OIDC client secret, in characters.
pub const TOKEN_CHARACTERS_MAX: usize = 8_192;
/// Maximum length of an OIDC client id, in characters.
pub const CLIENT_ID_CHARACTERS_MAX: usize = 255;

words! {
    /// How Shoreguard authenticates to a gateway.
    pub enum AuthMode {
        /// No authentication.
        None = "none",
        /// Client certificate.
        Mtls = "mtls",
        /// Stored bearer token.
        Bearer = "bearer",
        /// Tokens fetched from the gateway's identity provider.
        OidcClient = "oidc_client",
    }
}

/// Credentials for a gateway, as given by a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_key: Option<Secret>,
    /// Token for `authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    /// Client id at the identity provider.
    pub oidc_client_id: Option<String>,
    /// Client secret at the identity provider.
    pub oidc_client_secret: Option<Secret>,
}

impl Credentials {
    /// Rejects malformed or incomplete credentials.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(cert) = &self.client_cert {
            parse_certificates("credentials.client_cert", cert)?;
        }
        if let Some(key) = &self.client_key {
            private_key(key.expose().as_bytes())?;
        }
        if self.client_cert.is_some() != self.client_key.is_some() {
            return Err(Error::invalid(
                "credentials",
                "needs `client_cert` and `client_key` together",
            ));
        }
        if self.oidc_client_id.is_some() != self.oidc_client_secret.is_some() {
            return Err(Error::invalid(
                "credentials",
                "needs `oidc_client_id` and `oidc_client_secret` together",
            ));
        }
        check_visible_ascii(
            "bearer_token",
            self.bearer_token.as_ref().map(Secret::expose),
            TOKEN_CHARACTERS_MAX,
        )?;
        check_visible_ascii(
            "oidc_client_id",
            self.oidc_client_id.as_deref(),
            CLIENT_ID_CHARACTERS_MAX,
        )?;
        let secret = self.oidc_client_secret.as_ref().map(Secret::expose);
        check_visible_ascii("oidc_client_secret", secret, TOKEN_CHARACTERS_MAX)
    }

    /// Rejects a client certificate if it, or a certificate of its chain, has expired: no gateway would accept it, and
    /// the error of the handshake does not name the cause.
    pub fn check_not_expired(&self, now: Timestamp) -> Result<(), Error> {
        let field = "credentials.client_cert";
        let Some(pem) = &self.client_cert else { return Ok(()) };
        for der in parse_certificates(field, pem)? {
            if let Some(at) = expiry(&der).filter(|at| *at < now) {
                let why =
                    format!("expired at {at}: replace it by a certificate that is still valid");
                return Err(Error::invalid(field, why));
            }
        }
        Ok(())
    }

    /// Rejects credentials that the auth mode does not use, and the lack of those that it requires.
    pub fn check_mode(&self, mode: AuthMode, scheme: Scheme) -> Result<(), Error> {
        if mode == AuthMode::Mtls && scheme == Scheme::Http {
            return Err(Error::invalid("auth_mode", "`mtls` needs the scheme `https`"));
        }
        for (field, of, given) in [
            ("client_key", AuthMode::Mtls, self.client_key.is_some()),
            ("bearer_token", AuthMode::Bearer, self.bearer_token.is_some()),
            ("oidc_client_secret", AuthMode::OidcClient, self.oidc_client_secret.is_some()),
        ] {
            if (mode == of) != given {
                let why = format!("must be set with auth mode `{}`, and only then", of.as_str());
                return Err(Error::invalid(format!("credentials.{field}"), why));
            }
        }
        Ok(())
    }

    /// Returns the auth mode that the given credentials imply.
    #[must_use]
    pub fn implied_mode(&self) -> AuthMode {
        if self.client_key.is_some() {
            AuthMode::Mtls
        } else if self.bearer_token.is_some() {
            AuthMode::Bearer
        } else if self.oidc_client_secret.is_some() {
            AuthMode::OidcClient
        } else {
            AuthMode::None
        }
    }
}

/// Rejects a token endpoint that the auth mode does not use, and the lack of a required one.
pub fn check_oidc_client(mode: AuthMode, client: Option<&OidcClient>) -> Result<(), Error> {
    if (mode == AuthMode::OidcClient) == client.is_some() {
        return Ok(());
    }
    let why = "must be set with auth mode `oidc_client`, and only then";
    Err(Error::invalid("oidc_client.token_url", why))
}

fn check_visible_ascii(field: &str, text: Option<&str>, length_max: usize) -> Result<(), Error> {
    let Some(text) = text else { return Ok(()) };
    // Client ids and secrets may contain spaces (RFC 6749, appendix A); a token may not.
    let blank = field != "bearer_token";
    let fits = |b: u8| b.is_ascii_graphic() || (blank && b == b' ');
    if text.len() > length_max || !text.bytes().all(fits) {
        let why = format!("must be at most {length_max} visible ASCII characters");
        return Err(Error::invalid(format!("credentials.{field}"), why));
    }
    Ok(())
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let field = "credentials.client_key";
    check_size(field, pem)?;
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| Error::invalid(field, "must be an unencrypted private key in PEM"))
}

/// Builds the TLS configuration for a gateway. Trusts only its own CA if it has one, otherwise the system's roots.
pub fn client_config(
    ca: Option<&[u8]>,
    identity: Option<(&[u8], &Secret)>,
) -> Result<Arc<ClientConfig>, Error> {
    let roots = match ca {
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for der in parse_certificates("ca_cert", pem)? {
                roots.add(der).map_err(|_| Error::invalid("ca_cert", "cannot be used as a CA"))?;
            }
            Arc::new(roots)
        }
        None => system_roots(),
    };
    let builder = client_tls(roots)?;
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = parse_certificates("credentials.client_cert", cert)?;
            let key = private_key(key.expose().as_bytes())?;
            builder.with_client_auth_cert(chain, key).map_err(|_| {
                Error::invalid("credentials", "`client_key` is not the key of `client_cert`")
            })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_must_match_the_authentication_mode() {
        let token = Credentials { bearer_token: Some(Secret::new("t")), ..Credentials::default() };
        assert!(token.check_mode(AuthMode::Bearer, Scheme::Http).is_ok());
        assert!(token.check_mode(AuthMode::None, Scheme::Http).is_err());
        assert!(Credentials::default().check_mode(AuthMode::Bearer, Scheme::Https).is_err());
        assert!(Credentials::default().check_mode(AuthMode::Mtls, Scheme::Https).is_err());
        let bad = Credentials { bearer_token: Some(Secret::new("a b")), ..Credentials::default() };
        assert!(bad.check().is_err());
    }
}
