//! Runs a command of the table: question, call, output.

use std::io::{self, Write as _};

use clap::ArgMatches;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use rustix::termios::{QueueSelector, tcflush};
use serde_json::Value;

use super::table::Row;
use super::{fields, flags, labels, lists, render, request};
use crate::cli::connect::Client;
use crate::cli::globals::{Globals, OutputFormat};
use crate::cli::{CliError, login, output, streams};

/// Maximum length of an answer to a question, in bytes.
const ANSWER_BYTES_MAX: u64 = 64;

/// Runs the command of a line.
pub(super) async fn run(
    row: &'static Row,
    matches: &ArgMatches,
    globals: &Globals,
) -> Result<(), CliError> {
    let Some(method) = fields::method(row) else {
        return Err(CliError::Usage(format!("`{}` is not available", row.command)));
    };
    let (value, message) = request::build(row, &method, matches)?;
    if !row.question.is_empty() && !globals.yes {
        confirm(row, &value).await?;
    }
    // A captured command has no stored sessions of its own.
    if login::starts_session(row.command) && !output::is_captured() {
        let started = login::start(row.command, &method, message, &globals.connect).await;
        let (said, response) =
            started.map_err(|failure| request::explain(row, &method, failure))?;
        return match globals.output {
            OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name => {
                Ok(output::print_result(&said)?)
            }
            OutputFormat::Json | OutputFormat::Jsonl | OutputFormat::Yaml => {
                render::print(row, &method, &response, globals.output)
            }
        };
    }
    let mut client = Client::connect(&globals.connect, None).await?;
    let merged = labels::merge(row, &method, message, matches, &mut client).await;
    let message = merged.map_err(|failure| request::explain(row, &method, failure))?;
    let done = if method.is_server_streaming() {
        follow(row, &method, message, matches, globals, &mut client).await
    } else {
        let subject = subject(row, &value);
        call(row, &method, message, matches, globals, &mut client, &subject).await
    };
    done.map_err(|failure| request::explain(row, &method, failure))
}

async fn call(
    row: &Row,
    method: &MethodDescriptor,
    message: DynamicMessage,
    matches: &ArgMatches,
    globals: &Globals,
    client: &mut Client,
    subject: &str,
) -> Result<(), CliError> {
    let mut is_cut = false;
    let cursor = lists::Cursor::of(method).zip(lists::items_field(row, method));
    let response = if let Some((cursor, items)) = cursor {
        let limit = matches.get_one::<u32>(flags::LIMIT).copied().unwrap_or_default();
        let list = lists::read(client, method, cursor, &items, message, limit).await?;
        is_cut = list.is_cut;
        list.response
    } else {
        client.unary(method, message).await?
    };
    let is_name = globals.output == OutputFormat::Name;
    if is_name && !subject.is_empty() && render::is_nameless(row, method, &response) {
        output::print_result(subject)?;
    } else {
        render::print(row, method, &response, globals.output)?;
    }
    let is_for_people = matches!(globals.output, OutputFormat::Table | OutputFormat::Wide);
    if let Some(items) = lists::items_field(row, method)
        && is_for_people
        && !globals.quiet
        && response.get_field(&items).as_list().map_or(0, <[_]>::len) == 0
    {
        output::print_error("no items");
    }
    if is_cut && !globals.quiet {
        output::print_error("more items exist: `--limit` shows more");
    }
    if !row.fails_unless.is_empty() {
        let answer = response.get_field_by_name(row.fails_unless);
        if answer.and_then(|answer| answer.as_bool()) == Some(false) {
            let why = format!("`{}`: it is not {}", row.command, row.fails_unless);
            return Err(CliError::Exit(crate::cli::error::FAILED, why));
        }
    }
    let missing = lists::missing(&response);
    if missing.is_empty() { Ok(()) } else { Err(CliError::Partial(missing.join("\n"))) }
}

