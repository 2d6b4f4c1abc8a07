//! `[token_service]`: how stock OpenShell clients get tokens. It exists where `server.public_url` is set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// How stock OpenShell clients get tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenService {
    /// Whether people may log a client in by a code that they type. Default false: whoever is talked into typing
    /// another's code lends their access, so it is for fleets that need it.
    #[serde(default = "device_flow")]
    pub device_flow: bool,
    /// How long a token that was made from an API key is good, in hours. Default 24, the most: the stock client has no way
    /// to renew it but to be set up again.
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
    const KEYS: &'static [Key] =
        &[Key::new("device_flow", Kind::Flag), Key::new("token_hours", Kind::Number)];

    fn check(&self, faults: &mut Faults) {
        faults.range("token_service.token_hours", self.token_hours, &(1..=24));
    }
}

impl TokenService {
    /// How long a token that was made from an API key is good.
    #[must_use]
    pub fn token(&self) -> Duration {
        Duration::from_hours(self.token_hours)
    }
}
