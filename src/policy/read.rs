//! Reads a document as the message of a generation.
//!
//! Invariants
//! - nothing is dropped silently: a key that the generation does not have is refused, and so is a key without a value;
//! - a document contains no field that only the gateway sets, and no mark;
//! - every refusal names the path.

use std::collections::{BTreeSet, HashMap};

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use shoreguard_proto::release::Generation;

use super::schema::{self, FieldOwner};
use super::tree::{Node, Path};
use super::write::{BODY_BYTES_FIELD, BODY_BYTES_KEY};

/// The key of the policy in a document with metadata.
const POLICY_KEY: &str = "policy";
/// The key of the metadata, which describe an exported policy and change nothing.
const METADATA_KEY: &str = "metadata";
/// The keys of the metadata.
const METADATA_KEYS: [&str; 8] = [
    "gateway",
    "workspace",
    "sandbox",
    "wire_generation",
    "version",
    "policy_hash",
    "digest",
    "exported_at",
];
/// Largest integer, and its negative, that a JSON number holds without loss.
const JSON_INTEGER_MAX: u128 = 1 << 53;

/// Reads a document: a policy, or a mapping with `policy` and `metadata`.
///
/// # Errors
/// What is wrong with it, with the path.
pub(super) fn document(generation: Generation, document: Node) -> Result<DynamicMessage, String> {
    let (root, found) = (Path::ROOT, document.describe());
    let Node::Map(entries) = document else {
        return Err(format!("the document must be a mapping, not {found}"));
    };
    if !entries.iter().any(|(key, _)| key == POLICY_KEY) {
        return policy(generation, Node::Map(entries), &root);
    }
    let mut wrapped = None;
    for (key, value) in entries {
        let path = root.key(&key);
        match key.as_str() {
            POLICY_KEY => wrapped = Some(value),
            METADATA_KEY => check_metadata(&value, &path)?,
            _ => return Err(format!("`{path}` is not allowed beside `{POLICY_KEY}`")),
        }
    }
    policy(generation, wrapped.unwrap_or(Node::Null), &root.key(POLICY_KEY))
}

/// Returns keys and values of the metadata of a document, as far as they are texts or whole numbers.
pub(super) fn metadata(document: Node) -> Vec<(String, String)> {
    let Node::Map(entries) = document else { return Vec::new() };
    let found = entries.into_iter().find(|(key, _)| key == METADATA_KEY);
    let Some((_, Node::Map(metadata))) = found else { return Vec::new() };
    let to_text = |(key, value): (String, Node)| match value {
        Node::Text(text) => Some((key, text)),
        Node::Integer(number) => Some((key, number.to_string())),
        Node::Null | Node::Bool(_) | Node::Float(_) | Node::List(_) | Node::Map(_) => None,
    };
    metadata.into_iter().filter_map(to_text).collect()
}

/// Reads a policy at a place of a document.
pub(super) fn policy(
    generation: Generation,
    node: Node,
    path: &Path<'_>,
) -> Result<DynamicMessage, String> {
    Reader { generation }.message(&schema::policy(generation), node, path)
}

/// Reads another message of a policy, such as a rule, at a place of a document.
pub(super) fn message(
    generation: Generation,
    name: &str,
    node: Node,
    path: &Path<'_>,
) -> Result<DynamicMessage, String> {
    let descriptor = schema::policy(generation).parent_pool().get_message_by_name(name);
    let descriptor = descriptor.ok_or_else(|| format!("`{path}` cannot be set by a document"))?;
    Reader { generation }.message(&descriptor, node, path)
}

fn check_metadata(metadata: &Node, path: &Path<'_>) -> Result<(), String> {
    let Node::Map(entries) = metadata else { return Err(expected(path, "a mapping", metadata)) };
    for (key, value) in entries {
        let path = path.key(key);
        if !METADATA_KEYS.contains(&key.as_str()) {
            return Err(format!("`{path}` is unknown"));
        }
        if matches!(value, Node::Map(_) | Node::List(_)) {
            return Err(expected(&path, "text or a number", value));
        }
    }
    Ok(())
}

fn expected(path: &Path<'_>, what: &str, found: &Node) -> String {
    format!("`{path}` must be {what}, not {}", found.describe())
}

#[derive(Clone, Copy)]
struct Reader {
    generation: Generation,
}

