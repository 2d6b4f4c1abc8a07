//! `shoreguard event watch`: events as they occur, one a line.
//!
//! Invariants
//! - a lost connection is resumed after the last position, so that no event is skipped or repeated;
//! - a watch of new events that has no position yet is not resumed, since it could skip some;
//! - if events after the position were deleted, the command ends and says so.

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;
use tonic::{Code, Status, Streaming};

use super::super::connect::{Client, StreamAttempts, interruptible, reason};
use super::super::globals::{Globals, OutputFormat};
use super::super::{CliError, output, streams, usage};
use super::{answer, terminal};
use crate::pb::v1::event_service_client::EventServiceClient;
use crate::pb::v1::{Event, WatchEventsRequest, WatchEventsResponse};

/// Position of the events that occur from now on.
const FROM_NOW: i64 = -1;

/// Which events.
#[derive(Debug, Args)]
struct WatchArgs {
    /// Only events of this gateway.
    #[arg(value_name = "GATEWAY")]
    gateway: Option<String>,
    /// Only events with this name, such as `gateway.registered`. Can be repeated.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Begins after this sequence, or with the oldest stored event for 0. By default only new events are shown.
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(0..))]
    after: Option<i64>,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    WatchArgs::augment_args(Command::new("watch"))
        .about("Prints events as they occur, one a line, and resumes after a lost connection")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = WatchArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        let watched = Box::pin(watch(&args, &globals));
        let watched = streams::within(globals.connect.timeout(), watched);
        interruptible(watched).await
    })
}

/// Where a watch is.
struct Cursor {
    position: i64,
    /// Whether the server has accepted a call.
    has_begun: bool,
    attempts: StreamAttempts,
}

impl Cursor {
    /// Whether the watch has begun with the events of then, and the server has not sent a position yet.
    const fn is_without_position(&self) -> bool {
        self.has_begun && self.position == FROM_NOW
    }
}

async fn watch(args: &WatchArgs, globals: &Globals) -> Result<(), CliError> {
    let mut client = Client::connect(&globals.connect, None).await?;
    let position = args.after.unwrap_or(FROM_NOW);
    let mut cursor = Cursor { position, has_begun: false, attempts: StreamAttempts::begin() };
    loop {
        client.renew_credential().await?;
        let ended = follow(&client, args, globals.output, &mut cursor).await;
        let error = match ended {
            Ok(()) => Status::new(Code::Unavailable, "the server has ended the stream").into(),
            Err(error) => error,
        };
        if is_expired(&error) {
            output::print_error(
                "events that were not shown yet are deleted: `--after 0` begins with the oldest",
            );
        }
        // A session that expires is renewed at once, so little can be missed.
        let is_lost =
            matches!(&error, CliError::Call(status) if status.code() != Code::Unauthenticated);
        if cursor.is_without_position()
            && is_lost
            && let CliError::Call(status) = error
        {
            output::print_error(
                "the watch ended before its first event: events since it began may be missing",
            );
            return Err(client.failure(*status));
        }
        cursor.attempts.wait_after(&client, error).await?;
        if cursor.is_without_position() {
            output::print_error(
                "the session was renewed before the first event: earlier events are not shown",
            );
        }
    }
}

/// Prints events until the stream ends, and moves the cursor behind each.
async fn follow(
    client: &Client,
    args: &WatchArgs,
    format: OutputFormat,
    cursor: &mut Cursor,
) -> Result<(), CliError> {
    let request = WatchEventsRequest {
        after_sequence: cursor.position,
        gateway: args.gateway.clone().unwrap_or_default(),
        names: args.names.clone(),
    };
    let mut events = EventServiceClient::new(client.channel());
    let request = client.stream_request(request);
    let mut answers = events.watch_events(request).await?.into_inner();
    cursor.has_begun = true;
    cursor.attempts.accept();
    while let Some(answer) = next(&mut answers).await? {
        if let Some(event) = &answer.event {
            print(format, event)?;
        }
        cursor.position = answer.sequence;
        cursor.attempts.reset();
    }
    Ok(())
}

/// Returns the next answer, or `None` at the end. Ends the command if standard output is no longer read: the next event
/// can be far away.
async fn next(
    answers: &mut Streaming<WatchEventsResponse>,
) -> Result<Option<WatchEventsResponse>, CliError> {
    tokio::select! {
        biased;
        answer = answers.message() => Ok(answer?),
        () = output::closed() => Err(CliError::Exit(0, String::new())),
    }
}

fn is_expired(error: &CliError) -> bool {
    matches!(error, CliError::Call(status) if reason(status) == "CURSOR_EXPIRED")
}

fn print(format: OutputFormat, event: &Event) -> Result<(), CliError> {
    match format {
        OutputFormat::Table | OutputFormat::Wide => terminal::print_line(&to_line(event)),
        OutputFormat::Name => terminal::print_line(&event.name),
        OutputFormat::Json | OutputFormat::Jsonl => answer::print_json_line("Event", event),
        OutputFormat::Yaml => answer::print_yaml_document("Event", event),
    }
}

/// Returns time, sequence, name, gateway, actor and payload.
fn to_line(event: &Event) -> String {
    let time = event.event_time.map(|time| time.to_string()).unwrap_or_default();
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    format!(
        "{time}  {}  {}  {}  {}  {}",
        event.sequence,
        event.name,
        or_dash(&event.gateway),
        or_dash(&event.actor),
        event.payload_json
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = Event {
            sequence: 7,
            name: "gateway.registered".to_owned(),
            actor: "sp:ci".to_owned(),
            event_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            payload_json: "{}".to_owned(),
            ..Default::default()
        };
        assert_eq!(to_line(&event), "1970-01-01T00:00:00Z  7  gateway.registered  -  sp:ci  {}");
    }
}
