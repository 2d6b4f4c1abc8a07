//! What may be registered: names, endpoints, certificates, metadata.

use std::net::Ipv6Addr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::Error;
use crate::secret::Secret;

/// Most characters of a name.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Most characters of an endpoint.
pub const ENDPOINT_CHARACTERS_MAX: usize = 260;
/// Most bytes of a certificate or key.
pub const PEM_BYTES_MAX: usize = 65_536;
/// Most characters of a token.
pub const TOKEN_CHARACTERS_MAX: usize = 8_192;
/// Most bytes of the metadata.
pub const METADATA_BYTES_MAX: usize = 16_384;
/// Most characters of a description.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;

/// What `runtime` in the metadata may say, in any case; it is kept in lower case.
pub const RUNTIMES: [&str; 3] = ["docker", "kubernetes", "libkrun"];

/// The name of a gateway, which is also good as the first label of an authority where it is in lower case.
pub fn name(field: &str, text: &str) -> Result<String, Error> {
    let good = text.len() <= NAME_CHARACTERS_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !good {
        let why = "must be a letter or digit, then up to 252 of letters, digits, `.`, `_` and `-`";
        return Err(Error::invalid(field, why));
    }
    Ok(text.to_owned())
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// From `host:port`; an IPv6 address stands in brackets. No scheme, no path, no user.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(field, "must be `host:port`, an IPv6 address in brackets");
        if text.len() > ENDPOINT_CHARACTERS_MAX {
            let why =
                format!("must be at most {ENDPOINT_CHARACTERS_MAX} characters, got {}", text.len());
            return Err(Error::invalid(field, why));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
        let port = Some(port)
            .filter(|_| digits)
            .and_then(|port| port.parse().ok())
            .filter(|port| *port > 0);
        let port =
            port.ok_or_else(|| Error::invalid(field, "must have a port between 1 and 65535"))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string(),
            None if is_host(host) => host.to_ascii_lowercase(),
            None => return Err(bad()),
        };
        Ok(Self { host, port })
    }

    /// As it is stored and shown.
    #[must_use]
    pub fn shown(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// How a gateway is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// From what is stored.
    pub fn stored(text: &str) -> Result<Self, Error> {
        match text {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            other => Err(Error::internal(format!("unknown scheme {other}"))),
        }
    }
}

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

fn within(field: &str, pem: &[u8]) -> Result<(), Error> {
    if pem.len() > PEM_BYTES_MAX {
        let why = format!("must be at most {PEM_BYTES_MAX} bytes, got {}", pem.len());
        return Err(Error::invalid(field, why));
    }
    Ok(())
}

/// The certificates of a PEM text; at least one.
pub fn certificates(field: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    within(field, pem)?;
    let bad = || Error::invalid(field, "must be one or more certificates in PEM");
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| bad())?;
    let readable = |der: &CertificateDer<'_>| x509_parser::parse_x509_certificate(der).is_ok();
    if found.is_empty() || !found.iter().all(readable) {
        return Err(bad());
    }
    Ok(found)
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

/// The metadata: a JSON object.
pub fn metadata(field: &str, text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > METADATA_BYTES_MAX {
        let why = format!("must be at most {METADATA_BYTES_MAX} bytes, got {}", text.len());
        return Err(Error::invalid(field, why));
    }
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| Error::invalid(field, "must be a JSON object"))?;
    if let Some(runtime) = object.get_mut("runtime") {
        let name = runtime.as_str().map(str::to_ascii_lowercase).unwrap_or_default();
        if !RUNTIMES.contains(&name.as_str()) {
            let why = format!("has a `runtime` that is none of {}", RUNTIMES.join(", "));
            return Err(Error::invalid(field, why));
        }
        *runtime = name.into();
    }
    serde_json::to_string(&object).map(Some).map_err(Error::internal)
}

/// The description.
pub fn description(field: &str, text: &str) -> Result<Option<String>, Error> {
    let count = text.chars().count();
    if count > DESCRIPTION_CHARACTERS_MAX {
        let why = format!("must be at most {DESCRIPTION_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid(field, why));
    }
    Ok((count > 0).then(|| text.to_owned()))
}

/// A secret of a request: bytes that must be text.
pub fn secret(field: &str, bytes: &[u8]) -> Result<Option<Secret>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid(field, "must be PEM text"))?;
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_host_and_a_port_and_nothing_else() {
        let shown = |text: &str| Endpoint::parse("endpoint", text).map(|e| e.shown());
        assert_eq!(shown("Gate.Example.com:443").unwrap(), "gate.example.com:443");
        assert_eq!(shown("[2001:DB8::1]:8080").unwrap(), "[2001:db8::1]:8080");
        assert_eq!(shown("10.0.0.1:65535").unwrap(), "10.0.0.1:65535");
        for bad in [
            "",
            "host",
            "host:",
            ":443",
            "host:0",
            "host:65536",
            "host:+1",
            "https://host:443",
            "user@host:443",
            "host:443/path",
            "2001:db8::1:443",
            "[::1]",
            "[host]:443",
            "a b:443",
            "host\n:443",
            "..:443",
            &format!("{}:443", "a".repeat(64)),
        ] {
            assert!(shown(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_runtime_is_one_that_is_known() {
        let kept = metadata("metadata_json", r#"{"runtime": "Docker", "zone": 1}"#).unwrap();
        assert_eq!(kept.as_deref(), Some(r#"{"runtime":"docker","zone":1}"#));
        for bad in
            [r#"{"runtime": "podman"}"#, r#"{"runtime": ""}"#, r#"{"runtime": 1}"#, "[]", "{"]
        {
            assert!(metadata("metadata_json", bad).is_err(), "{bad}");
        }
        assert_eq!(metadata("metadata_json", "").unwrap(), None);
    }

    #[test]
    fn names_are_bounded() {
        assert!(name("name", &"a".repeat(NAME_CHARACTERS_MAX)).is_ok());
        for bad in ["", "-a", ".a", "a/b", "a b", "\u{e4}", &"a".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

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
