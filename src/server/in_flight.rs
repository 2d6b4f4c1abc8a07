//! Calls in flight on one connection, which a drain waits for. Streams do not count: they end when a drain begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// Time that a draining connection stays open without a call in flight: streams end within the first second of it, and
/// the last statuses reach the caller. Requests that are still open afterwards are not answered.
const LINGER: Duration = Duration::from_secs(2);

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    count: AtomicUsize,
    none: Notify,
}

/// A call in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<InFlight>);

impl InFlight {
    /// Counts a call.
    pub(super) fn enter(self: &Arc<Self>) -> Counted {
        self.count.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(self))
    }

    fn is_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until a draining connection has no call to wait for.
    pub(super) async fn over(&self) {
        self.over_for(LINGER).await;
    }

    async fn over_for(&self, linger: Duration) {
        loop {
            while !self.is_none() {
                self.none.notified().await;
            }
            sleep(linger).await;
            if self.is_none() {
                return;
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Stores a permit if no task waits yet, so that no end is missed.
            self.0.none.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_the_last_call_and_then_for_the_linger_time() {
        let linger = Duration::from_millis(20);
        let calls = Arc::new(InFlight::default());
        let (first, second) = (calls.enter(), calls.enter());
        let mut over = Box::pin(calls.over_for(linger));
        assert!(over.as_mut().now_or_never().is_none());
        drop(first);
        sleep(linger * 2).await;
        assert!(over.as_mut().now_or_never().is_none(), "one is in flight");
        drop(second);
        let begun = Instant::now();
        over.await;
        assert!(begun.elapsed() >= linger);
    }
}
