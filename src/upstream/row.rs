//! A gateway as a row of the registry.

use diesel::prelude::*;

use super::credentials::AuthMode;
use super::endpoint::{OidcClient, Scheme};
use super::generation::{Detected, Pinned};
use crate::clock::Timestamp;
use crate::db::schema::gateways;
use crate::db::types::{GatewayId, GatewayRef};
use crate::words;

/// A gateway as it is stored: what callers set. An update leaves alone what was found of it: those columns are written
/// where it is found, and forgotten when the address changes.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = gateways, treat_none_as_null = true)]
pub struct Row {
    /// Id.
    #[diesel(skip_insertion)]
    #[diesel(skip_update)]
    pub id: i64,
    /// Unique name.
    pub name: String,
    /// `host:port`.
    pub endpoint: String,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// How we identify ourselves; a row without one has none.
    pub auth_mode: Option<AuthMode>,
    /// PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM, sealed.
    pub client_key: Option<Vec<u8>>,
    /// Sealed.
    pub bearer_token: Option<Vec<u8>>,
    /// A JSON object.
    pub metadata_json: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// A JSON object of texts.
    pub labels_json: Option<String>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// Moves with each change by a caller.
    pub version: i64,
    /// Where tokens for it are fetched.
    pub oidc_token_url: Option<String>,
    /// The scope that is asked for.
    pub oidc_scope: Option<String>,
    /// The audience that is asked for.
    pub oidc_audience: Option<String>,
    /// Who asks.
    pub oidc_client_id: Option<String>,
    /// Sealed.
    pub oidc_client_secret: Option<Vec<u8>>,
    /// The schema family that is taken whatever its version says.
    pub pinned_generation: Option<Pinned>,
    /// What was found of it.
    #[diesel(embed)]
    #[diesel(skip_update)]
    pub found: Found,
}

/// What probes and background jobs found of a gateway.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = gateways)]
pub struct Found {
    /// When it last answered.
    pub last_seen: Option<Timestamp>,
    /// How it answered its last probe.
    pub last_status: Status,
    /// The schema family.
    pub wire_generation: Detected,
    /// The version that it reports.
    pub gateway_version: Option<String>,
    /// How long its last answer took, in microseconds.
    pub latency_us: Option<i64>,
    /// Why its last probe failed.
    pub last_error: Option<String>,
    /// When it was last probed.
    pub probed_at: Option<Timestamp>,
    /// When the certificate ends that it has shown last.
    pub server_cert_ends_at: Option<Timestamp>,
    /// Since when it was found to approve proposals by itself.
    pub automatic_approvals_since: Option<Timestamp>,
    /// Since when it was found to reject our credential, or to permit it nothing.
    pub credential_unusable_since: Option<Timestamp>,
}

words! {
    /// How a gateway answered its last probe.
    pub enum Status {
        /// It was not probed yet, or not for long.
        Unknown = "unknown",
        /// It says that it is healthy.
        Healthy = "healthy",
        /// It says that it is degraded, or was found to be.
        Degraded = "degraded",
        /// It says that it is unhealthy.
        Unhealthy = "unhealthy",
        /// It does not say how it is.
        Unspecified = "unspecified",
        /// It did not answer.
        Unreachable = "unreachable",
    }
}

impl Default for Found {
    /// Nothing found yet.
    fn default() -> Self {
        Self {
            last_seen: None,
            last_status: Status::Unknown,
            wire_generation: Detected::Unknown,
            gateway_version: None,
            latency_us: None,
            last_error: None,
            probed_at: None,
            server_cert_ends_at: None,
            automatic_approvals_since: None,
            credential_unusable_since: None,
        }
    }
}

impl Row {
    /// The gateway, by its id and name.
    #[must_use]
    pub fn gateway(&self) -> GatewayRef {
        GatewayRef { id: GatewayId(self.id), name: self.name.as_str().into() }
    }

    /// How we identify ourselves.
    #[must_use]
    pub fn auth_mode(&self) -> AuthMode {
        self.auth_mode.unwrap_or(AuthMode::None)
    }

    /// The generation that it is taken for: the one that is pinned, else the one that was found.
    #[must_use]
    pub fn taken_for(&self) -> Detected {
        let pinned = self.pinned_generation.map(|Pinned(generation)| Detected::Known(generation));
        pinned.unwrap_or(self.found.wire_generation)
    }

    /// Where tokens are fetched.
    #[must_use]
    pub fn oidc_client(&self) -> Option<OidcClient> {
        let (scope, audience) = (self.oidc_scope.clone(), self.oidc_audience.clone());
        let token_url = self.oidc_token_url.clone()?;
        Some(OidcClient { token_url, scope, audience })
    }

    /// Its credentials, as they are stored.
    #[must_use]
    pub fn sealed(&self) -> Vec<&Option<Vec<u8>>> {
        vec![&self.client_cert, &self.client_key, &self.bearer_token, &self.oidc_client_secret]
    }

    /// Takes the credentials of another state of the same gateway, sealed for the same destination.
    pub fn take_credentials(&mut self, from: &Self) {
        self.client_cert.clone_from(&from.client_cert);
        self.client_key.clone_from(&from.client_key);
        self.bearer_token.clone_from(&from.bearer_token);
        self.oidc_client_id.clone_from(&from.oidc_client_id);
        self.oidc_client_secret.clone_from(&from.oidc_client_secret);
    }

    /// Sets where tokens are fetched.
    pub fn set_oidc_client(&mut self, client: Option<&OidcClient>) {
        self.oidc_token_url = client.map(|client| client.token_url.clone());
        self.oidc_scope = client.and_then(|client| client.scope.clone());
        self.oidc_audience = client.and_then(|client| client.audience.clone());
    }
}
