//! Ctrl-C in a command that calls a server, and the end of its time.
//!
//! Invariant: a refresh token that was sent is used, so its successor is stored before interrupted work is dropped.
//! Otherwise the next command would use the token again, which ends the session.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::super::CliError;

/// How long interrupted work may take to store the successor of a refresh token.
const REFRESH_END_TIME_MAX: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The refresh of the work that can be interrupted.
    static REFRESH: Arc<Refresh>;
}

#[derive(Debug, Default)]
struct Refresh {
    /// Whether a refresh token was sent whose successor is not stored yet.
    is_sent: AtomicBool,
    is_interrupted: AtomicBool,
}

/// Runs work until it is done or the user interrupts it. Interrupted work is dropped.
///
/// # Errors
/// Those of the work, and `Interrupted`.
pub(in crate::cli) async fn interruptible<T>(
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let work = Box::pin(work);
    // Work inside of other work is dropped with it.
    if REFRESH.try_with(|_| ()).is_ok() {
        return work.await;
    }
    run_until(tokio::signal::ctrl_c(), work).await
}

async fn run_until<T>(
    signal: impl Future<Output = io::Result<()>>,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let interruption = async {
        if signal.await.is_err() {
            pending::<()>().await;
        }
    };
    unless(interruption, work).await.unwrap_or(Err(CliError::Interrupted))
}

/// Runs work until it is done or the time has passed. Returns `None` then, and drops the work.
pub(in crate::cli) async fn until<T>(
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Option<T> {
    unless(tokio::time::sleep_until(deadline), work).await
}

/// Runs work until it is done or the event occurs. Returns `None` then: the work is dropped when it has stored the
/// successor of a refresh token.
async fn unless<T>(event: impl Future<Output = ()>, work: impl Future<Output = T>) -> Option<T> {
    // Work inside of other work has the same refresh.
    let refresh = REFRESH.try_with(Arc::clone).unwrap_or_default();
    let mut work = pin!(REFRESH.scope(Arc::clone(&refresh), work));
    tokio::select! {
        // A signal is listened for before the work begins.
        biased;
        () = event => {}
        done = &mut work => return Some(done),
    }
    refresh.is_interrupted.store(true, Ordering::Relaxed);
    let stored = poll_fn(|cx| {
        let is_sent = || refresh.is_sent.load(Ordering::Relaxed);
        if !is_sent() {
            return Poll::Ready(());
        }
        let has_ended = work.as_mut().poll(cx).is_ready();
        if has_ended || !is_sent() { Poll::Ready(()) } else { Poll::Pending }
    });
    // A server that does not answer in time ends the command without the successor.
    let _ = tokio::time::timeout(REFRESH_END_TIME_MAX, stored).await;
    refresh.is_interrupted.store(false, Ordering::Relaxed);
    None
}

/// A refresh token that was sent. Its successor is stored, or was refused, when this is settled.
pub(super) struct SentToken(Option<Arc<Refresh>>);

impl SentToken {
    /// Notes that a refresh token is sent now.
    pub(super) fn mark() -> Self {
        let refresh = REFRESH.try_with(Arc::clone).ok();
        if let Some(refresh) = &refresh {
            refresh.is_sent.store(true, Ordering::Relaxed);
        }
        Self(refresh)
    }

    /// Notes that the token has a result. Does not return if the work was interrupted meanwhile.
    pub(super) async fn settle(self) {
        let refresh = self.0.as_ref();
        let is_interrupted =
            refresh.is_some_and(|refresh| refresh.is_interrupted.load(Ordering::Relaxed));
        drop(self);
        if is_interrupted {
            pending::<()>().await;
        }
    }
}

impl Drop for SentToken {
    fn drop(&mut self) {
        if let Some(refresh) = &self.0 {
            refresh.is_sent.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn the_successor_of_a_sent_token_is_stored_before_work_is_dropped() {
        let (interrupt, interrupted) = oneshot::channel::<()>();
        let (is_stored, has_continued) = (AtomicBool::new(false), AtomicBool::new(false));
        let work = async {
            let sent = SentToken::mark();
            interrupt.send(()).unwrap();
            tokio::task::yield_now().await;
            is_stored.store(true, Ordering::Relaxed);
            sent.settle().await;
            has_continued.store(true, Ordering::Relaxed);
            Ok(())
        };
        let signal = async { interrupted.await.map_err(io::Error::other) };
        let done = run_until(signal, work).await;
        assert!(matches!(done, Err(CliError::Interrupted)), "{done:?}");
        assert!(is_stored.load(Ordering::Relaxed) && !has_continued.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn it_is_also_stored_before_late_work_inside_of_other_work_is_dropped() {
        let (pass, passed) = oneshot::channel::<()>();
        let (is_stored, has_continued) = (AtomicBool::new(false), AtomicBool::new(false));
        let work = async {
            let sent = SentToken::mark();
            pass.send(()).unwrap();
            tokio::task::yield_now().await;
            is_stored.store(true, Ordering::Relaxed);
            sent.settle().await;
            has_continued.store(true, Ordering::Relaxed);
        };
        let outer = async { Ok(unless(async { passed.await.unwrap() }, work).await) };
        let done = run_until(pending(), outer).await;
        assert!(matches!(done, Ok(None)), "{done:?}");
        assert!(is_stored.load(Ordering::Relaxed) && !has_continued.load(Ordering::Relaxed));
        assert_eq!(until(Instant::now(), pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn other_work_is_dropped_at_once() {
        let has_continued = AtomicBool::new(false);
        let (interrupt, interrupted) = oneshot::channel::<()>();
        let work = async {
            interrupt.send(()).unwrap();
            tokio::task::yield_now().await;
            has_continued.store(true, Ordering::Relaxed);
            Ok(())
        };
        let signal = async { interrupted.await.map_err(io::Error::other) };
        let done = run_until(signal, work).await;
        assert!(matches!(done, Err(CliError::Interrupted)), "{done:?}");
        assert!(!has_continued.load(Ordering::Relaxed));
    }
}
