//! The hosts under which browsers can call: those of the server, so that a page whose own host name was pointed at the
//! server afterwards (DNS rebinding) gets no response.
//!
//! Invariants
//! - a name that the server does not know is refused, since only names can be rebound. Of addresses, those on which the
//!   server listens are admitted: each one if it listens on all, since the server cannot know how it is reached. An
//!   unspecified address is refused: some systems connect it to loopback;
//! - addresses are compared as such, however they are written; ports are not compared, so that a forwarded port of
//!   loopback works;
//! - gRPC is not checked: its callers are no browsers, and its authority names gateways.

use std::fmt;
use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::config;
use crate::net::loopback::is_loopback_host;
use crate::net::without_brackets;

/// A host of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a host, with or without the brackets of IPv6.
    fn parse(text: &str) -> Self {
        match without_brackets(text).parse::<IpAddr>() {
            Ok(ip) => Self::Address(ip.to_canonical()),
            Err(_) => Self::Name(text.to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Hosts of the server, apart from loopback.
#[derive(Debug, Clone)]
pub struct OwnHosts {
    /// Those of `server.public_url` and of `server.browser_hosts`.
    known: Vec<Host>,
    listening: IpAddr,
}

impl OwnHosts {
    /// Uses the configured hosts.
    #[must_use]
    pub fn new(server: &config::Server) -> Self {
        let public = server.public_url().parse::<Uri>().ok();
        let public = public.as_ref().and_then(Uri::host).map(Host::parse);
        let others = server.browser_hosts.iter().map(|host| Host::parse(host));
        let known = public.into_iter().chain(others).collect();
        Self { known, listening: server.listen.ip().to_canonical() }
    }

    /// Returns whether a request names a host of the server, and no other host: in `:authority` or the request line,
    /// in `Host`, or in both.
    #[must_use]
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut named = usize::from(uri.authority().is_some());
        if uri.authority().is_some_and(|authority| !self.has(authority)) {
            return false;
        }
        for value in headers.get_all(HOST) {
            named += 1;
            let authority = Authority::try_from(value.as_bytes());
            if !authority.is_ok_and(|authority| self.has(&authority)) {
                return false;
            }
        }
        named > 0
    }

    fn has(&self, authority: &Authority) -> bool {
        let host = Host::parse(authority.host());
        let is_listening = match &host {
            Host::Name(name) => is_loopback_host(name),
            Host::Address(ip) if ip.is_unspecified() => return false,
            Host::Address(ip) => {
                ip.is_loopback() || *ip == self.listening || self.listening.is_unspecified()
            }
        };
        !authority.as_str().contains('@') && (is_listening || self.known.contains(&host))
    }
}

/// Returns the origin of the pages at a URL, as browsers write it (RFC 6454, section 6.2): with the address in its
/// shortest form, and without the port of the scheme. `None` if the URL has no host.
#[must_use]
pub fn origin_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    let host = Host::parse(authority.host());
    let default = if scheme == "https" { 443 } else { 80 };
    Some(match authority.port_u16().filter(|port| *port != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

/// Returns whether an origin is that of a page which the server itself has served on loopback, under any forwarded
/// port. Only for requests whose host was admitted.
#[must_use]
pub fn is_own_loopback(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let Some(host) = uri.authority().map(Authority::as_str).or(host) else { return false };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    is_loopback_host(authority.host()) && place == Some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn hosts(server: &str) -> OwnHosts {
        OwnHosts::new(&Config::from_toml(&format!("[server]\n{server}")).unwrap().server)
    }

    fn admitted(hosts: &OwnHosts, uri: &str, host: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in host {
            headers.append(HOST, value.parse().unwrap());
        }
        hosts.admit(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn only_hosts_of_the_server_are_admitted() {
        let own = hosts(
            "public_url = 'https://sg.example.com'\nlisten = '192.0.2.7:8443'\nallow_plaintext = true",
        );
        for (host, good) in [
            ("sg.example.com", true),
            ("SG.example.com:8443", true),
            ("192.0.2.7:8443", true),
            ("localhost:9000", true),
            ("127.0.0.1:8443", true),
            ("[::1]:8443", true),
            ("[0:0:0:0:0:0:0:1]:8443", true),
            ("[::ffff:192.0.2.7]:8443", true),
            ("evil.example.com", false),
            ("sg.example.com.evil.example.com", false),
            ("127.0.0.1.evil.example.com:8443", false),
            ("evil.localhost", false),
            ("sg.example.com@evil.example.com", false),
            ("localhost@127.0.0.1", false),
            ("192.0.2.8:8443", false),
            ("0.0.0.0:8443", false),
            ("sg.example.com.", false),
            ("", false),
        ] {
            assert_eq!(admitted(&own, "/a.B/C", &[host]), good, "{host}");
            let absolute = format!("http://{host}/a.B/C");
            if !host.is_empty() {
                assert_eq!(admitted(&own, &absolute, &[]), good, "{absolute}");
            }
        }
    }

    #[test]
    fn a_server_on_all_addresses_is_reached_under_each_of_them() {
        for listen in ["0.0.0.0:8443", "[::]:8443"] {
            let own = hosts(&format!("listen = '{listen}'\nallow_plaintext = true"));
            for (host, good) in [
                ("192.0.2.7:8443", true),
                ("[2001:db8::7]", true),
                ("localhost:8443", true),
                ("sg.example.com", false),
                ("0.0.0.0:8443", false),
                ("[::]:8443", false),
            ] {
                assert_eq!(admitted(&own, "/a.B/C", &[host]), good, "{listen} {host}");
            }
        }
    }

    #[test]
    fn other_hosts_can_be_configured() {
        let own = hosts(
            "public_url = 'https://sg.example.com'\nbrowser_hosts = ['shoreguard', '2001:db8::7', '192.0.2.9']",
        );
        for (host, good) in [
            ("sg.example.com", true),
            ("shoreguard:8443", true),
            ("Shoreguard", true),
            ("[2001:db8:0:0::7]:8443", true),
            ("192.0.2.9", true),
            ("192.0.2.8", false),
            ("shoreguard.example.com", false),
        ] {
            assert_eq!(admitted(&own, "/a.B/C", &[host]), good, "{host}");
        }
        for bad in
            ["*", "*.example.com", "Sg.example.com", "a:8443", "https://a", "[::1]", "0.0.0.0", ""]
        {
            let text = format!("[server]\nbrowser_hosts = ['{bad}']");
            let error = Config::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains("server.browser_hosts[0]"), "{bad}: {error}");
        }
    }

    #[test]
    fn addresses_are_compared_as_such() {
        let own = hosts("public_url = 'https://[2001:db8:0:0::1]'");
        assert!(admitted(&own, "/a.B/C", &["[2001:db8::1]"]));
        assert!(!admitted(&own, "/a.B/C", &["[2001:db8::2]"]));
        for (url, expected) in [
            ("https://[2001:db8:0:0::1]", "https://[2001:db8::1]"),
            ("https://sg.example.com:443", "https://sg.example.com"),
            ("https://SG.example.com:8443", "https://sg.example.com:8443"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
        ] {
            assert_eq!(origin_of(url).as_deref(), Some(expected));
        }
    }

    #[test]
    fn every_host_that_a_request_names_must_be_one_of_the_server() {
        let own = hosts("");
        assert!(!admitted(&own, "/a.B/C", &[]));
        assert!(admitted(&own, "http://localhost/a.B/C", &["localhost"]));
        assert!(!admitted(&own, "http://evil.example.com/a.B/C", &["localhost"]));
        assert!(!admitted(&own, "http://localhost/a.B/C", &["evil.example.com"]));
        assert!(!admitted(&own, "/a.B/C", &["localhost", "evil.example.com"]));
    }

    #[test]
    fn a_page_of_the_server_on_loopback_has_its_own_origin() {
        let own = |origin: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            is_own_loopback(origin, &Uri::from_static("/a.B/C"), &headers)
        };
        assert!(own("http://localhost:9000", "localhost:9000"));
        assert!(own("https://[::1]:9000", "[::1]:9000"));
        assert!(!own("http://localhost:9001", "localhost:9000"));
        assert!(!own("http://localhost", "localhost:9000"));
        assert!(!own("http://sg.example.com", "sg.example.com"));
        assert!(!own("null", "localhost:9000"));
    }
}
