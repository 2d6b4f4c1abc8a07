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
use crate::net::spawn_owned;
use crate::oidc::client_credentials::{BearerToken, TokenRequest, fetch_token};

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
    Fetched(Arc<TokenSource>),
}

impl Identity {
    /// Makes sure that a credential is available. Waits only if a token must be fetched first.
    ///
    /// # Errors
    /// `GATEWAY_TOKEN_UNAVAILABLE` if it cannot be fetched.
    pub async fn ensure_credential(&self) -> Result<(), Error> {
        match self {
            Self::None | Self::Stored(_) => Ok(()),
            Self::Fetched(source) => source.ensure_token().await,
        }
    }

    /// Returns the current header, or `None` without a valid credential.
    #[must_use]
    pub fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Stored(header) => Some(header.clone()),
            Self::Fetched(source) => source.valid_token(MARGIN).map(|(header, _)| header),
        }
    }
}

/// Tokens from one gateway's identity provider.
#[derive(Debug)]
pub struct TokenSource {
    gateway: Arc<str>,
    request: TokenRequest,
    client: Client,
    deadline: Duration,
    clock: Clock,
    current: RwLock<Option<CurrentToken>>,
    fetch_state: Mutex<FetchState>,
}

#[derive(Debug, Default)]
struct FetchState {
    /// Signals the end of the fetch in progress.
    in_progress: Option<watch::Receiver<bool>>,
    /// When the last fetch ended, if it failed.
    failed: Option<Duration>,
}

#[derive(Debug)]
struct CurrentToken {
    header: HeaderValue,
    renew_at: Duration,
    expires_at: Duration,
}

impl TokenSource {
    /// Creates the source without a token.
    #[must_use]
    pub fn new(
        gateway: Arc<str>,
        request: TokenRequest,
        client: Client,
        deadline: Duration,
        clock: Clock,
    ) -> Self {
        let (current, fetch_state) = (RwLock::default(), Mutex::default());
        Self { gateway, request, client, deadline, clock, current, fetch_state }
    }

    /// Returns the token if it is valid for longer than `margin`, and whether it is due for renewal.
    fn valid_token(&self, margin: Duration) -> Option<(HeaderValue, bool)> {
        let token = self.current.read();
        let now = self.clock.since_boot();
        let token = token.as_ref().filter(|token| now + margin < token.expires_at)?;
        Some((token.header.clone(), now >= token.renew_at))
    }

    async fn ensure_token(self: &Arc<Self>) -> Result<(), Error> {
        match self.valid_token(2 * MARGIN) {
            Some((_, false)) => return Ok(()),
            Some((_, true)) => {
                // The current token stays in use meanwhile.
                let _in_progress = self.start_fetch();
                return Ok(());
            }
            None => {}
        }
        if let Some(mut end) = self.start_fetch() {
            // An error means that the task was dropped with its runtime, which also ends the fetch.
            let _ended = end.wait_for(|ended| *ended).await;
        }
        if self.valid_token(MARGIN).is_some() {
            return Ok(());
        }
        let why =
            format!("the identity provider of gateway `{}` returned no usable token", self.gateway);
        Err(Error::unavailable(Reason::GatewayTokenUnavailable, why))
    }

    /// Returns a signal for the end of the fetch in progress, starting one if needed. Returns `None` if none is needed
    /// or the last one has just failed.
    fn start_fetch(self: &Arc<Self>) -> Option<watch::Receiver<bool>> {
        let mut fetch_state = self.fetch_state();
        // The sender is dropped if the runtime stopped during the fetch.
        if let Some(end) = fetch_state.in_progress.as_ref().filter(|end| end.has_changed().is_ok())
        {
            return Some(end.clone());
        }
        let now = self.clock.since_boot();
        let failed_just_now = fetch_state.failed.is_some_and(|at| now.saturating_sub(at) < RETRY);
        if failed_just_now || matches!(self.valid_token(2 * MARGIN), Some((_, false))) {
            return None;
        }
        let (ended, end) = watch::channel(false);
        fetch_state.in_progress = Some(end.clone());
        drop(fetch_state);
        let source = Arc::clone(self);
        spawn_owned(async move {
            source.fetch_token(now).await;
            ended.send_replace(true);
        });
        Some(end)
    }

    async fn fetch_token(&self, started_at: Duration) {
        let fetching = Box::pin(fetch_token(&self.client, &self.request, self.deadline));
        let fetched = self.clock.timeout(self.deadline, fetching).await;
        let late = || Err("the token endpoint does not answer in time".to_owned());
        let failed = match fetched.unwrap_or_else(late) {
            Ok(token) => {
                self.store_token(token, started_at);
                None
            }
            Err(why) => {
                warn!(gateway = %self.gateway, why, "no token for a gateway could be fetched");
                // The time of the end, not of the start: otherwise a hanging provider would be called again right after
                // the timeout.
                Some(self.clock.since_boot())
            }
        };
        *self.fetch_state() = FetchState { in_progress: None, failed };
    }

    fn fetch_state(&self) -> MutexGuard<'_, FetchState> {
        self.fetch_state.lock()
    }

    fn store_token(&self, token: BearerToken, now: Duration) {
        // Renewed after four fifths of its lifetime, which leaves time for more than one attempt.
        let current = CurrentToken {
            header: token.header,
            renew_at: now + token.lifetime * 4 / 5,
            expires_at: now + token.lifetime,
        };
        *self.current.write() = Some(current);
    }
}
