//! Channel discord: an embed with a title and fields.
//!
//! Markdown is escaped, and `allowed_mentions` permits no mention, so that no text pings or links.

use serde_json::{Value, json};

use super::fields::{self, Review, SENDER, fit, unescaped, utf16_length};
use super::{Message, Rendered};

/// Maximum length of a title.
const TITLE_MAX: usize = 256;
/// Maximum length of a description.
const DESCRIPTION_MAX: usize = 4_096;
/// Maximum length of the name of a field.
const NAME_MAX: usize = 256;
/// Maximum length of the value of a field.
const VALUE_MAX: usize = 1_024;
/// Maximum number of fields.
const FIELDS_MAX: usize = 25;
/// Maximum length of all texts of an embed.
const ALL_MAX: usize = 6_000;
/// Maximum length of the address of a title.
const URL_MAX: usize = 2_048;

/// Renders a message.
#[must_use]
pub fn body(message: &Message) -> Rendered {
    let review = fields::review(message);
    let title = fit(&fields::title(&message.event), TITLE_MAX, escape);
    let description = review.as_ref().map(description);
    let used = utf16_length(&title) + utf16_length(SENDER);
    let used = used + description.as_deref().map_or(0, utf16_length);
    let mut embed = json!({
        "title": title,
        "color": fields::tone(&message.event).discord(),
        "timestamp": message.time.to_string(),
        "footer": { "text": SENDER },
    });
    let shown = shown_fields(message, ALL_MAX.saturating_sub(used));
    if !shown.is_empty() {
        embed["fields"] = Value::Array(shown);
    }
    if let Some(description) = description {
        embed["description"] = Value::String(description);
    }
    if let Some(link) = review.as_ref().and_then(title_link) {
        embed["url"] = Value::String(link.to_owned());
    }
    Rendered::json(&json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } }))
}

fn title_link(review: &Review) -> Option<&str> {
    review.link.as_deref().filter(|link| link.len() <= URL_MAX)
}

/// Returns which review it is, and how it is opened. With a link, that is the title.
fn description(review: &Review) -> String {
    let text = match title_link(review) {
        Some(_) => format!("Approval {}", review.approval),
        None => format!("Approval {}: `{}`", review.approval, review.command),
    };
    fit(&text, DESCRIPTION_MAX, unescaped)
}

fn shown_fields(message: &Message, mut left: usize) -> Vec<Value> {
    let mut shown = Vec::new();
    for (name, value) in fields::fields(message).into_iter().take(FIELDS_MAX) {
        let name = fit(&name, NAME_MAX, escape);
        let Some(room) = left.checked_sub(utf16_length(&name)).filter(|room| *room > 0) else {
            break;
        };
        let value = fit(&value, VALUE_MAX.min(room), escape);
        left = room.saturating_sub(utf16_length(&value));
        shown.push(json!({ "name": name, "value": value, "inline": true }));
    }
    shown
}

