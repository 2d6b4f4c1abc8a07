//! Describes the request and response of a method, with the comments of the proto.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;

use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    MethodDescriptor,
};

/// Returns the method, its request and response, and every message and enum that they contain, each once.
pub(super) fn describe(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let mut text = String::new();
    write_comment(&mut text, "", &method.parent_file(), method.path());
    let stream = |is: bool| if is { "stream " } else { "" };
    write_line(
        &mut text,
        &format!(
            "{}/{} ({}{}) returns ({}{})",
            service.full_name(),
            method.name(),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        ),
    );
    let mut seen = BTreeSet::new();
    let mut queue = VecDeque::from([Kind::Message(method.input()), Kind::Message(method.output())]);
    while let Some(kind) = queue.pop_front() {
        if let Kind::Message(message) = &kind
            && seen.insert(message.full_name().to_owned())
        {
            describe_message(&mut text, message, &mut queue);
        } else if let Kind::Enum(enumeration) = &kind
            && seen.insert(enumeration.full_name().to_owned())
        {
            describe_enum(&mut text, enumeration);
        }
    }
    text
}

fn describe_message(text: &mut String, message: &MessageDescriptor, queue: &mut VecDeque<Kind>) {
    write_line(text, "");
    write_comment(text, "", &message.parent_file(), message.path());
    write_line(text, &format!("message {}", message.full_name()));
    for field in message.fields() {
        write_comment(text, "  ", &message.parent_file(), field.path());
        write_line(text, &format!("  {} {}", type_name(&field), field.name()));
        let mut kind = field.kind();
        if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
            kind = entry.map_entry_value_field().kind();
        }
        // Well-known types have a JSON form of their own and are not described.
        if !kind_name(&kind).starts_with("google.protobuf.") {
            queue.push_back(kind);
        }
    }
}

fn describe_enum(text: &mut String, enumeration: &EnumDescriptor) {
    write_line(text, "");
    write_comment(text, "", &enumeration.parent_file(), enumeration.path());
    write_line(text, &format!("enum {}", enumeration.full_name()));
    for value in enumeration.values() {
        write_comment(text, "  ", &enumeration.parent_file(), value.path());
        write_line(text, &format!("  {}", value.name()));
    }
}

fn type_name(field: &FieldDescriptor) -> String {
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        return format!("map<{}, {}>", kind_name(&key.kind()), kind_name(&value.kind()));
    }
    let name = kind_name(&field.kind());
    let oneof =
        field.containing_oneof().filter(|_| !field.field_descriptor_proto().proto3_optional());
    match (field.cardinality(), oneof) {
        (Cardinality::Repeated, _) => format!("repeated {name}"),
        (_, Some(oneof)) => format!("oneof {}: {name}", oneof.name()),
        _ => name,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a scalar is called as it is in the proto")]
fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(enumeration) => enumeration.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_ascii_lowercase(),
    }
}

/// Appends the comment above a declaration.
fn write_comment(text: &mut String, indent: &str, file: &FileDescriptor, path: &[i32]) {
    let Some(info) = &file.file_descriptor_proto().source_code_info else { return };
    let Some(location) = info.location.iter().find(|location| location.path == path) else {
        return;
    };
    for words in location.leading_comments().trim_end().lines() {
        write_line(text, &format!("{indent}// {}", words.trim()));
    }
}

fn write_line(text: &mut String, words: &str) {
    writeln!(text, "{words}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::super::methods::Methods;
    use super::*;

    #[test]
    fn a_method_is_described_with_its_messages() {
        let methods = Methods::load();
        let method = methods.find("GetGateway", false).unwrap().newest(None).unwrap();
        let text = describe(&method);
        let start = "// Returns one gateway by name.\n// Role: viewer on the gateway.\n\
                     shoreguard.v1.GatewayService/GetGateway (shoreguard.v1.GetGatewayRequest) returns \
                     (shoreguard.v1.GetGatewayResponse)\n\n\
                     // Request of GetGateway.\nmessage shoreguard.v1.GetGatewayRequest\n  \
                     // Name of the gateway. Required.\n  string gateway\n";
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\n  map<string, string> labels\n"), "{text}");
        assert!(text.contains("\n  GATEWAY_STATUS_HEALTHY\n"), "{text}");
        assert!(text.contains("\n  google.protobuf.Timestamp register_time\n"), "{text}");
        assert_eq!(text.matches("\nmessage shoreguard.v1.Gateway\n").count(), 1);
    }

    #[test]
    fn every_method_can_be_described() {
        let methods = Methods::load();
        for row in methods.list(None).lines() {
            let path = row.split_whitespace().next().unwrap();
            let method = methods.find(path, false).unwrap().newest(None).unwrap();
            assert!(describe(&method).contains(path), "{path}");
        }
    }
}
