//! Points at which a test kills or stops the process, to show that the next one continues correctly.
//!
//! A build with debug assertions reads the variable `TEST_FAIL_POINT` once. It names a point and what happens there:
//! `apply.sent=kill` or `apply.sent=stop`, each once. Release builds have no such points.

use crate::words;

words! {
    /// A point between two effects of a review.
    pub enum FailPoint {
        /// A vote is stored.
        VoteStored = "vote.stored",
        /// The end of a round by its time is written with its audit entry, and not committed.
        ExpiryRecorded = "expiry.recorded",
        /// A round is approved.
        DecisionCommitted = "decision.committed",
        /// The operation that writes it is stored.
        DispatchStarted = "dispatch.started",
        /// The state of the gateway was read and compared.
        ApplyFetched = "apply.fetched",
        /// The write intent is stored.
        IntentStored = "intent.stored",
        /// The write is on its way to the gateway.
        ApplySent = "apply.sent",
        /// The gateway has answered, or the answer was lost.
        ApplyAnswered = "apply.answered",
        /// The outcome is stored.
        WrittenStored = "written.stored",
        /// The gateway reports that the sandbox has loaded the policy, or that this failed.
        LoadSeen = "load.seen",
        /// The end of the round is stored.
        AppliedStored = "applied.stored",
        /// A reminder is written, and its transaction not committed yet.
        ReminderWritten = "reminder.written",
        /// The transaction of the clocks and reminders of a round is committed.
        ClockCommitted = "clock.committed",
    }
}

/// Kills or stops the process if a test has named this point.
pub fn reached(point: FailPoint) {
    #[cfg(debug_assertions)]
    active::reached(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// Waits for the answer to a write. If a test has named [`FailPoint::ApplySent`], that point is reached while the write
/// is on its way.
pub async fn while_sending<T>(answer: impl Future<Output = T>) -> T {
    #[cfg(debug_assertions)]
    if active::is_named(FailPoint::ApplySent) {
        tokio::pin!(answer);
        let early = tokio::time::timeout(active::ON_ITS_WAY, &mut answer).await;
        reached(FailPoint::ApplySent);
        return match early {
            Ok(answer) => answer,
            Err(_) => answer.await,
        };
    }
    answer.await
}

#[cfg(debug_assertions)]
mod active {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::FailPoint;

    /// Time in which a write reaches a gateway on the same host, or almost.
    pub(super) const ON_ITS_WAY: Duration = Duration::from_millis(2);
    /// Time in which a signal takes effect.
    const SIGNAL_TIME: Duration = Duration::from_millis(50);

    static NAMED: LazyLock<Option<(FailPoint, Signal)>> = LazyLock::new(read);
    static IS_OVER: AtomicBool = AtomicBool::new(false);

    #[expect(
        clippy::disallowed_methods,
        reason = "not a configuration: release builds have none of this"
    )]
    fn read() -> Option<(FailPoint, Signal)> {
        let text = std::env::var("TEST_FAIL_POINT").ok()?;
        let (point, what) = text.split_once('=')?;
        let signal = match what {
            "kill" => Signal::KILL,
            "stop" => Signal::STOP,
            _ => return None,
        };
        Some((FailPoint::from_word(point)?, signal))
    }

    pub(super) fn is_named(point: FailPoint) -> bool {
        NAMED.is_some_and(|(named, _)| named == point) && !IS_OVER.load(Ordering::Relaxed)
    }

    pub(super) fn reached(point: FailPoint) {
        let Some((named, signal)) = *NAMED else { return };
        if named != point || IS_OVER.swap(true, Ordering::Relaxed) {
            return;
        }
        // The kernel always lets a process signal itself.
        let _ = kill_process(getpid(), signal);
        thread::sleep(SIGNAL_TIME);
    }
}
