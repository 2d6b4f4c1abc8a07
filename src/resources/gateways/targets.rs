//! The gateways as the proxy reaches them, in memory: address, credentials, wire generation.
//!
//! Fed at start and whenever a gateway changes, on every replica; a credential is in clear only here and on its
//! connection.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::credentials::{Credentials, client_config};
use super::identity::{Fetched, Identity};
use super::input::{Endpoint, Scheme};
use super::store::Row;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::net::names::Names;
use crate::oidc::client_credentials::Asked;
use crate::openshell::budget::Budget;
use crate::openshell::capability::Family;
use crate::proxy::connection::Connection;
use crate::seal::{Aad, joined};
use crate::secret::Secret;
use shoreguard_proto::release;

/// The schema family that a gateway speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Not known yet.
    Unknown,
    /// Releases 0.0.88 to 0.0.116.
    V0_0,
    /// Releases from 0.1.0 on.
    V0_1,
    /// One that this build does not speak.
    Unsupported,
}

impl Generation {
    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::V0_0 => "0.0",
            Self::V0_1 => "0.1",
            Self::Unsupported => "unsupported",
        }
    }

    /// The generation of the wire; `None` if it is not known or not supported.
    #[must_use]
    pub fn spoken(self) -> Option<release::Generation> {
        match self {
            Self::V0_0 => Some(release::Generation::V0_0),
            Self::V0_1 => Some(release::Generation::V0_1),
            Self::Unknown | Self::Unsupported => None,
        }
    }

    /// From what is stored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Unknown, Self::V0_0, Self::V0_1, Self::Unsupported]
            .into_iter()
            .find(|g| g.as_str() == text)
    }

    /// From the version that a gateway reports: `0.0.88` to `0.0.116` and their dev builds, or `0.1.0` and later.
    #[must_use]
    pub fn of_version(version: &str) -> Self {
        Family::of(version).generation()
    }

    /// Its releases, in words.
    #[must_use]
    pub fn releases(self) -> &'static str {
        match self {
            Self::V0_0 => "releases 0.0.88 to 0.0.116",
            Self::V0_1 => "releases 0.1.0 and later",
            Self::Unknown | Self::Unsupported => "no release",
        }
    }
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
    pub generation: Generation,
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
    /// What it is connected to, and how it is understood: another one is another gateway, as far as streams and
    /// sandbox ids go.
    #[must_use]
    pub fn address(&self) -> (String, u16, bool, Option<Generation>) {
        (self.host.clone(), self.port, self.tls.is_some(), self.pinned)
    }
}

/// What the secrets of a row are bound to (T04): where they are sent, and how the other end is known.
#[must_use]
pub fn destination(row: &Row) -> String {
    let ca =
        row.ca_cert.as_deref().map(|pem| format!("{:x?}", Sha256::digest(pem))).unwrap_or_default();
    let mode = row.auth_mode.as_deref().unwrap_or("none");
    let to = format!("{}://{} {mode} {ca}", row.scheme, row.endpoint);
    match &row.oidc_token_url {
        None => to,
        Some(url) => format!("{to} {url}"),
    }
}

fn aad<'a>(column: &'a str, row: &'a str, destination: &'a str) -> Aad<'a> {
    Aad { table: "gateways", column, row, destination }
}

/// Puts credentials into a row, sealed for its present destination.
pub fn seal_into(app: &App, row: &mut Row, credentials: &Credentials) -> Result<(), Error> {
    let destination = destination(row);
    let seal = |column: &str, secret: &Option<Secret>| {
        let seal = |secret: &Secret| {
            app.master.seal(&aad(column, &row.name, &destination), secret.expose().as_bytes())
        };
        secret.as_ref().map(seal).transpose()
    };
    let key = seal("client_key", &credentials.client_key)?;
    let token = seal("bearer_token", &credentials.bearer_token)?;
    let oidc_secret = seal("oidc_client_secret", &credentials.oidc_client_secret)?;
    row.client_cert.clone_from(&credentials.client_cert);
    row.oidc_client_id.clone_from(&credentials.oidc_client_id);
    (row.client_key, row.bearer_token, row.oidc_client_secret) = (key, token, oidc_secret);
    Ok(())
}

/// The credentials of a row, in clear.
pub fn opened(app: &App, row: &Row) -> Result<Credentials, Error> {
    let destination = destination(row);
    let open = |column: &str, sealed: &Option<Vec<u8>>| {
        let open = |sealed: &Vec<u8>| {
            let opened = app.master.open(&aad(column, &row.name, &destination), sealed)?;
            let text = std::str::from_utf8(&opened).map_err(Error::internal)?;
            Ok::<_, Error>(Secret::new(text))
        };
        sealed.as_ref().map(open).transpose()
    };
    Ok(Credentials {
        client_cert: row.client_cert.clone(),
        client_key: open("client_key", &row.client_key)?,
        bearer_token: open("bearer_token", &row.bearer_token)?,
        oidc_client_id: row.oidc_client_id.clone(),
        oidc_client_secret: open("oidc_client_secret", &row.oidc_client_secret)?,
    })
}

fn generation(text: &str) -> Result<Generation, Error> {
    Generation::parse(text)
        .ok_or_else(|| Error::internal(format!("unknown wire generation {text}")))
}

/// The target of a row, its secrets opened.
pub fn from_row(app: &App, row: &Row) -> Result<Target, Error> {
    let credentials = opened(app, row)?;
    let endpoint = Endpoint::parse("endpoint", &row.endpoint)?;
    let tls = match Scheme::stored(&row.scheme)? {
        Scheme::Http => None,
        Scheme::Https => {
            let identity = credentials.client_cert.as_deref().zip(credentials.client_key.as_ref());
            Some(client_config(row.ca_cert.as_deref(), identity)?)
        }
    };
    let pinned = row.pinned_generation.as_deref().map(generation).transpose()?;
    Ok(Target {
        id: GatewayId(row.id),
        name: row.name.as_str().into(),
        host: endpoint.host,
        port: endpoint.port,
        names: app.names.clone(),
        tls,
        connection_version: connection_version(row),
        identity: identity(app, row, credentials)?,
        budget: Budget::new(&app.config.gateways, app.clock.clone()),
        generation: pinned.map_or_else(|| generation(&row.wire_generation), Ok)?,
        pinned,
    })
}

fn identity(app: &App, row: &Row, credentials: Credentials) -> Result<Identity, Error> {
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
    let (name, within) = (row.name.as_str().into(), app.config.gateways.connect_timeout());
    let fetched = Fetched::new(name, asked, app.issuers.clone(), within, app.clock.clone());
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
pub(super) fn connection_version(row: &Row) -> u64 {
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
        text(&row.pinned_generation),
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
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
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
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
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
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_follows_from_the_version() {
        let table = [
            ("0.0.87", Generation::Unsupported),
            ("0.0.88", Generation::V0_0),
            ("0.0.112-dev.7+g2f7fb6559", Generation::V0_0),
            ("0.0.116", Generation::V0_0),
            ("0.0.117", Generation::Unsupported),
            ("0.1.0", Generation::V0_1),
            ("v0.1.5", Generation::V0_1),
            ("0.1.12-dev.1", Generation::V0_1),
            ("0.2.0", Generation::Unsupported),
            ("1.0.0", Generation::Unsupported),
            ("0.1", Generation::Unsupported),
            ("", Generation::Unsupported),
            ("latest", Generation::Unsupported),
        ];
        for (version, expected) in table {
            assert_eq!(Generation::of_version(version), expected, "{version}");
        }
    }
}
