//! The gateways of this process: their targets in memory, and the connections to them from the main runtime.

use std::sync::Arc;

use super::bounds::Bounds;
use super::channels::Channels;
use super::targets::Targets;
use crate::config::Gateways;
use crate::error::Error;
use crate::net::http;
use crate::net::names::Names;

/// The gateways and the means by which this process calls them.
pub struct Fleet {
    /// The gateways, by id.
    pub targets: Arc<Targets>,
    /// Resolves the names of gateways and those of their identity providers.
    pub names: Names,
    /// Calls the identity providers of gateways.
    pub issuers: http::Client,
    /// Connections of the main runtime, for Shoreguard's own calls.
    pub(crate) channels: Channels,
    /// Counts the open streams of all runtimes.
    pub(crate) streams: Arc<Bounds>,
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
    /// Fails if root certificates or DNS servers cannot be used.
    pub fn new(config: &Gateways) -> Result<Self, Error> {
        let names = Names::asking(&config.dns_servers).map_err(Error::internal)?;
        let issuers = http::Client::new(&config.allowed_networks, http::roots(None)?)?
            .with_names(names.clone());
        let (targets, streams) = (Arc::default(), Arc::new(Bounds::new(config)));
        let channels = Channels::new(&targets, &Arc::new(config.clone()), &streams);
        Ok(Self { targets, names, issuers, channels, streams })
    }
}
