//! The gateways of this process: their targets in memory, and the connections to them from the main runtime.

use std::sync::Arc;

use super::bounds::CallLimits;
use super::channels::Channels;
use super::targets::Targets;
use crate::config::Gateways;
use crate::error::Error;
use crate::net::http;
use crate::net::names::Resolver;
use crate::net::roots::system_roots;

/// The gateways and the means by which this process calls them.
pub struct Fleet {
    /// The gateways, by id.
    pub targets: Arc<Targets>,
    /// Resolves the names of gateways and those of their identity providers.
    pub names: Resolver,
    /// Calls the identity providers of gateways.
    pub issuers: http::Client,
    /// Connections of the main runtime, for Shoreguard's own calls.
    pub(crate) channels: Channels,
    /// Counts the open streams of all runtimes.
    pub(crate) call_limits: Arc<CallLimits>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Fleet {
    /// Creates a fleet without gateways. Its connections are used only from the calling runtime.
    ///
    /// # Errors
    /// Fails if the TLS settings or the DNS servers cannot be used.
    pub fn new(config: &Gateways) -> Result<Self, Error> {
        let names = Resolver::with_servers(&config.dns_servers).map_err(Error::internal)?;
        let issuers = http::Client::new(&config.allowed_networks, system_roots())?
            .with_resolver(names.clone());
        let (targets, call_limits) = (Arc::default(), Arc::new(CallLimits::new(config)));
        let channels = Channels::new(&targets, &Arc::new(config.clone()), &call_limits);
        Ok(Self { targets, names, issuers, channels, call_limits })
    }
}
