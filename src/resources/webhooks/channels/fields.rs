//! What channels for people show of a message: a title, a color, and lines of names and values.
//!
//! Nothing here is escaped: each channel does that for itself ([`fit`]).

use serde_json::Value;

use super::Message;
use crate::characters::{CUT, excerpt};

/// Name of this server in a message.
pub(super) const SENDER: &str = "ShoreGuard";
/// Command with which a person reviews a change.
const REVIEW_COMMAND: &str = "shoreguard approval review";
/// Keys of a payload that are shown, in this order. The last one names those who could vote.
const KEYS: [&str; 10] = [
    "sandbox", "gateway", "actor", "reason", "message", "provider", "model", "image", "endpoint",
    "voters",
];
/// Maximum length of a value before it is fitted into its channel, in characters.
const VALUE_CHARS_MAX: usize = 4_096;
/// Maximum length of a title, in characters.
const TITLE_CHARS_MAX: usize = 300;

/// How urgent an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// A person has something to do.
    Waiting,
    /// Something was accepted or added.
    Good,
    /// Something was refused.
    Bad,
    /// Something has changed.
    Changed,
    /// Something was removed.
    Deleted,
    /// All other events, and tests.
    Plain,
}

impl Tone {
    /// Returns the color as Slack expects it.
    pub(super) fn slack(self) -> &'static str {
        match self {
            Self::Waiting => "warning",
            Self::Good => "good",
            Self::Bad => "danger",
            Self::Changed => "#2196F3",
            Self::Deleted => "#9E9E9E",
            Self::Plain => "#6C757D",
        }
    }

    /// Returns the color as Discord expects it.
    pub(super) fn discord(self) -> u32 {
        match self {
            Self::Waiting => 0xFF_A500,
            Self::Good => 0x2E_CC71,
            Self::Bad => 0xE7_4C3C,
            Self::Changed => 0x21_96F3,
            Self::Deleted => 0x9E_9E9E,
            Self::Plain => 0x6C_757D,
        }
    }
}

/// Returns how urgent an event is.
pub(super) fn tone(event: &str) -> Tone {
    match event {
        "approval.pending" | "approval.reminder" | "gateway.unregistered" => Tone::Waiting,
        "approval.approved" | "gateway.registered" => Tone::Good,
        "approval.rejected" => Tone::Bad,
        "sandbox.created" | "inference.updated" | "policy.updated" => Tone::Changed,
        "sandbox.deleted" => Tone::Deleted,
        _ => Tone::Plain,
    }
}

