//! A gateway as a row of the `gateways` table.

use diesel::prelude::*;

use super::credentials::AuthMode;
use super::endpoint::{OidcClient, Scheme};
use super::generation::{DetectedGeneration, PinnedGeneration};
use crate::clock::Timestamp;
use crate::db::schema::gateways;
use crate::db::types::{GatewayId, GatewayRef};
use crate::words;

/// A stored gateway: the fields that callers set. An update does not write the detected fields: those are written by
/// probes and jobs, and cleared when the address changes.
#[derive(Debug, Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = gateways, treat_none_as_null = true)]
pub struct GatewayRow {
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
    /// How Shoreguard authenticates to it; `None` is no authentication.
    pub auth_mode: Option<AuthMode>,
    /// PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// PEM.
    pub client_cert: Option<Vec<u8>>,
    /// PEM, encrypted.
    pub client_key: Option<Vec<u8>>,
    /// Encrypted.
    pub bearer_token: Option<Vec<u8>>,
    /// A JSON object.
    pub metadata_json: Option<String>,
    /// Free text on its purpose.
    pub description: Option<String>,
    /// A JSON object with string values.
    pub labels_json: Option<String>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// Increases with each change by a caller.
    pub version: i64,
    /// Token endpoint of its identity provider.
    pub oidc_token_url: Option<String>,
    /// Requested scope.
    pub oidc_scope: Option<String>,
    /// Requested audience.
    pub oidc_audience: Option<String>,
    /// Client id at the identity provider.
    pub oidc_client_id: Option<String>,
    /// Encrypted.
    pub oidc_client_secret: Option<Vec<u8>>,
    /// The configured generation, which overrides the detected one.
    pub pinned_generation: Option<PinnedGeneration>,
    /// State that probes and jobs detected.
    #[diesel(embed)]
    #[diesel(skip_update)]
    pub observed: ObservedState,
}

/// State of a gateway that probes and background jobs detected.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = gateways)]
pub struct ObservedState {
    /// When it last responded.
    pub last_seen: Option<Timestamp>,
    /// Result of its last probe.
    pub last_status: GatewayStatus,
    /// The detected generation.
    pub wire_generation: DetectedGeneration,
    /// The version that it reported.
    pub gateway_version: Option<String>,
    /// Latency of its last response, in microseconds.
    pub latency_us: Option<i64>,
    /// Why its last probe failed.
    pub last_error: Option<String>,
    /// When it was last probed.
    pub probed_at: Option<Timestamp>,
    /// When the certificate that it presented last expires.
    pub server_cert_ends_at: Option<Timestamp>,
    /// Since when it is known to approve policy proposals automatically.
    pub automatic_approvals_since: Option<Timestamp>,
    /// Since when it is known to reject Shoreguard's credential, or to permit it nothing.
    pub credential_unusable_since: Option<Timestamp>,
}

words! {
    /// Result of the last probe of a gateway.
    pub enum GatewayStatus {
        /// Not probed yet, or not recently.
        Unknown = "unknown",
        /// Reports that it is healthy.
        Healthy = "healthy",
        /// Reports that it is degraded, or was found to be.
        Degraded = "degraded",
        /// Reports that it is unhealthy.
        Unhealthy = "unhealthy",
        /// Reports no health.
        Unspecified = "unspecified",
        /// Did not respond.
        Unreachable = "unreachable",
    }
}

impl Default for ObservedState {
    /// Returns the state of a gateway about which nothing is known.
    fn default() -> Self {
        Self {
            last_seen: None,
            last_status: GatewayStatus::Unknown,
            wire_generation: DetectedGeneration::Unknown,
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

impl GatewayRow {
    /// Returns the id and the name.
    #[must_use]
    pub fn gateway(&self) -> GatewayRef {
        GatewayRef { id: GatewayId(self.id), name: self.name.as_str().into() }
    }

    /// Returns how Shoreguard authenticates to it.
    #[must_use]
    pub fn auth_mode(&self) -> AuthMode {
        self.auth_mode.unwrap_or(AuthMode::None)
    }

    /// Returns the effective generation: the configured one, otherwise the detected one.
    #[must_use]
    pub fn effective_generation(&self) -> DetectedGeneration {
        let pinned = self
            .pinned_generation
            .map(|PinnedGeneration(generation)| DetectedGeneration::Known(generation));
        pinned.unwrap_or(self.observed.wire_generation)
    }

    /// Returns the token endpoint and its parameters, or `None` without one.
    #[must_use]
    pub fn oidc_client(&self) -> Option<OidcClient> {
        let (scope, audience) = (self.oidc_scope.clone(), self.oidc_audience.clone());
        let token_url = self.oidc_token_url.clone()?;
        Some(OidcClient { token_url, scope, audience })
    }

    /// Returns the credentials in stored form.
    #[must_use]
    pub fn encrypted_credentials(&self) -> Vec<&Option<Vec<u8>>> {
        vec![&self.client_cert, &self.client_key, &self.bearer_token, &self.oidc_client_secret]
    }

    /// Copies the credentials from another version of the same gateway, encrypted for the same destination.
    pub fn copy_credentials(&mut self, from: &Self) {
        self.client_cert.clone_from(&from.client_cert);
        self.client_key.clone_from(&from.client_key);
        self.bearer_token.clone_from(&from.bearer_token);
        self.oidc_client_id.clone_from(&from.oidc_client_id);
        self.oidc_client_secret.clone_from(&from.oidc_client_secret);
    }

    /// Sets the token endpoint and its parameters.
    pub fn set_oidc_client(&mut self, client: Option<&OidcClient>) {
        self.oidc_token_url = client.map(|client| client.token_url.clone());
        self.oidc_scope = client.and_then(|client| client.scope.clone());
        self.oidc_audience = client.and_then(|client| client.audience.clone());
    }
}
