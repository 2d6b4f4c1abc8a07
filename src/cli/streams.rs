//! Streams of responses, bounded by the timeout that the user gave.

use std::time::Duration;

use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::connect::{self, Client};
use super::{CliError, output};

/// The responses of a call.
pub(super) struct Messages {
    stream: Streaming<DynamicMessage>,
    /// When the user no longer wants to wait.
    until: Option<Instant>,
}

/// Sends a request, and returns the responses.
pub(super) async fn open(
    client: &mut Client,
    method: &MethodDescriptor,
    request: DynamicMessage,
    timeout: Option<Duration>,
) -> Result<Messages, CliError> {
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let stream = bounded(until, client.stream(method, request)).await?;
    Ok(Messages { stream, until })
}

impl Messages {
    /// Returns the responses of a stream that is open already.
    pub(super) fn new(stream: Streaming<DynamicMessage>, timeout: Option<Duration>) -> Self {
        Self { stream, until: timeout.map(|timeout| Instant::now() + timeout) }
    }

    /// Returns the next response, or `None` at the end.
    pub(super) async fn next(
        &mut self,
        client: &Client,
    ) -> Result<Option<DynamicMessage>, CliError> {
        let until = self.until;
        let next = async { self.stream.message().await.map_err(|status| client.failure(status)) };
        bounded(until, next).await
    }

    /// As [`Self::next`]. A stream of responses also ends if standard output is no longer read, since its next response
    /// can be far away. A call without such a stream is not ended, since it can be a write.
    pub(super) async fn next_to_print(
        &mut self,
        client: &Client,
        is_stream: bool,
    ) -> Result<Option<DynamicMessage>, CliError> {
        tokio::select! {
            biased;
            next = self.next(client) => next,
            () = output::closed(), if is_stream => Ok(None),
        }
    }
}

/// Bounds work with all its connections by the timeout that the user gave.
pub(super) async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    bounded(timeout.map(|timeout| Instant::now() + timeout), work).await
}

async fn bounded<T>(
    until: Option<Instant>,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let Some(deadline) = until else { return work.await };
    let late = || Status::deadline_exceeded("the stream is open longer than `--timeout` allows");
    connect::until(deadline, work).await.unwrap_or_else(|| Err(late().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_longer_than_the_timeout_can_be_tried_again() {
        let until = Some(Instant::now());
        let late = bounded::<()>(until, std::future::pending()).await.unwrap_err();
        assert_eq!(late.exit_code(), 5);
        assert_eq!(bounded(None, async { Ok(7) }).await.unwrap(), 7);
    }
}
