//! Addresses of a gateway and its identity provider: endpoints, schemes, token URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::net::loopback::is_loopback_host;
use crate::net::without_brackets;
use crate::words;

/// Maximum length of an endpoint, in characters.
pub const ENDPOINT_CHARACTERS_MAX: usize = 260;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// Parses `host:port`, with an IPv6 address in brackets. No scheme, path or user is allowed. An address has one
    /// form, so that a gateway with a rule gets no second name by another spelling of its address (T01).
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
            Some(inner) => {
                let address = inner.parse::<Ipv6Addr>().map_err(|_| bad())?;
                IpAddr::V6(address).to_canonical().to_string()
            }
            None if is_host(host) => one_form(host).ok_or_else(|| {
                let why =
                    "must have a name as its host, or an IPv4 address of four decimal numbers";
                Error::invalid(field, why)
            })?,
            None => return Err(bad()),
        };
        Ok(Self { host, port })
    }

    /// Returns the stored and displayed form.
    #[must_use]
    pub fn display(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Returns the stored form of an endpoint without and with the dot at the end of its host, which name the same host.
#[must_use]
pub fn spellings(endpoint: &str) -> (String, String) {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
    let host = host.strip_suffix('.').unwrap_or(host);
    (format!("{host}:{port}"), format!("{host}.:{port}"))
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// Returns a name in lower case, or an IPv4 address. Returns `None` for a number that is no such address: systems read
/// `127.1`, `2130706433` and `0x7f000001` as addresses.
fn one_form(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let name = host.strip_suffix('.').unwrap_or(&host);
    let last = name.rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    };
    if is_number {
        return name.parse::<Ipv4Addr>().ok().map(|address| address.to_string());
    }
    Some(host)
}

/// Maximum length of a token URL, in characters.
pub const TOKEN_URL_CHARACTERS_MAX: usize = 2_000;
/// Maximum length of a scope or an audience, in characters.
pub const SCOPE_CHARACTERS_MAX: usize = 1_000;

/// How tokens for a gateway are requested from its identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcClient {
    /// The token endpoint.
    pub token_url: String,
    /// Requested scope; `None` if not configured.
    pub scope: Option<String>,
    /// Requested audience; `None` if not configured.
    pub audience: Option<String>,
}

impl OidcClient {
    /// Parses a caller's input. The URL must use https unless its host is loopback.
    pub fn parse(token_url: &str, scope: &str, audience: &str) -> Result<Self, Error> {
        let uri = token_url.parse::<http::Uri>().ok();
        let authority = uri.as_ref().and_then(http::Uri::authority);
        let local = authority.is_some_and(|at| is_loopback_host(at.host()));
        let sound = token_url.len() <= TOKEN_URL_CHARACTERS_MAX
            && token_url.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'\\')
            && authority.is_some_and(|at| !at.as_str().contains('@'))
            && (token_url.starts_with("https://") || (local && token_url.starts_with("http://")));
        if !sound {
            let why = "must be an https URL (http only for loopback) of at most 2000 ASCII characters, without user and \
                       fragment";
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

    /// Returns the host of the token URL: a name, an IPv4 address, or an IPv6 address without brackets.
    #[must_use]
    pub fn token_host(&self) -> Option<String> {
        let uri = self.token_url.parse::<http::Uri>().ok()?;
        Some(without_brackets(uri.host()?).to_owned())
    }
}

words! {
    /// Transport of a gateway.
    pub enum Scheme {
        /// Without TLS.
        Http = "http",
        /// With TLS.
        Https = "https",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_host_are_found_from_either() {
        let both = ("gate.example:443".to_owned(), "gate.example.:443".to_owned());
        for endpoint in ["gate.example:443", "gate.example.:443"] {
            let displayed = Endpoint::parse("endpoint", endpoint).unwrap().display();
            assert_eq!(spellings(&displayed), both, "{endpoint}");
        }
        assert_eq!(spellings("[::1]:443").0, "[::1]:443");
    }

    #[test]
    fn an_endpoint_is_only_a_host_and_a_port() {
        let display = |text: &str| Endpoint::parse("endpoint", text).map(|e| e.display());
        assert_eq!(display("Gate.Example.com:443").unwrap(), "gate.example.com:443");
        assert_eq!(display("[2001:DB8::1]:8080").unwrap(), "[2001:db8::1]:8080");
        assert_eq!(display("10.0.0.1:65535").unwrap(), "10.0.0.1:65535");
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
            assert!(display(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn t01_an_address_has_one_form() {
        let display = |text: &str| Endpoint::parse("endpoint", text).map(|e| e.display());
        for same in ["127.0.0.1:80", "127.0.0.1.:80", "[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80"]
        {
            assert_eq!(display(same).unwrap(), "127.0.0.1:80", "{same}");
        }
        assert_eq!(display("[0:0::1]:80").unwrap(), "[::1]:80");
        for name in ["1a.example:80", "0xg:80", "7f-1:80", "1.example.:80"] {
            assert_eq!(display(name).unwrap(), name);
        }
        for number in [
            "127.1:80",
            "127.1.:80",
            "2130706433:80",
            "0x7f000001:80",
            "0X7F.0x1:80",
            "127.0.0.01:80",
            "127.0.0.1.1:80",
            "127.0.0.256:80",
            "host.0x:80",
        ] {
            assert!(display(number).is_err(), "{number}");
        }
    }

    #[test]
    fn a_token_url_must_be_https_or_loopback() {
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
}
