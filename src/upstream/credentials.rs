//! How we identify ourselves to a gateway: the modes, and what each needs.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::endpoint::{OidcClient, Scheme};
use crate::error::Error;
use crate::net::x509::{certificates, check_size};
use crate::secret::Secret;
use crate::words;

/// Most characters of a token, and of an OIDC client's secret.
pub const TOKEN_CHARACTERS_MAX: usize = 8_192;
/// Most characters of an OIDC client's id.
pub const CLIENT_ID_CHARACTERS_MAX: usize = 255;

words! {
    /// How we identify ourselves.
    pub enum AuthMode {
        /// Not at all.
        None = "none",
        /// By a client certificate.
        Mtls = "mtls",
        /// By a token.
        Bearer = "bearer",
        /// By tokens that we fetch from its identity provider.
        OidcClient = "oidc_client",
    }
}

/// Secrets for a gateway, as a caller gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_key: Option<Secret>,
    /// For `authorization: Bearer`.
    pub bearer_token: Option<Secret>,
    /// Who fetches tokens.
    pub oidc_client_id: Option<String>,
    /// What it shows.
    pub oidc_client_secret: Option<Secret>,
}

impl Credentials {
    /// Refuses what no gateway could be reached with.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(cert) = &self.client_cert {
            certificates("credentials.client_cert", cert)?;
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
        visible(
            "bearer_token",
            self.bearer_token.as_ref().map(Secret::expose),
            TOKEN_CHARACTERS_MAX,
        )?;
        visible("oidc_client_id", self.oidc_client_id.as_deref(), CLIENT_ID_CHARACTERS_MAX)?;
        let secret = self.oidc_client_secret.as_ref().map(Secret::expose);
        visible("oidc_client_secret", secret, TOKEN_CHARACTERS_MAX)
    }

    /// Refuses a set that the auth mode has no use for, or that lacks what it needs.
    pub fn fit(&self, mode: AuthMode, scheme: Scheme) -> Result<(), Error> {
        if mode == AuthMode::Mtls && scheme == Scheme::Http {
            return Err(Error::invalid("auth_mode", "`mtls` needs the scheme `https`"));
        }
        for (field, of, given) in [
            ("client_key", AuthMode::Mtls, self.client_key.is_some()),
            ("bearer_token", AuthMode::Bearer, self.bearer_token.is_some()),
            ("oidc_client_secret", AuthMode::OidcClient, self.oidc_client_secret.is_some()),
        ] {
            if (mode == of) != given {
                let why = format!("goes with auth mode `{}`, and must then be given", of.as_str());
                return Err(Error::invalid(format!("credentials.{field}"), why));
            }
        }
        Ok(())
    }

    /// The auth mode that follows from what is given.
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

/// Refuses a token endpoint that the auth mode has no use for, or the lack of one.
pub fn fit_oidc(mode: AuthMode, client: Option<&OidcClient>) -> Result<(), Error> {
    if (mode == AuthMode::OidcClient) == client.is_some() {
        return Ok(());
    }
    let why = "goes with auth mode `oidc_client`, and must then be given";
    Err(Error::invalid("oidc_client.token_url", why))
}

fn visible(field: &str, text: Option<&str>, longest: usize) -> Result<(), Error> {
    let Some(text) = text else { return Ok(()) };
    // A client's id and secret may hold blanks (RFC 6749, appendix A); a token may not.
    let blank = field != "bearer_token";
    let fits = |b: u8| b.is_ascii_graphic() || (blank && b == b' ');
    if text.len() > longest || !text.bytes().all(fits) {
        let why = format!("must be at most {longest} visible ASCII characters");
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

/// How TLS is spoken to a gateway: under its own CA where it has one, else under the system's.
pub fn client_config(
    ca: Option<&[u8]>,
    identity: Option<(&[u8], &Secret)>,
) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        Some(pem) => {
            for der in certificates("ca_cert", pem)? {
                roots.add(der).map_err(|_| Error::invalid("ca_cert", "cannot be used as a CA"))?;
            }
        }
        None => {
            // What the system has that can't be read is no reason to trust less of the rest.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates("credentials.client_cert", cert)?;
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
    fn credentials_fit_their_mode() {
        let token = Credentials { bearer_token: Some(Secret::new("t")), ..Credentials::default() };
        assert!(token.fit(AuthMode::Bearer, Scheme::Http).is_ok());
        assert!(token.fit(AuthMode::None, Scheme::Http).is_err());
        assert!(Credentials::default().fit(AuthMode::Bearer, Scheme::Https).is_err());
        assert!(Credentials::default().fit(AuthMode::Mtls, Scheme::Https).is_err());
        let bad = Credentials { bearer_token: Some(Secret::new("a b")), ..Credentials::default() };
        assert!(bad.check().is_err());
    }
}
