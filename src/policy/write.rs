//! Writes messages of a policy as values of a document: the file format of the OpenShell command line.
//!
//! Invariants
//! - a field that is not set is left out, and what is written is read back as the same message;
//! - map entries are sorted by key, so that equal messages have equal documents.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::print;
use super::schema::{self, FieldOwner};
use super::tree::Node;
use crate::seal;

/// The field that documents write as `json_rpc.max_body_bytes` or `mcp.max_body_bytes`.
pub(super) const BODY_BYTES_FIELD: &str = "json_rpc_max_body_bytes";
/// The key of that field in `json_rpc` and `mcp`.
pub(super) const BODY_BYTES_KEY: &str = "max_body_bytes";

/// Whether marks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marks {
    Shown,
    Hidden,
}

/// Returns the document of a policy, without marks.
pub(super) fn policy(message: &DynamicMessage) -> Node {
    of_message(message, Marks::Hidden)
}

/// Returns a value of a field as YAML, with marks.
pub(super) fn text(field: &FieldDescriptor, value: &Value) -> String {
    print::print(&of_value(&field.kind(), value, Marks::Shown)).trim_end().to_owned()
}

fn of_message(message: &DynamicMessage, marks: Marks) -> Node {
    let descriptor = message.descriptor();
    if schema::is_json(&descriptor) {
        return of_json(message);
    }
    let mut entries = Vec::new();
    for (field, value) in message.fields() {
        let is_written = match schema::owner(&field) {
            FieldOwner::Author => true,
            FieldOwner::Gateway => false,
            FieldOwner::Mark => marks == Marks::Shown,
        };
        if is_written {
            let key = schema::key(&field).to_owned();
            entries.push((key, of_value(&field.kind(), value, marks)));
        }
    }
    match (descriptor.full_name(), entries.as_slice()) {
        (schema::MATCHER, [(key, Node::Text(glob))]) if key == "glob" => Node::Text(glob.clone()),
        (schema::ENDPOINT, _) => Node::Map(fold_body_bytes(entries)),
        (_, _) => Node::Map(entries),
    }
}

/// Writes the limit of JSON-RPC bodies as files do: within `mcp` if the endpoint has such options, else within
/// `json_rpc`. Files cannot express it beside options of MCP that are present and empty.
fn fold_body_bytes(entries: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let (limit, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key == BODY_BYTES_FIELD);
    let Some((field, limit)) = limit.into_iter().next() else { return entries };
    let mcp = entries.iter_mut().find(|(key, _)| key == "mcp").map(|(_, node)| node);
    match mcp {
        Some(Node::Map(options)) if !options.is_empty() => {
            options.insert(0, (BODY_BYTES_KEY.to_owned(), limit));
        }
        Some(_) => entries.push((field, limit)),
        None => {
            let stanza = Node::Map(vec![(BODY_BYTES_KEY.to_owned(), limit)]);
            entries.push(("json_rpc".to_owned(), stanza));
        }
    }
    entries
}

fn of_value(kind: &Kind, value: &Value, marks: Marks) -> Node {
    match value {
        Value::Bool(flag) => Node::Bool(*flag),
        Value::I32(number) => Node::Integer((*number).into()),
        Value::I64(number) => Node::Integer((*number).into()),
        Value::U32(number) => Node::Integer((*number).into()),
        Value::U64(number) => Node::Integer((*number).into()),
        Value::F32(number) => Node::Float((*number).into()),
        Value::F64(number) => Node::Float(*number),
        Value::String(text) => Node::Text(text.clone()),
        Value::Bytes(bytes) => Node::Text(seal::hex(bytes)),
        Value::EnumNumber(number) => {
            let word = kind.as_enum().and_then(|kind| schema::word(kind, *number));
            word.map_or(Node::Integer((*number).into()), Node::Text)
        }
        Value::Message(message) => of_message(message, marks),
        Value::List(items) => {
            Node::List(items.iter().map(|item| of_value(kind, item, marks)).collect())
        }
        Value::Map(entries) => {
            let kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
            let kind = kind.unwrap_or(Kind::String);
            let entries = sorted(entries).into_iter();
            Node::Map(entries.map(|(key, value)| (key, of_value(&kind, value, marks))).collect())
        }
    }
}

/// Returns the entries of a map, sorted by key.
pub(super) fn sorted(entries: &HashMap<MapKey, Value>) -> Vec<(String, &Value)> {
    let mut sorted: Vec<(String, &Value)> =
        entries.iter().map(|(key, value)| (key_text(key), value)).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Writes a JSON value as such.
fn of_json(message: &DynamicMessage) -> Node {
    let first = message.fields().next();
    match (message.descriptor().full_name(), first) {
        (schema::STRUCT, None) => Node::Map(Vec::new()),
        (schema::LIST_VALUE, None) => Node::List(Vec::new()),
        (_, None | Some((_, Value::EnumNumber(_)))) => Node::Null,
        (_, Some((field, value))) => of_value(&field.kind(), value, Marks::Shown),
    }
}
