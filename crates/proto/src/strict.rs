//! The strict check of a request (T09): it refuses messages that two decoders could interpret differently.
//!
//! Refused are a repeated singular field, two members of a oneof, a repeated map key, a wire type that does not match
//! the field, text that is not UTF-8, a group, and messages that are truncated or nested too deep; also unknown fields,
//! if requested. Messages are not modified: the checked bytes are forwarded.
//!
//! NUL is refused in every string, also by [`Schema::check_text`], which otherwise accepts what decoders accept.
//! PostgreSQL cannot store NUL, and C programs end a string at it.

use std::collections::HashSet;

use crate::release::Generation;
use crate::wire::{FieldReader, FieldValue, MalformedMessage};

/// Maximum nesting of messages; policies have six levels.
const DEPTH_MAX: u32 = 32;

/// How to treat fields that are not in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// They are accepted if they are well-formed.
    Accept,
    /// They are refused, since they might bypass a check that applies to the message.
    Reject,
}

/// The messages of one API. The build makes the tables.
#[derive(Debug)]
pub struct Schema {
    /// Sorted by name.
    messages: &'static [MessageSchema],
}

#[derive(Debug)]
struct MessageSchema {
    /// Full name.
    name: &'static str,
    /// Sorted by number.
    fields: &'static [Field],
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: &'static str,
    wire: WireKind,
    repeated: bool,
    /// Index of its oneof within the message.
    oneof: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum WireKind {
    Varint,
    Fixed64,
    Fixed32,
    Text,
    Bytes,
    /// Index of the message within the schema.
    Message(u16),
    /// Entries of a map, keyed by field 1.
    Map(u16),
}

include!(concat!(env!("OUT_DIR"), "/schema_own.rs"));
include!(concat!(env!("OUT_DIR"), "/schema_v0_0.rs"));
include!(concat!(env!("OUT_DIR"), "/schema_v0_1.rs"));

impl Schema {
    /// Returns the schema of a generation of the OpenShell API.
    #[must_use]
    pub fn for_generation(generation: Generation) -> &'static Self {
        match generation {
            Generation::V0_0 => &V0_0,
            Generation::V0_1 => &V0_1,
        }
    }

    /// Returns the schema of Shoreguard's own API.
    #[must_use]
    pub fn for_shoreguard() -> &'static Self {
        &OWN
    }

    fn message(&self, index: u16) -> &'static MessageSchema {
        &self.messages[usize::from(index)]
    }

    fn find(&self, name: &str) -> Result<&'static MessageSchema, MessageFault> {
        let found = self.messages.binary_search_by(|message| message.name.cmp(name));
        found.map(|index| &self.messages[index]).map_err(|_| MessageFault::NoSuchMessage)
    }

    /// Checks a message strictly. Returns the number of fields, at any depth, that are not in the schema.
    ///
    /// # Errors
    /// Any [`MessageFault`].
    pub fn check(
        &self,
        name: &str,
        message: &[u8],
        unknown: UnknownFields,
    ) -> Result<usize, MessageFault> {
        let schema = self.find(name)?;
        let mut unknown_count = 0;
        self.check_fields(schema, message, (unknown, &mut unknown_count), 0)?;
        Ok(unknown_count)
    }

    /// Searches the strings of a message for NUL: at any depth, in map keys, and in fields that a later one overrides.
    ///
    /// # Errors
    /// [`MessageFault::Nul`]; [`MessageFault::Malformed`] if the message cannot be read.
    pub fn check_text(&self, name: &str, message: &[u8]) -> Result<(), MessageFault> {
        // Most requests contain no zero byte, so their schema is not needed.
        if message.contains(&0) { self.find_nul(self.find(name)?, message, 0) } else { Ok(()) }
    }

    fn find_nul(
        &self,
        schema: &MessageSchema,
        bytes: &[u8],
        depth: u32,
    ) -> Result<(), MessageFault> {
        // Fast path: without a zero byte there is no NUL. Most messages and nested messages have none.
        if !bytes.contains(&0) {
            return Ok(());
        }
        if depth >= DEPTH_MAX {
            return Err(MessageFault::Malformed(format!(
                "nested deeper than {DEPTH_MAX} messages"
            )));
        }
        let fields = schema.fields;
        let mut rest = FieldReader::new(bytes);
        while let Some((number, value)) = rest.next_field()? {
            let index = fields.binary_search_by_key(&number, |field| field.number);
            let (Ok(index), FieldValue::Bytes(bytes)) = (index, value) else { continue };
            let field = &fields[index];
            match field.wire {
                WireKind::Text if bytes.contains(&0) => {
                    return Err(MessageFault::Nul(field.name.to_owned()));
                }
                WireKind::Message(inner) | WireKind::Map(inner) => {
                    self.find_nul(self.message(inner), bytes, depth + 1)
                        .map_err(|fault| fault.nested_in(field))?;
                }
                // The decoder refuses wire types that do not match the field.
                WireKind::Text
                | WireKind::Bytes
                | WireKind::Varint
                | WireKind::Fixed64
                | WireKind::Fixed32 => {}
            }
        }
        Ok(())
    }

    fn check_fields(
        &self,
        schema: &MessageSchema,
        bytes: &[u8],
        (unknown, unknown_count): (UnknownFields, &mut usize),
        depth: u32,
    ) -> Result<(), MessageFault> {
        if depth >= DEPTH_MAX {
            return Err(MessageFault::Malformed(format!(
                "nested deeper than {DEPTH_MAX} messages"
            )));
        }
        let fields = schema.fields;
        let mut seen = SeenFields::new(fields.len());
        let mut keys = HashSet::new();
        let mut rest = FieldReader::new(bytes);
        while let Some((number, value)) = rest.next_field()? {
            let Ok(index) = fields.binary_search_by_key(&number, |field| field.number) else {
                if unknown == UnknownFields::Reject {
                    return Err(MessageFault::Ambiguous(format!("field {number} is not known")));
                }
                *unknown_count += 1;
                continue;
            };
            let field = &fields[index];
            if !field.repeated && !seen.mark_seen(index, field.oneof) {
                let why = format!("`{}` comes twice, or another of its oneof does", field.name);
                return Err(MessageFault::Ambiguous(why));
            }
            match (field.wire, value) {
                (WireKind::Varint, FieldValue::Varint(_))
                | (WireKind::Fixed64, FieldValue::Fixed64)
                | (WireKind::Fixed32, FieldValue::Fixed32)
                | (WireKind::Bytes, FieldValue::Bytes(_)) => {}
                (WireKind::Text, FieldValue::Bytes(text)) => check_string(field, text)?,
                (WireKind::Message(inner), FieldValue::Bytes(bytes)) => {
                    let schema = self.message(inner);
                    self.check_fields(schema, bytes, (unknown, &mut *unknown_count), depth + 1)
                        .map_err(|fault| fault.nested_in(field))?;
                }
                (WireKind::Map(entry), FieldValue::Bytes(bytes)) => {
                    let schema = self.message(entry);
                    self.check_fields(schema, bytes, (unknown, &mut *unknown_count), depth + 1)
                        .map_err(|fault| fault.nested_in(field))?;
                    if !keys.insert((number, map_key(bytes))) {
                        let why = format!("a key of `{}` comes twice", field.name);
                        return Err(MessageFault::Ambiguous(why));
                    }
                }
                (wire, FieldValue::Bytes(bytes)) if field.repeated => check_packed(wire, bytes)?,
                _ => {
                    let why = format!("`{}` has another wire type", field.name);
                    return Err(MessageFault::Malformed(why));
                }
            }
        }
        Ok(())
    }
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageFault {
    /// Two decoders could interpret it differently; names the field.
    Ambiguous(String),
    /// It does not match the schema; names the field.
    Malformed(String),
    /// A string contains NUL: the path of its field.
    Nul(String),
    /// The schema has no message of that name.
    NoSuchMessage,
}

