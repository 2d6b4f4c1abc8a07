//! Ctrl-C in a command that waits.

use super::super::CliError;

/// Runs work until it is done or the user interrupts it. Interrupted work is dropped.
pub(super) async fn until_interrupted<T>(
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::select! {
        biased;
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
    }
}
