//! Prints responses in the form that was chosen.

use std::ops::ControlFlow;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, Value,
};

use super::table::{self, Row};
use super::{cells, fields, lists};
use crate::cli::globals::OutputFormat;
use crate::cli::{CliError, grid, json, output};
use crate::clock::{Clock, Timestamp};

/// Fields whose `no` or 0 is an answer. Of others, these are not shown to people, except in the wide form.
const ANSWERS: [&str; 22] = [
    "active",
    "can_be_met",
    "continue_on_failure",
    "decided",
    "deleted",
    "delivered",
    "enabled",
    "equivalent",
    "failure_count",
    "is_active",
    "lacking_group_has",
    "may_call",
    "member_count",
    "met",
    "needed",
    "probe_count",
    "reachable",
    "rotated",
    "satisfiable",
    "set_up",
    "usable",
    "votes",
];

/// A column.
struct Column {
    title: String,
    path: &'static str,
    is_age: bool,
}

/// Prints the response of a call.
pub(super) fn print(
    row: &Row,
    method: &MethodDescriptor,
    response: &DynamicMessage,
    format: OutputFormat,
) -> Result<(), CliError> {
    let items = lists::items_field(row, method);
    let text = match (format, &items) {
        (OutputFormat::Json, _) => json::to_pretty(response),
        (OutputFormat::Yaml, _) => json::to_yaml(response),
        (OutputFormat::Jsonl, Some(items)) => lines(response, items, json::to_line),
        (OutputFormat::Jsonl, None) => json::to_line(response),
        (OutputFormat::Table | OutputFormat::Wide, Some(items)) => {
            list(row, response, items, format == OutputFormat::Wide)
        }
        (OutputFormat::Table | OutputFormat::Wide, None) => {
            single(response, format == OutputFormat::Wide)
        }
        (OutputFormat::Name, Some(items)) => {
            lines(response, items, |item| name(&name_paths(row), item))
        }
        (OutputFormat::Name, None) => single_name(row, response),
    };
    let text = text.trim_end();
    if !text.is_empty() {
        output::print_result(text)?;
    }
    Ok(())
}

/// Whether a response is neither a list nor has a name of its own.
pub(super) fn is_nameless(row: &Row, method: &MethodDescriptor, response: &DynamicMessage) -> bool {
    lists::items_field(row, method).is_none() && single_name(row, response).is_empty()
}

/// Whether the command has something to name: its items, the messages of a stream, or what it is about. What does not
/// depend on the response decides, so that a command without a name is refused before it does anything.
pub(super) fn has_names(row: &Row, method: &MethodDescriptor) -> bool {
    if !row.raw.is_empty() {
        return false;
    }
    if method.is_server_streaming() || lists::items_field(row, method).is_some() {
        return true;
    }
    if !row.name.is_empty() || !row.takes.is_empty() {
        return true;
    }
    let message = only_message(&method.output()).and_then(|field| own_message(&field));
    message.is_some_and(|message| {
        let first = |path: &str| path.split('.').next().unwrap_or_default().to_owned();
        let paths = paths_of(&message);
        paths.iter().any(|path| message.get_field_by_name(&first(path)).is_some())
    })
}

/// Prints a message of a stream on one line. Breaks if standard output is closed.
pub(super) fn print_message(
    row: &Row,
    message: &DynamicMessage,
    format: OutputFormat,
) -> Result<ControlFlow<()>, CliError> {
    let line = match format {
        OutputFormat::Json | OutputFormat::Jsonl => json::to_line(message),
        // JSON is YAML, and each message is a document.
        OutputFormat::Yaml => format!("--- {}", json::to_line(message)),
        OutputFormat::Name => name(&name_paths(row), message),
        OutputFormat::Table | OutputFormat::Wide => {
            let now = Clock::system().now();
            let columns = columns(row, true);
            let cells = columns.iter().map(|column| column.text(message, now));
            let cells: Vec<String> = cells.filter(|cell| !cell.is_empty()).collect();
            let is_position = matches!(row.columns_of(false).next(), Some("sequence" | "cursor"));
            // A position without an item says nothing to people.
            if is_position && cells.len() < 2 {
                return Ok(ControlFlow::Continue(()));
            }
            output::one_line(&cells.join("  "))
        }
    };
    if line.is_empty() {
        return Ok(ControlFlow::Continue(()));
    }
    Ok(output::print_item(&line)?)
}

