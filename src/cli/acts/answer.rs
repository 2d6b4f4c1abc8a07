//! Responses of generated clients in the form that was requested.

use prost::Message;
use prost_reflect::DynamicMessage;

use super::super::globals::OutputFormat;
use super::super::{CliError, json, output};
use super::terminal::{Page, print_line};
use crate::pb::descriptors;

/// Prints a response: for people as the page shows it, for programs the message, whose name in the proto is `name`, or
/// the name of the `subject`: what the command is about.
pub(super) fn print<M: Message>(
    format: OutputFormat,
    name: &str,
    message: &M,
    subject: &str,
    page: &Page,
) -> Result<(), CliError> {
    match format {
        OutputFormat::Table | OutputFormat::Wide => page.print(),
        OutputFormat::Json => {
            Ok(output::print_result(&json::to_pretty(&to_dynamic(name, message)?))?)
        }
        OutputFormat::Yaml => {
            let yaml = json::to_yaml(&to_dynamic(name, message)?);
            Ok(output::print_result(yaml.trim_end())?)
        }
        OutputFormat::Name => print_line(subject),
        OutputFormat::Jsonl => print_line(&json::to_line(&to_dynamic(name, message)?)),
    }
}

/// Prints an item of a stream as one line of JSON.
pub(super) fn print_json_line<M: Message>(name: &str, message: &M) -> Result<(), CliError> {
    print_line(&json::to_line(&to_dynamic(name, message)?))
}

/// Prints an item of a stream as a document of YAML. JSON is YAML.
pub(super) fn print_yaml_document<M: Message>(name: &str, message: &M) -> Result<(), CliError> {
    print_line(&format!("--- {}", json::to_line(&to_dynamic(name, message)?)))
}

fn to_dynamic<M: Message>(name: &str, message: &M) -> Result<DynamicMessage, CliError> {
    let broken = || CliError::Io(format!("`{name}` cannot be printed as JSON"));
    let pool = descriptors::OWN.pool();
    let descriptor = pool.get_message_by_name(&format!("shoreguard.v1.{name}"));
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor.ok_or_else(broken)?, bytes.as_slice()).map_err(|_| broken())
}

/// Returns the word of an enum value: `OPERATION_STATUS_FAILED` without its prefix is `failed`.
pub(super) fn word(value: &str, prefix: &str) -> String {
    value.strip_prefix(prefix).unwrap_or(value).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enum_values_are_words() {
        assert_eq!(word("UNCOUNTED_REASON_BESIDE_MAKER", "UNCOUNTED_REASON_"), "beside maker");
    }

    #[test]
    fn a_message_has_the_field_names_of_its_proto() {
        let event = crate::pb::v1::Event { payload_json: "{}".to_owned(), ..Default::default() };
        let line = json::to_line(&to_dynamic("Event", &event).unwrap());
        let shown = r#"{"actor":"","gateway":"","name":"","payload_json":"{}","sequence":0}"#;
        assert_eq!(line, shown);
        assert!(to_dynamic("Nothing", &event).is_err());
    }
}