impl Reader {
    fn message(
        self,
        descriptor: &MessageDescriptor,
        node: Node,
        path: &Path<'_>,
    ) -> Result<DynamicMessage, String> {
        if schema::is_json(descriptor) {
            return self.json(descriptor, node, path);
        }
        let entries = match (node, descriptor.full_name()) {
            (Node::Map(entries), schema::ENDPOINT) => endpoint_entries(entries, path)?,
            (Node::Map(entries), schema::ALLOW | schema::DENY) => tool_entries(entries, path)?,
            (Node::Map(entries), _) => entries,
            (Node::Text(glob), schema::MATCHER) => vec![("glob".to_owned(), Node::Text(glob))],
            (node, _) => return Err(expected(path, "a mapping", &node)),
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        let mut seen = BTreeSet::new();
        for (key, value) in entries {
            let path = path.key(&key);
            let field = self.field(descriptor, &key, &path)?;
            if !seen.insert(field.number()) {
                return Err(format!("`{path}` is given twice, under two names"));
            }
            let value = self.field_value(&field, value, &path)?;
            let set = message.try_set_field(&field, value);
            set.map_err(|_| format!("`{path}` has a value of another type"))?;
        }
        Ok(message)
    }

    fn field(
        self,
        descriptor: &MessageDescriptor,
        key: &str,
        path: &Path<'_>,
    ) -> Result<FieldDescriptor, String> {
        let Some(field) = schema::field(descriptor, key) else {
            let generation = self.generation;
            return Err(format!("`{path}` is not a key of policies of generation {generation}"));
        };
        match schema::owner(&field) {
            FieldOwner::Author => Ok(field),
            FieldOwner::Gateway => {
                Err(format!("`{path}` can be set by the gateway only: remove the key"))
            }
            FieldOwner::Mark => Err(format!(
                "`{path}` is a mark, which a document neither sets nor removes: remove the key"
            )),
        }
    }

    fn field_value(
        self,
        field: &FieldDescriptor,
        node: Node,
        path: &Path<'_>,
    ) -> Result<Value, String> {
        if field.is_list() {
            let Node::List(items) = node else { return Err(expected(path, "a list", &node)) };
            let kind = field.kind();
            let items = items.into_iter().enumerate();
            let values = items.map(|(at, item)| self.value(&kind, item, &path.index(at)));
            return Ok(Value::List(values.collect::<Result<_, _>>()?));
        }
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let Node::Map(entries) = node else { return Err(expected(path, "a mapping", &node)) };
            let kind = entry.map_entry_value_field().kind();
            let mut map = HashMap::new();
            for (key, value) in entries {
                let path = path.key(&key);
                check_text(&key, &path)?;
                let value = self.value(&kind, value, &path)?;
                map.insert(MapKey::String(key), value);
            }
            return Ok(Value::Map(map));
        }
        self.value(&field.kind(), node, path)
    }

    fn value(self, kind: &Kind, node: Node, path: &Path<'_>) -> Result<Value, String> {
        match kind {
            Kind::Message(descriptor) => self.message(descriptor, node, path).map(Value::Message),
            Kind::Enum(descriptor) => enum_value(descriptor, &node, path),
            Kind::String => {
                let Node::Text(text) = node else {
                    return Err(expected(path, "text (put it in quotes)", &node));
                };
                check_text(&text, path)?;
                Ok(Value::String(text))
            }
            Kind::Bool => {
                let Node::Bool(flag) = node else {
                    return Err(expected(path, "true or false", &node));
                };
                Ok(Value::Bool(flag))
            }
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(&node, path).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(&node, path).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => integer(&node, path).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => integer(&node, path).map(Value::U64),
            Kind::Double => number(&node, path).map(Value::F64),
            Kind::Float | Kind::Bytes => Err(format!("`{path}` cannot be set by a document")),
        }
    }