impl Column {
    fn text(&self, item: &DynamicMessage, now: Timestamp) -> String {
        let Some((field, value)) = cells::find(item, self.path) else { return String::new() };
        if self.is_age { cells::age(&value, now) } else { cells::text(&field, &value) }
    }
}

fn columns(row: &Row, is_wide: bool) -> Vec<Column> {
    let column = |spec: &'static str| {
        let (path, title) = spec.split_once('=').map_or((spec, None), |(p, t)| (p, Some(t)));
        let (path, is_age) = path.strip_suffix('~').map_or((path, false), |path| (path, true));
        let last = path.rsplit('.').next().unwrap_or(path);
        let title =
            title.map_or_else(|| last.to_ascii_uppercase().replace('_', " "), str::to_owned);
        Column { title, path, is_age }
    };
    row.columns_of(is_wide).map(column).collect()
}

fn list(row: &Row, response: &DynamicMessage, items: &FieldDescriptor, is_wide: bool) -> String {
    let now = Clock::system().now();
    let columns = columns(row, is_wide);
    let heading: Vec<String> = columns.iter().map(|column| column.title.clone()).collect();
    let rows: Vec<Vec<String>> = messages(response, items)
        .iter()
        .map(|item| columns.iter().map(|column| column.text(item, now)).collect())
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    grid::table(&heading, &rows, output::terminal_columns())
}

fn messages(response: &DynamicMessage, items: &FieldDescriptor) -> Vec<DynamicMessage> {
    let list = response.get_field(items);
    list.as_list().unwrap_or_default().iter().filter_map(Value::as_message).cloned().collect()
}

fn lines(
    response: &DynamicMessage,
    items: &FieldDescriptor,
    line: impl Fn(&DynamicMessage) -> String,
) -> String {
    let lines: Vec<String> = messages(response, items).iter().map(line).collect();
    lines.join("\n")
}

/// Returns the fields of a response, one a line, and then its texts of several lines.
fn single(response: &DynamicMessage, is_wide: bool) -> String {
    let (mut pairs, mut texts) = (Vec::new(), Vec::new());
    collect(response, None, is_wide, &mut pairs, &mut texts);
    let mut shown = grid::pairs(&pairs, output::terminal_columns());
    for (title, text) in texts {
        if !shown.is_empty() {
            shown.push_str("\n\n");
        }
        shown = format!("{shown}{title}\n{}", text.trim_end());
    }
    shown
}

/// Adds the fields of a message. `inside` is its prefix, or `None` for the response, whose only message adds no prefix.
fn collect(
    message: &DynamicMessage,
    inside: Option<&str>,
    is_wide: bool,
    pairs: &mut Vec<(String, String)>,
    texts: &mut Vec<(String, String)>,
) {
    let descriptor = message.descriptor();
    let prefix = inside.unwrap_or_default();
    let only = only_message(&descriptor).filter(|_| inside.is_none());
    for field in descriptor.fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        let title = format!("{prefix}{}", field.name().to_ascii_uppercase().replace('_', " "));
        if let (Some(inner), Some(_)) = (value.as_message(), own_message(&field)) {
            let prefix =
                if only.as_ref() == Some(&field) { String::new() } else { format!("{title}: ") };
            collect(inner, Some(&prefix), is_wide, pairs, texts);
            continue;
        }
        if let (Some(items), Some(_)) = (value.as_list(), own_message(&field)) {
            for (at, item) in items.iter().enumerate() {
                let title = if at == 0 { title.clone() } else { String::new() };
                let item = Value::List(vec![item.clone()]);
                pairs.push((title, output::one_line(&cells::text(&field, &item))));
            }
            continue;
        }
        let text = cells::text(&field, &value);
        if text.trim_end().contains('\n') {
            texts.push((title, text));
        } else if is_wide || is_shown(&field, &text) {
            pairs.push((title, text));
        }
    }
}

