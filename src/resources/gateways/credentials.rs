//! How we identify ourselves to a gateway: the modes, and what each needs.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::input::{Scheme, certificates, within};
use crate::error::Error;
use crate::secret::Secret;

/// Most characters of a token.
pub const TOKEN_CHARACTERS_MAX: usize = 8_192;

/// How we identify ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Not at all.
    None,
    /// By a client certificate.
    Mtls,
    /// By a token.
    Bearer,
}

impl AuthMode {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mtls => "mtls",
            Self::Bearer => "bearer",
        }
    }

    /// From what is stored; an old row without one has none.
    pub fn stored(text: Option<&str>) -> Result<Self, Error> {
        match text {
            None | Some("none") => Ok(Self::None),
            Some("mtls") => Ok(Self::Mtls),
            Some("bearer") => Ok(Self::Bearer),
            Some(other) => Err(Error::internal(format!("auth mode {other} is not spoken yet"))),
        }
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
        if let Some(token) = &self.bearer_token {
            let text = token.expose();
            if text.len() > TOKEN_CHARACTERS_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
                let why =
                    format!("must be at most {TOKEN_CHARACTERS_MAX} visible ASCII characters");
                return Err(Error::invalid("credentials.bearer_token", why));
            }
        }
        Ok(())
    }

    /// Refuses a set that the auth mode has no use for, or that lacks what it needs.
    pub fn fit(&self, mode: AuthMode, scheme: Scheme) -> Result<(), Error> {
        if mode == AuthMode::Mtls && scheme == Scheme::Http {
            return Err(Error::invalid("auth_mode", "`mtls` needs the scheme `https`"));
        }
        if (mode == AuthMode::Mtls) != self.client_key.is_some() {
            return Err(Error::invalid(
                "credentials.client_key",
                "goes with auth mode `mtls`, and must then be given",
            ));
        }
        if (mode == AuthMode::Bearer) != self.bearer_token.is_some() {
            return Err(Error::invalid(
                "credentials.bearer_token",
                "goes with auth mode `bearer`, and must then be given",
            ));
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
        } else {
            AuthMode::None
        }
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let field = "credentials.client_key";
    within(field, pem)?;
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
