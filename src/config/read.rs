//! Reads one section from TOML, and names every key that cannot be read.
//!
//! Every key has a default, so a section with a single key is readable unless that key is at fault. This is how all
//! faults of a section are found.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::fault::Faults;

/// A section of the configuration.
pub(super) trait Section: DeserializeOwned {
    /// Every key, for the environment and flags.
    const KEYS: &'static [ConfigKey];

    /// Adds a fault for each value that is out of range or contradicts another.
    fn check(&self, faults: &mut Faults);
}

/// A key of a section.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigKey {
    /// Path within the section, with dots if nested.
    pub(super) path: &'static str,
    /// Type of the value.
    pub(super) kind: ValueKind,
}

/// How the text of a variable or flag is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// A string.
    Text,
    /// A string that is never printed and never accepted from a flag.
    Secret,
    /// An integer.
    Number,
    /// `true` or `false`.
    Flag,
    /// Strings, separated by commas.
    List,
    /// Secrets, separated by commas.
    Secrets,
    /// Tables, which only the file can contain.
    Tables,
}

impl ConfigKey {
    pub(super) const fn new(path: &'static str, kind: ValueKind) -> Self {
        Self { path, kind }
    }

    fn is_secret(self) -> bool {
        matches!(self.kind, ValueKind::Secret | ValueKind::Secrets)
    }
}

/// Removes one section from the tables of the file, reads it and checks it.
pub(super) fn read_section<S: Section>(
    sections: &mut Table,
    name: &str,
    faults: &mut Faults,
) -> Option<S> {
    let table = match sections.remove(name) {
        None => Table::new(),
        Some(Value::Table(table)) => table,
        Some(_) => {
            faults.add(name, "must be a section, written as `[section]`");
            return None;
        }
    };
    if let Ok(section) = S::deserialize(table.clone()) {
        section.check(faults);
        return Some(section);
    }
    let found_before = faults.iter().count();
    for (key, value) in table {
        collect_faults::<S>(name, &[key], &value, faults);
    }
    if faults.iter().count() == found_before {
        faults.add(name, "cannot be read");
    }
    None
}

/// Finds the innermost key that cannot be read, and adds a fault for it.
fn collect_faults<S: Section>(section: &str, path: &[String], value: &Value, faults: &mut Faults) {
    let Err(error) = S::deserialize(nest_value(path, value.clone())) else { return };
    if let Value::Table(inner) = value
        && S::deserialize(nest_value(path, Value::Table(Table::new()))).is_ok()
    {
        for (key, value) in inner {
            let mut path = path.to_vec();
            path.push(key.clone());
            collect_faults::<S>(section, &path, value, faults);
        }
        return;
    }
    let dotted = path.join(".");
    let full = format!("{section}.{dotted}");
    let secret = S::KEYS.iter().any(|key| key.path == dotted && key.is_secret());
    if let Value::Array(items) = value
        && !secret
    {
        let probe = |item| S::deserialize(nest_value(path, Value::Array(vec![item]))).err();
        for (i, item) in items.iter().enumerate() {
            let Some(error) = probe(item.clone()) else { continue };
            let (inner, error) = find_innermost(item, error, &probe);
            faults.add(format!("{full}[{i}]{inner}"), reason_without_secrets(&inner, &error));
        }
        return;
    }
    // The parser's message may quote the value.
    let why = if secret {
        "must be a string in the form that is documented".to_owned()
    } else {
        error_reason(&error)
    };
    faults.add(full, why);
}

/// Returns the path of the key inside a value that cannot be read, and its error. `probe` returns the error of the
/// section with another value in the place of this one.
///
/// A key is at fault if the error is another one without it. Items of a list can have keys that are required, so a value
/// with a single key is not an option here.
fn find_innermost(
    value: &Value,
    error: toml::de::Error,
    probe: &dyn Fn(Value) -> Option<toml::de::Error>,
) -> (String, toml::de::Error) {
    if let Value::Table(table) = value {
        let is_blamed = |key: &&String| {
            let mut others = table.clone();
            others.remove(key.as_str());
            probe(Value::Table(others)).is_none_or(|other| {
                let both_miss = is_missing_field(&error) && is_missing_field(&other);
                !both_miss && other.message() != error.message()
            })
        };
        if let Some(key) = table.keys().find(is_blamed) {
            let inner = |value| {
                let mut changed = table.clone();
                changed.insert(key.clone(), value);
                probe(Value::Table(changed))
            };
            let (path, error) = find_innermost(&table[key.as_str()], error, &inner);
            return (format!(".{key}{path}"), error);
        }
    } else if let Value::Array(items) = value {
        let alone = |item| probe(Value::Array(vec![item]));
        for (i, item) in items.iter().enumerate() {
            if let Some(error) = alone(item.clone()) {
                let (path, error) = find_innermost(item, error, &alone);
                return (format!("[{i}]{path}"), error);
            }
        }
    }
    (String::new(), error)
}

fn is_missing_field(error: &toml::de::Error) -> bool {
    error.message().trim().starts_with("missing field")
}

/// Returns why a key inside a list cannot be read. The parser's message may quote the value.
fn reason_without_secrets(key: &str, error: &toml::de::Error) -> String {
    let last = key.rsplit('.').next().unwrap_or_default();
    if last.contains("secret") && !is_missing_field(error) {
        return "must be a string in the form that is documented".to_owned();
    }
    error_reason(error)
}

/// Returns a section in which only this key is set.
fn nest_value(path: &[String], value: Value) -> Value {
    path.iter()
        .rev()
        .fold(value, |value, key| Value::Table(Table::from_iter([(key.clone(), value)])))
}

fn error_reason(error: &toml::de::Error) -> String {
    let words = error.message().trim();
    if words.starts_with("unknown field") {
        let known = words.split_once(", ").map_or("", |(_, known)| known);
        return format!("is not a key of the configuration: {known}");
    }
    format!("cannot be read: {words}")
}
