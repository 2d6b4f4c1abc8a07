//! A gateway as a row of the registry.

use diesel::prelude::*;

use super::endpoint::OidcClient;
use crate::clock::Timestamp;
use crate::db::schema::gateways;

/// A gateway as it is stored. What callers change leaves alone what was found of it: those columns are written where it is
/// found, and forgotten when the address changes.
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
    pub scheme: String,
    /// How we identify ourselves.
    pub auth_mode: Option<String>,
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
    /// When it last answered.
    #[diesel(skip_update)]
    pub last_seen: Option<Timestamp>,
    /// How it answered its last probe.
    #[diesel(skip_update)]
    pub last_status: String,
    /// The schema family.
    #[diesel(skip_update)]
    pub wire_generation: String,
    /// The version that it reports.
    #[diesel(skip_update)]
    pub gateway_version: Option<String>,
    /// How long its last answer took, in microseconds.
    #[diesel(skip_update)]
    pub latency_us: Option<i64>,
    /// Why its last probe failed.
    #[diesel(skip_update)]
    pub last_error: Option<String>,
    /// When it was last probed.
    #[diesel(skip_update)]
    pub probed_at: Option<Timestamp>,
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
    /// When the certificate ends that it has shown last.
    #[diesel(skip_update)]
    pub server_cert_ends_at: Option<Timestamp>,
    /// The schema family that is taken whatever its version says.
    pub pinned_generation: Option<String>,
    /// Since when it was found to approve proposals by itself.
    #[diesel(skip_update)]
    pub automatic_approvals_since: Option<Timestamp>,
    /// Since when it was found to reject our credential, or to permit it nothing.
    #[diesel(skip_update)]
    pub credential_unusable_since: Option<Timestamp>,
}

impl Row {
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