/// Returns the title of an event: `approval.vote_cast` becomes `Approval Vote Cast`.
pub(super) fn title(event: &str) -> String {
    if event == "webhook.test" {
        return "Test Event".to_owned();
    }
    let words = event.split(['.', '_']).filter(|word| !word.is_empty()).map(capitalized);
    excerpt(&words.collect::<Vec<_>>().join(" "), TITLE_CHARS_MAX)
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Returns the names and values that are shown, each on one line. A value that is not a text, number or list of them is
/// left out.
pub(super) fn fields(message: &Message) -> Vec<(String, String)> {
    let shown = KEYS.iter().filter_map(|key| {
        let value = text(message.data.get(*key)?)?;
        let value = excerpt(&value, VALUE_CHARS_MAX);
        let value = value.trim();
        (!value.is_empty()).then(|| (capitalized(key), value.to_owned()))
    });
    shown.collect()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(one).collect();
            texts.map(|texts| texts.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn one(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The review that a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Review {
    /// Its id.
    pub(super) approval: i64,
    /// The address under which a person can review it. It contains no token and opens nothing without a login (T12).
    pub(super) link: Option<String>,
    /// The command that does the same.
    pub(super) command: String,
}

/// Returns the review that a message is about.
pub(super) fn review(message: &Message) -> Option<Review> {
    let approval = message.data.get("approval")?.as_i64()?;
    let is_address = |link: &&String| {
        let known = link.starts_with("https://") || link.starts_with("http://");
        known && link.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '|' | '"'))
    };
    let link = message.link.as_ref().filter(is_address).cloned();
    Some(Review { approval, link, command: format!("{REVIEW_COMMAND} {approval}") })
}

/// Returns a text, each character escaped, in at most `units_max` UTF-16 units: no service counts less than a character
/// or more than these. A text that is cut ends with [`CUT`]; an escaped character is never cut in two.
pub(super) fn fit(
    text: &str,
    units_max: usize,
    escape: impl Fn(usize, char, &mut String),
) -> String {
    let mut fitted = String::new();
    let (mut units, mut cut_at) = (0, 0);
    for (at, c) in text.chars().enumerate() {
        let begin = fitted.len();
        escape(at, c, &mut fitted);
        units += utf16_length(&fitted[begin..]);
        if units > units_max {
            fitted.truncate(cut_at);
            if units_max > 0 {
                fitted.push(CUT);
            }
            return fitted;
        }
        if units < units_max {
            cut_at = fitted.len();
        }
    }
    fitted
}

/// Returns the length of a text in UTF-16 units.
pub(super) fn utf16_length(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// Leaves a character as it is.
pub(super) fn unescaped(_: usize, c: char, out: &mut String) {
    out.push(c);
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Timestamp;

    /// Text of a gateway that would ping, link, end a block, a header or a string, if it was not escaped.
    pub(in super::super) const HOSTILE: &str = "@everyone <!channel> <@U1> <@&2> @here https://evil.example/ \
         <https://evil.example|ok>\r\n*bold*\n```\n[x](https://evil.example) \u{202e}\r\n\
         Bcc: a@evil.example\r\n\r\n.\r\n\
         \"}]}, {\"a\": \\u0000 &lt; \u{1b}[31m `sh` ~~a~~ ||b|| # c";

    /// Returns a message of an event.
    pub(in super::super) fn message(event: &str, data: &Value) -> Message {
        Message {
            id: "msg_0123".to_owned(),
            event: event.to_owned(),
            time: Timestamp::from_unix_micros(1_700_000_000_000_000),
            sequence: 7,
            data: data.as_object().cloned().unwrap_or_default(),
            link: None,
        }
    }

    /// Returns a message whose payload is as hostile and as large as it can be.
    pub(in super::super) fn hostile() -> Message {
        let long = HOSTILE.repeat(100);
        let keys = KEYS.iter().map(|key| ((*key).to_owned(), json!(long)));
        let mut data: serde_json::Map<String, Value> = keys.collect();
        data.insert("approval".to_owned(), json!(i64::MAX));
        let event = format!("approval.{long}");
        Message { event, ..message("", &Value::Object(data)) }
    }

    #[test]
    fn an_event_has_a_title_of_words() {
        for (event, expected) in [
            ("approval.pending", "Approval Pending"),
            ("policy.drift_detected", "Policy Drift Detected"),
            ("webhook.test", "Test Event"),
            ("", ""),
            ("x..é_", "X É"),
        ] {
            assert_eq!(title(event), expected, "{event}");
        }
        assert_eq!(title(&"x".repeat(301)).chars().count(), TITLE_CHARS_MAX);
        assert!(title(&"x".repeat(301)).ends_with('…') && !title(&"x".repeat(300)).ends_with('…'));
    }

    #[test]
    fn fields_have_a_fixed_order_and_other_keys_are_left_out() {
        let data = json!({
            "endpoint": "e:1", "sandbox": "box", "secret": "s", "reason": null, "model": { "a": 1 },
            "image": "", "actor": "\u{200b}\u{2800}", "message": 3, "provider": true,
            "voters": ["ana", "ben"],
        });
        let shown = fields(&message("sandbox.created", &data));
        let shown: Vec<(&str, &str)> = shown.iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected = [
            ("Sandbox", "box"),
            ("Message", "3"),
            ("Provider", "true"),
            ("Endpoint", "e:1"),
            ("Voters", "ana, ben"),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_value_is_one_line_without_control_characters() {
        let shown = fields(&hostile());
        assert_eq!(shown.len(), KEYS.len());
        for (name, value) in shown {
            assert!(!value.chars().any(char::is_control), "{name}");
            assert_eq!(value.chars().count(), VALUE_CHARS_MAX, "{name}");
            assert!(value.ends_with('…'), "{name}");
        }
    }

    #[test]
    fn only_a_plain_address_becomes_a_link() {
        let about = message("approval.pending", &json!({ "approval": 7 }));
        let link = |link: &str| {
            review(&Message { link: Some(link.to_owned()), ..about.clone() }).unwrap().link
        };
        let console = "https://sg.example/console#approvals/7";
        assert_eq!(link(console).as_deref(), Some(console));
        for bad in ["javascript:alert(1)", "https://a|b", "https://a b", "https://a>", "//a", ""] {
            assert_eq!(link(bad), None, "{bad}");
        }
        assert_eq!(review(&about).unwrap().command, "shoreguard approval review 7");
        assert_eq!(review(&message("sandbox.created", &json!({ "approval": "7" }))), None);
    }

    #[test]
    fn a_text_fits_at_its_limit_and_is_cut_one_beyond() {
        assert_eq!(fit("abc", 3, unescaped), "abc");
        assert_eq!(fit("abcd", 3, unescaped), "ab…");
        assert_eq!(fit("😀😀", 4, unescaped), "😀😀");
        assert_eq!(fit("😀😀", 3, unescaped), "😀…");
        assert_eq!(fit("😀😀", 2, unescaped), "…");
        assert_eq!(fit("a", 0, unescaped), "");
        let doubled = |_: usize, c: char, out: &mut String| out.extend([c, c]);
        assert_eq!(fit("abc", 6, doubled), "aabbcc");
        assert_eq!(fit("abc", 5, doubled), "aabb…");
        assert_eq!(fit("abc", 4, doubled), "aa…");
    }
}
