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
use super::input::{Endpoint, Scheme};
use super::store::Row;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::seal::{Aad, joined};
use crate::secret::Secret;

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
        let core = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let mut parts = core.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(0)), Some(Ok(88..=116)), None) => Self::V0_0,
            (Some(Ok(0)), Some(Ok(1)), Some(Ok(_)), None) => Self::V0_1,
            _ => Self::Unsupported,
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
    /// How TLS is spoken to it; none is plaintext.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// `authorization` as the gateway wants it, marked sensitive; none sends none.
    pub authorization: Option<HeaderValue>,
    /// What its last probe found. A connection carries what was probed on it.
    pub generation: Generation,
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
    /// What it is connected to: another one is another gateway, as far as streams and sandbox ids go.
    #[must_use]
    pub fn address(&self) -> (String, u16, bool) {
        (self.host.clone(), self.port, self.tls.is_some())
    }
}

/// What the secrets of a row are bound to (T04): where they are sent, and how the other end is known.
#[must_use]
pub fn destination(row: &Row) -> String {
    let ca =
        row.ca_cert.as_deref().map(|pem| format!("{:x?}", Sha256::digest(pem))).unwrap_or_default();
    format!("{}://{} {} {ca}", row.scheme, row.endpoint, row.auth_mode.as_deref().unwrap_or("none"))
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
    row.client_cert.clone_from(&credentials.client_cert);
    (row.client_key, row.bearer_token) = (key, token);
    Ok(())
}

/// The target of a row, its secrets opened.
pub fn from_row(app: &App, row: &Row) -> Result<Target, Error> {
    let destination = destination(row);
    let open = |column: &str, sealed: &Option<Vec<u8>>| {
        let open = |sealed: &Vec<u8>| {
            let opened = app.master.open(&aad(column, &row.name, &destination), sealed)?;
            let text = std::str::from_utf8(&opened).map_err(Error::internal)?;
            Ok::<_, Error>(Secret::new(text))
        };
        sealed.as_ref().map(open).transpose()
    };
    let key = open("client_key", &row.client_key)?;
    let token = open("bearer_token", &row.bearer_token)?;
    let endpoint = Endpoint::parse("endpoint", &row.endpoint)?;
    let tls = match Scheme::stored(&row.scheme)? {
        Scheme::Http => None,
        Scheme::Https => {
            let identity = row.client_cert.as_deref().zip(key.as_ref());
            Some(client_config(row.ca_cert.as_deref(), identity)?)
        }
    };
    let authorization = token.map(|token| bearer(&token)).transpose()?;
    let generation = Generation::parse(&row.wire_generation).ok_or_else(|| {
        Error::internal(format!("unknown wire generation {}", row.wire_generation))
    })?;
    Ok(Target {
        id: GatewayId(row.id),
        name: row.name.as_str().into(),
        host: endpoint.host,
        port: endpoint.port,
        tls,
        authorization,
        generation,
        connection_version: connection_version(row, &destination),
    })
}

fn bearer(token: &Secret) -> Result<HeaderValue, Error> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(Error::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

fn connection_version(row: &Row, destination: &str) -> u64 {
    let part = |bytes: &Option<Vec<u8>>| bytes.clone().unwrap_or_default();
    let parts = [part(&row.client_cert), part(&row.client_key), part(&row.bearer_token)];
    let bytes = joined(&[destination.as_bytes(), &parts[0], &parts[1], &parts[2]]);
    let digest = Sha256::digest(&bytes);
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

    /// Puts a gateway in, or takes it out; answers what was there.
    pub fn put(&self, id: GatewayId, target: Option<Target>) -> Option<Arc<Target>> {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        match target {
            Some(target) => by_id.insert(id, Arc::new(target)),
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
