//! Generates the table of the strict check (`src/strict.rs`) from a descriptor set: its messages, sorted by name, with
//! their fields, sorted by number.

use std::collections::BTreeMap;
use std::fmt::Write;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

/// Maximum number of oneofs of a message: the check has a bit for each.
const ONEOFS_MAX: usize = 64;

/// Returns the code of the static `name`.
pub(crate) fn table(name: &str, descriptors: &[u8]) -> String {
    let pool = DescriptorPool::decode(descriptors).expect("protox encodes a descriptor set");
    let messages: BTreeMap<String, MessageDescriptor> =
        pool.all_messages().map(|message| (message.full_name().to_owned(), message)).collect();
    let indexes: BTreeMap<&str, usize> =
        messages.keys().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let mut rows = String::new();
    for (name, message) in &messages {
        writeln!(rows, "MessageSchema {{ name: {name:?}, fields: &[").expect("a string takes all");
        write_fields(&mut rows, message, &indexes);
        writeln!(rows, "] }},").expect("a string takes all");
    }
    format!("static {name}: Schema = Schema {{ messages: &[\n{rows}] }};\n")
}

fn write_fields(rows: &mut String, message: &MessageDescriptor, indexes: &BTreeMap<&str, usize>) {
    let oneofs: Vec<String> = message.oneofs().map(|oneof| oneof.name().to_owned()).collect();
    assert!(oneofs.len() <= ONEOFS_MAX, "{}: too many oneofs", message.full_name());
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    for field in fields {
        let oneof = field.containing_oneof();
        let oneof =
            oneof.and_then(|oneof| oneofs.iter().position(|name| name.as_str() == oneof.name()));
        writeln!(
            rows,
            "Field {{ number: {}, name: {:?}, wire: WireKind::{}, repeated: {}, oneof: {oneof:?} }},",
            field.number(),
            field.name(),
            wire_kind(&field, indexes),
            field.is_list() || field.is_map(),
        )
        .expect("a string takes all");
    }
}

fn wire_kind(field: &FieldDescriptor, indexes: &BTreeMap<&str, usize>) -> String {
    let name = match field.kind() {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => "Fixed64",
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => "Fixed32",
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => "Varint",
        Kind::String => "Text",
        Kind::Bytes => "Bytes",
        Kind::Message(inner) => {
            let kind = if field.is_map() { "Map" } else { "Message" };
            return format!("{kind}({})", indexes[inner.full_name()]);
        }
    };
    name.to_owned()
}
