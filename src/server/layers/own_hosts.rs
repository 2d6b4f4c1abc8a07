//! The hosts under which browsers can call: those of the server, so that a page whose own host name was pointed at the
//! server afterwards (DNS rebinding) gets no response.
//!
//! Invariants
//! - a name that the server does not know is refused, since only names can be rebound; ports are not compared, so that
//!   a forwarded port of loopback works;
//! - gRPC is not checked: its callers are no browsers, and its authority names gateways.

use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::config;
use crate::net::guard::is_loopback;

/// Hosts of the server, apart from loopback.
#[derive(Debug, Clone)]
pub struct OwnHosts {
    /// Host of `server.public_url`, or the host to listen on.
    public: Option<String>,
    listening: IpAddr,
}

impl OwnHosts {
    /// Uses the configured hosts.
    #[must_use]
    pub fn new(server: &config::Server) -> Self {
        let public = server.public_url().parse::<Uri>().ok();
        let public = public.and_then(|url| url.host().map(str::to_ascii_lowercase));
        Self { public, listening: server.listen.ip() }
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
        let host = authority.host().to_ascii_lowercase();
        let bare = host.trim_matches(['[', ']']);
        !authority.as_str().contains('@')
            && (is_loopback(&host)
                || self.public.as_ref() == Some(&host)
                || bare.parse::<IpAddr>().is_ok_and(|ip| ip == self.listening))
    }
}

/// Returns whether an origin is that of a page which the server itself has served on loopback, under any forwarded
/// port. Only for requests whose host was admitted.
#[must_use]
pub fn is_own_loopback(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let Some(host) = uri.authority().map(Authority::as_str).or(host) else { return false };
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    is_loopback(authority.host()) && place == Some(host)
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
