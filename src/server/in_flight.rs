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
pub(super) struct InFlightCalls {
    count: AtomicUsize,
    emptied: Notify,
}

/// A call in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct InFlightGuard(Arc<InFlightCalls>);

impl InFlightCalls {
    /// Counts a call.
    pub(super) fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(Arc::clone(self))
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Waits until a draining connection has no call to wait for.
    pub(super) async fn wait_drained(&self) {
        self.wait_drained_for(LINGER).await;
    }

    async fn wait_drained_for(&self, linger: Duration) {
        loop {
            while !self.is_empty() {
                self.emptied.notified().await;
            }
            sleep(linger).await;
            if self.is_empty() {
                return;
            }
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Stores a permit if no task waits yet, so that no end is missed.
            self.0.emptied.notify_one();
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
        let calls = Arc::new(InFlightCalls::default());
        let (first, second) = (calls.enter(), calls.enter());
        let mut drained = Box::pin(calls.wait_drained_for(linger));
        assert!(drained.as_mut().now_or_never().is_none());
        drop(first);
        sleep(linger * 2).await;
        assert!(drained.as_mut().now_or_never().is_none(), "one is in flight");
        drop(second);
        let started = Instant::now();
        drained.await;
        assert!(started.elapsed() >= linger);
    }
}
