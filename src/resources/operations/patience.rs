//! Patience of an operation with a gateway or a database that is away for a moment.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Running;
use super::keeper::Stop;
use crate::error::{Error, Kind, Said};

/// How long something is tried; the last try, which has bounds of its own, may end after it.
const TIME: Duration = Duration::from_mins(1);
/// How long it rests in between.
const REST: Duration = Duration::from_secs(1);

/// Whether an error leaves no doubt that nothing was done, and that another try would not do it.
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
        // Of ours: the gateway may have done it before its answer was one too many.
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

/// Whether another replica is to go on with it.
#[must_use]
pub fn is_anothers(running: &Running) -> bool {
    matches!(running.why(), Some(Stop::Draining | Stop::LeaseLost))
}

/// Tries something for a minute.
///
/// # Errors
/// What can't get better, or the last one; `Conflict` once another replica is to go on.
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
