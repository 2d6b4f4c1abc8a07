//! Connects to a host and port, using only addresses that [`super::guard`] allows.

use std::fmt::{self, Write as _};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;

use super::guard::Reach;
use super::names::Resolver;
use super::written_address::written_address;
use crate::error::{Error, Reason};

/// Maximum number of addresses of one name that are tried. All of them are checked.
const ADDRESSES_MAX: usize = 16;

/// Protocol on a connection after the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; the peer need not negotiate it.
    Http1,
    /// HTTP/2; the peer must negotiate it.
    Http2,
    /// SMTP, which negotiates nothing.
    Smtp,
}

impl Protocol {
    /// Returns its ALPN names, which are offered to the peer.
    #[must_use]
    pub fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Smtp => Vec::new(),
        }
    }

    fn is_negotiated(self, negotiated: Option<&[u8]>) -> bool {
        match self {
            Self::Http1 => negotiated.is_none_or(|name| name == b"http/1.1"),
            Self::Http2 => negotiated == Some(b"h2".as_slice()),
            Self::Smtp => negotiated.is_none(),
        }
    }
}

/// Reason why there is no connection to a host. The `Display` text is for the log, since it contains addresses.
#[derive(Debug)]
pub enum ConnectError {
    /// One of its addresses is forbidden.
    Forbidden(Error),
    /// Its name was not resolved.
    Unresolved(String),
    /// No address accepted the connection.
    Unconnected {
        /// Error of the last address that gave one; `None` if all of them timed out.
        kind: Option<io::ErrorKind>,
        /// The addresses, each with its error.
        tried: String,
    },
    /// The TLS handshake failed. The error contains that of rustls if the handshake got an answer.
    Tls(io::Error),
    /// The TLS handshake timed out.
    TlsTimeout,
    /// The host does not negotiate the required version of HTTP.
    Protocol,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(error) => write!(f, "{error}"),
            Self::Unresolved(why) => f.write_str(why),
            Self::Unconnected { tried, .. } => f.write_str(tried),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::TlsTimeout => f.write_str("no TLS in time"),
            Self::Protocol => f.write_str("it does not speak the required version of HTTP"),
        }
    }
}

/// Resolves `host` and fails if one of its addresses is forbidden. A name that cannot be resolved is not an error: it
/// may resolve later, and is checked again then.
pub async fn check_host(
    resolver: &Resolver,
    host: &str,
    allowed_networks: &[IpNet],
    timeout: Duration,
) -> Result<(), Error> {
    check_host_within(resolver, host, (Reach::Private, allowed_networks), timeout).await
}

/// Does the same as [`check_host`] with another reach and its allowed networks. If only those are allowed, a name that
/// cannot be resolved is an error: nothing shows that it is in one of them.
pub async fn check_host_within(
    resolver: &Resolver,
    host: &str,
    within: (Reach, &[IpNet]),
    timeout: Duration,
) -> Result<(), Error> {
    match resolve(resolver, host, Instant::now() + timeout).await {
        Ok(addresses) => check_addresses(host, &addresses, within),
        Err(_) if within.0 == Reach::AllowedNetworks => {
            let why = format!(
                "host `{host}` cannot be resolved, so it is not known to be in `allowed_networks`"
            );
            Err(Error::refused(Reason::AddressForbidden, why))
        }
        Err(_) => Ok(()),
    }
}

fn check_addresses(
    host: &str,
    addresses: &[IpAddr],
    (reach, allowed_networks): (Reach, &[IpNet]),
) -> Result<(), Error> {
    let Some(forbidden) = addresses.iter().find(|at| !reach.includes(**at, allowed_networks))
    else {
        return Ok(());
    };
    warn!(host, address = %forbidden, "a host resolves to a forbidden address");
    let why = format!(
        "host `{host}` resolves to a forbidden address; an operator can allow it in `allowed_networks`"
    );
    Err(Error::refused(Reason::AddressForbidden, why))
}

