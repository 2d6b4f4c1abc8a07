//! Converts requests from JSON and responses to JSON. Fields have their proto names.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};

use super::output;

/// Parses a request. The error lists every wrong field, one per line.
pub(in crate::cli) fn parse(
    descriptor: &MessageDescriptor,
    text: &str,
) -> Result<DynamicMessage, String> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("the request is not valid JSON: {error}"))?;
    from_value(descriptor, value)
}

/// Converts a request. The error lists every wrong field, one per line.
pub(in crate::cli) fn from_value(
    descriptor: &MessageDescriptor,
    mut value: Value,
) -> Result<DynamicMessage, String> {
    convert_masks(descriptor, &mut value);
    DynamicMessage::deserialize(descriptor.clone(), &value).map_err(|error| {
        let mut faults = Vec::new();
        collect_faults(descriptor, "", &value, &mut faults);
        if faults.is_empty() {
            faults.push(format!("the request is not a valid {}: {error}", descriptor.full_name()));
        }
        faults.join("\n")
    })
}

/// Converts the paths of field masks to the form of JSON, `displayName`. They are given as the proto names them, as all
/// other names.
fn convert_masks(descriptor: &MessageDescriptor, value: &mut Value) {
    let Value::Object(object) = value else { return };
    for field in descriptor.fields().filter(|field| !field.is_list() && !field.is_map()) {
        let Kind::Message(inner) = field.kind() else { continue };
        for name in [field.name(), field.json_name()] {
            let Some(found) = object.get_mut(name) else { continue };
            if inner.full_name() != "google.protobuf.FieldMask" {
                convert_masks(&inner, found);
            } else if let Value::String(paths) = found {
                *paths = to_camel_case(paths);
            }
            break;
        }
    }
}

fn to_camel_case(paths: &str) -> String {
    let mut camel = String::with_capacity(paths.len());
    let mut is_next_upper = false;
    for c in paths.chars().filter(|c| !c.is_whitespace()) {
        if c == '_' {
            is_next_upper = true;
        } else if std::mem::take(&mut is_next_upper) {
            camel.push(c.to_ascii_uppercase());
        } else {
            camel.push(c);
        }
    }
    camel
}

/// Returns a message as JSON on several lines, to be read by people.
pub(in crate::cli) fn to_pretty(message: &DynamicMessage) -> String {
    format!("{:#}", to_value(message))
}

/// Returns a message as JSON on one line, for streams.
pub(in crate::cli) fn to_line(message: &DynamicMessage) -> String {
    to_value(message).to_string()
}

/// Returns a message as YAML. It is JSON, which is YAML, if a value has no other form, or has characters that are escaped
/// for a terminal: outside of double quotes, YAML has no escapes.
pub(in crate::cli) fn to_yaml(message: &DynamicMessage) -> String {
    yaml_of(&to_value(message))
}

/// Returns a value as YAML, as [`to_yaml`].
pub(in crate::cli) fn yaml_of(value: &Value) -> String {
    match serde_saphyr::to_string(value) {
        Ok(yaml) if output::escape_control(&yaml) == yaml => yaml,
        Ok(_) | Err(_) => format!("{value:#}"),
    }
}

/// Converts a message to JSON with sorted keys, since the order of map entries is random. Empty lists and false are
/// included, and integers of 64 bits are numbers.
pub(in crate::cli) fn to_value(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        // A time or duration out of its range has no JSON form; the proto text form is used instead.
        .unwrap_or_else(|_| Value::String(message.to_string()))
}

/// Finds every wrong field: each field is parsed in a message that contains nothing else.
fn collect_faults(
    descriptor: &MessageDescriptor,
    path: &str,
    value: &Value,
    faults: &mut Vec<String>,
) {
    let Value::Object(object) = value else {
        faults.push(format!("{} must be a JSON object", display_path(path)));
        return;
    };
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match descriptor.fields().find(|field| field.name() == key || field.json_name() == key) {
            None => faults.push(format!("{} {}", display_path(&path), unknown_field(descriptor))),
            Some(field) => collect_field_faults(descriptor, &field, &path, value, faults),
        }
    }
}

fn collect_field_faults(
    parent: &MessageDescriptor,
    field: &FieldDescriptor,
    path: &str,
    value: &Value,
    faults: &mut Vec<String>,
) {
    let Err(error) = check_field(parent, field, value.clone()) else { return };
    let found_before = faults.len();
    match (value, field.kind()) {
        (Value::Object(object), Kind::Message(entry)) if field.is_map() => {
            for (key, value) in object {
                let one = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
                if let Err(error) = check_field(parent, field, one) {
                    let path = format!("{path}.{key}");
                    collect_nested_faults(
                        &entry.map_entry_value_field(),
                        &path,
                        value,
                        &error,
                        faults,
                    );
                }
            }
        }
        (Value::Array(items), _) if field.is_list() => {
            for (i, item) in items.iter().enumerate() {
                if let Err(error) = check_field(parent, field, Value::Array(vec![item.clone()])) {
                    collect_nested_faults(field, &format!("{path}[{i}]"), item, &error, faults);
                }
            }
        }
        (value, _) => collect_nested_faults(field, path, value, &error, faults),
    }
    if faults.len() == found_before {
        faults.push(format!("{} {error}", display_path(path)));
    }
}

