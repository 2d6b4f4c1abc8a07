//! The gateways as the proxy reaches them, in memory: address, credentials, wire generation.
//!
//! Fed at start and whenever a gateway changes, on every replica; a credential is in clear only here and on its
//! connection.

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

/// What it takes to make the target of a stored gateway.
#[derive(Debug)]
pub struct Reach<'a> {
    /// Opens the stored credentials.
    pub master: &'a MasterKeys,
    /// Resolves the names of gateways.
    pub names: &'a Names,
    /// Calls the identity providers of gateways.
    pub issuers: &'a http::Client,
    /// The time.
    pub clock: &'a Clock,
    /// Bounds of connections and budgets.
    pub config: &'a Gateways,
}

/// One gateway as the proxy reaches it.
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
    /// How its host is resolved when it is connected to.
    pub names: Names,
    /// How TLS is spoken to it; none is plaintext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// What is shown to it in `authorization`.
    pub identity: Identity,
    /// How much of what it says is read on our own account.
    pub budget: Arc<Budget>,
    /// What its last probe found, or what is pinned. A connection carries what was probed on it.
    pub generation: Detected,
    /// The generation that is taken whatever its version says.
    pub pinned: Option<Generation>,
    /// Changes with whatever a connection depends on: address, TLS, credentials. Not with probes.
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
    /// The gateway, by its id and name.
    #[must_use]
    pub fn gateway(&self) -> GatewayRef {
        GatewayRef { id: self.id, name: Arc::clone(&self.name) }
    }

    /// What it is connected to, and how it is understood: another one is another gateway, as far as streams and
    /// sandbox ids go.
    #[must_use]
    pub fn address(&self) -> (String, u16, bool, Option<Generation>) {
        (self.host.clone(), self.port, self.tls.is_some(), self.pinned)
    }
}

/// The target of a row, its secrets opened.
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

/// Moves with whatever a connection to the gateway of a row depends on.
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

/// Every gateway.
#[derive(Debug, Default)]
pub struct Targets {
    by_id: RwLock<HashMap<GatewayId, Arc<Target>>>,
}

impl Targets {
    /// One gateway.
    #[must_use]
    pub fn get(&self, id: GatewayId) -> Option<Arc<Target>> {
        self.by_id.read().get(&id).cloned()
    }

    /// The same gateway as it is now: its credentials may be other ones, what it is connected to and how it is understood
    /// are not.
    ///
    /// # Errors
    /// `GATEWAY_UNREACHABLE` where it is gone, or another gateway by now.
    pub(crate) fn still(&self, then: &Target) -> Result<Arc<Target>, Error> {
        let now = self.get(then.id).ok_or_else(|| Connection::unreachable(&then.name))?;
        if now.connection_version == then.connection_version || now.address() == then.address() {
            return Ok(now);
        }
        Err(Connection::changed(&then.name))
    }

    /// Puts a gateway in, or takes it out; answers what was there. Where nothing changes that a connection depends on,
    /// the tokens that were fetched stay; what was spent of its budget does whatever changes.
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

    /// Every gateway, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Target>> {
        self.by_id.read().values().cloned().collect()
    }
}
