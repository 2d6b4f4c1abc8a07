//! What may be registered: names, endpoints, certificates, metadata.

use std::net::Ipv6Addr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::Error;
use crate::net::guard::is_loopback;
use crate::secret::Secret;

/// Most characters of a name.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Most characters of an endpoint.
pub const ENDPOINT_CHARACTERS_MAX: usize = 260;
/// Most bytes of a certificate or key.
pub const PEM_BYTES_MAX: usize = 65_536;
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

/// Most characters of a token URL.
pub const TOKEN_URL_CHARACTERS_MAX: usize = 2_000;
/// Most characters of a scope or an audience.
pub const SCOPE_CHARACTERS_MAX: usize = 1_000;

/// How tokens for a gateway are asked for at its identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcClient {
    /// The token endpoint.
    pub token_url: String,
    /// What is asked for, where something is.
    pub scope: Option<String>,
    /// Whom the token is for, where the provider wants to be told.
    pub audience: Option<String>,
}

impl OidcClient {
    /// From what a caller says. The URL is under https, unless it leads to this very machine.
    pub fn parse(token_url: &str, scope: &str, audience: &str) -> Result<Self, Error> {
        let uri = token_url.parse::<http::Uri>().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        let local = authority.is_some_and(|at| is_loopback(at.host()));
        let sound = token_url.len() <= TOKEN_URL_CHARACTERS_MAX
            && token_url.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\')
            && authority.is_some_and(|at| !at.as_str().contains('@'))
            && (token_url.starts_with("https://") || (local && token_url.starts_with("http://")));
        if !sound {
            let why = "must be an https URL of at most 2000 characters, without user and fragment";
            return Err(Error::invalid("oidc_client.token_url", why));
        }
        let text = |field: &str, text: &str| {
            if text.len() > SCOPE_CHARACTERS_MAX
                || !text.bytes().all(|b| (b' '..=b'~').contains(&b))
            {
                let why = format!("must be at most {SCOPE_CHARACTERS_MAX} ASCII characters");
                return Err(Error::invalid(format!("oidc_client.{field}"), why));
            }
            Ok((!text.is_empty()).then(|| text.to_owned()))
        };
        let (scope, audience) = (text("scope", scope)?, text("audience", audience)?);
        Ok(Self { token_url: token_url.to_owned(), scope, audience })
    }

    /// Host of the token URL: a name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn token_host(&self) -> Option<String> {
        let uri = self.token_url.parse::<http::Uri>().ok()?;
        Some(uri.host()?.trim_matches(['[', ']']).to_owned())
    }
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

pub(super) fn within(field: &str, pem: &[u8]) -> Result<(), Error> {
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
    fn tokens_are_fetched_under_https() {
        let parse = |url: &str| OidcClient::parse(url, "openid", "");
        assert!(parse("https://id.example.com/token").is_ok());
        assert!(parse("http://127.0.0.1:8080/token").is_ok());
        for bad in [
            "",
            "http://id.example.com/token",
            "ftp://127.0.0.1/token",
            "https://user@id.example.com/token",
            "https://id.example.com/token#a",
            "https:///token",
            &format!("https://id.example.com/{}", "a".repeat(TOKEN_URL_CHARACTERS_MAX)),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(OidcClient::parse("https://a/b", "a\nb", "").is_err());
    }

    #[test]
    fn names_are_bounded() {
        assert!(name("name", &"a".repeat(NAME_CHARACTERS_MAX)).is_ok());
        for bad in ["", "-a", ".a", "a/b", "a b", "\u{e4}", &"a".repeat(NAME_CHARACTERS_MAX + 1)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }
}
