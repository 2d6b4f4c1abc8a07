//! Renewal of provider credentials. No external service is called: a rotation only updates the times.

use tonic::Status;

use super::meta::now_ms;
use super::{ObjectKey, State};

/// Maximum number of renewals per provider.
const REFRESHES_MAX: usize = 100;

/// Lifetime of a renewed credential.
const LIFETIME_MS: i64 = 60 * 60 * 1_000;

/// The renewal of one credential.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refresh {
    /// The provider's name.
    pub(crate) provider: String,
    /// The provider's id.
    pub(crate) provider_id: String,
    /// Key of the credential.
    pub(crate) key: String,
    /// Number of the strategy in the proto enum.
    pub(crate) strategy: i32,
    /// Milliseconds since 1970; 0 for never.
    pub(crate) expires_ms: i64,
    /// Milliseconds since 1970; 0 for never.
    pub(crate) last_ms: i64,
}

impl State {
    /// Configures the renewal of a credential.
    pub(crate) fn configure_refresh(
        &mut self,
        at: &ObjectKey,
        key: &str,
        strategy: i32,
        expires_ms: i64,
    ) -> Result<Refresh, Status> {
        if key.is_empty() || strategy == 0 {
            return Err(Status::invalid_argument("credential_key and strategy are required"));
        }
        let provider = self.provider(at)?;
        super::meta::check_capacity(
            "renewals of a provider",
            provider.refreshes.len(),
            REFRESHES_MAX,
        )?;
        let refresh = Refresh {
            provider: provider.meta.name.clone(),
            provider_id: provider.meta.id.clone(),
            key: key.to_owned(),
            strategy,
            expires_ms,
            last_ms: 0,
        };
        provider.refreshes.insert(key.to_owned(), refresh.clone());
        provider.meta.bump_version();
        Ok(refresh)
    }

    /// Renews a credential.
    pub(crate) fn rotate(&mut self, at: &ObjectKey, key: &str) -> Result<Refresh, Status> {
        let provider = self.provider(at)?;
        let Some(refresh) = provider.refreshes.get_mut(key) else {
            return Err(Status::not_found(format!("no refresh is configured for '{key}'")));
        };
        refresh.last_ms = now_ms();
        refresh.expires_ms = refresh.last_ms + LIFETIME_MS;
        let refresh = refresh.clone();
        provider.meta.bump_version();
        Ok(refresh)
    }

    /// Returns the renewals of a provider, or of one of its credentials.
    pub(crate) fn refreshes(&mut self, at: &ObjectKey, key: &str) -> Result<Vec<Refresh>, Status> {
        let all = self.provider(at)?.refreshes.values();
        Ok(all.filter(|refresh| key.is_empty() || refresh.key == key).cloned().collect())
    }

    /// Removes the renewal of a credential. Returns whether it existed.
    pub(crate) fn delete_refresh(&mut self, at: &ObjectKey, key: &str) -> Result<bool, Status> {
        Ok(self.provider(at)?.refreshes.remove(key).is_some())
    }
}
