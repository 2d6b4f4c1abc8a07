//! When a failed call is repeated: only if the server was unavailable, a few times, with growing pauses.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::seal::fill_random;

/// Number of attempts of a call.
const ATTEMPTS_MAX: u32 = 5;
/// The first pause, which doubles with each attempt, and the longest pause.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// The attempts of one call.
#[derive(Debug)]
pub(super) struct Attempts {
    failed: u32,
    time: Duration,
    deadline: Instant,
    is_repeatable: bool,
}

impl Attempts {
    /// Begins a call that must end within this time, with all attempts.
    pub(super) fn begin(time: Duration, is_repeatable: bool) -> Self {
        Self { failed: 0, time, deadline: Instant::now() + time, is_repeatable }
    }

    /// Returns the time that is left: all of it for the first attempt.
    pub(super) fn time_left(&self) -> Duration {
        if self.failed == 0 {
            return self.time;
        }
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Returns the pause before the next attempt, or `None` if the failure is final. The server can require a pause.
    pub(super) fn next_pause(&mut self, status: &Status) -> Option<Duration> {
        self.failed += 1;
        let can_repeat = self.is_repeatable && status.code() == Code::Unavailable;
        if !can_repeat || self.failed >= ATTEMPTS_MAX {
            return None;
        }
        let required = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let pause = required.unwrap_or_else(|| jitter(pause_after(self.failed)));
        (pause < self.time_left()).then_some(pause)
    }
}

/// Returns the pause after this many failed attempts.
fn pause_after(failed: u32) -> Duration {
    PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

/// Changes a pause by up to a fifth, so that callers that failed together do not return together.
fn jitter(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without random bytes, the pause is as it is.
    let _ = fill_random(&mut byte);
    pause.mul_f64(0.8 + 0.4 * f64::from(byte[0]) / 255.0)
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn unavailable() -> Status {
        Status::new(Code::Unavailable, "away")
    }

    #[test]
    fn a_call_is_attempted_five_times_with_growing_pauses() {
        let mut attempts = Attempts::begin(LONG, true);
        for expected in [0.25, 0.5, 1.0, 2.0] {
            let pause = attempts.next_pause(&unavailable()).unwrap().as_secs_f64();
            assert!((expected * 0.79..=expected * 1.21).contains(&pause), "{expected}: {pause}");
        }
        assert_eq!(attempts.next_pause(&unavailable()), None);
        assert_eq!(pause_after(9), PAUSE_MAX);
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn only_a_safe_call_to_an_unavailable_server_is_repeated() {
        for code in [Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted, Code::Internal]
        {
            let status = Status::new(code, "no");
            assert_eq!(Attempts::begin(LONG, true).next_pause(&status), None, "{code:?}");
        }
        assert_eq!(Attempts::begin(LONG, false).next_pause(&unavailable()), None);
    }

    #[test]
    fn the_server_and_the_deadline_limit_the_pause() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::Unavailable, "away", details);
        let mut attempts = Attempts::begin(LONG, true);
        assert_eq!(attempts.next_pause(&status), Some(Duration::from_secs(7)));
        assert_eq!(Attempts::begin(Duration::from_secs(5), true).next_pause(&status), None);
        assert_eq!(Attempts::begin(Duration::ZERO, true).next_pause(&unavailable()), None);
    }
}
