//! The fields of a request as arguments: which there are, what they are called, and which exclude each other.

use std::collections::BTreeSet;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::places::Form;
use super::table::Row;
use super::values::Source;

/// How deep nested messages become flags. Deeper ones are JSON.
const DEPTH_MAX: usize = 3;

/// The option that marks a field as secret.
const SECRET: &str = "shoreguard.options.v1.secret";

/// Fields that the command fills by itself.
const OWN: [&str; 3] = ["page_size", "page_token", "update_mask"];

/// Fields of all requests with a shorter name.
const SHORTER: [(&str, &str); 6] = [
    ("labels", "label"),
    ("label_selector", "selector"),
    ("after_sequence", "after"),
    ("since_time", "since"),
    ("until_time", "until"),
    ("expire_time", "expires"),
];

/// A field that is an argument.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// Path in the request, with dots.
    pub(super) path: String,
    /// Name of the flag, without dashes.
    pub(super) flag: String,
    /// The field itself.
    pub(super) field: FieldDescriptor,
    /// Where its value comes from.
    pub(super) source: Source,
    /// Oneofs around it, each with the member that it belongs to.
    pub(super) choices: Vec<(String, String)>,
}

impl Leaf {
    /// Returns the id of its argument. It differs from those of the options of all commands.
    pub(super) fn id(&self) -> String {
        format!("field {}", self.path)
    }

    /// Whether the argument can be given several times.
    pub(super) fn is_repeated(&self) -> bool {
        self.field.is_list() || self.field.is_map()
    }

    /// Whether both arguments set members of the same oneof.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        self.choices.iter().any(|(oneof, member)| {
            other.choices.iter().any(|(also, chosen)| oneof == also && member != chosen)
        })
    }
}

/// Returns the method of a line. Every line has one, as a test proves.
pub(super) fn method(row: &Row) -> Option<MethodDescriptor> {
    let (service, name) = row.rpc.split_once('/')?;
    let pool = crate::pb::descriptors::OWN.documented_pool();
    let service = pool.get_service_by_name(&format!("shoreguard.v1.{service}"))?;
    service.methods().find(|method| method.name() == name)
}

/// Returns the fields of the request that are arguments, positional ones included.
pub(super) fn leaves(row: &Row, request: &MessageDescriptor) -> Vec<Leaf> {
    let mut found = Vec::new();
    let root =
        Walk { row, prefix: String::new(), flag: String::new(), choices: Vec::new(), depth: 0 };
    root.collect(request, &mut found);
    let is_set = |leaf: &Leaf| {
        let top = leaf.path.split('.').next().unwrap_or_default();
        let by_form = forms(row).any(|form| form.fields().contains(&top));
        by_form || presets(row).any(|(field, _)| field == top) || OWN.contains(&top)
    };
    found.retain(|leaf| !is_set(leaf));
    found
}

/// Returns the positional arguments that are a form.
pub(super) fn forms(row: &Row) -> impl Iterator<Item = Form> {
    row.takes.split(' ').filter_map(|word| Form::from_word(word.trim_end_matches('?')))
}

/// Returns the fields with a fixed value.
pub(super) fn presets(row: &Row) -> impl Iterator<Item = (&'static str, &'static str)> {
    row.presets.split_whitespace().filter_map(|preset| preset.split_once('='))
}

/// Whether a field is marked as secret.
pub(super) fn is_secret(field: &FieldDescriptor) -> bool {
    let Some(option) = field.parent_message().parent_pool().get_extension_by_name(SECRET) else {
        return false;
    };
    field.options().get_extension(&option).as_bool() == Some(true)
}

/// Whether the message of a field has a secret in it, at any depth.
fn holds_secret(field: &FieldDescriptor) -> bool {
    let Kind::Message(message) = field.kind() else { return false };
    find_secret(&message).is_some()
}

/// Returns a field of a message that is marked as secret, at any depth.
pub(super) fn find_secret(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    // A message can contain itself.
    let mut seen = BTreeSet::new();
    let mut waiting = vec![message.clone()];
    while let Some(message) = waiting.pop() {
        let name = message.full_name();
        if name.starts_with("google.protobuf.") || !seen.insert(name.to_owned()) {
            continue;
        }
        for field in message.fields() {
            if is_secret(&field) {
                return Some(field);
            }
            if let Kind::Message(inner) = field.kind() {
                waiting.push(inner);
            }
        }
    }
    None
}

/// A message inside the request.
struct Walk<'a> {
    row: &'a Row,
    /// Path of the message, with a dot at its end unless it is the request.
    prefix: String,
    /// The same for the flags.
    flag: String,
    choices: Vec<(String, String)>,
    depth: usize,
}

impl Walk<'_> {
    fn collect(&self, message: &MessageDescriptor, found: &mut Vec<Leaf>) {
        for field in message.fields() {
            let path = format!("{}{}", self.prefix, field.name());
            let is_flat = self.row.flat.split(' ').any(|flat| flat == path);
            let choices = self.choices_of(&field);
            if !is_flat {
                found.push(self.leaf(&path, &field, choices.clone()));
            }
            let Some(inner) = nested(&field).filter(|_| self.depth < DEPTH_MAX) else { continue };
            let flag =
                if is_flat { String::new() } else { format!("{}.", self.flag_of(&field, &path)) };
            let walk = Walk {
                row: self.row,
                prefix: format!("{path}."),
                flag,
                choices,
                depth: self.depth + 1,
            };
            walk.collect(&inner, found);
        }
    }

    fn leaf(&self, path: &str, field: &FieldDescriptor, choices: Vec<(String, String)>) -> Leaf {
        let is_document = self.row.documents.split(' ').any(|document| document == path);
        let is_json = field.name().ends_with("_json") || field.name() == "yaml";
        let source = if is_secret(field) || holds_secret(field) {
            Source::Secret
        } else if is_document || is_json {
            Source::Document
        } else {
            Source::Argument
        };
        let flag = self.flag_of(field, path);
        Leaf { path: path.to_owned(), flag, field: field.clone(), source, choices }
    }

    fn flag_of(&self, field: &FieldDescriptor, path: &str) -> String {
        let mut renames =
            self.row.renames.split_whitespace().filter_map(|rename| rename.split_once('='));
        let given = renames.find(|(from, _)| *from == path).map(|(_, to)| to);
        let shorter = SHORTER.iter().find(|(from, _)| *from == field.name()).map(|(_, to)| *to);
        let name = given.or(shorter).unwrap_or(field.name());
        format!("{}{}", self.flag, name.replace('_', "-"))
    }

    fn choices_of(&self, field: &FieldDescriptor) -> Vec<(String, String)> {
        let mut choices = self.choices.clone();
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
            choices.push((format!("{}{}", self.prefix, oneof.name()), field.name().to_owned()));
        }
        choices
    }
}

/// Returns the message of a field whose own fields can be flags.
fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    let Kind::Message(message) = field.kind() else { return None };
    let is_single = !field.is_list() && !field.is_map();
    (is_single && !message.full_name().starts_with("google.protobuf.")).then_some(message)
}