    /// Reads a value of JSON, which a middleware interprets.
    fn json(
        self,
        descriptor: &MessageDescriptor,
        node: Node,
        path: &Path<'_>,
    ) -> Result<DynamicMessage, String> {
        let name = match (descriptor.full_name(), &node) {
            (schema::STRUCT, _) => "fields",
            (schema::LIST_VALUE, _) => "values",
            (_, Node::Null) => "null_value",
            (_, Node::Bool(_)) => "bool_value",
            (_, Node::Integer(_) | Node::Float(_)) => "number_value",
            (_, Node::Text(_)) => "string_value",
            (_, Node::List(_)) => "list_value",
            (_, Node::Map(_)) => "struct_value",
        };
        let unknown = || format!("`{path}` cannot be set by a document");
        let field = descriptor.get_field_by_name(name).ok_or_else(unknown)?;
        let value = if name == "null_value" {
            Value::EnumNumber(0)
        } else {
            self.field_value(&field, node, path)?
        };
        let mut message = DynamicMessage::new(descriptor.clone());
        message.try_set_field(&field, value).map_err(|_| unknown())?;
        Ok(message)
    }
}

fn check_text(text: &str, path: &Path<'_>) -> Result<(), String> {
    if text.contains('\0') {
        return Err(format!("`{path}` must not contain NUL (U+0000)"));
    }
    Ok(())
}

fn integer<T: TryFrom<i128>>(node: &Node, path: &Path<'_>) -> Result<T, String> {
    let Node::Integer(number) = node else { return Err(expected(path, "an integer", node)) };
    T::try_from(*number).map_err(|_| format!("`{path}` is out of range: {number}"))
}

fn number(node: &Node, path: &Path<'_>) -> Result<f64, String> {
    if let Node::Float(number) = node {
        return Ok(*number);
    }
    let Node::Integer(number) = node else { return Err(expected(path, "a number", node)) };
    let exact = (number.unsigned_abs() <= JSON_INTEGER_MAX).then(|| number.to_string().parse());
    match exact {
        Some(Ok(number)) => Ok(number),
        Some(Err(_)) | None => Err(format!("`{path}` is out of range: {number}")),
    }
}

fn enum_value(kind: &EnumDescriptor, node: &Node, path: &Path<'_>) -> Result<Value, String> {
    let words = schema::words(kind);
    if let Node::Text(text) = node
        && let Some((_, number)) = words.iter().find(|(word, _)| word == text)
    {
        return Ok(Value::EnumNumber(*number));
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
    Err(format!("`{path}` must be `{}`", words.join("`, `")))
}

/// Converts the parts of an endpoint that files write in another way than the message.
fn endpoint_entries(
    entries: Vec<(String, Node)>,
    path: &Path<'_>,
) -> Result<Vec<(String, Node)>, String> {
    let mut converted = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let is_mcp = key == "mcp";
        if !is_mcp && key != "json_rpc" {
            converted.push((key, value));
            continue;
        }
        let path = path.key(&key);
        let Node::Map(options) = value else { return Err(expected(&path, "a mapping", &value)) };
        let (limit, options): (Vec<_>, Vec<_>) =
            options.into_iter().partition(|(key, _)| key == BODY_BYTES_KEY);
        if let (false, Some((other, _))) = (is_mcp, options.first()) {
            return Err(format!("`{}` is unknown", path.key(other)));
        }
        let has_options = is_mcp && (limit.is_empty() || !options.is_empty());
        converted.extend(limit.into_iter().map(|(_, limit)| (BODY_BYTES_FIELD.to_owned(), limit)));
        if has_options {
            converted.push((key, Node::Map(options)));
        }
    }
    Ok(converted)
}

/// Converts `tool`, the short form of the parameter `name`.
fn tool_entries(
    entries: Vec<(String, Node)>,
    path: &Path<'_>,
) -> Result<Vec<(String, Node)>, String> {
    let (tool, mut entries): (Vec<_>, Vec<_>) =
        entries.into_iter().partition(|(key, _)| key == "tool");
    let Some((_, tool)) = tool.into_iter().next() else { return Ok(entries) };
    let tool = ("name".to_owned(), tool);
    let params = entries.iter_mut().find(|(key, _)| key == "params").map(|(_, node)| node);
    match params {
        Some(Node::Map(params)) => {
            if params.iter().any(|(key, _)| key == "name") {
                return Err(format!("`{}` is given twice, under two names", path.key("tool")));
            }
            params.push(tool);
        }
        Some(other) => return Err(expected(&path.key("params"), "a mapping", other)),
        None => entries.push(("params".to_owned(), Node::Map(vec![tool]))),
    }
    Ok(entries)
}