/// Looks into a nested message. Other values, including the well-known types with their own JSON form, are reported as
/// a whole.
fn collect_nested_faults(
    field: &FieldDescriptor,
    path: &str,
    value: &Value,
    error: &str,
    faults: &mut Vec<String>,
) {
    let found_before = faults.len();
    if let Kind::Message(inner) = field.kind()
        && !inner.full_name().starts_with("google.protobuf.")
    {
        collect_faults(&inner, path, value, faults);
    }
    if faults.len() == found_before {
        faults.push(format!("{} {error}", display_path(path)));
    }
}

fn check_field(
    parent: &MessageDescriptor,
    field: &FieldDescriptor,
    value: Value,
) -> Result<(), String> {
    let object = Value::Object(Map::from_iter([(field.name().to_owned(), value)]));
    match (DynamicMessage::deserialize(parent.clone(), object), field.kind()) {
        (Ok(_), _) => Ok(()),
        (Err(_), Kind::Enum(kind)) => {
            let values: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
            Err(format!("must be one of `{}`", values.join("`, `")))
        }
        (Err(error), _) => Err(format!("cannot be read: {error}")),
    }
}

fn display_path(path: &str) -> String {
    if path.is_empty() { "the request".to_owned() } else { format!("`{path}`") }
}

fn unknown_field(descriptor: &MessageDescriptor) -> String {
    let fields: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
    if fields.is_empty() {
        return format!("is not a field of {}, which has none", descriptor.full_name());
    }
    format!("is not a field of {}, which has `{}`", descriptor.full_name(), fields.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str, text: &str) -> Result<DynamicMessage, String> {
        let pool = crate::pb::descriptors::OWN.pool();
        parse(&pool.get_message_by_name(&format!("shoreguard.v1.{message}")).unwrap(), text)
    }

    #[test]
    fn requests_accept_both_field_spellings_and_output_uses_the_proto_names() {
        for text in [r#"{"page_size": 7}"#, r#"{"pageSize": 7}"#] {
            let request = read("ListGatewaysRequest", text).unwrap();
            let line = r#"{"label_selector":"","page_size":7,"page_token":""}"#;
            assert_eq!(to_line(&request), line);
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(to_pretty(&request), format!("{value:#}"));
        }
    }

    #[test]
    fn masks_are_given_with_the_names_of_the_proto() {
        for mask in ["description,oidc_client", "description, oidcClient"] {
            let text = format!(r#"{{"gateway": "edge", "update_mask": "{mask}"}}"#);
            let request = read("UpdateGatewayRequest", &text).unwrap();
            let mask = request.get_field_by_name("update_mask").unwrap();
            let paths = mask.as_message().unwrap().get_field_by_name("paths").unwrap();
            let paths: Vec<_> = paths.as_list().unwrap().iter().map(|p| p.as_str()).collect();
            assert_eq!(paths, [Some("description"), Some("oidc_client")]);
        }
    }

    #[test]
    fn empty_lists_false_and_whole_numbers_are_printed_as_such() {
        let shown = read("ListEventsResponse", r#"{"next_after_sequence": "9007199254740993"}"#);
        let line = r#"{"events":[],"more":false,"next_after_sequence":9007199254740993}"#;
        assert_eq!(to_line(&shown.clone().unwrap()), line);
        assert!(to_yaml(&shown.unwrap()).contains("more: false"));
    }

    #[test]
    fn yaml_has_the_same_values_when_it_is_escaped_for_a_terminal() {
        for text in ["if true; then\n\techo a\nfi\n", "a\u{200b}b", "two\nlines", "\u{1b}[2J"] {
            let request = json_text(text);
            let shown = output::escape_control(&to_yaml(&read("Event", &request).unwrap()));
            let value: Value = serde_saphyr::from_str(&shown).unwrap();
            assert_eq!(value["payload_json"], Value::from(text), "{shown}");
        }
    }

    fn json_text(text: &str) -> String {
        serde_json::json!({ "payload_json": text }).to_string()
    }

    #[test]
    fn every_error_names_its_field() {
        let refused = read(
            "RegisterGatewayRequest",
            r#"{"name": 7, "scheme": "GATEWAY_SCHEME_FTP", "credentials": {"bearer": "x"},
                "labels": {"env": 7}, "bogus": 1}"#,
        )
        .unwrap_err();
        let mut faults: Vec<&str> = refused.lines().collect();
        faults.sort_unstable();
        assert_eq!(faults.len(), 5, "{refused}");
        assert!(
            faults[0].starts_with("`bogus` is not a field of shoreguard.v1.RegisterGatewayRequest")
        );
        assert_eq!(
            faults[1],
            "`credentials.bearer` is not a field of shoreguard.v1.GatewayCredentials, \
             which has `client_cert`, `client_key`, `bearer_token`, `oidc_client_id`, \
             `oidc_client_secret`"
        );
        assert!(faults[2].starts_with("`labels.env` cannot be read: "), "{refused}");
        assert!(faults[3].starts_with("`name` cannot be read: "), "{refused}");
        assert!(faults[4].starts_with("`scheme` must be one of `GATEWAY_SCHEME_UNSPECIFIED`, "));
    }

    #[test]
    fn a_request_that_is_not_a_json_object_is_reported() {
        assert_eq!(
            read("GetGatewayRequest", "[]").unwrap_err(),
            "the request must be a JSON object"
        );
        assert!(
            read("GetGatewayRequest", "{")
                .unwrap_err()
                .starts_with("the request is not valid JSON: ")
        );
    }
}