impl MessageFault {
    /// Converts the fault of a nested message in `field` to a fault of the outer message.
    fn nested_in(self, field: &Field) -> Self {
        match (self, field.wire) {
            (Self::Nul(_), WireKind::Map(_)) => Self::Nul(field.name.to_owned()),
            (Self::Nul(path), _) => Self::Nul(format!("{}.{path}", field.name)),
            (fault, _) => fault,
        }
    }
}

/// Checks the bytes of a string field.
fn check_string(field: &Field, text: &[u8]) -> Result<(), MessageFault> {
    if std::str::from_utf8(text).is_err() {
        return Err(MessageFault::Malformed(format!("`{}` is not UTF-8", field.name)));
    }
    if text.contains(&0) {
        return Err(MessageFault::Nul(field.name.to_owned()));
    }
    Ok(())
}

impl From<MalformedMessage> for MessageFault {
    fn from(_: MalformedMessage) -> Self {
        Self::Malformed("the message is cut off or no protobuf".to_owned())
    }
}

/// Returns the key of a map entry; a missing key is empty or zero.
fn map_key(entry: &[u8]) -> (&[u8], u64) {
    let mut fields = FieldReader::new(entry);
    let mut key = (&[][..], 0);
    while let Ok(Some((number, value))) = fields.next_field() {
        match value {
            FieldValue::Bytes(bytes) if number == 1 => key.0 = bytes,
            FieldValue::Varint(n) if number == 1 => key.1 = n,
            FieldValue::Bytes(_)
            | FieldValue::Varint(_)
            | FieldValue::Fixed64
            | FieldValue::Fixed32 => {}
        }
    }
    key
}

fn check_packed(wire: WireKind, bytes: &[u8]) -> Result<(), MalformedMessage> {
    let mut rest = FieldReader::new(bytes);
    while !rest.rest.is_empty() {
        match wire {
            WireKind::Varint => rest.read_varint().map(|_| ())?,
            WireKind::Fixed64 => rest.take(8).map(|_| ())?,
            WireKind::Fixed32 => rest.take(4).map(|_| ())?,
            WireKind::Text | WireKind::Bytes | WireKind::Message(_) | WireKind::Map(_) => {
                return Err(MalformedMessage);
            }
        }
    }
    Ok(())
}

/// The singular fields and oneofs that were found.
struct SeenFields {
    few: u128,
    many: Vec<bool>,
    oneofs: u64,
}

impl SeenFields {
    fn new(fields: usize) -> Self {
        let many = if fields > 128 { vec![false; fields] } else { Vec::new() };
        Self { few: 0, many, oneofs: 0 }
    }

    /// Records a field. Returns `false` if it, or another member of its oneof, was already found.
    fn mark_seen(&mut self, index: usize, oneof: Option<u8>) -> bool {
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

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
