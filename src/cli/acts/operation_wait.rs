//! `shoreguard operation wait`: shows the progress of an operation until it has ended.
//!
//! Invariant: an interruption leaves the operation running, unless `--cancel-on-interrupt` is given. So does a timeout.

use std::time::Duration;

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::super::connect::{Client, StreamAttempts, interruptible, reason, until};
use super::super::globals::Globals;
use super::super::{CliError, output, usage};
use super::answer;
use super::progress::Progress;
use super::terminal::{Look, Page};
use crate::app::new_id;
use crate::pb::v1::operation_service_client::OperationServiceClient;
use crate::pb::v1::{CancelOperationRequest, Operation, OperationStatus, WatchOperationRequest};

/// Exit code if the operation has failed.
const FAILED: u8 = 1;

/// Which operation.
#[derive(Debug, Args)]
struct WaitArgs {
    /// Id of the operation.
    #[arg(value_name = "ID")]
    operation: String,
    /// Cancels the operation if the command is interrupted.
    #[arg(long)]
    cancel_on_interrupt: bool,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    WaitArgs::augment_args(Command::new("wait"))
        .about("Waits until an operation has ended; exits with 1 if it has failed")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = WaitArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        let mut client = interruptible(Client::connect(&globals.connect, None)).await?;
        let bar = Progress::percent(globals.quiet);
        let followed = follow(&mut client, &args.operation, &bar);
        let what = format!("operation {}", args.operation);
        let followed = in_time(globals.connect.timeout(), &what, followed);
        let waited = interruptible(followed).await;
        bar.clear();
        let ended = match waited {
            Err(CliError::Interrupted) => return Err(interrupted(&client, &args).await?),
            waited => waited?,
        };
        let mut page = Page::new();
        page.line(Look::Plain, &format!("operation {} {}", ended.id, state(&ended)));
        answer::print(globals.output, "Operation", &ended, &ended.id, &page)?;
        failure(&ended).map_or(Ok(()), |why| Err(CliError::Exit(FAILED, why)))
    })
}

/// Bounds a wait with all its connections by the timeout that the user gave. `what` is waited for.
pub(super) async fn in_time<T>(
    timeout: Option<Duration>,
    what: &str,
    wait: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let Some(timeout) = timeout else { return wait.await };
    match until(Instant::now() + timeout, wait).await {
        // Each stream has the same timeout, which can pass first.
        Some(Err(CliError::Call(status))) if status.code() != Code::DeadlineExceeded => {
            Err(CliError::Call(status))
        }
        Some(Err(CliError::Call(_))) | None => {
            let seconds = timeout.as_secs();
            let why = format!("{what} continues: it has not ended within {seconds} s");
            Err(Status::deadline_exceeded(why).into())
        }
        Some(waited) => waited,
    }
}

/// Cancels the operation, or says that it continues. Returns how the command ends.
async fn interrupted(client: &Client, args: &WaitArgs) -> Result<CliError, CliError> {
    let id = &args.operation;
    if !args.cancel_on_interrupt {
        output::print_error(&format!("operation {id} continues"));
        return Ok(CliError::Interrupted);
    }
    let request =
        CancelOperationRequest { operation: id.clone(), request_id: new_id().to_string() };
    let canceled = client.repeat(&request, |request| {
        let mut operations = OperationServiceClient::new(client.channel());
        async move { operations.cancel_operation(request).await }
    });
    match interruptible(canceled).await {
        Ok(_) => output::print_error(&format!("operation {id} is being canceled")),
        Err(CliError::Call(status)) if reason(&status) == "OPERATION_ENDED" => {
            output::print_error(&format!("operation {id} had ended"));
        }
        Err(error) => return Err(error),
    }
    Ok(CliError::Interrupted)
}

/// Follows an operation to its end, also over lost connections.
pub(super) async fn follow(
    client: &mut Client,
    id: &str,
    bar: &Progress,
) -> Result<Operation, CliError> {
    let mut attempts = StreamAttempts::begin();
    loop {
        client.renew_credential().await?;
        let error = match follow_once(client, id, bar, &mut attempts).await {
            Ok(Some(ended)) => return Ok(ended),
            Ok(None) => Status::new(Code::Unavailable, "the server has ended the stream").into(),
            Err(error) => error,
        };
        attempts.wait_after(client, error).await?;
    }
}

async fn follow_once(
    client: &Client,
    id: &str,
    bar: &Progress,
    attempts: &mut StreamAttempts,
) -> Result<Option<Operation>, CliError> {
    let mut operations = OperationServiceClient::new(client.channel());
    let request = client.stream_request(WatchOperationRequest { operation: id.to_owned() });
    let mut answers = operations.watch_operation(request).await?.into_inner();
    attempts.accept();
    while let Some(answer) = answers.message().await? {
        attempts.reset();
        let Some(operation) = answer.operation else { continue };
        if operation.complete_time.is_some() {
            return Ok(Some(operation));
        }
        bar.set(operation.progress_percent, &operation.progress_message);
    }
    Ok(None)
}

/// Returns the state of an operation as a word.
fn state(operation: &Operation) -> String {
    answer::word(operation.status().as_str_name(), "OPERATION_STATUS_")
}

/// Returns why an operation that has ended did not succeed. `None` if it did.
pub(super) fn failure(operation: &Operation) -> Option<String> {
    if operation.status() == OperationStatus::Succeeded {
        return None;
    }
    let code = answer::word(operation.error_code().as_str_name(), "OPERATION_ERROR_CODE_");
    Some(format!("operation {} failed: {code}: {}", operation.id, operation.error_message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_takes_too_long_says_that_the_operation_continues() {
        let now = Some(Duration::ZERO);
        let late = in_time::<()>(now, "operation 7", std::future::pending()).await.unwrap_err();
        assert_eq!(late.exit_code(), 5);
        assert!(late.to_string().contains("operation 7 continues"), "{late}");
        let long = Some(Duration::from_hours(1));
        let of_stream = async { Err(CliError::from(Status::deadline_exceeded("late"))) };
        let late = in_time::<()>(long, "operation 7", of_stream).await.unwrap_err();
        assert!(late.to_string().contains("operation 7 continues"), "{late}");
    }

    #[tokio::test]
    async fn another_end_of_a_wait_is_kept() {
        let long = Some(Duration::from_hours(1));
        let refused = async { Err(CliError::from(Status::not_found("unknown"))) };
        let refused = in_time::<()>(long, "operation 7", refused).await.unwrap_err();
        assert_eq!(refused.to_string(), "NOT_FOUND: unknown");
        assert_eq!(in_time(long, "operation 7", async { Ok(7) }).await.unwrap(), 7);
        assert_eq!(in_time(None, "operation 7", async { Ok(7) }).await.unwrap(), 7);
    }
}
