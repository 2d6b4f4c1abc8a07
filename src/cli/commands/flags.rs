//! The definition of a command: its arguments out of the fields of the request, its help out of the proto.

use std::ffi::OsStr;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, Command};
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::Value;

use super::fields::{self, Leaf};
use super::places::Form;
use super::table::Row;
use super::values::Source;
use super::{labels, lists, values};
use crate::cli::comments;
use crate::cli::globals::Globals;

/// Id of the option that limits a list.
pub(super) const LIMIT: &str = "limit of the list";
/// Id of the option that names the file for raw bytes.
pub(super) const TO: &str = "file for the answer";

/// A positional argument in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Name of the field or form.
    pub(super) word: &'static str,
    is_optional: bool,
    is_repeated: bool,
    is_last: bool,
}

impl Taken {
    fn parse(word: &'static str) -> Self {
        let (is_optional, is_repeated, is_last) =
            (word.ends_with('?'), word.ends_with("..."), word.ends_with("--"));
        Self { word: word.trim_end_matches(['?', '.', '-']), is_optional, is_repeated, is_last }
    }
}

/// Returns the positional arguments of a line.
pub(super) fn taken(row: &Row) -> impl Iterator<Item = Taken> + Clone {
    row.takes.split_whitespace().map(Taken::parse)
}

/// Returns the id of a positional argument that is a form.
pub(super) fn form_id(form: Form) -> String {
    format!("form {form:?}")
}

/// Returns the definition of a command, with the options of all commands.
pub(super) fn command(row: &'static Row) -> Command {
    let command = Command::new(row.verb());
    // A test proves that each line has a method.
    let Some(method) = fields::method(row) else { return command };
    let mut comment = comments::of_method(&method);
    if !row.about.is_empty() {
        comment = format!("{}.\n\n{comment}", row.about);
    }
    let mut command =
        command.about(comments::first_sentence(&comment)).long_about(comment).next_line_help(false);
    let leaves = fields::leaves(row, &method.input());
    for (at, taken) in taken(row).enumerate() {
        if let Some(arg) = positional(taken, &leaves) {
            command = command.arg(arg.index(at + 1));
        }
    }
    let is_taken = |leaf: &Leaf| taken(row).any(|taken| taken.word == leaf.path);
    for leaf in leaves.iter().filter(|leaf| !is_taken(leaf)) {
        command = command.arg(flag(leaf, &leaves));
    }
    if labels::is_update(&method) {
        command = labels::add_options(command);
    }
    for path in row.requires.split_whitespace() {
        let below = format!("{path}.");
        let of_path =
            leaves.iter().filter(|leaf| leaf.path == path || leaf.path.starts_with(&below));
        let ids: Vec<String> = of_path.map(Leaf::id).collect();
        let group = ArgGroup::new(format!("required {path}")).args(ids);
        command = command.group(group.multiple(true).required(true));
    }
    if lists::Cursor::of(&method).is_some() {
        command = command.arg(limit());
    }
    if !row.raw.is_empty() {
        command = command.arg(to());
    }
    Globals::add_to(command)
}

fn positional(taken: Taken, leaves: &[Leaf]) -> Option<Arg> {
    let arg = if let Some(form) = Form::from_word(taken.word) {
        Arg::new(form_id(form))
            .value_name(form.value_name())
            .help(form.help())
            .value_parser(move |text: &str| form.parse(text))
    } else {
        let leaf = leaves.iter().find(|leaf| leaf.path == taken.word)?;
        Arg::new(leaf.id())
            .value_name(leaf.path.to_ascii_uppercase())
            .help(comments::of_field(&leaf.field))
            .value_parser(parser(leaf))
    };
    let arg = arg.required(!taken.is_optional);
    Some(match (taken.is_repeated, taken.is_last) {
        (true, _) => arg.num_args(1..).action(ArgAction::Append),
        (_, true) => arg.num_args(1..).action(ArgAction::Append).last(true),
        (false, false) => arg,
    })
}

