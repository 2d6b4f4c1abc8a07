//! What differs between two policies: each difference with its path and both values.
//!
//! Invariants
//! - two policies without a difference have the same canonical form, marks included;
//! - no part of a policy is in more than one difference, so that the values are not larger than the policies.
//!
//! Items of a list are compared as follows: equal items belong together, then endpoints of the same host, ports and
//! path, and binaries of the same path; the others were added or removed. If only the order differs, the whole list is
//! one difference.

use std::collections::{BTreeSet, HashMap, VecDeque};

use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage, Value};

use super::Policy;
use super::schema::{self, FieldOwner};
use super::tree::Path;
use super::write::{self, sorted};

/// Fields by which messages of a list are recognized.
const IDENTITIES: &[(&str, &[&str])] =
    &[(schema::ENDPOINT, &["host", "port", "ports", "path"]), (schema::BINARY, &["path"])];

/// Kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the second policy has the value.
    Added,
    /// Only the first policy has the value.
    Removed,
    /// Both have a value, and the values differ.
    Changed,
}

/// A difference between two policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Section of the policy: the first key of the path.
    pub section: String,
    /// Path in the document. An index is that of the second policy, or of the first for what was removed.
    pub path: String,
    /// Kind.
    pub kind: DifferenceKind,
    /// Value in the first policy, as YAML; empty if it was added.
    pub old: String,
    /// Value in the second policy, as YAML; empty if it was removed.
    pub new: String,
}

/// Compares two policies of one generation. The differences are in the order of the sections.
#[must_use]
pub fn compare(old: &Policy, new: &Policy) -> Vec<Difference> {
    let mut comparison = Comparison { section: String::new(), found: Vec::new() };
    comparison.messages(&old.message, &new.message, &Path::ROOT);
    comparison.found
}

struct Comparison {
    section: String,
    found: Vec<Difference>,
}

impl Comparison {
    fn add(&mut self, path: &Path<'_>, old: Option<String>, new: Option<String>) {
        let kind = match (&old, &new) {
            (None, _) => DifferenceKind::Added,
            (Some(_), None) => DifferenceKind::Removed,
            (Some(_), Some(_)) => DifferenceKind::Changed,
        };
        self.found.push(Difference {
            section: self.section.clone(),
            path: path.to_string(),
            kind,
            old: old.unwrap_or_default(),
            new: new.unwrap_or_default(),
        });
    }

    fn messages(&mut self, old: &DynamicMessage, new: &DynamicMessage, path: &Path<'_>) {
        let descriptor = old.descriptor();
        for field in descriptor.fields() {
            if schema::owner(&field) == FieldOwner::Gateway {
                continue;
            }
            let key = schema::key(&field);
            if descriptor.full_name() == schema::POLICY {
                key.clone_into(&mut self.section);
            }
            let path = path.key(key);
            let (before, after) = (old.get_field(&field), new.get_field(&field));
            let is_in_both = old.has_field(&field) && new.has_field(&field);
            if field.is_list() || field.is_map() || is_in_both {
                self.values(&field, &before, &after, &path);
            } else if old.has_field(&field) {
                self.add(&path, Some(write::text(&field, &before)), None);
            } else if new.has_field(&field) {
                self.add(&path, None, Some(write::text(&field, &after)));
            }
        }
    }

    fn values(&mut self, field: &FieldDescriptor, old: &Value, new: &Value, path: &Path<'_>) {
        match (old, new) {
            (Value::Map(old), Value::Map(new)) => self.maps(field, (old, new), path),
            (Value::List(old), Value::List(new)) => self.lists(field, old, new, path),
            (Value::Message(old), Value::Message(new)) if !schema::is_json(&old.descriptor()) => {
                self.messages(old, new, path);
            }
            (old, new) => {
                let (old, new) = (write::text(field, old), write::text(field, new));
                if old != new {
                    self.add(path, Some(old), Some(new));
                }
            }
        }
    }

    fn maps(
        &mut self,
        field: &FieldDescriptor,
        (old, new): (&MapEntries, &MapEntries),
        path: &Path<'_>,
    ) {
        let Some(entry) = field.kind().as_message().cloned() else { return };
        let field = entry.map_entry_value_field();
        let (old, new) = (sorted(old), sorted(new));
        let (mut old, mut new) = (old.into_iter().peekable(), new.into_iter().peekable());
        // Both are sorted by key, so the smaller key is next.
        while let Some(key) = [old.peek(), new.peek()].into_iter().flatten().map(|e| &e.0).min() {
            let key = key.clone();
            let path = path.key(&key);
            let before = old.next_if(|(next, _)| *next == key).map(|(_, value)| value);
            let after = new.next_if(|(next, _)| *next == key).map(|(_, value)| value);
            if let (Some(before), Some(after)) = (before, after) {
                self.values(&field, before, after, &path);
            } else {
                let text = |value: Option<&Value>| value.map(|value| write::text(&field, value));
                self.add(&path, text(before), text(after));
            }
        }
    }

    fn lists(&mut self, field: &FieldDescriptor, old: &[Value], new: &[Value], path: &Path<'_>) {
        let texts = |items: &[Value]| -> Vec<String> {
            items.iter().map(|item| write::text(field, item)).collect()
        };
        let (old_texts, new_texts) = (texts(old), texts(new));
        if old_texts == new_texts {
            return;
        }
        let (mut removed, added) = unmatched(&old_texts, &new_texts);
        if removed.is_empty() && added.is_empty() {
            return self.add(path, Some(old_texts.join("\n")), Some(new_texts.join("\n")));
        }
        let mut known: HashMap<String, VecDeque<usize>> = HashMap::new();
        for at in &removed {
            if let Some(identity) = identity(&old[*at]) {
                known.entry(identity).or_default().push_back(*at);
            }
        }
        for at in added {
            let same =
                identity(&new[at]).and_then(|identity| known.get_mut(&identity)?.pop_front());
            if let Some(before) = same {
                removed.remove(&before);
                self.values(field, &old[before], &new[at], &path.index(at));
            } else {
                self.add(&path.index(at), None, Some(new_texts[at].clone()));
            }
        }
        for at in removed {
            self.add(&path.index(at), Some(old_texts[at].clone()), None);
        }
    }
}

type MapEntries = HashMap<prost_reflect::MapKey, Value>;

/// Returns the indexes of the items that only one of two lists has.
fn unmatched(old: &[String], new: &[String]) -> (BTreeSet<usize>, Vec<usize>) {
    let mut positions: HashMap<&str, VecDeque<usize>> = HashMap::new();
    for (at, text) in old.iter().enumerate() {
        positions.entry(text).or_default().push_back(at);
    }
    let mut removed: BTreeSet<usize> = (0..old.len()).collect();
    let mut added = Vec::new();
    for (at, text) in new.iter().enumerate() {
        match positions.get_mut(text.as_str()).and_then(VecDeque::pop_front) {
            Some(before) => _ = removed.remove(&before),
            None => added.push(at),
        }
    }
    (removed, added)
}

/// Returns what identifies an item of a list, apart from its other fields.
fn identity(item: &Value) -> Option<String> {
    let message = item.as_message()?;
    let descriptor = message.descriptor();
    let (_, fields) = IDENTITIES.iter().find(|(name, _)| *name == descriptor.full_name())?;
    let fields = fields.iter().filter_map(|name| descriptor.get_field_by_name(name));
    let parts: Vec<String> =
        fields.map(|field| write::text(&field, &message.get_field(&field))).collect();
    Some(parts.join("\n"))
}
