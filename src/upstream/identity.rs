//! The `authorization` header for a gateway: none, a stored token, or a fetched token.
//!
//! Invariants
//! - one task at a time fetches a token, for all waiting callers: they share its result, and a caller that stops
//!   waiting cancels nothing. After a failure nothing is fetched for [`RETRY`];
//! - a token that is about to expire stays in use while the next is fetched; an expired token is never sent.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::sync::watch;
use tracing::warn;

use crate::clock::Clock;
use crate::error::{Error, Reason};
use crate::net::http::Client;
use crate::net::own;
use crate::oidc::client_credentials::{Asked, Token, fetch};

/// Pause after a failed fetch.
pub const RETRY: Duration = Duration::from_secs(5);
/// A token that expires within this time is not sent any more, since the call takes time to arrive.
const MARGIN: Duration = Duration::from_secs(5);

/// The credential that is sent.
#[derive(Debug, Clone)]
pub enum Identity {
    /// No credential.
    None,
    /// The `authorization` header, marked sensitive.
    Stored(HeaderValue),
    /// Token of the gateway's identity provider.
    Fetched(Arc<Fetched>),
}

impl Identity {
    /// Makes sure that a credential is available. Waits only if a token must be fetched first.
    ///
    /// # Errors
    /// `GATEWAY_TOKEN_UNAVAILABLE` if it cannot be fetched.
    pub async fn ready(&self) -> Result<(), Error> {
        match self {
            Self::None | Self::Stored(_) => Ok(()),
            Self::Fetched(fetched) => fetched.ready().await,
        }
    }

    /// Returns the current header, or `None` without a valid credential.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Stored(header) => Some(header.clone()),
            Self::Fetched(fetched) => fetched.held(MARGIN).map(|(header, _)| header),
        }
    }
}

/// Tokens from one gateway's identity provider.
#[derive(Debug)]
pub struct Fetched {
    gateway: Arc<str>,
    asked: Asked,
    client: Client,
    deadline: Duration,
    clock: Clock,
    held: RwLock<Option<Held>>,
    fetches: Mutex<Fetches>,
}

#[derive(Debug, Default)]
struct Fetches {
    /// Signals the end of the fetch in progress.
    going_on: Option<watch::Receiver<bool>>,
    /// When the last fetch ended, if it failed.
    failed: Option<Duration>,
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    renew_at: Duration,
    ends_at: Duration,
}

impl Fetched {
    /// Creates the source without a token.
    #[must_use]
    pub fn new(
        gateway: Arc<str>,
        asked: Asked,
        client: Client,
        deadline: Duration,
        clock: Clock,
    ) -> Self {
        let (held, fetches) = (RwLock::default(), Mutex::default());
        Self { gateway, asked, client, deadline, clock, held, fetches }
    }

    /// Returns the token if it is valid for longer than `margin`, and whether it is due for renewal.
    fn held(&self, margin: Duration) -> Option<(HeaderValue, bool)> {
        let held = self.held.read();
        let now = self.clock.since_boot();
        let held = held.as_ref().filter(|held| now + margin < held.ends_at)?;
        Some((held.header.clone(), now >= held.renew_at))
    }

    async fn ready(self: &Arc<Self>) -> Result<(), Error> {
        match self.held(2 * MARGIN) {
            Some((_, false)) => return Ok(()),
            Some((_, true)) => {
                // The current token stays in use meanwhile.
                let _going_on = self.fetching();
                return Ok(());
            }
            None => {}
        }
        if let Some(mut end) = self.fetching() {
            // An error means that the task was dropped with its runtime, which also ends the fetch.
            let _ended = end.wait_for(|ended| *ended).await;
        }
        if self.held(MARGIN).is_some() {
            return Ok(());
        }
        let why =
            format!("the identity provider of gateway `{}` returned no usable token", self.gateway);
        Err(Error::unavailable(Reason::GatewayTokenUnavailable, why))
    }

    /// Returns a signal for the end of the fetch in progress, starting one if needed. Returns `None` if none is needed
    /// or the last one has just failed.
    fn fetching(self: &Arc<Self>) -> Option<watch::Receiver<bool>> {
        let mut fetches = self.fetches();
        // The sender is dropped if the runtime stopped during the fetch.
        if let Some(end) = fetches.going_on.as_ref().filter(|end| end.has_changed().is_ok()) {
            return Some(end.clone());
        }
        let now = self.clock.since_boot();
        let failed_just_now = fetches.failed.is_some_and(|at| now.saturating_sub(at) < RETRY);
        if failed_just_now || matches!(self.held(2 * MARGIN), Some((_, false))) {
            return None;
        }
        let (ended, end) = watch::channel(false);
        fetches.going_on = Some(end.clone());
        drop(fetches);
        let fetching = Arc::clone(self);
        own(async move {
            fetching.fetch(now).await;
            ended.send_replace(true);
        });
        Some(end)
    }

    async fn fetch(&self, begun: Duration) {
        let fetched = fetch(&self.client, &self.asked, self.deadline).await;
        let failed = match fetched {
            Ok(token) => {
                self.hold(token, begun);
                None
            }
            Err(why) => {
                warn!(gateway = %self.gateway, why, "no token for a gateway could be fetched");
                // The time of the end, not of the start: otherwise a hanging provider would be called again right after
                // the timeout.
                Some(self.clock.since_boot())
            }
        };
        *self.fetches() = Fetches { going_on: None, failed };
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock()
    }

    fn hold(&self, token: Token, now: Duration) {
        // Renewed after four fifths of its lifetime, which leaves time for more than one attempt.
        let held = Held {
            header: token.header,
            renew_at: now + token.life * 4 / 5,
            ends_at: now + token.life,
        };
        *self.held.write() = Some(held);
    }
}
