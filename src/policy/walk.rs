//! Visits every field of a policy, with its path.

use prost_reflect::{DynamicMessage, FieldDescriptor, Value};

use super::schema::{self, FieldOwner};
use super::tree::Path;
use super::write;

/// Maximum number of paths that are listed, so that a gateway cannot make a list of any length.
const PATHS_MAX: usize = 1_000;

/// Value at a path.
enum Leaf<'a> {
    /// A field that the generation does not have, by its number.
    Unknown(u32),
    /// A value other than a message.
    Value(&'a FieldDescriptor, &'a Value),
}

fn visit<F: FnMut(&Path<'_>, Leaf<'_>)>(
    message: &DynamicMessage,
    path: &Path<'_>,
    visitor: &mut F,
) {
    for field in message.unknown_fields() {
        visitor(path, Leaf::Unknown(field.number()));
    }
    for (field, value) in message.fields() {
        visit_value(&field, value, &path.key(schema::key(&field)), visitor);
    }
}

fn visit_value<F: FnMut(&Path<'_>, Leaf<'_>)>(
    field: &FieldDescriptor,
    value: &Value,
    path: &Path<'_>,
    visitor: &mut F,
) {
    match value {
        Value::Message(message) => visit(message, path, visitor),
        Value::List(items) => {
            for (at, item) in items.iter().enumerate() {
                visit_value(field, item, &path.index(at), visitor);
            }
        }
        Value::Map(entries) => {
            for (key, value) in write::sorted(entries) {
                visit_value(field, value, &path.key(&key), visitor);
            }
        }
        Value::Bool(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => visitor(path, Leaf::Value(field, value)),
    }
}

/// Calls `visitor` with the messages that a value of a field has: one, or those of a list or a map.
pub(super) fn for_messages(value: &Value, visitor: &mut dyn FnMut(&DynamicMessage)) {
    if let Value::Message(message) = value {
        visitor(message);
    } else if let Value::List(items) = value {
        for item in items {
            for_messages(item, visitor);
        }
    } else if let Value::Map(entries) = value {
        for value in entries.values() {
            for_messages(value, visitor);
        }
    }
}

/// Does the same as [`for_messages`] for a change of the messages.
pub(super) fn for_messages_mut(value: &mut Value, visitor: &mut dyn FnMut(&mut DynamicMessage)) {
    if let Value::Message(message) = value {
        visitor(message);
    } else if let Value::List(items) = value {
        for item in items {
            for_messages_mut(item, visitor);
        }
    } else if let Value::Map(entries) = value {
        for value in entries.values_mut() {
            for_messages_mut(value, visitor);
        }
    }
}

/// Returns what the generation does not have: the paths of unknown fields and of unknown values of an enum, each with
/// its number.
pub(super) fn unknown_parts(message: &DynamicMessage) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |path: &Path<'_>, leaf: Leaf<'_>| {
        let unknown = match leaf {
            Leaf::Unknown(number) => Some(format!("{path}: field {number}")),
            Leaf::Value(field, value) => {
                unknown_word(field, value).map(|number| format!("{path}: value {number}"))
            }
        };
        let has_room = found.len() < PATHS_MAX;
        found.extend(unknown.filter(|_| has_room));
    };
    visit(message, &Path::ROOT, &mut add);
    found
}

/// Returns the number of an enum value that the generation does not have.
fn unknown_word(field: &FieldDescriptor, value: &Value) -> Option<i32> {
    let (kind, number) = (field.kind(), value.as_enum_number()?);
    schema::word(kind.as_enum()?, number).is_none().then_some(number)
}

/// Returns the paths of the marks that are set, as many as are listed.
pub(super) fn marks(message: &DynamicMessage) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |path: &Path<'_>, leaf: Leaf<'_>| {
        if let Leaf::Value(field, Value::Bool(true)) = leaf
            && schema::owner(field) == FieldOwner::Mark
            && found.len() < PATHS_MAX
        {
            found.push(path.to_string());
        }
    };
    visit(message, &Path::ROOT, &mut add);
    found
}
