//! What we show a gateway in `authorization`: nothing, a token that is stored, or one that is fetched.
//!
//! Invariants
//! - a token is fetched by one task at a time, for all who wait for it: what it meets is what they meet, and a caller that
//!   gives up stops nothing. After a failure none is fetched for [`RETRY`];
//! - one that is near its end serves on while the next is fetched; one that has ended is never shown.

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
    fetches: Mutex<Fetches>,
}

#[derive(Debug, Default)]
struct Fetches {
    /// Says when the one ends that is going on.
    going_on: Option<watch::Receiver<bool>>,
    /// When the last one ended, where it failed.
    failed: Option<Duration>,
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
        let (held, fetches) = (RwLock::default(), Mutex::default());
        Self { gateway, asked, client, deadline, clock, held, fetches }
    }

    /// The token that is good for longer than `margin`, and whether it is time for the next.
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
                // It serves on meanwhile.
                let _going_on = self.fetching();
                return Ok(());
            }
            None => {}
        }
        if let Some(mut end) = self.fetching() {
            // An error means that the task has gone with its runtime, which ends it as well.
            let _ended = end.wait_for(|ended| *ended).await;
        }
        if self.held(MARGIN).is_some() {
            return Ok(());
        }
        let why = format!(
            "no token for gateway `{}` can be had from its identity provider",
            self.gateway
        );
        Err(Error::unavailable(Reason::GatewayTokenUnavailable, why))
    }

    /// The end of the fetch that is going on, or of one that begins now; none where there is no need for one, or where the
    /// last has just failed.
    fn fetching(self: &Arc<Self>) -> Option<watch::Receiver<bool>> {
        let mut fetches = self.fetches();
        // Its sender is gone where its runtime has stopped under it.
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
                // Stamped when it ends: a provider that hangs is else asked again as soon as it is given up.
                Some(self.clock.since_boot())
            }
        };
        *self.fetches() = Fetches { going_on: None, failed };
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock()
    }

    fn hold(&self, token: Token, now: Duration) {
        // Four fifths of its life: there is time for more than one try.
        let held = Held {
            header: token.header,
            renew_at: now + token.life * 4 / 5,
            ends_at: now + token.life,
        };
        *self.held.write() = Some(held);
    }
}
