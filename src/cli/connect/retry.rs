//! When a failed call is repeated, and a broken stream is resumed: a few times, with growing pauses.
//!
//! Invariants
//! - only a server that was unavailable and a connection that was lost are followed by another attempt, and a session
//!   that expires while a stream is open;
//! - a pause that the server requires replaces ours, and no pause is longer than the time that is left.

use std::error::Error as _;
use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::client::Client;
use crate::cli::CliError;
use crate::seal::fill_random;

/// Number of attempts of a call.
const CALL_ATTEMPTS_MAX: u32 = 5;
/// Number of attempts in a row of a stream that resumes: about 50 seconds.
const STREAM_ATTEMPTS_MAX: u32 = 20;
/// The first pause, which doubles with each attempt, and the longest pause.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Which failures are followed by another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    /// None, since the call could be done twice.
    Never,
    /// That of a server that was unavailable.
    Unavailable,
    /// Also that of a connection that was lost before the response was complete.
    Lost,
}

impl Repeats {
    /// Whether a call that failed with this status is repeated.
    fn includes(self, status: &Status) -> bool {
        match self {
            Self::Never => false,
            Self::Unavailable => status.code() == Code::Unavailable,
            Self::Lost => is_lost(status),
        }
    }
}

/// Whether a call failed since the server is away. A status that the server has sent has no source.
fn is_lost(status: &Status) -> bool {
    let is_broken = matches!(status.code(), Code::Unknown | Code::Internal);
    status.code() == Code::Unavailable || (is_broken && status.source().is_some())
}

/// The attempts of one call, or those in a row of a stream.
#[derive(Debug)]
pub(super) struct Attempts {
    failed: u32,
    failed_max: u32,
    repeats: Repeats,
    /// The time for all attempts, and when it has passed.
    limit: Option<(Duration, Instant)>,
}

impl Attempts {
    /// Begins a call. If a time is given, it must end within this time, with all attempts.
    pub(super) fn begin(time: Option<Duration>, repeats: Repeats) -> Self {
        let limit = time.map(|time| (time, Instant::now() + time));
        Self { failed: 0, failed_max: CALL_ATTEMPTS_MAX, repeats, limit }
    }

    /// Returns the time that is left, if it is limited: all of it for the first attempt.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let (time, deadline) = self.limit?;
        if self.failed == 0 {
            return Some(time);
        }
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until the next attempt. Returns the status if the failure is final.
    pub(super) async fn wait_after(&mut self, status: Status) -> Result<(), Status> {
        let Some(pause) = self.next_pause(&status) else { return Err(status) };
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Returns the pause before the next attempt, or `None` if the failure is final. The server can require a pause.
    fn next_pause(&mut self, status: &Status) -> Option<Duration> {
        self.failed += 1;
        if !self.repeats.includes(status) || self.failed >= self.failed_max {
            return None;
        }
        let required = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let pause = required.unwrap_or_else(|| jitter(pause_after(self.failed)));
        self.time_left().is_none_or(|left| pause < left).then_some(pause)
    }
}

/// The attempts of a stream that resumes after its connection was lost.
#[derive(Debug)]
pub(in crate::cli) struct StreamAttempts {
    attempts: Attempts,
    /// Whether the server has accepted the credential of this attempt.
    is_accepted: bool,
}

impl StreamAttempts {
    /// Begins a stream.
    pub(in crate::cli) const fn begin() -> Self {
        let repeats = Repeats::Lost;
        let attempts =
            Attempts { failed: 0, failed_max: STREAM_ATTEMPTS_MAX, repeats, limit: None };
        Self { attempts, is_accepted: false }
    }

    /// Notes that the server has begun to answer. A session that expires later is renewed, and the attempt is repeated.
    pub(in crate::cli) const fn accept(&mut self) {
        self.is_accepted = true;
    }

    /// Begins to count again, after a message has arrived.
    pub(in crate::cli) const fn reset(&mut self) {
        self.attempts.failed = 0;
    }

    /// Waits until the next attempt. Returns the error, with what the user can do, if the stream does not resume.
    pub(in crate::cli) async fn wait_after(
        &mut self,
        client: &Client,
        error: CliError,
    ) -> Result<(), CliError> {
        let CliError::Call(status) = error else { return Err(error) };
        let was_accepted = std::mem::take(&mut self.is_accepted);
        if was_accepted && status.code() == Code::Unauthenticated {
            return Ok(());
        }
        self.attempts.wait_after(*status).await.map_err(|status| client.failure(status))
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

    const LONG: Option<Duration> = Some(Duration::from_mins(1));

    fn unavailable() -> Status {
        Status::new(Code::Unavailable, "away")
    }

    fn broken() -> Status {
        Status::from_error(std::io::Error::other("reset").into())
    }

    #[test]
    fn a_call_is_attempted_five_times_with_growing_pauses() {
        let mut attempts = Attempts::begin(LONG, Repeats::Unavailable);
        for expected in [0.25, 0.5, 1.0, 2.0] {
            let pause = attempts.next_pause(&unavailable()).unwrap().as_secs_f64();
            assert!((expected * 0.79..=expected * 1.21).contains(&pause), "{expected}: {pause}");
        }
        assert_eq!(attempts.next_pause(&unavailable()), None);
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses = [1, 2, 3, 4, 5, 40, u32::MAX].map(|failed| pause_after(failed).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 2000, 3000, 3000, 3000]);
    }

    #[test]
    fn only_a_safe_call_to_an_unavailable_server_is_repeated() {
        for code in [Code::ResourceExhausted, Code::DeadlineExceeded, Code::Aborted, Code::Internal]
        {
            let status = Status::new(code, "no");
            let mut attempts = Attempts::begin(LONG, Repeats::Unavailable);
            assert_eq!(attempts.next_pause(&status), None, "{code:?}");
        }
        assert_eq!(Attempts::begin(LONG, Repeats::Unavailable).next_pause(&broken()), None);
        assert_eq!(Attempts::begin(LONG, Repeats::Never).next_pause(&unavailable()), None);
    }

    #[test]
    fn only_a_lost_connection_is_repeated() {
        assert!(is_lost(&broken()) && is_lost(&Status::new(Code::Unavailable, "draining")));
        for code in [Code::Unknown, Code::Internal, Code::Aborted, Code::ResourceExhausted] {
            assert!(!is_lost(&Status::new(code, "by the server")), "{code:?}");
        }
        assert!(Attempts::begin(LONG, Repeats::Lost).next_pause(&broken()).is_some());
    }

    #[test]
    fn the_server_and_the_deadline_limit_the_pause() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::Unavailable, "away", details);
        let pause = |time, status: &Status| Attempts::begin(time, Repeats::Lost).next_pause(status);
        assert_eq!(pause(LONG, &status), Some(Duration::from_secs(7)));
        assert_eq!(pause(None, &status), Some(Duration::from_secs(7)));
        assert_eq!(pause(Some(Duration::from_secs(5)), &status), None);
        assert_eq!(pause(Some(Duration::ZERO), &unavailable()), None);
    }

    #[test]
    fn a_stream_is_attempted_twenty_times_in_a_row() {
        let mut stream = StreamAttempts::begin();
        for _ in 0..2 {
            for attempt in 1..STREAM_ATTEMPTS_MAX {
                assert!(stream.attempts.next_pause(&broken()).is_some(), "{attempt}");
            }
            stream.reset();
        }
        for _ in 1..STREAM_ATTEMPTS_MAX {
            stream.attempts.next_pause(&broken());
        }
        assert_eq!(stream.attempts.next_pause(&broken()), None);
    }
}
