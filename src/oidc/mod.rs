//! OIDC issuers: discovery, keys, token verification and login.
//!
//! Invariants
//! - an issuer is one exact string, in the configuration, in its discovery document and in each of its tokens;
//! - there is one verifier ([`verify`]); it checks the kind of a token, and no kind is accepted in place of another
//!   (T03);
//! - documents of an issuer are fetched only through `net::http`: checked addresses, no redirects, limits;
//! - a document is fetched at most once per interval and issuer, regardless of the requests, and by one caller at a
//!   time;
//! - nothing here depends on accounts, tables or calls.

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

/// All trusted issuers.
#[derive(Debug)]
pub struct Oidc {
    providers: Vec<Arc<Provider>>,
}

impl Oidc {
    /// Creates the configured issuers. Fetches nothing yet, so that an unreachable issuer does not prevent the start.
    ///
    /// # Errors
    /// `Invalid` if a file of the configuration cannot be read.
    pub fn new(config: &config::Oidc, clock: &Clock) -> Result<Self, Error> {
        let made = config.providers.iter().map(|provider| {
            Provider::new(provider, &config.allowed_networks, config.timeout(), clock).map(Arc::new)
        });
        Ok(Self { providers: made.collect::<Result<_, _>>()? })
    }

    /// Returns all issuers.
    #[must_use]
    pub fn all(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// Returns the provider with this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.config.name == name)
    }

    /// Returns the provider with this issuer string.
    #[must_use]
    pub fn by_issuer(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.config.issuer == issuer)
    }
}
