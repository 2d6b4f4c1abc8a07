//! Repeats calls whose connection was lost.
//!
//! Invariants
//! - only a lost connection and `UNAVAILABLE` are repeated, and a stream whose session expires;
//! - a write is repeated with the same `request_id`, so that it is done once.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::super::CliError;
use super::super::connect::Client;

/// Attempts of a call, including the first.
const CALL_ATTEMPTS: u32 = 5;
/// Attempts in a row of a stream that resumes: about 50 seconds.
pub(super) const STREAM_ATTEMPTS: u32 = 20;
/// Pause after the first failed attempt. Each further pause is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Maximum pause.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Failed attempts in a row.
#[derive(Debug)]
pub(super) struct Retries {
    failed: u32,
    attempts: u32,
    /// Whether the server has accepted the credential of this attempt.
    is_accepted: bool,
}

impl Retries {
    /// Allows this number of attempts in a row.
    pub(super) const fn new(attempts: u32) -> Self {
        Self { failed: 0, attempts, is_accepted: false }
    }

    /// Notes that the server has begun to answer. A session that expires later is renewed, and the attempt is repeated.
    pub(super) const fn accept(&mut self) {
        self.is_accepted = true;
    }

    /// Begins to count again, after an attempt that succeeded.
    pub(super) const fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next attempt. Returns the error, with what the user can do, if it is not repeated.
    pub(super) async fn pause_after(
        &mut self,
        client: &Client,
        error: CliError,
    ) -> Result<(), CliError> {
        let CliError::Call(status) = error else { return Err(error) };
        let was_accepted = std::mem::take(&mut self.is_accepted);
        if was_accepted && status.code() == Code::Unauthenticated {
            return Ok(());
        }
        self.failed += 1;
        if !is_lost(&status) || self.failed >= self.attempts {
            return Err(client.failure(*status));
        }
        tokio::time::sleep(pause(&status, self.failed)).await;
        Ok(())
    }
}

/// Returns the pause after this number of failed attempts: what the server requests, or more each time.
fn pause(status: &Status, failed: u32) -> Duration {
    let requested = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    let longer = PAUSE_MIN.saturating_mul(1 << failed.saturating_sub(1).min(8));
    requested.unwrap_or_else(|| longer.min(PAUSE_MAX))
}

/// Whether a call failed since the server is away. A status that the server has sent has no source.
fn is_lost(status: &Status) -> bool {
    let is_broken = matches!(status.code(), Code::Unknown | Code::Internal);
    status.code() == Code::Unavailable || (is_broken && status.source().is_some())
}

/// Makes a call, and repeats it if the connection is lost.
pub(super) async fn unary<T, F>(client: &Client, mut call: impl FnMut() -> F) -> Result<T, CliError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut retries = Retries::new(CALL_ATTEMPTS);
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => retries.pause_after(client, status.into()).await?,
        }
    }
}

/// Returns the id of a write, which its repeats share.
pub(super) fn new_request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// Returns the reason of a refusal, such as `REVIEW_STALE`. Empty if it has none.
pub(super) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_connection_is_repeated() {
        let broken = Status::from_error(std::io::Error::other("reset").into());
        assert!(is_lost(&broken) && is_lost(&Status::new(Code::Unavailable, "draining")));
        for code in [Code::Unknown, Code::Internal, Code::Aborted, Code::ResourceExhausted] {
            assert!(!is_lost(&Status::new(code, "by the server")), "{code:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let away = Status::new(Code::Unavailable, "away");
        let pauses = [1, 2, 3, 4, 5, 40].map(|failed| pause(&away, failed).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 2000, 3000, 3000]);
    }
}
