//! `[server]`: where the server listens and how it accepts calls.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use super::tls::Tls;
use crate::net::loopback::{is_loopback, is_loopback_host};

/// Minimum of `message_bytes_max`: policies and SBOM pages of real sandboxes must fit.
const MESSAGE_BYTES_MIN: u64 = 1024 * 1024;
/// Maximum of `message_bytes_max`: each call in flight can hold as much memory.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where the server listens and how it accepts calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on. An address other than loopback requires `server.tls.cert_path` and
    /// `server.tls.key_path`, or `allow_plaintext`. Default `127.0.0.1:8443`: the server is not reachable from a
    /// network until you configure it.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Directory for the files that the server creates: the database, the master key and the setup token. Default
    /// `shoreguard-data` in the working directory, so that a first try needs neither root nor a configuration file.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// URL under which callers reach the server, without a path and without a trailing slash. It must be `https`, or
    /// `http` on loopback, since keys and tokens are sent to it. It is the issuer of the tokens of stock clients: the
    /// token service is off if this key is not set. Default: none; responses that contain the address of the server
    /// then use one derived from `listen`, which is correct only without a proxy in front.
    #[serde(default)]
    pub public_url: Option<String>,
    /// Domain whose first label names a gateway, as in `prod.gw.example.com`; written as `gw.example.com`, in lower
    /// case. Default: none, since it needs a wildcard DNS record and certificate.
    #[serde(default)]
    pub gateway_domain: Option<String>,
    /// TLS of the listener.
    #[serde(default = "Tls::disabled")]
    pub tls: Tls,
    /// Accepts calls without TLS on an address that is not loopback. Set it to true only if a proxy terminates TLS on a
    /// private network. Default false: tokens would be readable on the network.
    #[serde(default = "allow_plaintext")]
    pub allow_plaintext: bool,
    /// Maximum size of a message of Shoreguard's own API, in bytes. Range 1,048,576 (1 MiB) to 67,108,864 (64 MiB).
    /// Default 4,194,304 (4 MiB), as in gRPC libraries.
    #[serde(default = "message_bytes_max")]
    pub message_bytes_max: u64,
    /// Time that calls in flight get to finish after a stop was requested, in seconds. Range 1 to 3600. Default 30, as
    /// long as Kubernetes waits.
    #[serde(default = "drain_seconds")]
    pub drain_seconds: u64,
    /// Interval of keepalive pings on an HTTP/2 connection, in seconds; a connection that does not reply within the
    /// same time is closed. Range 5 to 3600. Default 30: below the idle timeouts of common load balancers, which begin
    /// at 60.
    #[serde(default = "keepalive_seconds")]
    pub keepalive_seconds: u64,
    /// Timeout of the TLS handshake, of the detection of the HTTP version, and of the head of each HTTP/1 request, in
    /// seconds. Range 1 to 60. Default 10: far above any network latency, and a silent connection must end.
    #[serde(default = "handshake_seconds")]
    pub handshake_seconds: u64,
    /// Maximum number of open calls on one connection. Range 1 to 65,536. Default 1024: a client library with a
    /// thousand streams needs no second connection.
    #[serde(default = "concurrent_streams_max")]
    pub concurrent_streams_max: u32,
    /// Number of threads that accept and forward calls; 0 means one per CPU. Range 0 to 1024. Default 0.
    #[serde(default = "cores")]
    pub cores: u16,
    /// Origins of web pages that can call this API with gRPC-Web, such as `https://console.example.com`; at most 64.
    /// The origin of `server.public_url` is always allowed. Default: none. `*` is rejected, since every web page could
    /// then call the API with the rights of its reader.
    #[serde(default = "browser_origins")]
    pub browser_origins: Vec<String>,
    /// Other hosts under which web pages reach the server, such as `sg.internal.example.com`: names in lower case or IP
    /// addresses, without a port; at most 64. The host of `server.public_url`, the address of `server.listen` and
    /// loopback are always allowed, and so is every IP address if `server.listen` is `0.0.0.0` or `[::]`. Default:
    /// none. `*` is rejected, since a page whose name is pointed at the server (DNS rebinding) could then call it.
    #[serde(default = "browser_hosts")]
    pub browser_hosts: Vec<String>,
    /// Networks of the proxies whose `x-forwarded-for` header is trusted; a /0 network is rejected. Default: none,
    /// since any caller could name another address.
    #[serde(default = "trusted_proxies")]
    pub trusted_proxies: Vec<IpNet>,
}

/// Maximum number of origins of web pages.
const ORIGINS_MAX: usize = 64;
/// Maximum number of hosts of the server for web pages.
const HOSTS_MAX: usize = 64;

/// Returns whether a text is a host as browsers write it, without the brackets of IPv6.
fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().map_or_else(|_| is_domain(text), |ip| !ip.is_unspecified())
}

/// Returns whether a text is an origin as browsers write it (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let default = if scheme == "https" { 443 } else { 80 };
    matches!(scheme, "https" | "http")
        && text == format!("{scheme}://{authority}")
        && !text.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'@' || byte == b'*')
        && authority.port_u16() != Some(default)
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8443))
}

fn data_dir() -> PathBuf {
    PathBuf::from("shoreguard-data")
}

fn allow_plaintext() -> bool {
    false
}

fn message_bytes_max() -> u64 {
    4 * 1024 * 1024
}

fn drain_seconds() -> u64 {
    30
}

