//! Whom others say that somebody is: OIDC issuers, their keys, their tokens and the login at one of them.
//!
//! Invariants
//! - an issuer is one exact string, in the configuration, in its discovery document and in each of its tokens;
//! - there is one verifier ([`verify`]); it says of a token what it is for, and nothing passes for another kind (T03);
//! - what an issuer names is fetched through `net::http` only: judged addresses, no redirects, limits;
//! - a fetch happens at most once in a while an issuer, whatever is asked for, and by one caller at a time;
//! - nothing here knows an account, a table or a call.

pub mod cache;
pub mod claims;
pub mod client_credentials;
pub mod flow;
pub mod jwks;
pub mod provider;
pub mod verified;
pub mod verify;

use std::sync::Arc;

use crate::clock::Clock;
use crate::config;
use crate::error::Error;

pub use provider::Provider;

/// Every issuer that is believed.
#[derive(Debug)]
pub struct Oidc {
    providers: Vec<Arc<Provider>>,
}

impl Oidc {
    /// As configured. Nothing is fetched yet: an issuer that is away stops nobody from starting.
    ///
    /// # Errors
    /// `Invalid` for a file of the configuration that cannot be read.
    pub fn new(config: &config::Oidc, clock: &Clock) -> Result<Self, Error> {
        let made = config.providers.iter().map(|provider| {
            Provider::new(provider, &config.allowed_networks, config.timeout(), clock).map(Arc::new)
        });
        Ok(Self { providers: made.collect::<Result<_, _>>()? })
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// The one of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.config.name == name)
    }

    /// The one that speaks as this issuer.
    #[must_use]
    pub fn by_issuer(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.config.issuer == issuer)
    }
}
