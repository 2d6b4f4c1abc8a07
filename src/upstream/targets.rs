//! The gateways in memory, as the proxy calls them: address, credentials, wire generation.
//!
//! Loaded at start and updated on every replica when a gateway changes. A credential is unencrypted only here and on
//! its connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use ::http::HeaderValue;
use parking_lot::RwLock;
use sha2::{Digest, Sha256};

use super::budget::Budget;
use super::connection::Connection;
use super::credentials::{Credentials, client_config};
use super::endpoint::{Endpoint, Scheme};
use super::generation::{Detected, Generation, Pinned};
use super::identity::{Fetched, Identity};
use super::row::Row;
use super::sealed::{destination, opened};
use crate::clock::Clock;
use crate::config::Gateways;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::Error;
use crate::net::http;
use crate::net::names::Names;
use crate::oidc::client_credentials::Asked;
use crate::seal::{MasterKeys, joined};
use crate::secret::Secret;

/// Everything needed to build the target of a stored gateway.
#[derive(Debug)]
pub struct Reach<'a> {
    /// Decrypts the stored credentials.
    pub master: &'a MasterKeys,
    /// Resolves the names of gateways.
    pub names: &'a Names,
    /// Calls the identity providers of gateways.
    pub issuers: &'a http::Client,
    /// Provides the time.
    pub clock: &'a Clock,
    /// Limits of connections and budgets.
    pub config: &'a Gateways,
}

/// One gateway as the proxy calls it.
#[derive(Clone)]
pub struct Target {
    /// Id of the gateway.
    pub id: GatewayId,
    /// Its name.
    pub name: Arc<str>,
    /// Host: a name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Resolver of its host, used when connecting.
    pub names: Names,
    /// TLS configuration; `None` is plaintext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Source of the `authorization` header.
    pub identity: Identity,
    /// Budget for reading its responses to Shoreguard's own calls.
    pub budget: Arc<Budget>,
    /// The configured generation, otherwise the one found by the last probe. A connection has its own probe result.
    pub generation: Detected,
    /// The configured generation, which overrides the one of its version.
    pub pinned: Option<Generation>,
    /// Changes with everything that a connection depends on: address, TLS, credentials, configured generation. Not with
    /// probes.
    pub connection_version: u64,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl Target {
    /// Returns the id and the name.
    #[must_use]
    pub fn gateway(&self) -> GatewayRef {
        GatewayRef { id: self.id, name: Arc::clone(&self.name) }
    }

    /// Returns what identifies the gateway for streams and sandbox ids: its address and its configured generation. If
    /// these change, it is treated as another gateway.
    #[must_use]
    pub fn address(&self) -> (String, u16, bool, Option<Generation>) {
        (self.host.clone(), self.port, self.tls.is_some(), self.pinned)
    }
}

/// Builds the target of a row and decrypts its secrets.
pub fn from_row(reach: &Reach<'_>, row: &Row) -> Result<Target, Error> {
    let credentials = opened(reach.master, row)?;
    let endpoint = Endpoint::parse("endpoint", &row.endpoint)?;
    let tls = match row.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let identity = credentials.client_cert.as_deref().zip(credentials.client_key.as_ref());
            Some(client_config(row.ca_cert.as_deref(), identity)?)
        }
    };
    Ok(Target {
        id: GatewayId(row.id),
        name: row.name.as_str().into(),
        host: endpoint.host,
        port: endpoint.port,
        names: reach.names.clone(),
        tls,
        connection_version: connection_version(row),
        identity: identity(reach, row, credentials)?,
        budget: Budget::new(reach.config, reach.clock.clone()),
        generation: row.taken_for(),
        pinned: row.pinned_generation.map(|Pinned(generation)| generation),
    })
}

fn identity(reach: &Reach<'_>, row: &Row, credentials: Credentials) -> Result<Identity, Error> {
    if let Some(token) = &credentials.bearer_token {
        return Ok(Identity::Stored(bearer(token)?));
    }
    let parts = row.oidc_token_url.clone().zip(credentials.oidc_client_id);
    let Some(((token_url, client_id), client_secret)) = parts.zip(credentials.oidc_client_secret)
    else {
        return Ok(Identity::None);
    };
    let (scope, audience) = (row.oidc_scope.clone(), row.oidc_audience.clone());
    let asked = Asked { token_url, client_id, client_secret, scope, audience };
    let (name, within) = (row.name.as_str().into(), reach.config.connect_timeout());
    let fetched = Fetched::new(name, asked, reach.issuers.clone(), within, reach.clock.clone());
    Ok(Identity::Fetched(Arc::new(fetched)))
}

fn bearer(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(Error::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns a digest of everything that a connection to the gateway depends on.
#[must_use]
pub(crate) fn connection_version(row: &Row) -> u64 {
    let bytes = |part: &Option<Vec<u8>>| part.clone().unwrap_or_default();
    let text = |part: &Option<String>| part.clone().unwrap_or_default().into_bytes();
    let parts = [
        destination(row).into_bytes(),
        bytes(&row.client_cert),
        bytes(&row.client_key),
        bytes(&row.bearer_token),
        bytes(&row.oidc_client_secret),
        text(&row.oidc_client_id),
        text(&row.oidc_scope),
        text(&row.oidc_audience),
        row.pinned_generation.map_or_else(Vec::new, |pinned| pinned.as_str().as_bytes().to_vec()),
    ];
    let digest = Sha256::digest(joined(&parts.each_ref().map(Vec::as_slice)));
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// The targets of all gateways.
#[derive(Debug, Default)]
pub struct Targets {
    by_id: RwLock<HashMap<GatewayId, Arc<Target>>>,
}

impl Targets {
    /// Returns the target of a gateway.
    #[must_use]
    pub fn get(&self, id: GatewayId) -> Option<Arc<Target>> {
        self.by_id.read().get(&id).cloned()
    }

    /// Returns the current target if it is still the same gateway: credentials may have changed, but not address and
    /// configured generation.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE` if the gateway was unregistered or is now a different one.
    pub(crate) fn still(&self, then: &Target) -> Result<Arc<Target>, Error> {
        let now = self.get(then.id).ok_or_else(|| Connection::unreachable(&then.name))?;
        if now.connection_version == then.connection_version || now.address() == then.address() {
            return Ok(now);
        }
        Err(Connection::changed(&then.name))
    }

    /// Stores or removes the target of a gateway and returns the previous one. Fetched tokens are kept if nothing
    /// changed that a connection depends on; the used part of the budget is always kept.
    pub fn put(&self, id: GatewayId, target: Option<Target>) -> Option<Arc<Target>> {
        let mut by_id = self.by_id.write();
        match target {
            Some(mut target) => {
                let before = by_id.get(&id);
                if let Some(before) = before {
                    target.budget = Arc::clone(&before.budget);
                }
                let same = |t: &&Arc<Target>| t.connection_version == target.connection_version;
                if let Some(before) = before.filter(same) {
                    target.identity = before.identity.clone();
                }
                by_id.insert(id, Arc::new(target))
            }
            None => by_id.remove(&id),
        }
    }

    /// Returns all targets, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Target>> {
        self.by_id.read().values().cloned().collect()
    }
}