fn keepalive_seconds() -> u64 {
    30
}

fn handshake_seconds() -> u64 {
    10
}

fn concurrent_streams_max() -> u32 {
    1024
}

fn cores() -> u16 {
    0
}

fn browser_origins() -> Vec<String> {
    Vec::new()
}

fn browser_hosts() -> Vec<String> {
    Vec::new()
}

fn trusted_proxies() -> Vec<IpNet> {
    Vec::new()
}

impl Section for Server {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("listen", ValueKind::Text),
        ConfigKey::new("data_dir", ValueKind::Text),
        ConfigKey::new("public_url", ValueKind::Text),
        ConfigKey::new("gateway_domain", ValueKind::Text),
        ConfigKey::new("tls.cert_path", ValueKind::Text),
        ConfigKey::new("tls.key_path", ValueKind::Text),
        ConfigKey::new("tls.client_ca_path", ValueKind::Text),
        ConfigKey::new("tls.reload_seconds", ValueKind::Number),
        ConfigKey::new("tls.client_identities", ValueKind::Tables),
        ConfigKey::new("allow_plaintext", ValueKind::Flag),
        ConfigKey::new("message_bytes_max", ValueKind::Number),
        ConfigKey::new("drain_seconds", ValueKind::Number),
        ConfigKey::new("keepalive_seconds", ValueKind::Number),
        ConfigKey::new("handshake_seconds", ValueKind::Number),
        ConfigKey::new("concurrent_streams_max", ValueKind::Number),
        ConfigKey::new("cores", ValueKind::Number),
        ConfigKey::new("browser_origins", ValueKind::List),
        ConfigKey::new("browser_hosts", ValueKind::List),
        ConfigKey::new("trusted_proxies", ValueKind::List),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(why) = self.public_url.as_deref().and_then(url_fault) {
            faults.add("server.public_url", why);
        }
        if self.gateway_domain.as_deref().is_some_and(|domain| !is_domain(domain)) {
            faults.add(
                "server.gateway_domain",
                "must be a domain in lower case, such as `gw.example.com`",
            );
        }
        self.tls.check(faults);
        if !self.tls.is_enabled() && !is_loopback(self.listen.ip()) && !self.allow_plaintext {
            faults.add(
                "server.listen",
                "is not loopback: set `server.tls.cert_path` and `server.tls.key_path`, or \
                 `server.allow_plaintext` where a proxy ends TLS",
            );
        }
        let bytes = MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX;
        faults.check_range("server.message_bytes_max", self.message_bytes_max, &bytes);
        faults.check_range("server.drain_seconds", self.drain_seconds, &(1..=3600));
        faults.check_range("server.keepalive_seconds", self.keepalive_seconds, &(5..=3600));
        faults.check_range("server.handshake_seconds", self.handshake_seconds, &(1..=60));
        let streams = 1..=65_536;
        faults.check_range("server.concurrent_streams_max", self.concurrent_streams_max, &streams);
        faults.check_range("server.cores", self.cores, &(0..=1024));
        if self.browser_origins.len() > ORIGINS_MAX {
            faults.add("server.browser_origins", format!("must be at most {ORIGINS_MAX} origins"));
        }
        for (i, origin) in self.browser_origins.iter().enumerate() {
            if !is_origin(origin) {
                let why = "must be an origin such as `https://console.example.com`: a scheme, a host in lower case and \
                           a port if it is not the scheme's own, without a slash at the end";
                faults.add(format!("server.browser_origins[{i}]"), why);
            }
        }
        if self.browser_hosts.len() > HOSTS_MAX {
            faults.add("server.browser_hosts", format!("must be at most {HOSTS_MAX} hosts"));
        }
        for (i, host) in self.browser_hosts.iter().enumerate() {
            if !is_host(host) {
                let why = "must be a host such as `sg.internal.example.com`: a name in lower case or an IP address, \
                           without a port";
                faults.add(format!("server.browser_hosts[{i}]"), why);
            }
        }
        for (i, network) in self.trusted_proxies.iter().enumerate() {
            if network.prefix_len() == 0 {
                faults.add(format!("server.trusted_proxies[{i}]"), "would trust every address");
            }
        }
    }
}

impl Server {
    /// Returns the URL under which callers reach the server, without a trailing slash.
    #[must_use]
    pub fn public_url(&self) -> String {
        let scheme = if self.tls.is_enabled() { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }

    /// Returns the time that calls in flight get to finish after a stop was requested.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// Returns the interval of keepalive pings.
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive_seconds)
    }

    /// Returns the timeout of the steps before the first request of a connection.
    #[must_use]
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    /// Returns the maximum size of a message of Shoreguard's own API.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX)
    }
}

fn url_fault(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<http::Uri>() else { return Some("is not a valid URL") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some("must begin with `https://` or `http://`");
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Some("must name a host and no user");
    }
    if uri.path() != "/" || uri.query().is_some() || url.ends_with('/') {
        return Some("must have no path and no slash at the end");
    }
    let secret = uri.scheme_str() == Some("https") || uri.host().is_some_and(is_loopback_host);
    (!secret)
        .then_some("must begin with `https://`: keys are sent there, and `http` is for loopback")
}

fn is_domain(domain: &str) -> bool {
    const DOMAIN_CHARACTERS_MAX: usize = 253;
    domain.len() <= DOMAIN_CHARACTERS_MAX
        && domain.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
