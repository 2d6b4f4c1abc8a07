//! Channel generic: `{type, event, timestamp, sequence, data}`. Its bytes are also the stored form of a message.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Message, Rendered, visible};
use crate::clock::Timestamp;
use crate::error::Error;

/// Maximum size of `data` as JSON, in bytes. Of longer data, only names, ids and numbers remain.
pub const DATA_BYTES_MAX: usize = 20 * 1024;
/// Maximum length of a name or id that remains of longer data, in characters: the longest name has 253.
const NAME_CHARS_MAX: usize = 256;
/// Says that data was longer.
const TRUNCATED: &str = "truncated";

/// Renders a message.
#[must_use]
pub fn body(message: &Message) -> Rendered {
    Rendered::json(&json!({
        "type": message.event,
        "event": message.event,
        "timestamp": message.time.to_string(),
        "sequence": message.sequence,
        "data": message.data,
    }))
}

/// Reads a message from its stored form. It has no link.
///
/// # Errors
/// `Internal` if the text is not a stored message.
pub fn parse(id: String, stored: &str) -> Result<Message, Error> {
    let bad = || Error::internal("a stored message is malformed");
    let value: Value = serde_json::from_str(stored).map_err(Error::internal)?;
    let event = value["event"].as_str().ok_or_else(bad)?.to_owned();
    let time = value["timestamp"].as_str().ok_or_else(bad)?;
    let time: Timestamp = OffsetDateTime::parse(time, &Rfc3339).map_err(Error::internal)?.into();
    let sequence = value["sequence"].as_i64().ok_or_else(bad)?;
    let data = value["data"].as_object().cloned().ok_or_else(bad)?;
    Ok(Message { id, event, time, sequence, data, link: None })
}

/// Returns the payload of an event as it is sent: without control characters, limited to [`DATA_BYTES_MAX`].
#[must_use]
pub fn bounded(payload: Map<String, Value>) -> Map<String, Value> {
    let Value::Object(data) = clean(Value::Object(payload)) else { return Map::new() };
    if length(&data) <= DATA_BYTES_MAX {
        return data;
    }
    let mut kept = Map::new();
    kept.insert(TRUNCATED.to_owned(), Value::Bool(true));
    let mut bytes = length(&kept);
    for (key, value) in data {
        let name = match &value {
            Value::Bool(_) | Value::Number(_) => true,
            Value::String(text) => text.chars().count() <= NAME_CHARS_MAX,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        // Quotes, colon and comma.
        let adds = Value::String(key.clone()).to_string().len() + value.to_string().len() + 2;
        if name && key != TRUNCATED && bytes + adds <= DATA_BYTES_MAX {
            bytes += adds;
            kept.insert(key, value);
        }
    }
    kept
}

fn length(data: &Map<String, Value>) -> usize {
    serde_json::to_string(data).map_or(usize::MAX, |text| text.len())
}

/// Replaces control characters in all texts, except for line breaks and tabs, which JSON escapes.
fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clean_text(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(clean).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(k, v)| (clean_text(&k), clean(v))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn clean_text(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { visible(c) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn e12_a_message_has_the_same_bytes_after_it_was_stored() {
        let message = Message {
            id: "msg_1".to_owned(),
            event: "sandbox.created".to_owned(),
            time: Timestamp::from_unix_micros(1_700_000_000_000_001),
            sequence: 7,
            data: bounded(data(&json!({ "sandbox": "a\u{1b}\"b", "gpu": true, "n": 1.5 }))),
            link: None,
        };
        let sent = body(&message);
        assert_eq!(sent.content_type, "application/json");
        let text = String::from_utf8(sent.bytes.clone()).unwrap();
        assert!(text.contains("\"timestamp\":\"2023-11-14T22:13:20.000001Z\""), "{text}");
        let read = parse("msg_1".to_owned(), &text).unwrap();
        assert_eq!(read, message);
        assert_eq!(body(&read), sent);
        assert!(parse(String::new(), "{}").is_err());
    }

    #[test]
    fn data_over_20_kib_keeps_names_and_ids_and_says_so() {
        let fixed = length(&data(&json!({ "sandbox": "s", "text": "" })));
        let of = |bytes: usize| {
            bounded(data(&json!({ "sandbox": "s", "text": "x".repeat(bytes - fixed) })))
        };
        let whole = of(DATA_BYTES_MAX);
        assert_eq!((length(&whole), whole.get(TRUNCATED)), (DATA_BYTES_MAX, None));
        let cut = of(DATA_BYTES_MAX + 1);
        assert_eq!(Value::Object(cut), json!({ "sandbox": "s", "truncated": true }));
        let many = (0..10_000).map(|i| (format!("key{i}"), json!(i))).collect();
        assert!(length(&bounded(many)) <= DATA_BYTES_MAX);
    }

    #[test]
    fn t20_control_characters_of_data_are_replaced_at_every_depth() {
        let cleaned = bounded(data(&json!({ "a": ["x\u{7}", { "b\r": "line\nbreak" }] })));
        assert_eq!(Value::Object(cleaned), json!({ "a": ["x ", { "b ": "line\nbreak" }] }));
    }
}
