//! Caches a document that an issuer publishes.
//!
//! Invariants
//! - at most one fetch runs at a time, and at most one per [`RETRY`], no matter how many callers need it or what they
//!   send;
//! - a document is fresh for [`FRESH`]; if it cannot be fetched again, it is used until it is [`STALE_MAX`] old.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::error::{Error, Reason};

/// How long a document is fresh.
pub const FRESH: Duration = Duration::from_hours(1);
/// Minimum time between two fetches, successful or not: unknown keys in forged tokens must not cause requests.
pub const RETRY: Duration = Duration::from_secs(30);
/// How long a document is used if it cannot be fetched again.
pub const STALE_MAX: Duration = Duration::from_hours(24);

/// Cache of one document.
pub struct DocumentCache<T> {
    cached: RwLock<Option<CachedDocument<T>>>,
    /// Time of the last fetch. Locked during a fetch.
    tried: Mutex<Option<Duration>>,
    clock: Clock,
}

struct CachedDocument<T> {
    value: Arc<T>,
    at: Duration,
}

impl<T> std::fmt::Debug for DocumentCache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cache(..)")
    }
}

impl<T> DocumentCache<T> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(clock: &Clock) -> Self {
        Self { cached: RwLock::default(), tried: Mutex::default(), clock: clock.clone() }
    }

    /// Returns the document if it is fresh. Never fetches it.
    #[must_use]
    pub fn get_fresh(&self) -> Option<Arc<T>> {
        self.younger_than(FRESH)
    }

    fn younger_than(&self, age: Duration) -> Option<Arc<T>> {
        let cached = self.cached.read();
        let cached = cached.as_ref()?;
        (self.clock.since_boot().saturating_sub(cached.at) < age).then(|| Arc::clone(&cached.value))
    }

    /// Returns the cached document if it is fresh and `enough`. Otherwise fetches it, if the last fetch is long enough
    /// ago. If that is not possible or fails, returns the cached document unless it is too old.
    ///
    /// # Errors
    /// The error of the fetch, or `ISSUER_UNAVAILABLE`, if no usable document is cached.
    pub async fn get<Fut>(
        &self,
        enough: impl Fn(&T) -> bool,
        fetch: impl FnOnce() -> Fut,
    ) -> Result<Arc<T>, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        if let Some(value) = self.get_fresh().filter(|value| enough(value)) {
            return Ok(value);
        }
        let mut tried = match self.tried.try_lock() {
            Ok(tried) => tried,
            Err(_) => match self.younger_than(STALE_MAX).filter(|value| enough(value)) {
                // Another caller is fetching, which may take until its timeout; the cached document is used meanwhile.
                Some(value) => return Ok(value),
                None => self.tried.lock().await,
            },
        };
        // The previous holder of the lock may have fetched it.
        if let Some(value) = self.get_fresh().filter(|value| enough(value)) {
            return Ok(value);
        }
        let now = self.clock.since_boot();
        if tried.is_some_and(|at| now.saturating_sub(at) < RETRY) {
            let why = "the issuer was asked a moment ago";
            let nothing = || Error::unavailable(Reason::IssuerUnavailable, why);
            return self.younger_than(STALE_MAX).ok_or_else(nothing);
        }
        *tried = Some(now);
        match fetch().await {
            Ok(value) => {
                let value = Arc::new(value);
                let cached = CachedDocument { value: Arc::clone(&value), at: now };
                *self.cached.write() = Some(cached);
                Ok(value)
            }
            Err(error) => self.younger_than(STALE_MAX).ok_or(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A cache of numbers whose source counts its fetches.
    struct World {
        cache: DocumentCache<u32>,
        clock: Clock,
        asked: AtomicU32,
    }

    impl World {
        fn new() -> Self {
            let clock = Clock::default();
            Self { cache: DocumentCache::new(&clock), clock, asked: AtomicU32::new(0) }
        }

        async fn get(&self, at_least: u32, works: bool) -> Option<u32> {
            let fetch = || async {
                let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::task::yield_now().await;
                if works { Ok(count) } else { Err(Error::internal("away")) }
            };
            self.cache.get(|value| *value >= at_least, fetch).await.ok().map(|value| *value)
        }

        fn fetch_count(&self) -> u32 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_fetch() {
        let world = World::new();
        let all = [(); 8].map(|()| world.get(0, true));
        assert!(futures_util::future::join_all(all).await.iter().all(|got| *got == Some(1)));
        let second = Duration::from_secs(1);
        world.clock.advance(FRESH.saturating_sub(second));
        assert_eq!((world.get(0, true).await, world.fetch_count()), (Some(1), 1));
        world.clock.advance(2 * second);
        assert!(world.cache.get_fresh().is_none());
        assert_eq!((world.get(0, true).await, world.fetch_count()), (Some(2), 2));
    }

    #[tokio::test]
    async fn fetches_for_a_missing_entry_are_rate_limited() {
        let world = World::new();
        world.get(0, true).await;
        for _ in 0..5 {
            assert_eq!((world.get(2, true).await, world.fetch_count()), (Some(1), 1));
        }
        world.clock.advance(RETRY);
        for _ in 0..5 {
            assert_eq!((world.get(2, true).await, world.fetch_count()), (Some(2), 2));
        }
    }

    #[tokio::test]
    async fn a_cached_value_is_returned_without_waiting_for_a_fetch() {
        let world = World::new();
        world.get(0, true).await;
        world.clock.advance(FRESH);
        let turn = world.cache.tried.lock().await;
        assert_eq!((world.get(0, true).await, world.fetch_count()), (Some(1), 1));
        assert!(futures_util::poll!(std::pin::pin!(world.get(2, true))).is_pending());
        drop(turn);
        assert_eq!(world.get(2, true).await, Some(2));
    }

    #[tokio::test]
    async fn a_stale_value_is_used_for_a_day_if_the_fetch_fails() {
        let world = World::new();
        assert_eq!((world.get(0, false).await, world.fetch_count()), (None, 1));
        assert_eq!((world.get(0, true).await, world.fetch_count()), (None, 1), "not again so soon");
        world.clock.advance(RETRY);
        assert_eq!(world.get(0, true).await, Some(2));
        world.clock.advance(FRESH);
        assert_eq!((world.get(0, false).await, world.fetch_count()), (Some(2), 3));
        world.clock.advance(STALE_MAX.saturating_sub(FRESH));
        assert_eq!((world.get(0, false).await, world.fetch_count()), (None, 4));
    }
}
