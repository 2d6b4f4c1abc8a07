//! The connections of webhooks: to receivers and to mail servers, each checked when it is opened.
//!
//! Invariants
//! - only public addresses are connected to, and those in `webhooks.allowed_networks`; without TLS only the latter;
//! - a name is resolved for each connection, and all of its addresses must be allowed;
//! - each connection needs a slot of [`ReceiverConnections`], which limits their number;
//! - no proxy of the environment is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::client::TlsStream;

use super::connections::{ReceiverConnections, ReceiverStream, Slot};
use crate::config::Config;
use crate::error::Error;
use crate::net::connect::{self, ConnectError, Protocol};
use crate::net::guard::Reach;
use crate::net::names::Resolver;
use crate::net::roots::{client_tls, root_certificates};

/// Opens the connections of webhooks.
#[derive(Clone)]
pub struct Outbound {
    resolver: Resolver,
    allowed_networks: Arc<[IpNet]>,
    tls: Arc<ClientConfig>,
    connections: Arc<ReceiverConnections>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("allowed_networks", &self.allowed_networks)
            .finish_non_exhaustive()
    }
}

impl Outbound {
    /// Creates the connections' settings: the resolver, the networks that are allowed besides public addresses, and the
    /// CAs that are trusted. Only file descriptors limit the number of connections.
    ///
    /// # Errors
    /// `Internal` if TLS cannot be set up.
    pub fn new(
        resolver: Resolver,
        allowed_networks: &[IpNet],
        roots: impl Into<Arc<RootCertStore>>,
    ) -> Result<Self, Error> {
        let tls = client_tls(roots)?.with_no_client_auth();
        let (tls, connections) = (Arc::new(tls), ReceiverConnections::new(usize::MAX));
        Ok(Self { resolver, allowed_networks: allowed_networks.into(), tls, connections })
    }

    /// Creates the settings of a configuration. Names are resolved as those of gateways.
    ///
    /// # Errors
    /// `Invalid` if the CAs cannot be read, `Internal` if the resolver or TLS cannot be set up.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        let servers = &config.gateways.dns_servers;
        let resolver = Resolver::with_servers(servers).map_err(Error::internal)?;
        let roots = root_certificates(config.webhooks.ca_path.as_deref())?;
        let connections_max = usize::try_from(config.webhooks.connections_max);
        let connections = ReceiverConnections::new(connections_max.unwrap_or(usize::MAX));
        let unlimited = Self::new(resolver, &config.webhooks.allowed_networks, roots)?;
        Ok(Self { connections, ..unlimited })
    }

    /// Returns the open connections.
    #[must_use]
    pub fn connections(&self) -> &Arc<ReceiverConnections> {
        &self.connections
    }

    /// Resolves a host and fails if it may not be connected to. A name that cannot be resolved now is accepted, since
    /// each connection is checked again. `secure` is whether the connections will use TLS.
    ///
    /// # Errors
    /// `ADDRESS_FORBIDDEN`.
    pub async fn check(&self, host: &str, secure: bool, timeout: Duration) -> Result<(), Error> {
        let within = (reach(secure), &*self.allowed_networks);
        connect::check_host_within(&self.resolver, host, within, timeout).await
    }

    /// Connects to an allowed address of a host. `secure` is whether TLS follows. The slot is used until the connection
    /// is closed.
    ///
    /// # Errors
    /// `Forbidden`, `Unresolved` or `Unconnected`.
    pub async fn connect(
        &self,
        slot: &Arc<Slot>,
        (host, port): (&str, u16),
        secure: bool,
        timeout: Duration,
    ) -> Result<ReceiverStream, ConnectError> {
        let within = (reach(secure), &*self.allowed_networks);
        let connecting = connect::connect_within(&self.resolver, (host, port), within, timeout);
        Ok(ReceiverStream::new(connecting.await?, slot))
    }

    /// Performs the TLS handshake on a connection of [`Self::connect`]. The certificate must be valid for `host`.
    ///
    /// # Errors
    /// `Tls`, `TlsTimeout` or `Protocol`.
    pub async fn handshake(
        &self,
        stream: ReceiverStream,
        host: &str,
        protocol: Protocol,
        timeout: Duration,
    ) -> Result<TlsStream<ReceiverStream>, ConnectError> {
        connect::tls_handshake(stream, host, &self.tls, protocol, timeout).await
    }
}

fn reach(secure: bool) -> Reach {
    if secure { Reach::Public } else { Reach::AllowedNetworks }
}
