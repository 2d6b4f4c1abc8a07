//! Policies for tests, built from the descriptors: with every field, with one field changed, and at random.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::json;

use super::super::schema::{self, FieldOwner};

/// Texts that YAML could read as something else, or that need an escape.
const TEXTS: [&str; 16] = [
    "a",
    "api.example.com",
    "yes",
    "null",
    "0755",
    "1.5",
    "a: b",
    "- x",
    "#",
    " x ",
    "\n\t\"\\",
    "\u{e9}",
    "\u{202e}",
    "*",
    "{}",
    "~",
];

/// A pseudo-random generator that returns the same numbers for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn value_kind(field: &FieldDescriptor) -> Kind {
    let kind = field.kind();
    if let (true, Kind::Message(entry)) = (field.is_map(), &kind) {
        return entry.map_entry_value_field().kind();
    }
    kind
}

fn json_value(descriptor: &MessageDescriptor, n: i32) -> Value {
    let json = json!({ "text": format!("t{n}"), "list": [1, null, true, {}], "n": { "x": 1.5 } });
    Value::Message(DynamicMessage::deserialize(descriptor.clone(), json).unwrap())
}

/// Returns a value that is not the default, another one for each `n`.
fn sample(kind: &Kind, n: i32) -> Value {
    match kind {
        Kind::Message(descriptor) if schema::is_json(descriptor) => json_value(descriptor, n),
        Kind::Message(descriptor) => Value::Message(full(descriptor, n)),
        Kind::Enum(descriptor) => {
            let words = schema::words(descriptor);
            Value::EnumNumber(words[usize::try_from(n).unwrap() % words.len()].1)
        }
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("text {n}")),
        Kind::Uint32 => Value::U32(n.unsigned_abs()),
        Kind::Int32 => Value::I32(-n),
        Kind::Double
        | Kind::Float
        | Kind::Int64
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Fixed32
        | Kind::Fixed64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Bytes => panic!("a kind that no policy has: {kind:?}"),
    }
}

/// Whether tests set a field: the canonical form does not have those of the gateway.
fn is_set(field: &FieldDescriptor) -> bool {
    schema::owner(field) != FieldOwner::Gateway
}

/// Returns a message in which every field has a value, also in nested messages.
pub(super) fn full(descriptor: &MessageDescriptor, n: i32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(is_set) {
        let one = sample(&value_kind(&field), n);
        let value = if field.is_map() {
            Value::Map(HashMap::from([(MapKey::String(format!("key {n}")), one)]))
        } else if field.is_list() {
            Value::List(vec![one])
        } else {
            one
        };
        message.set_field(&field, value);
    }
    message
}

/// Returns copies of a full message, each with one change, and what was changed.
pub(super) fn mutations(message: &DynamicMessage) -> Vec<(String, DynamicMessage)> {
    let mut all = Vec::new();
    for field in message.descriptor().fields().filter(is_set) {
        let mut put = |how: &str, value: Option<Value>| {
            let mut copy = message.clone();
            match value {
                Some(value) => copy.set_field(&field, value),
                None => copy.clear_field(&field),
            }
            all.push((format!("{}{how}", field.name()), copy));
        };
        put(" is cleared", None);
        let (kind, value) = (value_kind(&field), message.get_field(&field).into_owned());
        match value {
            Value::List(items) => {
                let more = [items.clone(), vec![sample(&kind, 2)]].concat();
                put(" has one more", Some(Value::List(more)));
                for (how, item) in changed(&items[0], &kind) {
                    put(&format!("[0]{how}"), Some(Value::List(vec![item])));
                }
            }
            Value::Map(entries) => {
                let (key, value) = entries.iter().next().unwrap();
                let other = MapKey::String("other".to_owned());
                let mut more = entries.clone();
                more.insert(other.clone(), sample(&kind, 2));
                put(" has one more", Some(Value::Map(more)));
                let renamed = HashMap::from([(other, value.clone())]);
                put(" has another key", Some(Value::Map(renamed)));
                for (how, value) in changed(value, &kind) {
                    let entries = HashMap::from([(key.clone(), value)]);
                    put(&format!("[key]{how}"), Some(Value::Map(entries)));
                }
            }
            value @ (Value::Bool(_)
            | Value::I32(_)
            | Value::I64(_)
            | Value::U32(_)
            | Value::U64(_)
            | Value::F32(_)
            | Value::F64(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::EnumNumber(_)
            | Value::Message(_)) => {
                for (how, value) in changed(&value, &kind) {
                    put(&how, Some(value));
                }
            }
        }
    }
    all
}

/// Returns other values in place of a value that is neither a list nor a map.
fn changed(value: &Value, kind: &Kind) -> Vec<(String, Value)> {
    match value {
        Value::Message(message) if !schema::is_json(&message.descriptor()) => {
            let mutated = mutations(message).into_iter();
            let mutated =
                mutated.map(|(how, message)| (format!(".{how}"), Value::Message(message)));
            let empty = Value::Message(DynamicMessage::new(message.descriptor()));
            mutated.chain([(" is empty".to_owned(), empty)]).collect()
        }
        // Clearing is its only other value.
        Value::Bool(_) => Vec::new(),
        Value::I32(_)
        | Value::I64(_)
        | Value::U32(_)
        | Value::U64(_)
        | Value::F32(_)
        | Value::F64(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_)
        | Value::Message(_)
        | Value::List(_)
        | Value::Map(_) => vec![(" is changed".to_owned(), sample(kind, 2))],
    }
}

/// Returns a message with some of its fields.
pub(super) fn random(descriptor: &MessageDescriptor, numbers: &mut Random) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields().filter(is_set) {
        let kind = value_kind(&field);
        let times = numbers.below(3);
        if field.is_map() {
            let key =
                |numbers: &mut Random| MapKey::String(TEXTS[numbers.below(TEXTS.len())].to_owned());
            let entries =
                (0..times).map(|_| (key(numbers), random_value(&kind, numbers))).collect();
            message.set_field(&field, Value::Map(entries));
        } else if field.is_list() {
            let items = (0..times).map(|_| random_value(&kind, numbers)).collect();
            message.set_field(&field, Value::List(items));
        } else if numbers.one_in(2) {
            message.set_field(&field, random_value(&kind, numbers));
        }
    }
    message
}

fn random_value(kind: &Kind, numbers: &mut Random) -> Value {
    if let Kind::Message(descriptor) = kind
        && !schema::is_json(descriptor)
    {
        return Value::Message(random(descriptor, numbers));
    }
    if *kind == Kind::String {
        return Value::String(TEXTS[numbers.below(TEXTS.len())].to_owned());
    }
    sample(kind, i32::try_from(numbers.below(9)).unwrap() + 1)
}
