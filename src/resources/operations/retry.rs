//! Retries of an operation while a gateway or the database is unavailable.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::RunningOperation;
use super::leases::StopCause;
use crate::error::{BrokenCode, Error, GatewayRefusal, ResourceKind};

/// Time after which no retry is started. The last attempt has timeouts of its own and may end later.
const RETRY_TIME: Duration = Duration::from_mins(1);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns whether the request certainly had no effect and a retry would fail the same way.
#[must_use]
pub fn is_final(error: &Error) -> bool {
    match error {
        Error::Gateway { refusal, .. } => match refusal {
            GatewayRefusal::Unavailable
            | GatewayRefusal::DeadlineExceeded
            | GatewayRefusal::Failed
            | GatewayRefusal::Uncertain
            | GatewayRefusal::Broken(
                BrokenCode::Cancelled
                | BrokenCode::ResourceExhausted
                | BrokenCode::PermissionDenied
                | BrokenCode::Internal,
            ) => false,
            GatewayRefusal::Invalid
            | GatewayRefusal::NotFound
            | GatewayRefusal::AlreadyExists
            | GatewayRefusal::Refused
            | GatewayRefusal::Changed
            | GatewayRefusal::Exhausted
            | GatewayRefusal::Unimplemented
            | GatewayRefusal::Broken(BrokenCode::Unimplemented) => true,
        },
        // Shoreguard's own errors: the gateway may have acted before the call failed.
        Error::Unavailable { .. }
        | Error::DeadlineExceeded { .. }
        | Error::Exhausted { .. }
        | Error::Internal(_) => false,
        Error::Invalid { .. }
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Conflict { .. }
        | Error::Refused { .. }
        | Error::Explained { .. }
        | Error::Denied { .. }
        | Error::Unauthenticated { .. }
        | Error::OutOfRange { .. }
        | Error::Unimplemented { .. } => true,
    }
}

/// Returns whether another replica resumes the operation: this one is shutting down or has lost its lease.
#[must_use]
pub fn is_handed_over(running: &RunningOperation) -> bool {
    matches!(running.stop_cause(), Some(StopCause::Draining | StopCause::LeaseLost))
}

/// Retries `attempt` for a minute.
///
/// # Errors
/// The first error that a retry cannot fix, or the last one; `Conflict` if another replica resumes the operation.
pub async fn with_retries<T, F, Fut>(running: &RunningOperation, mut attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let until = Instant::now() + RETRY_TIME;
    loop {
        match attempt().await {
            Err(error) if Instant::now() < until && !is_final(&error) => {
                let operation = running.id();
                warn!(operation, error = &error as &dyn std::error::Error, "not done yet");
            }
            done => return done,
        }
        running.ctx().app().clock.sleep(PAUSE).await;
        if is_handed_over(running) {
            return Err(Error::conflict(ResourceKind::Operation, running.id()));
        }
    }
}
