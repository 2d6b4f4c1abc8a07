//! Labels of an update: what is given is added to the stored labels, as other command lines do. The server replaces all.
//!
//! Invariant: labels that a command does not name stay, even if another caller changes them at the same time: the etag of
//! the object that was read is sent.

use clap::{Arg, ArgAction, ArgMatches, Command};
use prost_reflect::{DynamicMessage, MapKey, MethodDescriptor, Value};

use super::cells::text_at;
use super::fields;
use super::table::{self, Row};
use crate::cli::CliError;
use crate::cli::connect::Client;

/// Name of the field.
pub(super) const FIELD: &str = "labels";
/// Id of the argument of the field.
const ADDED: &str = "field labels";
/// Id of the option that removes labels.
const REMOVED: &str = "labels to remove";
/// Id of the option that replaces all labels.
const REPLACED: &str = "labels that replace all";

/// Whether a method updates labels.
pub(super) fn is_update(method: &MethodDescriptor) -> bool {
    let input = method.input();
    let labels = input.get_field_by_name(FIELD);
    input.get_field_by_name("update_mask").is_some() && labels.is_some_and(|field| field.is_map())
}

/// Adds the options to the command of such a method.
pub(super) fn add_options(command: Command) -> Command {
    let added = "Label to add or to replace; `KEY=` has an empty value. Other labels stay";
    command
        .mut_arg(ADDED, |arg| arg.help(added))
        .arg(
            Arg::new(REMOVED)
                .long("remove-label")
                .value_name("KEY")
                .help("Label to remove")
                .action(ArgAction::Append),
        )
        .arg(
            Arg::new(REPLACED)
                .long("replace-labels")
                .help("Removes all labels that are not given by `--label`; `--label=` gives none")
                .action(ArgAction::SetTrue)
                .requires(ADDED)
                .conflicts_with(REMOVED),
        )
}

/// Returns the keys of labels to remove. `matches` are those of a command with the options.
pub(super) fn removed(matches: &ArgMatches) -> Vec<String> {
    matches.get_many::<String>(REMOVED).into_iter().flatten().cloned().collect()
}

/// Puts the labels that the object will have into its update, unless the caller gave all of them.
pub(super) async fn merge(
    row: &Row,
    method: &MethodDescriptor,
    mut message: DynamicMessage,
    matches: &ArgMatches,
    client: &mut Client,
) -> Result<DynamicMessage, CliError> {
    if !is_update(method) || matches.get_flag(REPLACED) {
        return Ok(message);
    }
    let removed = removed(matches);
    if removed.is_empty() && !matches.contains_id(ADDED) {
        return Ok(message);
    }
    let unknown = || CliError::Usage(format!("`{}` needs `--replace-labels`", row.command));
    let get = table::find(row.noun(), "get").and_then(fields::method).ok_or_else(unknown)?;
    let mut question = DynamicMessage::new(get.input());
    for field in get.input().fields() {
        if let Some(value) = message.get_field_by_name(field.name()) {
            let value = value.into_owned();
            question.set_field(&field, value);
        }
    }
    let response = client.unary(&get, question).await?;
    let object = response.get_field_by_name(row.noun()).ok_or_else(unknown)?;
    let object = object.as_message().ok_or_else(unknown)?;
    let mut labels = labels_of(object);
    labels.extend(labels_of(&message));
    for key in removed {
        labels.remove(&MapKey::String(key));
    }
    message.set_field_by_name(FIELD, Value::Map(labels));
    let is_unconditional = text_at(&message, "etag").is_empty();
    if is_unconditional {
        message.set_field_by_name("etag", Value::String(text_at(object, "etag")));
    }
    Ok(message)
}

fn labels_of(message: &DynamicMessage) -> std::collections::HashMap<MapKey, Value> {
    let labels = message.get_field_by_name(FIELD);
    labels.and_then(|labels| labels.as_map().cloned()).unwrap_or_default()
}
