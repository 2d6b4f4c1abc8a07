//! Runs a command of the table: question, call, output.

use std::io::Write as _;

use clap::ArgMatches;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::Value;

use super::places::Form;
use super::table::Row;
use super::{fields, flags, labels, lists, refuse_forms, render, request, watches};
use crate::cli::connect::Client;
use crate::cli::globals::{Globals, OutputFormat};
use crate::cli::{CliError, input, login, output, streams};
use crate::db::types::DEFAULT_WORKSPACE;

/// Runs the command of a line.
pub(super) async fn run(
    row: &'static Row,
    matches: &ArgMatches,
    globals: &Globals,
) -> Result<(), CliError> {
    let Some(method) = fields::method(row) else {
        return Err(CliError::Usage(format!("`{}` is not available", row.command)));
    };
    check_form(row, &method, globals.output)?;
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
            OutputFormat::Table | OutputFormat::Wide => Ok(output::print_result(&said)?),
            OutputFormat::Name => Ok(output::print_result(&subject(row, &value))?),
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

/// Refuses a form that cannot show the answer, before anything is asked or sent.
fn check_form(row: &Row, method: &MethodDescriptor, format: OutputFormat) -> Result<(), CliError> {
    let command = row.command;
    if !row.raw.is_empty() {
        return refuse_forms(command, format);
    }
    if format != OutputFormat::Name {
        return Ok(());
    }
    if !render::has_names(row, method) {
        let why = format!("`{command}` has no name to print: use another form than `-o name`");
        return Err(CliError::Usage(why));
    }
    // A session that is stored is not lost.
    let is_stored = login::starts_session(command) && !output::is_captured();
    if let Some(secret) = fields::find_secret(&method.output()).filter(|_| !is_stored) {
        let why = format!(
            "`{command}` shows a secret only once, in the field `{}`, which `-o name` would discard: use another \
             form, such as `-o json`",
            secret.name()
        );
        return Err(CliError::Usage(why));
    }
    Ok(())
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
    if let Some(items) = lists::items_field(row, method)
        && globals.output.is_for_people()
        && !globals.quiet
        && response.get_field(&items).as_list().map_or(0, <[_]>::len) == 0
    {
        output::print_error("no items");
    }
    if is_cut && !globals.quiet {
        output::print_error("more items exist: `--limit` shows more");
    }
    if let Some(how) = lists::continuation(&response).filter(|_| !globals.quiet) {
        output::print_error(&how);
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

/// Prints each message of a stream until it ends, or saves the bytes in it.
async fn follow(
    row: &Row,
    method: &MethodDescriptor,
    message: DynamicMessage,
    matches: &ArgMatches,
    globals: &Globals,
    client: &mut Client,
) -> Result<(), CliError> {
    let timeout = globals.connect.timeout();
    if row.raw.is_empty() {
        let watched = Box::pin(watches::follow(row, method, message, globals.output, client));
        return streams::within(timeout, watched).await;
    }
    let mut messages = streams::open(client, method, message, timeout).await?;
    save(row, matches, client, &mut messages).await
}

/// Writes the bytes in the messages of a stream to a file or to standard output. The file is created when the first
/// message has arrived, so that a refused call leaves none.
async fn save(
    row: &Row,
    matches: &ArgMatches,
    client: &Client,
    messages: &mut streams::Messages,
) -> Result<(), CliError> {
    let path = matches.get_one::<std::path::PathBuf>(flags::TO);
    let mut file = None;
    while let Some(message) = messages.next(client).await? {
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
    let question = format!("{} [y/N]", question(row, request));
    let show = || {
        output::print_question(&question);
        Ok(())
    };
    let answer = input::ask(show).await?.unwrap_or_default();
    if matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(CliError::Exit(crate::cli::error::FAILED, "nothing was changed".to_owned()))
}

/// Returns the question with the values of the request.
fn question(row: &Row, request: &Value) -> String {
    let Value::Object(fields) = request else { return row.question.to_owned() };
    fields.iter().fold(row.question.to_owned(), |text, (field, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.replace(&format!("{{{field}}}"), &value)
    })
}

/// Returns the name of what a command is about, which is that of an answer that has none.
fn subject(row: &Row, request: &Value) -> String {
    let text = |field: &str| match request.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        // A holder is an object with one member.
        Some(Value::Object(holder)) => {
            holder.values().find_map(Value::as_str).unwrap_or_default().to_owned()
        }
        Some(_) | None => String::new(),
    };
    if !row.target.is_empty() {
        return text(row.target);
    }
    let Some(first) = flags::taken(row).next() else { return String::new() };
    let Some(form) = Form::from_word(first.word) else { return text(first.word) };
    let mut parts: Vec<String> = form.fields().iter().map(|field| text(field)).collect();
    // A sandbox that is given without its workspace.
    if let [_, workspace, sandbox] = parts.as_mut_slice()
        && workspace.is_empty()
        && !sandbox.is_empty()
    {
        DEFAULT_WORKSPACE.clone_into(workspace);
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::table;
    use super::*;

    #[test]
    fn a_question_names_what_it_is_about() {
        let row = table::find("sandbox", "delete").unwrap();
        let request = json!({"gateway": "edge", "sandbox": "box"});
        assert_eq!(question(row, &request), "Delete sandbox `box` on gateway `edge`?");
        let row = table::find("webhook", "delete").unwrap();
        let request = json!({"webhook_id": 7});
        assert_eq!(question(row, &request), "Delete webhook 7 with its deliveries?");
    }

    #[test]
    fn an_answer_without_a_name_has_that_of_what_the_command_is_about() {
        for (noun, verb, request, name) in [
            ("webhook", "delete", json!({"webhook_id": 7}), "7"),
            ("sandbox", "delete", json!({"gateway": "edge", "sandbox": "box"}), "edge/default/box"),
            ("sandbox", "create", json!({"gateway": "edge", "name": "box"}), "edge/default/box"),
            ("sandbox", "create", json!({"gateway": "edge"}), "edge"),
            ("workflow", "delete", json!({"gateway": "edge"}), "edge"),
            ("workflow", "delete", json!({"gateway": "edge", "workspace": "team"}), "edge/team"),
            ("gateway", "unset", json!({"gateway": "edge", "key": "a"}), "a"),
            ("boot-hook", "delete", json!({"gateway": "edge", "boot_hook_id": 3}), "3"),
            ("group", "remove", json!({"group": "ops", "user": "a@b.example"}), "a@b.example"),
            ("role", "remove", json!({"subject": {"group": "ops"}, "gateway": "edge"}), "ops"),
            ("role", "explain", json!({"gateway": "edge"}), ""),
        ] {
            let row = table::find(noun, verb).unwrap();
            assert_eq!(subject(row, &request), name, "{noun} {verb}: {request}");
        }
    }
}
