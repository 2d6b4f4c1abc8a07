//! The strict check of a request (T09): it refuses messages that two decoders could interpret differently.
//!
//! Refused are a repeated singular field, two members of a oneof, a repeated map key, a wire type that does not match
//! the field, text that is not UTF-8, a group, and messages that are truncated or nested too deep; also unknown fields,
//! if requested. Messages are not modified: the checked bytes are forwarded.
//!
//! NUL is refused in every string, also by [`Schema::text`], which otherwise accepts what decoders accept. PostgreSQL
//! cannot store NUL, and C programs end a string at it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use crate::release::Generation;
use crate::wire::{Fields, Malformed, Value};

/// Maximum nesting of messages; policies have six levels.
const DEPTH_MAX: u32 = 32;

/// How to treat fields that are not in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// They are accepted if they are well-formed.
    Passed,
    /// They are refused, since they might bypass a check that applies to the message.
    Refused,
}

/// The messages of one generation, compiled for checking.
#[derive(Debug)]
pub struct Schema {
    by_name: HashMap<String, usize>,
    messages: Vec<Shape>,
}

#[derive(Debug)]
struct Shape {
    /// Sorted by number.
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: String,
    wire: Wire,
    repeated: bool,
    /// Index of its oneof within the message.
    oneof: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint,
    Fixed64,
    Fixed32,
    Text,
    Bytes,
    Message(usize),
    /// Entries of a map, keyed by field 1.
    Map(usize),
}

static OWN: LazyLock<Schema> = LazyLock::new(|| Schema::compile(crate::DESCRIPTORS));
static V0_0: LazyLock<Schema> = LazyLock::new(|| Schema::compile(crate::V0_0_DESCRIPTORS));
static V0_1: LazyLock<Schema> = LazyLock::new(|| Schema::compile(crate::V0_1_DESCRIPTORS));

impl Schema {
    /// Returns the schema of a generation of the OpenShell API.
    #[must_use]
    pub fn of(generation: Generation) -> &'static Self {
        match generation {
            Generation::V0_0 => &V0_0,
            Generation::V0_1 => &V0_1,
        }
    }

    /// Returns the schema of Shoreguard's own API.
    #[must_use]
    pub fn own() -> &'static Self {
        &OWN
    }

    fn compile(descriptors: &[u8]) -> Self {
        let pool = DescriptorPool::decode(descriptors).expect("the build made it");
        let all: Vec<MessageDescriptor> = pool.all_messages().collect();
        let by_name: HashMap<String, usize> =
            all.iter().enumerate().map(|(i, m)| (m.full_name().to_owned(), i)).collect();
        let messages = all.iter().map(|message| Shape::compile(message, &by_name)).collect();
        Self { by_name, messages }
    }

    /// Checks a message strictly. Returns the number of fields, at any depth, that are not in the schema.
    ///
    /// # Errors
    /// Any [`Fault`].
    pub fn check(&self, name: &str, message: &[u8], unknown: Unknown) -> Result<usize, Fault> {
        let shape = self.by_name.get(name).ok_or(Fault::NoSuchMessage)?;
        let mut passed = 0;
        self.read(*shape, message, (unknown, &mut passed), 0)?;
        Ok(passed)
    }

    /// Searches the strings of a message for NUL: at any depth, in map keys, and in fields that a later one overrides.
    ///
    /// # Errors
    /// [`Fault::Nul`]; [`Fault::Malformed`] if the message cannot be read.
    pub fn text(&self, name: &str, message: &[u8]) -> Result<(), Fault> {
        let shape = self.by_name.get(name).ok_or(Fault::NoSuchMessage)?;
        self.find_nul(*shape, message, 0)
    }

    fn find_nul(&self, shape: usize, bytes: &[u8], depth: u32) -> Result<(), Fault> {
        // Fast path: without a zero byte there is no NUL. Most messages and nested messages have none.
        if !bytes.contains(&0) {
            return Ok(());
        }
        if depth >= DEPTH_MAX {
            return Err(Fault::Malformed(format!("nested deeper than {DEPTH_MAX} messages")));
        }
        let fields = &self.messages[shape].fields;
        let mut rest = Fields::of(bytes);
        while let Some((number, value)) = rest.field()? {
            let index = fields.binary_search_by_key(&number, |field| field.number);
            let (Ok(index), Value::Bytes(bytes)) = (index, value) else { continue };
            let field = &fields[index];
            match field.wire {
                Wire::Text if bytes.contains(&0) => return Err(Fault::Nul(field.name.clone())),
                Wire::Message(inner) | Wire::Map(inner) => {
                    self.find_nul(inner, bytes, depth + 1).map_err(|fault| fault.inside(field))?;
                }
                // The decoder refuses wire types that do not match the field.
                Wire::Text | Wire::Bytes | Wire::Varint | Wire::Fixed64 | Wire::Fixed32 => {}
            }
        }
        Ok(())
    }

    fn read(
        &self,
        shape: usize,
        bytes: &[u8],
        (unknown, passed): (Unknown, &mut usize),
        depth: u32,
    ) -> Result<(), Fault> {
        if depth >= DEPTH_MAX {
            return Err(Fault::Malformed(format!("nested deeper than {DEPTH_MAX} messages")));
        }
        let fields = &self.messages[shape].fields;
        let mut seen = Seen::new(fields.len());
        let mut keys = HashSet::new();
        let mut rest = Fields::of(bytes);
        while let Some((number, value)) = rest.field()? {
            let Ok(index) = fields.binary_search_by_key(&number, |field| field.number) else {
                if unknown == Unknown::Refused {
                    return Err(Fault::Ambiguous(format!("field {number} is not known")));
                }
                *passed += 1;
                continue;
            };
            let field = &fields[index];
            if !field.repeated && !seen.first(index, field.oneof) {
                let why = format!("`{}` comes twice, or another of its oneof does", field.name);
                return Err(Fault::Ambiguous(why));
            }
            match (field.wire, value) {
                (Wire::Varint, Value::Varint(_))
                | (Wire::Fixed64, Value::Fixed64)
                | (Wire::Fixed32, Value::Fixed32)
                | (Wire::Bytes, Value::Bytes(_)) => {}
                (Wire::Text, Value::Bytes(text)) => plain(field, text)?,
                (Wire::Message(inner), Value::Bytes(bytes)) => {
                    self.read(inner, bytes, (unknown, &mut *passed), depth + 1)
                        .map_err(|fault| fault.inside(field))?;
                }
                (Wire::Map(entry), Value::Bytes(bytes)) => {
                    self.read(entry, bytes, (unknown, &mut *passed), depth + 1)
                        .map_err(|fault| fault.inside(field))?;
                    if !keys.insert((number, key_of(bytes))) {
                        let why = format!("a key of `{}` comes twice", field.name);
                        return Err(Fault::Ambiguous(why));
                    }
                }
                (wire, Value::Bytes(bytes)) if field.repeated => packed(wire, bytes)?,
                _ => {
                    let why = format!("`{}` has another wire type", field.name);
                    return Err(Fault::Malformed(why));
                }
            }
        }
        Ok(())
    }
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Two decoders could interpret it differently; names the field.
    Ambiguous(String),
    /// It does not match the schema; names the field.
    Malformed(String),
    /// A string contains NUL: the path of its field.
    Nul(String),
    /// The schema has no message of that name.
    NoSuchMessage,
}

