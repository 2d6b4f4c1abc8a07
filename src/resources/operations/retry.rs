//! Retries of an operation while a gateway or the database is unavailable.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Running;
use super::leases::Stop;
use crate::error::{Error, Kind, Said};

/// Time after which no retry is started. The last attempt has timeouts of its own and may end later.
const TIME: Duration = Duration::from_mins(1);
/// Pause between two attempts.
const REST: Duration = Duration::from_secs(1);

/// Returns whether the request certainly had no effect and a retry would fail the same way.
#[must_use]
pub fn is_final(error: &Error) -> bool {
    match error {
        Error::Gateway { said, .. } => match said {
            Said::Unavailable | Said::Late | Said::Failed | Said::Uncertain => false,
            Said::Invalid
            | Said::Missing
            | Said::Exists
            | Said::Refused
            | Said::Changed
            | Said::Exhausted
            | Said::Unimplemented => true,
        },
        // Shoreguard's own errors: the gateway may have acted before the call failed.
        Error::Unavailable { .. }
        | Error::Late { .. }
        | Error::Exhausted { .. }
        | Error::Internal(_) => false,
        Error::Invalid { .. }
        | Error::Missing { .. }
        | Error::Exists { .. }
        | Error::Conflict { .. }
        | Error::Refused { .. }
        | Error::Denied { .. }
        | Error::Unauthenticated { .. }
        | Error::OutOfRange { .. }
        | Error::Unimplemented { .. } => true,
    }
}

/// Returns whether another replica resumes the operation: this one is shutting down or has lost its lease.
#[must_use]
pub fn is_anothers(running: &Running) -> bool {
    matches!(running.why(), Some(Stop::Draining | Stop::LeaseLost))
}

/// Retries `attempt` for a minute.
///
/// # Errors
/// The first error that a retry cannot fix, or the last one; `Conflict` if another replica resumes the operation.
pub async fn patiently<T, F, Fut>(running: &Running, mut attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let until = Instant::now() + TIME;
    loop {
        match attempt().await {
            Err(error) if Instant::now() < until && !is_final(&error) => {
                let operation = running.id();
                warn!(operation, error = &error as &dyn std::error::Error, "not done yet");
            }
            done => return done,
        }
        sleep(REST).await;
        if is_anothers(running) {
            return Err(Error::conflict(Kind::Operation, running.id()));
        }
    }
}