/// Escapes a character that begins or ends a form of Markdown, a mention, an address or an emoji anywhere, and those
/// that begin a list or a heading at the beginning.
fn escape(at: usize, c: char, out: &mut String) {
    let anywhere = matches!(
        c,
        '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | ':' | '@'
    );
    if anywhere || (at == 0 && matches!(c, '#' | '-' | '+')) {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{HOSTILE, hostile, message};
    use super::*;

    fn embed(message: &Message) -> Value {
        let rendered = body(message);
        assert_eq!(rendered.content_type, "application/json");
        let sent: Value = serde_json::from_slice(&rendered.bytes).unwrap();
        assert_eq!(sent["allowed_mentions"], json!({ "parse": [] }));
        assert_eq!(sent["embeds"].as_array().unwrap().len(), 1);
        sent["embeds"][0].clone()
    }

    fn length(value: &Value) -> usize {
        value.as_str().map_or(0, utf16_length)
    }

    /// Returns the length of all texts that count.
    fn length_of_all(embed: &Value) -> usize {
        let fields = embed["fields"].as_array().cloned().unwrap_or_default();
        let fields = fields.iter().map(|field| length(&field["name"]) + length(&field["value"]));
        let others = [&embed["title"], &embed["description"], &embed["footer"]["text"]];
        others.map(length).iter().sum::<usize>() + fields.sum::<usize>()
    }

    #[test]
    fn a_message_has_the_form_of_the_predecessor() {
        let data = json!({ "gateway": "my-edge", "sandbox": "a_b", "more": 1 });
        let expected = json!({
            "title": "Sandbox Deleted",
            "color": 0x9E_9E9E,
            "timestamp": "2023-11-14T22:13:20.000000Z",
            "footer": { "text": "ShoreGuard" },
            "fields": [
                { "name": "Sandbox", "value": "a\\_b", "inline": true },
                { "name": "Gateway", "value": "my-edge", "inline": true },
            ],
        });
        assert_eq!(embed(&message("sandbox.deleted", &data)), expected);
        let empty = embed(&message("webhook.test", &json!({})));
        assert_eq!((empty["title"].as_str(), empty.get("fields")), (Some("Test Event"), None));
    }

    #[test]
    fn a_value_is_full_at_its_limit_and_cut_one_beyond() {
        let of = |length: usize| {
            let data = json!({ "sandbox": "x".repeat(length) });
            let value = embed(&message("sandbox.created", &data))["fields"][0]["value"].clone();
            value.as_str().unwrap().to_owned()
        };
        assert_eq!(of(VALUE_MAX), "x".repeat(VALUE_MAX));
        let cut = of(VALUE_MAX + 1);
        assert_eq!((utf16_length(&cut), cut.ends_with("x…")), (VALUE_MAX, true));
    }

    #[test]
    fn every_text_fits_its_limit_and_is_cut_one_beyond() {
        for limit in [TITLE_MAX, NAME_MAX, VALUE_MAX, DESCRIPTION_MAX] {
            assert_eq!(fit(&"x".repeat(limit), limit, escape), "x".repeat(limit));
            let cut = fit(&"x".repeat(limit + 1), limit, escape);
            assert_eq!((utf16_length(&cut), cut.ends_with('…')), (limit, true));
            // An escaped character is not cut in two.
            let cut = fit(&"*".repeat(limit), limit, escape);
            assert!(utf16_length(&cut) <= limit && cut.ends_with("\\*…"), "{cut}");
        }
    }

    #[test]
    fn an_embed_is_full_at_its_limit_and_cut_one_beyond() {
        let keys = ["sandbox", "gateway", "actor", "reason", "message"];
        let of = |last: usize| {
            let mut data: serde_json::Map<String, Value> =
                keys.iter().map(|key| ((*key).to_owned(), json!("x".repeat(VALUE_MAX)))).collect();
            data.insert("model".to_owned(), json!("x".repeat(last)));
            embed(&message("sandbox.created", &Value::Object(data)))
        };
        let fixed = length_of_all(&of(1)) - 1;
        let full = of(ALL_MAX - fixed);
        assert_eq!(length_of_all(&full), ALL_MAX);
        assert!(!full["fields"][5]["value"].as_str().unwrap().contains('…'));
        let cut = of(ALL_MAX - fixed + 1);
        assert_eq!(length_of_all(&cut), ALL_MAX);
        assert!(cut["fields"][5]["value"].as_str().unwrap().ends_with('…'));
    }

    #[test]
    fn the_largest_message_is_within_the_limits_of_discord() {
        let largest = embed(&hostile());
        assert!(length_of_all(&largest) <= ALL_MAX);
        assert!(length(&largest["title"]) <= TITLE_MAX);
        let description = format!("Approval {0}: `shoreguard approval review {0}`", i64::MAX);
        assert_eq!(largest["description"], description.as_str());
        let fields = largest["fields"].as_array().unwrap();
        assert!(fields.len() <= FIELDS_MAX);
        for field in fields {
            assert!(length(&field["name"]) <= NAME_MAX && length(&field["value"]) <= VALUE_MAX);
        }
    }

    #[test]
    fn a_review_has_its_link_or_its_command() {
        let about = message("approval.pending", &json!({ "approval": 7 }));
        let sent = embed(&about);
        assert_eq!(sent["description"], "Approval 7: `shoreguard approval review 7`");
        assert_eq!(sent.get("url"), None);
        let link = format!("https://sg.example/{}", "x".repeat(URL_MAX - 19));
        let sent = embed(&Message { link: Some(link.clone()), ..about.clone() });
        assert_eq!((&sent["description"], &sent["url"]), (&json!("Approval 7"), &json!(link)));
        let sent = embed(&Message { link: Some(format!("{link}x")), ..about });
        assert_eq!(sent.get("url"), None);
    }

    #[test]
    fn t20_a_gateway_cannot_ping_or_format_in_discord() {
        let data = json!({
            "sandbox": HOSTILE, "gateway": "# a", "actor": "- b", "reason": "\u{200b} # c",
        });
        for message in [message("sandbox.created", &data), hostile()] {
            let sent = embed(&message);
            for field in sent["fields"].as_array().unwrap() {
                let value = field["value"].as_str().unwrap();
                assert!(!value.chars().any(char::is_control), "{value}");
                assert!(!value.trim_start().starts_with(['#', '-', '+']), "{value}");
                let mut before = ' ';
                for c in value.chars() {
                    let special = "*_~`|<>[]():@".contains(c);
                    assert!(!special || before == '\\', "{c} in {value}");
                    // An escaped backslash escapes nothing.
                    before = if c == '\\' && before == '\\' { ' ' } else { c };
                }
            }
        }
    }
}
