//! From a core to main: runs the router's future as a task on the multi-thread runtime and awaits it.
//!
//! The last layer before the router and not before the proxy. A panic there is a fault of ours.
//!
//! Invariants
//! - the task ends when its caller goes; a write survives, because it is spawned again;
//! - what has arrived is judged first: the task is polled at least once after the caller has gone, so that hanging up
//!   keeps no refusal out of the audit log.

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::error::Error;

/// Runs `future` on main.
pub async fn run<T: Send + 'static>(
    main: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let (caller, gone) = oneshot::channel::<()>();
    let until_gone = async move {
        tokio::select! {
            biased;
            answer = future => Some(answer),
            // Nothing is ever sent: it ends when the sender is dropped.
            _ = gone => None,
        }
    };
    let answered = main.spawn(until_gone.instrument(tracing::Span::current())).await;
    drop(caller);
    answered.map_err(Error::internal)?.ok_or_else(|| Error::internal("the caller has gone"))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::task::Poll;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_is_polled_before_it_ends_with_its_caller() {
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