/// Whether people see a field that has this text.
fn is_shown(field: &FieldDescriptor, text: &str) -> bool {
    match text {
        "" => false,
        "no" | "0" => ANSWERS.contains(&field.name()),
        _ => true,
    }
}

/// Returns the field of the only message in a response.
fn only_message(response: &MessageDescriptor) -> Option<FieldDescriptor> {
    let mut found =
        response.fields().filter(|field| !field.is_list() && own_message(field).is_some());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Returns the message of a field, unless it has a text form of its own.
fn own_message(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else { return None };
    let is_own = !field.is_map() && !message.full_name().starts_with("google.protobuf.");
    is_own.then_some(message)
}

/// Returns the paths that form the name of an item.
fn name_paths(row: &Row) -> Vec<&'static str> {
    if !row.name.is_empty() {
        return row.name.split_whitespace().collect();
    }
    columns(row, false).first().map(|column| column.path).into_iter().collect()
}

/// Returns the name of an item: `edge/default/box`.
fn name(paths: &[&str], item: &DynamicMessage) -> String {
    let found = paths.iter().filter_map(|path| cells::find(item, path));
    let texts = found.map(|(field, value)| cells::text(&field, &value));
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("/")
}

/// Returns the name in a response that is not a list: as the line says, or that of its only message.
fn single_name(row: &Row, response: &DynamicMessage) -> String {
    if !row.name.is_empty() {
        return name(&name_paths(row), response);
    }
    let found = only_message(&response.descriptor()).filter(|field| response.has_field(field));
    let Some(field) = found else { return String::new() };
    let value = response.get_field(&field);
    let Some(message) = value.as_message() else { return String::new() };
    name(&paths_of(&message.descriptor()), message)
}

