//! Parses the text of an argument to the JSON value of a field.

use std::ffi::OsStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::{CliError, input};
use crate::clock::Clock;

/// Where the value of a field is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The argument itself, but for bytes and JSON, which can be in a file.
    Argument,
    /// A file or standard input, since it is a document; a text on one line may be given itself.
    Document,
    /// A file, standard input or a prompt, since it is secret.
    Secret,
}

/// Parses one value of a field; of a map, one entry or a file of entries.
pub(super) fn parse(field: &FieldDescriptor, source: Source, text: &str) -> Result<Value, String> {
    if field.is_map() {
        return parse_entries(field, source, text);
    }
    match field.kind() {
        Kind::String => read_text(source, text).map(Value::from),
        Kind::Bytes => input::read_source(text).map(|bytes| STANDARD.encode(bytes).into()),
        Kind::Enum(kind) => parse_word(&kind, text),
        Kind::Bool => parse_number::<bool>(text, "must be `true` or `false`"),
        Kind::Double | Kind::Float => parse_number::<f64>(text, "must be a number"),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            parse_number::<i32>(text, "must be a whole number below 2^31")
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            parse_number::<i64>(text, "must be a whole number")
        }
        Kind::Uint32 | Kind::Fixed32 => {
            parse_number::<u32>(text, "must be a whole number from 0, below 2^32")
        }
        Kind::Uint64 | Kind::Fixed64 => parse_number::<u64>(text, "must be a whole number from 0"),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Duration" => parse_duration(text).map(duration_json),
            "google.protobuf.Timestamp" => parse_time(field, text),
            _ => parse_json(source, text),
        },
    }
}

fn parse_number<N: std::str::FromStr + Into<Value>>(
    text: &str,
    why: &str,
) -> Result<Value, String> {
    text.parse::<N>().map(Into::into).map_err(|_| why.to_owned())
}

fn read_text(source: Source, text: &str) -> Result<String, String> {
    match source {
        Source::Secret => input::read_secret(text),
        Source::Document if text == "-" || text.starts_with('@') => input::read_text(text),
        Source::Document | Source::Argument => Ok(text.to_owned()),
    }
}

/// Whether an argument is the word that asks for a prompt. The prompt is shown when the command runs: while arguments
/// are parsed, nothing listens for Ctrl-C.
pub(super) fn is_prompt(field: &FieldDescriptor, text: &OsStr) -> bool {
    let is_single = !field.is_list() && !field.is_map();
    text == "prompt" && is_single && matches!(field.kind(), Kind::String | Kind::Bytes)
}

/// Prompts for the value of a field.
pub(super) fn prompt(field: &FieldDescriptor) -> Result<Value, CliError> {
    let secret = input::prompt()?;
    let is_bytes = field.kind() == Kind::Bytes;
    Ok(Value::from(if is_bytes { STANDARD.encode(secret) } else { secret }))
}

/// Parses JSON, or reads it from `@FILE` or `-`.
fn parse_json(source: Source, text: &str) -> Result<Value, String> {
    let from_file = text == "-" || text.starts_with('@');
    if source == Source::Secret && !from_file {
        return Err("contains a secret: use `@FILE`, or `-` for standard input".to_owned());
    }
    let read = if from_file { input::read_text(text)? } else { text.to_owned() };
    serde_json::from_str(&read).map_err(|error| format!("is not valid JSON: {error}"))
}

/// Parses `KEY=VALUE`, or a file with such lines.
fn parse_entries(field: &FieldDescriptor, source: Source, text: &str) -> Result<Value, String> {
    let Kind::Message(entry) = field.kind() else { return Err("is not a map".to_owned()) };
    let from_file = text == "-" || text.starts_with('@');
    if source == Source::Secret && !from_file {
        return Err(
            "can contain secrets, and other users of this host can see arguments: use `@FILE` or \
                    `-`, with a line `KEY=VALUE` for each"
                .to_owned(),
        );
    }
    let lines = if from_file { input::read_text(text)? } else { text.to_owned() };
    let mut entries = Map::new();
    let lines = lines.lines().filter(|line| !from_file || !line.trim().is_empty());
    for (at, line) in lines.enumerate() {
        // A line of a file can be secret, so it is not repeated.
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("must be `KEY=VALUE`, in entry {}", at + 1))?;
        let value = parse(&entry.map_entry_value_field(), Source::Argument, value)?;
        if entries.insert(key.to_owned(), value).is_some() {
            return Err(format!("has a key twice, in entry {}", at + 1));
        }
    }
    Ok(Value::Object(entries))
}