fn flag(leaf: &Leaf, leaves: &[Leaf]) -> Arg {
    let excluded = leaves.iter().filter(|other| leaf.excludes(other)).map(Leaf::id);
    let arg = Arg::new(leaf.id())
        .long(leaf.flag.clone())
        .value_name(value_name(leaf))
        .help(comments::of_field(&leaf.field))
        .value_parser(parser(leaf))
        .conflicts_with_all(excluded)
        .required(is_required(leaf))
        .hide(comments::is_unavailable(&leaf.field))
        // A text can begin with a dash.
        .allow_hyphen_values(leaf.field.kind() == Kind::String);
    let arg = if leaf.flag == "selector" { arg.short('l') } else { arg };
    if leaf.is_repeated() {
        return arg.action(ArgAction::Append);
    }
    if leaf.field.kind() == Kind::Bool {
        return arg.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    arg
}

/// Whether the command is wrong without the flag. Secrets are prompted for instead, see `request.rs`.
fn is_required(leaf: &Leaf) -> bool {
    let is_plain = !matches!(leaf.field.kind(), Kind::Message(_) | Kind::Bool);
    let is_single = leaf.choices.is_empty() && !leaf.path.contains('.');
    is_plain && is_single && leaf.source != Source::Secret && comments::is_required(&leaf.field)
}

fn value_name(leaf: &Leaf) -> &'static str {
    if leaf.field.is_map() {
        return if leaf.source == Source::Secret { "@FILE|-" } else { "KEY=VALUE" };
    }
    let kind = leaf.field.kind();
    match (leaf.source, &kind) {
        (_, Kind::Bytes) | (Source::Document, _) => "@FILE|-",
        (Source::Secret, Kind::Message(_)) => "@JSONFILE|-",
        (Source::Secret, _) => "@FILE|-|prompt",
        (Source::Argument, Kind::Message(message)) => match message.full_name() {
            "google.protobuf.Duration" => "DURATION",
            "google.protobuf.Timestamp" => "TIME",
            _ => "JSON|@FILE",
        },
        (Source::Argument, Kind::Enum(_)) => "WORD",
        (Source::Argument, Kind::String) => "TEXT",
        (Source::Argument, Kind::Bool) => "BOOL",
        (Source::Argument, _) => "NUMBER",
    }
}

/// Returns the parser of an argument. Words of an enum are listed in the help and completed by shells.
fn parser(leaf: &Leaf) -> ValueParser {
    if let Kind::Enum(kind) = leaf.field.kind() {
        let words = values::enum_words(&kind);
        let names = words.clone();
        let parser = PossibleValuesParser::new(words.into_iter().map(|(word, _)| word));
        return ValueParser::new(parser.map(move |given| {
            let name = names.iter().find(|(word, _)| *word == given).map(|(_, name)| name.clone());
            Value::from(name.unwrap_or(given))
        }));
    }
    let (field, source) = (leaf.field.clone(), leaf.source);
    if source == Source::Secret {
        return ValueParser::new(SecretParser { field });
    }
    ValueParser::new(move |text: &str| values::parse(&field, source, text))
}

/// Parses an argument that may be a secret by mistake. An error of clap's own parsers would repeat it. The value of a
/// secret that is to be prompted for is null.
#[derive(Clone)]
struct SecretParser {
    field: FieldDescriptor,
}

impl TypedValueParser for SecretParser {
    type Value = Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Value, clap::Error> {
        if values::is_prompt(&self.field, value) {
            return Ok(Value::Null);
        }
        let text = value.to_str().ok_or_else(|| "is not UTF-8".to_owned());
        let parsed = text.and_then(|text| values::parse(&self.field, Source::Secret, text));
        parsed.map_err(|why| {
            let name = arg.map_or_else(|| "a secret".to_owned(), ToString::to_string);
            let text = format!("`{name}` {why}\n");
            clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command)
        })
    }
}

fn limit() -> Arg {
    Arg::new(LIMIT)
        .long("limit")
        .value_name("NUMBER")
        .help("Maximum number of items; more are left, which standard error says")
        .default_value("1000")
        .value_parser(clap::value_parser!(u32).range(1..=1_000_000))
}

fn to() -> Arg {
    Arg::new(TO)
        .long("to")
        .value_name("FILE")
        .help("File to write, which must not exist. By default, standard output is written")
        .value_parser(clap::value_parser!(std::path::PathBuf))
}
