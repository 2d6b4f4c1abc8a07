//! A running task of a key: how it is canceled, and how long it has to end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long a task has to end before its lease is released in a later round.
const END_TIME: Duration = Duration::from_secs(2);

/// The task of a key.
pub(super) struct Running {
    /// Cancels it.
    pub(super) cancel: CancellationToken,
    /// The task.
    pub(super) handle: JoinHandle<()>,
}

impl Running {
    /// Cancels the task, and waits until it has ended. Returns whether it has.
    pub(super) async fn end(&mut self) -> bool {
        self.cancel.cancel();
        self.handle.is_finished() || tokio::time::timeout(END_TIME, &mut self.handle).await.is_ok()
    }
}

/// Runs the work of a task until it has ended, or has had `end_within` to end since it was canceled.
pub(super) async fn run_work(
    work: BoxFuture<'static, ()>,
    canceled: CancellationToken,
    end_within: Duration,
) {
    let dropped = async {
        canceled.cancelled().await;
        if !end_within.is_zero() {
            tokio::time::sleep(end_within).await;
        }
    };
    let work = AssertUnwindSafe(work).catch_unwind();
    tokio::select! {
        biased;
        () = dropped => {}
        ended = work => {
            if ended.is_err() {
                warn!("the task of a key panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_canceled_task_can_end_by_itself_if_its_kind_allows_it() {
        for (end_within, expected) in [(Duration::from_hours(1), true), (Duration::ZERO, false)] {
            let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
            cancel.cancel();
            let (canceled, last) = (cancel.clone(), ended.clone());
            let work = async move {
                canceled.cancelled().await;
                tokio::task::yield_now().await;
                last.cancel();
            };
            run_work(Box::pin(work), cancel, end_within).await;
            assert_eq!(ended.is_cancelled(), expected, "{end_within:?}");
        }
    }
}
