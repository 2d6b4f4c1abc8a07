//! Sections other than network rules: additional paths, and the values that a document has for them.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::super::schema;
use super::{PathAccess, parts};

/// The field of the filesystem section.
const FILESYSTEM: &str = "filesystem";

/// Adds paths to the filesystem section.
pub(super) fn add_paths(policy: &mut DynamicMessage, access: PathAccess, paths: &[String]) {
    let Some(field) = policy.descriptor().get_field_by_name(FILESYSTEM) else { return };
    if paths.is_empty() {
        return;
    }
    if let Value::Message(section) = policy.get_field_mut(&field) {
        let paths: Vec<Value> = paths.iter().cloned().map(Value::String).collect();
        parts::append_new(section, access.field(), &paths);
    }
}

/// Sets the values that a message has. Items of lists are added, and so are entries of maps, which replace those of the
/// same key.
pub(super) fn overlay(kept: &mut DynamicMessage, given: &DynamicMessage) {
    for (field, value) in given.fields() {
        if let Value::List(items) = value {
            parts::append_new(kept, field.name(), items);
        } else if let Value::Map(entries) = value {
            if let Value::Map(kept) = kept.get_field_mut(&field) {
                kept.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        } else if let Value::Message(given) = value
            && !schema::is_json(&given.descriptor())
        {
            if let Value::Message(kept) = kept.get_field_mut(&field) {
                overlay(kept, given);
            }
        } else {
            kept.set_field(&field, value.clone());
        }
    }
}

/// Removes the paths of the filesystem section, and the section if nothing is left of it.
pub(super) fn take_paths(policy: &mut DynamicMessage, access: PathAccess) -> Vec<String> {
    if !policy.has_field_by_name(FILESYSTEM) {
        return Vec::new();
    }
    let section = policy.get_field_by_name_mut(FILESYSTEM);
    let Some(Value::Message(section)) = section else { return Vec::new() };
    let paths = section.take_field_by_name(access.field());
    let is_empty = section.fields().next().is_none();
    if paths.is_some() && is_empty {
        policy.clear_field_by_name(FILESYSTEM);
    }
    let Some(Value::List(paths)) = paths else { return Vec::new() };
    paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect()
}