/// Returns the paths that form the name of a message, as in lists of such messages.
fn paths_of(message: &MessageDescriptor) -> Vec<&'static str> {
    let is_of = |row: &&Row| {
        let items = fields::method(row).and_then(|method| lists::items_field(row, &method));
        let kind = items.map(|items| items.kind());
        kind.is_some_and(|kind| kind.as_message() == Some(message))
    };
    table::rows().find(is_of).map_or_else(|| vec!["name"], name_paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(rpc: &str, text: &str) -> (&'static Row, MethodDescriptor, DynamicMessage) {
        let row = table::rows().find(|row| row.rpc == rpc).unwrap();
        let method = fields::method(row).unwrap();
        let response = json::parse(&method.output(), text).unwrap();
        (row, method, response)
    }

    async fn shown(rpc: &str, text: &str, format: OutputFormat) -> String {
        let (row, method, response) = response(rpc, text);
        let capture = output::Capture::new(Vec::new());
        capture.run(async { print(row, &method, &response, format).unwrap() }).await;
        String::from_utf8(capture.written().0).unwrap()
    }

    const SANDBOXES: &str = r#"{"sandboxes": [
        {"gateway": "edge", "workspace": "default", "name": "a", "image": "web:1"},
        {"gateway": "edge", "workspace": "team", "name": "b\u001b"}]}"#;

    #[tokio::test]
    async fn a_list_has_a_form_for_people_and_for_scripts() {
        let rpc = "SandboxService/ListSandboxes";
        let table = shown(rpc, SANDBOXES, OutputFormat::Table).await;
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "GATEWAY  WORKSPACE  SANDBOX  PHASE  POLICY  IMAGE  AGE");
        assert_eq!(lines[1], "edge     default    a        -      0       web:1  -");
        assert!(lines[2].starts_with("edge     team       b\\u001b"), "{table}");
        let wide = shown(rpc, SANDBOXES, OutputFormat::Wide).await;
        assert!(wide.contains("DESCRIPTION"), "{wide}");
        let names = shown(rpc, SANDBOXES, OutputFormat::Name).await;
        assert_eq!(names, "edge/default/a\nedge/team/b\\u001b\n");
        let lines = shown(rpc, SANDBOXES, OutputFormat::Jsonl).await;
        assert_eq!(lines.lines().count(), 2);
        let all: serde_json::Value =
            serde_json::from_str(&shown(rpc, SANDBOXES, OutputFormat::Json).await).unwrap();
        assert_eq!(all["sandboxes"][0]["name"], "a");
        let yaml = shown(rpc, SANDBOXES, OutputFormat::Yaml).await;
        assert!(yaml.starts_with("next_page_token:"), "{yaml}");
    }

    #[tokio::test]
    async fn a_single_answer_is_a_list_of_its_fields() {
        let rpc = "GatewayService/GetGateway";
        let text = r#"{"gateway": {"name": "edge", "status": "GATEWAY_STATUS_HEALTHY",
            "oidc_client": {"scope": "s"}, "metadata_json": "a\nb"}}"#;
        let table = shown(rpc, text, OutputFormat::Table).await;
        assert_eq!(
            table,
            "NAME                edge\nSTATUS              healthy\nOIDC CLIENT: SCOPE  s\n\n\
             METADATA JSON\na\nb\n"
        );
        assert_eq!(shown(rpc, text, OutputFormat::Name).await, "edge\n");
        assert_eq!(shown("GatewayService/ListGateways", "{}", OutputFormat::Table).await, "");
    }

    #[tokio::test]
    async fn a_workflow_that_was_set_is_shown_with_the_open_approvals_in_its_scope() {
        let rpc = "ApprovalWorkflowService/SetWorkflow";
        let text = r#"{"approval_workflow": {"gateway": "edge"}, "open_approval_ids": [7, 9],
            "open_approval_count": 2}"#;
        let table = shown(rpc, text, OutputFormat::Table).await;
        assert_eq!(
            table,
            "GATEWAY              edge\nOPEN APPROVAL IDS    7,9\nOPEN APPROVAL COUNT  2\n"
        );
    }

    #[tokio::test]
    async fn no_and_0_are_shown_where_they_are_the_answer() {
        let table = shown("GatewayService/TestGateway", "{}", OutputFormat::Table).await;
        assert_eq!(table, "REACHABLE  no\nUSABLE     no\n");
        let text = r#"{"user": {"email": "ana@example.com"}}"#;
        let table = shown("UserService/GetUser", text, OutputFormat::Table).await;
        assert!(table.contains("IS ACTIVE"), "{table}");
        assert!(!table.contains("HAS PASSWORD"), "{table}");
    }

    #[tokio::test]
    async fn a_message_of_a_stream_is_one_line() {
        let text = r#"{"sequence": 7, "gateway": {"name": "edge", "last_error": "a\nb"}}"#;
        let (row, _, message) = response("GatewayService/WatchGateways", text);
        for (format, line) in
            [(OutputFormat::Table, "7  edge  a b\n"), (OutputFormat::Name, "edge\n")]
        {
            let capture = output::Capture::new(Vec::new());
            let _ = capture.run(async { print_message(row, &message, format).unwrap() }).await;
            assert_eq!(String::from_utf8(capture.written().0).unwrap(), line);
        }
        let (row, _, message) = response("GatewayService/WatchGateways", r#"{"sequence": 7}"#);
        for format in [OutputFormat::Table, OutputFormat::Name] {
            let capture = output::Capture::new(Vec::new());
            let _ = capture.run(async { print_message(row, &message, format).unwrap() }).await;
            assert_eq!(capture.written().0, b"");
        }
    }
}
