//! `[token_service]`: how stock OpenShell clients get tokens. The service is available only if `server.public_url` is
//! set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};

/// How stock OpenShell clients get tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenService {
    /// Allows people to log in a client by entering the code that it shows (RFC 8628, device flow). Default false: a
    /// person who is tricked into entering another person's code gives away their access, so turn it on only if the
    /// fleet needs it.
    #[serde(default = "device_flow")]
    pub device_flow: bool,
    /// Lifetime of a token that was created from an API key, in hours. Range 1 to 24. Default 24: the stock client
    /// cannot renew the token without being set up again.
    #[serde(default = "token_hours")]
    pub token_hours: u64,
}

fn device_flow() -> bool {
    false
}

fn token_hours() -> u64 {
    24
}

impl Section for TokenService {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("device_flow", ValueKind::Flag),
        ConfigKey::new("token_hours", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("token_service.token_hours", self.token_hours, &(1..=24));
    }
}

impl TokenService {
    /// Returns the lifetime of a token that was created from an API key.
    #[must_use]
    pub fn token(&self) -> Duration {
        Duration::from_hours(self.token_hours)
    }
}