/// Returns the words of an enum: its values in lower case without the prefix that all share.
pub(super) fn enum_words(kind: &EnumDescriptor) -> Vec<(String, String)> {
    let prefix = enum_prefix(kind);
    let word = |name: &str| {
        name.strip_prefix(prefix.as_str()).unwrap_or(name).to_ascii_lowercase().replace('_', "-")
    };
    let given = kind.values().filter(|value| value.number() != 0 || !is_unspecified(value.name()));
    given.map(|value| (word(value.name()), value.name().to_owned())).collect()
}

/// Returns the word of a value of an enum. Zero is empty, if it means that nothing is said.
pub(super) fn enum_word(kind: &EnumDescriptor, number: i32) -> String {
    let Some(value) = kind.get_value(number) else { return number.to_string() };
    if is_unspecified(value.name()) {
        return String::new();
    }
    let words = enum_words(kind);
    let found = words.into_iter().find(|(_, name)| name == value.name());
    found.map_or_else(|| value.name().to_owned(), |(word, _)| word)
}

fn is_unspecified(name: &str) -> bool {
    name.ends_with("_UNSPECIFIED")
}

/// Returns the prefix of the values: `GATEWAY_SCHEME_`.
fn enum_prefix(kind: &EnumDescriptor) -> String {
    let zero = kind.default_value();
    zero.name().strip_suffix("UNSPECIFIED").unwrap_or_default().to_owned()
}

fn parse_word(kind: &EnumDescriptor, text: &str) -> Result<Value, String> {
    let words = enum_words(kind);
    let found = words.iter().find(|(word, _)| word == text);
    found.map(|(_, name)| Value::from(name.as_str())).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        format!("must be one of: {}", words.join(", "))
    })
}

/// Parses a duration such as `30s`, `1h30m`, `2d` or `250ms`.
pub(in crate::cli) fn parse_duration(text: &str) -> Result<Duration, String> {
    let fault = || "must be a duration such as `30s`, `1h30m` or `2d`".to_owned();
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return Err(fault()),
        };
        let millis = number.checked_mul(millis).ok_or_else(fault)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(fault)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

fn duration_json(duration: Duration) -> Value {
    Value::from(format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos()))
}

/// A time that, if it is unset, stays as it is.
const KEPT_IF_UNSET: &str = "shoreguard.v1.PinPolicyRequest.expire_time";

