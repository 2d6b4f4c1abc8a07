//! Passes work from a core to main: runs the router's future as a task on the multi-thread runtime and awaits it.
//!
//! The last layer before the router; the proxy does not use it. A panic here is an internal error.
//!
//! Invariants
//! - the task ends when its caller hangs up; a write continues, because it is spawned separately;
//! - a request that arrived is checked even if the caller hangs up: the task is polled at least once afterwards, so
//!   that hanging up cannot keep a refusal out of the audit log.

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::error::Error;

/// Runs `future` on main.
pub async fn run<T: Send + 'static>(
    main: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let (caller, hung_up) = oneshot::channel::<()>();
    let until_hung_up = async move {
        tokio::select! {
            biased;
            answer = future => Some(answer),
            // Nothing is ever sent: it completes when the sender is dropped.
            _ = hung_up => None,
        }
    };
    let result = main.spawn(until_hung_up.instrument(tracing::Span::current())).await;
    drop(caller);
    result.map_err(Error::internal)?.ok_or_else(|| Error::internal("the caller has disconnected"))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_is_polled_once_and_dropped_with_its_caller() {
        let (polled, was_polled) = oneshot::channel();
        let (dropped, was_dropped) = oneshot::channel::<()>();
        let mut polled = Some(polled);
        let task = async move {
            let _dropped = dropped;
            poll_fn(|_| {
                let _ = polled.take().map(|polled| polled.send(()));
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
        };
        let main = Handle::current();
        {
            let mut running = std::pin::pin!(run(&main, task));
            let once = poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx).is_ready())).await;
            assert!(!once);
        }
        was_polled.await.unwrap();
        assert!(was_dropped.await.is_err());
    }
}