impl Fault {
    /// Converts the fault of a nested message in `field` to a fault of the outer message.
    fn inside(self, field: &Field) -> Self {
        match (self, field.wire) {
            (Self::Nul(_), Wire::Map(_)) => Self::Nul(field.name.clone()),
            (Self::Nul(path), _) => Self::Nul(format!("{}.{path}", field.name)),
            (fault, _) => fault,
        }
    }
}

/// Checks the bytes of a string field.
fn plain(field: &Field, text: &[u8]) -> Result<(), Fault> {
    if std::str::from_utf8(text).is_err() {
        return Err(Fault::Malformed(format!("`{}` is not UTF-8", field.name)));
    }
    if text.contains(&0) {
        return Err(Fault::Nul(field.name.clone()));
    }
    Ok(())
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed("the message is cut off or no protobuf".to_owned())
    }
}

/// Returns the key of a map entry; a missing key is empty or zero.
fn key_of(entry: &[u8]) -> (&[u8], u64) {
    let mut fields = Fields::of(entry);
    let mut key = (&[][..], 0);
    while let Ok(Some((number, value))) = fields.field() {
        match value {
            Value::Bytes(bytes) if number == 1 => key.0 = bytes,
            Value::Varint(n) if number == 1 => key.1 = n,
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed64 | Value::Fixed32 => {}
        }
    }
    key
}

fn packed(wire: Wire, bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = Fields::of(bytes);
    while !rest.rest.is_empty() {
        match wire {
            Wire::Varint => rest.varint().map(|_| ())?,
            Wire::Fixed64 => rest.take(8).map(|_| ())?,
            Wire::Fixed32 => rest.take(4).map(|_| ())?,
            Wire::Text | Wire::Bytes | Wire::Message(_) | Wire::Map(_) => return Err(Malformed),
        }
    }
    Ok(())
}

/// The singular fields and oneofs that were found.
struct Seen {
    few: u128,
    many: Vec<bool>,
    oneofs: u64,
}

impl Seen {
    fn new(fields: usize) -> Self {
        let many = if fields > 128 { vec![false; fields] } else { Vec::new() };
        Self { few: 0, many, oneofs: 0 }
    }

    /// Records a field. Returns `false` if it, or another member of its oneof, was already found.
    fn first(&mut self, index: usize, oneof: Option<usize>) -> bool {
        if let Some(oneof) = oneof {
            let bit = 1_u64 << oneof;
            let first = self.oneofs & bit == 0;
            self.oneofs |= bit;
            return first;
        }
        if let Some(seen) = self.many.get_mut(index) {
            return !std::mem::replace(seen, true);
        }
        let bit = 1_u128 << index;
        let first = self.few & bit == 0;
        self.few |= bit;
        first
    }
}

impl Shape {
    fn compile(message: &MessageDescriptor, by_name: &HashMap<String, usize>) -> Self {
        let oneofs: Vec<String> = message.oneofs().map(|o| o.name().to_owned()).collect();
        assert!(oneofs.len() <= 64, "{}: too many oneofs", message.full_name());
        let mut fields: Vec<Field> = message
            .fields()
            .map(|field| Field {
                number: field.number(),
                name: field.name().to_owned(),
                wire: wire_of(&field, by_name),
                repeated: field.is_list() || field.is_map(),
                oneof: field
                    .containing_oneof()
                    .and_then(|oneof| oneofs.iter().position(|name| name == oneof.name())),
            })
            .collect();
        fields.sort_by_key(|field| field.number);
        Self { fields }
    }
}

fn wire_of(field: &FieldDescriptor, by_name: &HashMap<String, usize>) -> Wire {
    match field.kind() {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => Wire::Varint,
        Kind::String => Wire::Text,
        Kind::Bytes => Wire::Bytes,
        Kind::Message(inner) => {
            let index = by_name[inner.full_name()];
            if field.is_map() { Wire::Map(index) } else { Wire::Message(index) }
        }
    }
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
