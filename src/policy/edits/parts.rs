//! Reads and changes fields of a policy's messages by name, in either generation.

use std::collections::HashSet;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::super::{schema, write};

/// Maximum number of comparisons of the items of two lists with each other. Longer lists are compared by their texts.
const COMPARED_MAX: usize = 1_024;

/// Returns the value of a field; `None` if it is not set, or if the generation does not have it.
pub(super) fn value<'a>(message: &'a DynamicMessage, name: &str) -> Option<&'a Value> {
    message.fields().find(|(field, _)| field.name() == name).map(|(_, value)| value)
}

/// Returns the text of a field, or the word of its enum value; empty if it is not set.
pub(super) fn text(message: &DynamicMessage, name: &str) -> String {
    let found = message.fields().find(|(field, _)| field.name() == name);
    let Some((field, value)) = found else { return String::new() };
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    let kind = field.kind();
    let word = |number: i32| schema::word(kind.as_enum()?, number);
    value.as_enum_number().and_then(word).unwrap_or_default()
}

/// Returns whether a flag is set.
pub(super) fn flag(message: &DynamicMessage, name: &str) -> bool {
    value(message, name).and_then(Value::as_bool).unwrap_or(false)
}

/// Returns a number; 0 if it is not set.
pub(super) fn number(message: &DynamicMessage, name: &str) -> u32 {
    value(message, name).and_then(Value::as_u32).unwrap_or(0)
}

/// Returns the items of a list.
pub(super) fn list<'a>(message: &'a DynamicMessage, name: &str) -> &'a [Value] {
    value(message, name).and_then(Value::as_list).unwrap_or_default()
}

/// Sets a field, if the generation has it.
pub(super) fn set(message: &mut DynamicMessage, name: &str, value: Value) {
    if let Some(field) = message.descriptor().get_field_by_name(name) {
        *message.get_field_mut(&field) = value;
    }
}

/// Sets a field to the value that another message has, unless it is already set.
pub(super) fn fill(kept: &mut DynamicMessage, given: &DynamicMessage, name: &str) {
    if let (None, Some(new)) = (value(kept, name), value(given, name)) {
        let new = new.clone();
        set(kept, name, new);
    }
}

/// Sets a flag if another message has it set.
pub(super) fn raise(kept: &mut DynamicMessage, given: &DynamicMessage, name: &str) {
    if flag(given, name) {
        set(kept, name, Value::Bool(true));
    }
}

/// Clears a flag unless another message has it set, too.
pub(super) fn lower(kept: &mut DynamicMessage, given: &DynamicMessage, name: &str) {
    if !flag(given, name) {
        kept.clear_field_by_name(name);
    }
}

/// Removes the messages of a list from their message.
pub(super) fn take_messages(message: &mut DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let Some(Value::List(items)) = message.take_field_by_name(name) else { return Vec::new() };
    let into_message = |item| if let Value::Message(item) = item { Some(item) } else { None };
    items.into_iter().filter_map(into_message).collect()
}

/// Sets a list of messages.
pub(super) fn put_messages(message: &mut DynamicMessage, name: &str, items: Vec<DynamicMessage>) {
    if items.is_empty() {
        message.clear_field_by_name(name);
    } else {
        set(message, name, Value::List(items.into_iter().map(Value::Message).collect()));
    }
}

/// Adds the items that a list does not have yet, in their order and once each.
pub(super) fn append_new(message: &mut DynamicMessage, name: &str, given: &[Value]) {
    let field = message.descriptor().get_field_by_name(name);
    let Some(field) = field.filter(|_| !given.is_empty()) else { return };
    let Value::List(kept) = message.get_field_mut(&field) else { return };
    // Texts, since comparing each item with each takes long for a policy of the maximum size.
    let mut known: HashSet<String> = kept.iter().map(|item| write::text(&field, item)).collect();
    kept.extend(given.iter().filter(|item| known.insert(write::text(&field, item))).cloned());
}

/// Keeps the first of equal items of a list.
pub(super) fn remove_repeated(message: &mut DynamicMessage, name: &str) {
    if let Some(Value::List(items)) = message.take_field_by_name(name) {
        append_new(message, name, &items);
    }
}

/// Returns whether a list has all items of that of another message.
pub(super) fn includes(known: &DynamicMessage, wanted: &DynamicMessage, name: &str) -> bool {
    let (has, needs) = (list(known, name), list(wanted, name));
    let Some(field) = known.descriptor().get_field_by_name(name) else { return needs.is_empty() };
    if has.len().saturating_mul(needs.len()) <= COMPARED_MAX {
        return needs.iter().all(|item| has.contains(item));
    }
    // As in `append_new`.
    let has: HashSet<String> = has.iter().map(|item| write::text(&field, item)).collect();
    needs.iter().all(|item| has.contains(&write::text(&field, item)))
}
