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
use super::failure_log::FailureLog;
use super::generation::{DetectedGeneration, Generation, PinnedGeneration};
use super::identity::{Identity, TokenSource};
use super::row::GatewayRow;
use super::sealed::{destination, open_credentials};
use crate::clock::Clock;
use crate::config::Gateways;
use crate::db::types::{GatewayId, GatewayRef};
use crate::error::Error;
use crate::net::http;
use crate::net::names::Resolver;
use crate::oidc::client_credentials::TokenRequest;
use crate::seal::{MasterKeys, join_parts};
use crate::secret::Secret;

/// Everything needed to build the target of a stored gateway.
#[derive(Debug)]
pub struct TargetContext<'a> {
    /// Decrypts the stored credentials.
    pub master: &'a MasterKeys,
    /// Resolves the names of gateways.
    pub names: &'a Resolver,
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
    pub names: Resolver,
    /// TLS configuration; `None` is plaintext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Source of the `authorization` header.
    pub identity: Identity,
    /// Budget for reading its responses to Shoreguard's own calls.
    pub budget: Arc<Budget>,
    /// Limits the log lines about failed calls.
    pub failures: Arc<FailureLog>,
    /// The configured generation, otherwise that of the last probe. A connection has its own probe result.
    pub generation: DetectedGeneration,
    /// The configured generation, which overrides that of its version.
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
pub fn from_row(context: &TargetContext<'_>, row: &GatewayRow) -> Result<Target, Error> {
    let credentials = open_credentials(context.master, row)?;
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
        names: context.names.clone(),
        tls,
        connection_version: connection_version(row),
        identity: build_identity(context, row, credentials)?,
        budget: Budget::new(context.config, context.clock.clone()),
        failures: FailureLog::new(context.clock.clone()),
        generation: row.effective_generation(),
        pinned: row.pinned_generation.map(|PinnedGeneration(generation)| generation),
    })
}

fn build_identity(
    context: &TargetContext<'_>,
    row: &GatewayRow,
    credentials: Credentials,
) -> Result<Identity, Error> {
    if let Some(token) = &credentials.bearer_token {
        return Ok(Identity::Stored(bearer_header(token)?));
    }
    let parts = row.oidc_token_url.clone().zip(credentials.oidc_client_id);
    let Some(((token_url, client_id), client_secret)) = parts.zip(credentials.oidc_client_secret)
    else {
        return Ok(Identity::None);
    };
    let (scope, audience) = (row.oidc_scope.clone(), row.oidc_audience.clone());
    let request = TokenRequest { token_url, client_id, client_secret, scope, audience };
    let (name, within) = (row.name.as_str().into(), context.config.connect_timeout());
    let token_source =
        TokenSource::new(name, request, context.issuers.clone(), within, context.clock.clone());
    Ok(Identity::Fetched(Arc::new(token_source)))
}

fn bearer_header(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(Error::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns a digest of everything that a connection to the gateway depends on.
#[must_use]
pub(crate) fn connection_version(row: &GatewayRow) -> u64 {
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
    let digest = Sha256::digest(join_parts(&parts.each_ref().map(Vec::as_slice)));
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
    /// `GATEWAY_UNREACHABLE` if the gateway was removed or is now a different one.
    pub(crate) fn revalidate(&self, before: &Target) -> Result<Arc<Target>, Error> {
        let now = self.get(before.id).ok_or_else(|| Connection::removed(&before.name))?;
        if now.connection_version == before.connection_version || now.address() == before.address()
        {
            return Ok(now);
        }
        Err(Connection::changed(&before.name))
    }

    /// Stores or removes the target of a gateway and returns the previous one. Fetched tokens are kept if nothing
    /// changed that a connection depends on; the used part of the budget and the count of failures are always kept.
    pub fn put(&self, id: GatewayId, target: Option<Target>) -> Option<Arc<Target>> {
        let mut by_id = self.by_id.write();
        match target {
            Some(mut target) => {
                let before = by_id.get(&id);
                if let Some(before) = before {
                    target.budget = Arc::clone(&before.budget);
                    target.failures = Arc::clone(&before.failures);
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
