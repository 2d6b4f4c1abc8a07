//! `[server]`: where and how calls are taken.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};
use super::tls::Tls;

/// The smallest message limit: policies and SBOM pages of real sandboxes must pass.
const MESSAGE_BYTES_MIN: u64 = 1024 * 1024;
/// The largest message limit: each call in flight may hold as much memory.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where and how calls are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on. Default `127.0.0.1:8443`: nothing is open to a network before it is said.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// The folder of what this server makes itself: the database, the master key and the setup token. Default
    /// `shoreguard-data` in the working directory, so that a first try needs neither root nor a file.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// The URL under which callers reach the server, without a path and without a slash at the end; `https`, or `http`
    /// on loopback, since keys and tokens are sent there. It is the issuer of the tokens that stock clients ask for, so
    /// without it they get none. Default: none; where an address must be told it is made from `listen`, which is right
    /// only without a proxy in front.
    #[serde(default)]
    pub public_url: Option<String>,
    /// The domain whose first label names a gateway, as in `prod.gw.example.com`. Default: none, since it takes a
    /// wildcard record and certificate.
    #[serde(default)]
    pub gateway_domain: Option<String>,
    /// TLS of the listener.
    #[serde(default = "Tls::off")]
    pub tls: Tls,
    /// Takes calls without TLS on an address that is not loopback. Default false: tokens would be readable on the
    /// network. True is for a proxy that ends TLS on a private network.
    #[serde(default = "allow_plaintext")]
    pub allow_plaintext: bool,
    /// The largest message of our own API, in bytes. Default 4 MiB, as gRPC libraries have it.
    #[serde(default = "message_bytes_max")]
    pub message_bytes_max: u64,
    /// How long calls may go on after a stop was asked for, in seconds. Default 30, as Kubernetes waits.
    #[serde(default = "drain_seconds")]
    pub drain_seconds: u64,
    /// How often an idle connection is asked whether it lives, in seconds. Default 30: below the idle limits of usual
    /// load balancers, which begin at 60.
    #[serde(default = "keepalive_seconds")]
    pub keepalive_seconds: u64,
    /// How long a connection may take for its TLS handshake, for saying which HTTP it speaks, and for the head of each
    /// request in HTTP/1, in seconds. Default 10: far above any network, and what says nothing must end.
    #[serde(default = "handshake_seconds")]
    pub handshake_seconds: u64,
    /// How many calls one connection may have open. Default 1024: a client library with a thousand watches needs no
    /// second connection.
    #[serde(default = "concurrent_streams_max")]
    pub concurrent_streams_max: u32,
    /// How many cores take and forward calls; 0 is one per CPU. Default 0.
    #[serde(default = "cores")]
    pub cores: u16,
    /// Origins of web pages that may call this API by gRPC-Web, such as `https://console.example.com`; that of
    /// `server.public_url` may always. Default: none. `*` is refused, since every page would then call with what its reader
    /// may do.
    #[serde(default = "browser_origins")]
    pub browser_origins: Vec<String>,
    /// Networks of the proxies whose `forwarded` addresses are believed. Default: none, since anyone could name
    /// another's address.
    #[serde(default = "trusted_proxies")]
    pub trusted_proxies: Vec<IpNet>,
}

/// Most origins of web pages.
const ORIGINS_MAX: usize = 64;

/// Whether a text is an origin as browsers write it (RFC 6454, section 6.2).
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

fn trusted_proxies() -> Vec<IpNet> {
    Vec::new()
}

impl Section for Server {
    const KEYS: &'static [Key] = &[
        Key::new("listen", Kind::Text),
        Key::new("data_dir", Kind::Text),
        Key::new("public_url", Kind::Text),
        Key::new("gateway_domain", Kind::Text),
        Key::new("tls.cert_path", Kind::Text),
        Key::new("tls.key_path", Kind::Text),
        Key::new("tls.client_ca_path", Kind::Text),
        Key::new("tls.reload_seconds", Kind::Number),
        Key::new("tls.client_identities", Kind::Tables),
        Key::new("allow_plaintext", Kind::Flag),
        Key::new("message_bytes_max", Kind::Number),
        Key::new("drain_seconds", Kind::Number),
        Key::new("keepalive_seconds", Kind::Number),
        Key::new("handshake_seconds", Kind::Number),
        Key::new("concurrent_streams_max", Kind::Number),
        Key::new("cores", Kind::Number),
        Key::new("browser_origins", Kind::List),
        Key::new("trusted_proxies", Kind::List),
    ];

    fn check(&self, faults: &mut Faults) {
        if let Some(why) = self.public_url.as_deref().and_then(fault_of_url) {
            faults.add("server.public_url", why);
        }
        if self.gateway_domain.as_deref().is_some_and(|domain| !is_domain(domain)) {
            faults.add(
                "server.gateway_domain",
                "must be a domain in lower case, such as `gw.example.com`",
            );
        }
        self.tls.check(faults);
        if !self.tls.is_on() && !self.listen.ip().is_loopback() && !self.allow_plaintext {
            faults.add(
                "server.listen",
                "is not loopback: set `server.tls.cert_path` and `server.tls.key_path`, or \
                 `server.allow_plaintext` where a proxy ends TLS",
            );
        }
        let bytes = MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX;
        faults.range("server.message_bytes_max", self.message_bytes_max, &bytes);
        faults.range("server.drain_seconds", self.drain_seconds, &(1..=3600));
        faults.range("server.keepalive_seconds", self.keepalive_seconds, &(5..=3600));
        faults.range("server.handshake_seconds", self.handshake_seconds, &(1..=60));
        let streams = 1..=65_536;
        faults.range("server.concurrent_streams_max", self.concurrent_streams_max, &streams);
        faults.range("server.cores", self.cores, &(0..=1024));
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
        for (i, network) in self.trusted_proxies.iter().enumerate() {
            if network.prefix_len() == 0 {
                faults.add(format!("server.trusted_proxies[{i}]"), "would believe everybody");
            }
        }
    }
}

impl Server {
    /// The URL under which callers reach the server, without a slash at the end.
    #[must_use]
    pub fn public_url(&self) -> String {
        let scheme = if self.tls.is_on() { "https" } else { "http" };
        self.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }

    /// How long calls may go on after a stop was asked for.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    /// How often an idle connection is asked whether it lives.
    #[must_use]
    pub fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive_seconds)
    }

    /// How long a connection may take for what comes before its first request.
    #[must_use]
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_seconds)
    }

    /// The largest message of our own API, as the decoders take it.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        usize::try_from(self.message_bytes_max).unwrap_or(usize::MAX)
    }
}

fn fault_of_url(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<http::Uri>() else { return Some("is no URL") };
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Some("must begin with `https://` or `http://`");
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Some("must name a host and no user");
    }
    if uri.path() != "/" || uri.query().is_some() || url.ends_with('/') {
        return Some("must have no path and no slash at the end");
    }
    let secret = uri.scheme_str() == Some("https") || uri.host().is_some_and(is_loopback);
    (!secret)
        .then_some("must begin with `https://`: keys are sent there, and `http` is for loopback")
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
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