/// Connects to one of the addresses of `host`, all of which must be allowed.
///
/// # Errors
/// `Forbidden` if one of them is forbidden, `Unresolved` or `Unconnected` if the name cannot be resolved or no address
/// accepts the connection in time.
pub async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    allowed_networks: &[IpNet],
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    connect_within(resolver, (host, port), (Reach::Private, allowed_networks), timeout).await
}

/// Does the same as [`connect`] with another reach and its allowed networks.
///
/// # Errors
/// Those of [`connect`].
pub async fn connect_within(
    resolver: &Resolver,
    (host, port): (&str, u16),
    within: (Reach, &[IpNet]),
    timeout: Duration,
) -> Result<TcpStream, ConnectError> {
    let until = Instant::now() + timeout;
    let addresses = resolve(resolver, host, until).await?;
    check_addresses(host, &addresses, within).map_err(ConnectError::Forbidden)?;
    let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
    let (mut kind, mut tried) = (None, String::new());
    for (i, address) in addresses.iter().enumerate() {
        // The remaining addresses share the remaining time, so that an address that drops packets does not use all of
        // it.
        let left = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = now + until.saturating_duration_since(now) / left;
        let address = SocketAddr::new(*address, port);
        let connected = timeout_at(share, TcpStream::connect(address)).await;
        let why = match connected.map(|stream| stream.and_then(without_delay)) {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => {
                kind = Some(error.kind());
                error.to_string()
            }
            Err(_) => "no answer in time".to_owned(),
        };
        write!(tried, "{address}: {why}; ").expect("a string takes all");
    }
    Err(ConnectError::Unconnected { kind, tried })
}

fn without_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn resolve(
    resolver: &Resolver,
    host: &str,
    until: Instant,
) -> Result<Vec<IpAddr>, ConnectError> {
    if let Some(ip) = written_address(host) {
        return Ok(vec![ip]);
    }
    match timeout_at(until, resolver.addresses(host)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(why)) => Err(ConnectError::Unresolved(why)),
        Err(_) => Err(ConnectError::Unresolved("its name was not resolved in time".to_owned())),
    }
}

/// Performs the TLS handshake with `host` and checks that the protocol was negotiated.
///
/// # Errors
/// `Tls`, `TlsTimeout` or `Protocol`.
pub async fn tls_handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    config: &Arc<ClientConfig>,
    protocol: Protocol,
    timeout: Duration,
) -> Result<TlsStream<S>, ConnectError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        ConnectError::Tls(io::Error::other("no certificate can contain the host's name"))
    })?;
    let connector = TlsConnector::from(with_alpn(protocol, config));
    let handshake = tokio::time::timeout(timeout, connector.connect(name, stream)).await;
    let stream = handshake.map_err(|_| ConnectError::TlsTimeout)?.map_err(ConnectError::Tls)?;
    if protocol.is_negotiated(stream.get_ref().1.alpn_protocol()) {
        Ok(stream)
    } else {
        Err(ConnectError::Protocol)
    }
}

fn with_alpn(protocol: Protocol, config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let offered = protocol.alpn();
    if config.alpn_protocols == offered {
        return Arc::clone(config);
    }
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = offered;
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn loopback_is_refused_unless_it_is_an_allowed_network() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1"] {
            let refused = connect(&Resolver::system(), host, port, &[], SOON).await.unwrap_err();
            assert!(matches!(refused, ConnectError::Forbidden(_)), "{host}");
        }
        let named = ["127.0.0.0/8".parse().unwrap()];
        connect(&Resolver::system(), "127.0.0.1", port, &named, SOON).await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_connection_is_distinguished_from_one_that_times_out() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let named = ["127.0.0.0/8".parse().unwrap()];
        let error =
            connect(&Resolver::system(), "127.0.0.1", port, &named, SOON).await.unwrap_err();
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert!(
            matches!(&error, ConnectError::Unconnected { kind, .. } if *kind == refused),
            "{error}"
        );
    }
}