/// Parses a time in RFC 3339, or a duration: for the end of something, from now, otherwise before now. `never` unsets
/// the end of something.
fn parse_time(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    let is_end = field.name().starts_with("expire");
    if text == "never" && field.full_name() == KEPT_IF_UNSET {
        return Err(
            "cannot remove the end of a pin: use `shoreguard pin remove`, and set the pin \
                    again without this flag"
                .to_owned(),
        );
    }
    if text == "never" && is_end {
        return Ok(Value::Null);
    }
    if OffsetDateTime::parse(text, &Rfc3339).is_ok() {
        return Ok(Value::from(text));
    }
    let by = parse_duration(text)
        .map_err(|_| "must be a time such as `2026-12-01T08:00:00Z`, or a duration such as `2h`")?;
    let now = Clock::system().now();
    let at = if is_end { now.plus(by) } else { now.minus(by) }.to_string();
    match OffsetDateTime::parse(&at, &Rfc3339) {
        Ok(_) => Ok(Value::from(at)),
        Err(_) => Err("is a duration that is too long".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::descriptors;

    fn read(message: &str, field: &str, source: Source, text: &str) -> Result<Value, String> {
        let pool = descriptors::OWN.pool();
        let message = pool.get_message_by_name(&format!("shoreguard.v1.{message}")).unwrap();
        parse(&message.get_field_by_name(field).unwrap(), source, text)
    }

    #[test]
    fn enums_are_words_without_prefix() {
        let read = |text| read("RegisterGatewayRequest", "scheme", Source::Argument, text);
        assert_eq!(read("https"), Ok(Value::from("GATEWAY_SCHEME_HTTPS")));
        let why = read("ftp").unwrap_err();
        assert!(why.starts_with("must be one of: http") && !why.contains("unspecified"), "{why}");
        let role = descriptors::OWN.pool().get_enum_by_name("shoreguard.v1.Role").unwrap();
        assert_eq!(enum_word(&role, 4), "admin");
        assert_eq!(enum_word(&role, 0), "");
        assert_eq!(enum_word(&role, 99), "99");
    }

    #[test]
    fn durations_have_units() {
        for (text, seconds) in
            [("30s", 30.0), ("1h30m", 5400.0), ("2d", 172_800.0), ("250ms", 0.25)]
        {
            assert_eq!(parse_duration(text).map(|d| d.as_secs_f64()), Ok(seconds), "{text}");
        }
        for wrong in
            ["", "30", "s", "1y", "1h30", "-1s", "99999999999999999999d", "9999999999999999d"]
        {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration_json(Duration::from_millis(1500)), Value::from("1.500000000s"));
    }

    #[test]
    fn times_are_rfc_3339_or_relative() {
        let read = |field, text| match field {
            "expire_time" => read("CreateServicePrincipalRequest", field, Source::Argument, text),
            _ => read("ListAuditEntriesRequest", field, Source::Argument, text),
        };
        let time = "2026-12-01T08:00:00Z";
        assert_eq!(read("since_time", time), Ok(Value::from(time)));
        assert_eq!(read("expire_time", "never"), Ok(Value::Null));
        assert!(read("since_time", "never").is_err());
        let now = Clock::system().now().to_string();
        assert!(read("since_time", "1h").unwrap().as_str().unwrap() < now.as_str());
        assert!(read("expire_time", "1h").unwrap().as_str().unwrap() > now.as_str());
        assert!(read("since_time", "yesterday").is_err());
        for field in ["since_time", "expire_time"] {
            let why = read(field, "200000000000d").unwrap_err();
            assert!(why.contains("too long"), "{field}: {why}");
        }
    }

    #[test]
    fn the_end_of_a_pin_is_not_kept_in_silence() {
        let pin = |text| read("PinPolicyRequest", "expire_time", Source::Argument, text);
        assert!(pin("never").unwrap_err().contains("pin remove"));
        assert!(pin("2h").is_ok());
    }

    #[test]
    fn maps_take_entries_and_files_of_entries() {
        let labels = |text: &str| read("RegisterGatewayRequest", "labels", Source::Argument, text);
        assert_eq!(labels("env=a=b"), Ok(serde_json::json!({"env": "a=b"})));
        assert!(labels("env").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        std::fs::write(&path, "A=1\nA=2\n").unwrap();
        let twice = labels(&format!("@{}", path.display())).unwrap_err();
        assert!(twice.contains("twice, in entry 2"), "{twice}");
        std::fs::write(&path, "A=1\n\nB=2\n").unwrap();
        let secret =
            |text: &str| read("CreateBootHookRequest", "environment", Source::Secret, text);
        let all = serde_json::json!({"A": "1", "B": "2"});
        assert_eq!(secret(&format!("@{}", path.display())), Ok(all));
        let why = secret("A=hunter2").unwrap_err();
        assert!(why.contains("secrets") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn numbers_have_the_range_of_their_field() {
        let port = |text| read("RunBootHookRequest", "boot_hook_id", Source::Argument, text);
        assert_eq!(port("9007199254740993"), Ok(Value::from(9_007_199_254_740_993_i64)));
        assert!(port("1.5").is_err() && port("").is_err());
        let version = |text| read("RevertPolicyRequest", "version", Source::Argument, text);
        assert!(version("-1").is_err() && version("7").is_ok());
    }
}