/// Prints each message of a stream until it ends.
async fn follow(
    row: &Row,
    method: &MethodDescriptor,
    message: DynamicMessage,
    matches: &ArgMatches,
    globals: &Globals,
    client: &mut Client,
) -> Result<(), CliError> {
    let timeout = globals.connect.timeout();
    let mut messages = streams::open(client, method, message, timeout).await?;
    if !row.raw.is_empty() {
        return save(row, matches, &mut messages).await;
    }
    while let Some(message) = messages.next().await? {
        if render::print_message(row, &message, globals.output)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Writes the bytes in the messages of a stream to a file or to standard output. The file is created when the first
/// message has arrived, so that a refused call leaves none.
async fn save(
    row: &Row,
    matches: &ArgMatches,
    messages: &mut streams::Messages,
) -> Result<(), CliError> {
    let path = matches.get_one::<std::path::PathBuf>(flags::TO);
    let mut file = None;
    while let Some(message) = messages.next().await? {
        let chunk = message.get_field_by_name(row.raw);
        let bytes = chunk.as_ref().and_then(|chunk| chunk.as_bytes()).cloned().unwrap_or_default();
        let Some(path) = path else {
            if output::print_bytes(&bytes)?.is_break() {
                break;
            }
            continue;
        };
        let failed =
            |error| CliError::Io(format!("`{}` cannot be written: {error}", path.display()));
        let file = match &mut file {
            Some(file) => file,
            none => none.insert(std::fs::File::create_new(path).map_err(failed)?),
        };
        file.write_all(&bytes).map_err(failed)?;
    }
    Ok(())
}

/// Asks on a terminal whether to run the command. Without a terminal it is refused.
async fn confirm(row: &Row, request: &Value) -> Result<(), CliError> {
    if !output::can_ask() {
        let why = format!("`{}` needs `--yes` where no terminal can answer", row.command);
        return Err(CliError::Usage(why));
    }
    // What was typed before the question is no answer to it.
    tcflush(io::stdin(), QueueSelector::IFlush).map_err(io::Error::from)?;
    output::print_question(&format!("{} [y/N]", question(row, request)));
    // A blocking read in a thread of its own, so that an interruption ends the command.
    let read = tokio::task::spawn_blocking(read_answer).await;
    let answer = read.map_err(|error| CliError::Io(error.to_string()))??;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::Exit(crate::cli::error::FAILED, "nothing was changed".to_owned()))
}

fn read_answer() -> Result<String, CliError> {
    use std::io::{BufRead as _, Read as _};
    let mut answer = String::new();
    io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(answer)
}

/// Returns the question with the values of the request.
fn question(row: &Row, request: &Value) -> String {
    let Value::Object(fields) = request else { return row.question.to_owned() };
    fields.iter().fold(row.question.to_owned(), |text, (field, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.replace(&format!("{{{field}}}"), &value)
    })
}

/// Returns the name of what a command is about: the sandbox, or the first argument. It is the name of an answer that has
/// none.
fn subject(row: &Row, request: &Value) -> String {
    let text = |field: &str| match request.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) | None => String::new(),
    };
    let (gateway, workspace, sandbox) = (text("gateway"), text("workspace"), text("sandbox"));
    if !gateway.is_empty() && !sandbox.is_empty() {
        let workspace = if workspace.is_empty() { "default" } else { workspace.as_str() };
        return format!("{gateway}/{workspace}/{sandbox}");
    }
    flags::taken(row).next().map(|taken| text(taken.word)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn a_question_names_what_it_is_about() {
        let row = table::find("sandbox", "delete").unwrap();
        let request = serde_json::json!({"gateway": "edge", "sandbox": "box"});
        assert_eq!(question(row, &request), "Delete sandbox `box` on gateway `edge`?");
        assert_eq!(subject(row, &request), "edge/default/box");
        let row = table::find("webhook", "delete").unwrap();
        let request = serde_json::json!({"webhook_id": 7});
        assert_eq!(question(row, &request), "Delete webhook 7 with its deliveries?");
        assert_eq!(subject(row, &request), "7");
    }
}
