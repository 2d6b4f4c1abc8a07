//! What we show a gateway in `authorization`: nothing, a token that is stored, or one that is fetched.
//!
//! Invariants
//! - a token is fetched by one caller at a time, and after a failure not again for [`RETRY`];
//! - one that is near its end serves on while the next is fetched; one that has ended is never shown.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Mutex;
use tracing::warn;

use crate::clock::Clock;
use crate::error::{Error, Reason};
use crate::net::http::Client;
use crate::oidc::client_credentials::{Asked, Token, fetch};
use crate::proxy::own;

/// How long nothing is fetched after a failure.
pub const RETRY: Duration = Duration::from_secs(5);
/// A token that ends within this is not shown any more: the call takes time to get there.
const MARGIN: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Debug, Clone)]
pub enum Identity {
    /// Nothing.
    None,
    /// `authorization`, marked sensitive.
    Stored(HeaderValue),
    /// A token of the gateway's identity provider.
    Fetched(Arc<Fetched>),
}

impl Identity {
    /// Makes sure that there is something to show. From memory, but where a token must be fetched first.
    ///
    /// # Errors
    /// `GATEWAY_TOKEN_UNAVAILABLE`.
    pub async fn ready(&self) -> Result<(), Error> {
        match self {
            Self::None | Self::Stored(_) => Ok(()),
            Self::Fetched(fetched) => fetched.ready().await,
        }
    }

    /// What is shown now.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Stored(header) => Some(header.clone()),
            Self::Fetched(fetched) => fetched.held(MARGIN).map(|(header, _)| header),
        }
    }
}

/// Tokens of one gateway's identity provider.
#[derive(Debug)]
pub struct Fetched {
    gateway: Arc<str>,
    asked: Asked,
    client: Client,
    deadline: Duration,
    clock: Clock,
    held: RwLock<Option<Held>>,
    /// When a fetch failed last. Held while one is going on.
    failed: Mutex<Option<Duration>>,
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    renew_at: Duration,
    ends_at: Duration,
}

impl Fetched {
    /// None is fetched yet.
    #[must_use]
    pub fn new(
        gateway: Arc<str>,
        asked: Asked,
        client: Client,
        deadline: Duration,
        clock: Clock,
    ) -> Self {
        let (held, failed) = (RwLock::default(), Mutex::default());
        Self { gateway, asked, client, deadline, clock, held, failed }
    }

    /// The token that is good for longer than `margin`, and whether it is time for the next.
    fn held(&self, margin: Duration) -> Option<(HeaderValue, bool)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.since_boot();
        let held = held.as_ref().filter(|held| now + margin < held.ends_at)?;
        Some((held.header.clone(), now >= held.renew_at))
    }

    async fn ready(self: &Arc<Self>) -> Result<(), Error> {
        match self.held(2 * MARGIN) {
            Some((_, false)) => return Ok(()),
            Some((_, true)) => {
                let renewing = Arc::clone(self);
                if self.failed.try_lock().is_ok() {
                    own(async move { renewing.renew().await });
                }
                return Ok(());
            }
            None => {}
        }
        // Boxed: it is rarely needed, and every call would else make room for it.
        if Box::pin(self.renew()).await {
            return Ok(());
        }
        let why = format!(
            "no token for gateway `{}` can be had from its identity provider",
            self.gateway
        );
        Err(Error::unavailable(Reason::GatewayTokenUnavailable, why))
    }

    /// Fetches unless somebody has just done so; answers whether there is a token to show.
    async fn renew(&self) -> bool {
        let mut failed = self.failed.lock().await;
        if let Some((_, false)) = self.held(2 * MARGIN) {
            return true;
        }
        let now = self.clock.since_boot();
        if failed.is_none_or(|at| now.saturating_sub(at) >= RETRY) {
            match fetch(&self.client, &self.asked, self.deadline).await {
                Ok(token) => {
                    *failed = None;
                    self.hold(token, now);
                }
                Err(why) => {
                    warn!(gateway = %self.gateway, why, "no token for a gateway could be fetched");
                    *failed = Some(now);
                }
            }
        }
        self.held(MARGIN).is_some()
    }

    fn hold(&self, token: Token, now: Duration) {
        // Four fifths of its life: there is time for more than one try.
        let held = Held {
            header: token.header,
            renew_at: now + token.life * 4 / 5,
            ends_at: now + token.life,
        };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}
