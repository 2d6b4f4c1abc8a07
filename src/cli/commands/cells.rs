//! The text of a value in a table.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};

use super::values::enum_word;
use crate::clock::Timestamp;

/// Seconds of the units of an age.
const UNITS: [(i64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "m")];

/// Returns the value at a path, with its field. `None` if a message on the path is not set.
pub(super) fn find(message: &DynamicMessage, path: &str) -> Option<(FieldDescriptor, Value)> {
    let (first, rest) =
        path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let field = message.descriptor().get_field_by_name(first)?;
    if field.supports_presence() && !message.has_field(&field) {
        return None;
    }
    let value = message.get_field(&field).into_owned();
    match rest {
        None => Some((field, value)),
        Some(rest) => find(value.as_message()?, rest),
    }
}

/// Returns the text of a value on one line, or as it is if it is a text of several.
pub(super) fn text(field: &FieldDescriptor, value: &Value) -> String {
    if let Value::List(items) = value {
        let items: Vec<String> = items.iter().map(|item| one(&field.kind(), item)).collect();
        return items.join(",");
    }
    let (Value::Map(entries), Kind::Message(entry)) = (value, field.kind()) else {
        return one(&field.kind(), value);
    };
    let kind = entry.map_entry_value_field().kind();
    let entries =
        entries.iter().map(|(key, value)| format!("{}={}", key_text(key), one(&kind, value)));
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    entries.join(",")
}

/// Returns the text of the value at a path. Empty if nothing is there.
pub(in crate::cli) fn text_at(message: &DynamicMessage, path: &str) -> String {
    find(message, path).map(|(field, value)| text(&field, &value)).unwrap_or_default()
}

/// Returns how long ago a time was: `3s`, `14m`, `4h`, `12d`.
pub(super) fn age(value: &Value, now: Timestamp) -> String {
    let Some(at) = value.as_message().map(seconds) else { return String::new() };
    let ago = now.unix_seconds().saturating_sub(at).max(0);
    let unit = UNITS.iter().find(|(seconds, _)| ago >= *seconds);
    unit.map_or_else(|| format!("{ago}s"), |(seconds, unit)| format!("{}{unit}", ago / seconds))
}

fn one(kind: &Kind, value: &Value) -> String {
    match value {
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Bytes(bytes) if bytes.is_empty() => String::new(),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::EnumNumber(number) => {
            kind.as_enum().map_or_else(|| number.to_string(), |kind| enum_word(kind, *number))
        }
        Value::Message(message) => message_text(message),
        Value::List(_) | Value::Map(_) => String::new(),
    }
}

fn key_text(key: &prost_reflect::MapKey) -> String {
    one(&Kind::String, &Value::from(key.clone()))
}

fn message_text(message: &DynamicMessage) -> String {
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            Timestamp::from_unix_seconds(seconds(message)).to_string().replace(".000000Z", "Z")
        }
        "google.protobuf.Duration" => duration_text(message),
        name if name.starts_with("google.protobuf.") => crate::cli::json::to_line(message),
        _ => {
            let mut set: Vec<_> = message.fields().collect();
            set.sort_by_key(|(field, _)| field.number());
            let set = set
                .into_iter()
                .map(|(field, value)| format!("{}={}", field.name(), text(&field, value)));
            set.collect::<Vec<_>>().join(" ")
        }
    }
}

fn seconds(message: &DynamicMessage) -> i64 {
    message.get_field_by_name("seconds").and_then(|seconds| seconds.as_i64()).unwrap_or_default()
}

/// Returns a duration in the unit that suits it.
fn duration_text(message: &DynamicMessage) -> String {
    let nanos = message.get_field_by_name("nanos").and_then(|nanos| nanos.as_i32());
    let nanos = i64::from(nanos.unwrap_or_default());
    let seconds = seconds(message);
    if seconds == 0 {
        let micros = nanos / 1_000;
        return format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100);
    }
    if nanos == 0 {
        return format!("{seconds}s");
    }
    format!("{seconds}.{}s", nanos / 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::json;

    fn message(name: &str, text: &str) -> DynamicMessage {
        let pool = crate::pb::descriptors::OWN.pool();
        let message = pool.get_message_by_name(&format!("shoreguard.v1.{name}")).unwrap();
        json::parse(&message, text).unwrap()
    }

    #[test]
    fn values_are_short_words() {
        let gateway = message(
            "Gateway",
            r#"{"name": "edge", "status": "GATEWAY_STATUS_HEALTHY", "labels": {"b": "2", "a": "1"},
                "latency": "0.0032s", "probe_time": "2026-12-01T08:00:00.5Z", "ca_cert": "AAAA",
                "has_client_key": true, "oidc_client": {"scope": "s", "token_url": "t"},
                "capabilities": [4, 5]}"#,
        );
        for (path, shown) in [
            ("name", "edge"),
            ("status", "healthy"),
            ("labels", "a=1,b=2"),
            ("latency", "3.2 ms"),
            ("probe_time", "2026-12-01T08:00:00Z"),
            ("ca_cert", "3 bytes"),
            ("has_client_key", "yes"),
            ("oidc_client", "token_url=t scope=s"),
            ("oidc_client.scope", "s"),
            ("scheme", ""),
        ] {
            assert_eq!(text_at(&gateway, path), shown, "{path}");
        }
        assert_eq!(text_at(&gateway, "last_seen_time"), "");
        assert_eq!(text_at(&message("WatchGatewaysResponse", "{}"), "gateway.name"), "");
        assert_eq!(text_at(&gateway, "nothing"), "");
    }

    #[test]
    fn ages_have_one_unit() {
        let gateway = message("Gateway", r#"{"probe_time": "2026-12-01T08:00:00Z"}"#);
        let (_, time) = find(&gateway, "probe_time").unwrap();
        let at = Timestamp::from_unix_seconds(seconds(time.as_message().unwrap()));
        for (later, shown) in [(0, "0s"), (59, "59s"), (61, "1m"), (7_200, "2h"), (172_800, "2d")] {
            let now = at.plus(std::time::Duration::from_secs(later));
            assert_eq!(age(&time, now), shown);
        }
        assert_eq!(age(&time, Timestamp::EPOCH), "0s");
    }
}
