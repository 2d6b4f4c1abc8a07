//! Channel slack: an attachment with a section, its time, and a button if there is an address to open.
//!
//! `&`, `<` and `>` are escaped, with which Slack's links and mentions begin, and `verbatim` forbids it to find further
//! ones in plain text. Blocks of code, which can have several lines, are replaced by quotes.

use serde_json::{Value, json};

use super::fields::{self, Review, SENDER, fit, utf16_length};
use super::{Message, Rendered};

/// Maximum length of the text of a section.
const SECTION_MAX: usize = 3_000;
/// Maximum length of the address of a button.
const URL_MAX: usize = 3_000;
/// Text of the button: at most 75 characters.
const BUTTON: &str = "Review";

/// Renders a message: at most 3 blocks (of 50), and fewer than 12,000 characters.
#[must_use]
pub fn body(message: &Message) -> Rendered {
    let review = fields::review(message);
    let mut blocks = vec![
        json!({ "type": "section", "text": mrkdwn(&section(message, review.as_ref())) }),
        json!({
            "type": "context",
            "elements": [mrkdwn(&format!("{SENDER} | {}", message.time))],
        }),
    ];
    if let Some(link) = review.as_ref().and_then(button_link) {
        let text = json!({ "type": "plain_text", "text": BUTTON });
        let button = json!({ "type": "button", "text": text, "url": link });
        blocks.push(json!({ "type": "actions", "elements": [button] }));
    }
    let color = fields::tone(&message.event).slack();
    Rendered::json(&json!({ "attachments": [{ "color": color, "blocks": blocks }] }))
}

fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

fn button_link(review: &Review) -> Option<&str> {
    review.link.as_deref().filter(|link| link.len() <= URL_MAX)
}

/// Returns title, fields and review. The review is never cut.
fn section(message: &Message, review: Option<&Review>) -> String {
    let end = review.map_or_else(String::new, |review| match button_link(review) {
        Some(_) => format!("\n*Approval:* {}", review.approval),
        None => format!("\n*Approval:* {}\n*Review:* `{}`", review.approval, review.command),
    });
    let title = without_blocks(&fields::title(&message.event));
    let mut text = format!("*{}*", fit(&title, SECTION_MAX / 2, escape));
    let mut left = SECTION_MAX.saturating_sub(utf16_length(&text) + utf16_length(&end));
    for (name, value) in fields::fields(message) {
        let name = format!("\n*{name}:* ");
        let Some(room) = left.checked_sub(utf16_length(&name)).filter(|room| *room > 0) else {
            break;
        };
        let value = fit(&without_blocks(&value), room, escape);
        left = room.saturating_sub(utf16_length(&value));
        text.push_str(&name);
        text.push_str(&value);
    }
    text + &end
}

/// Replaces the marks of blocks of code. Of Slack's marks, only these format several lines, and so what follows.
fn without_blocks(text: &str) -> String {
    text.replace("```", "'''")
}

fn escape(_: usize, c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{HOSTILE, hostile, message};
    use super::*;

    const BLOCKS_MAX: usize = 50;
    const ALL_MAX: usize = 12_000;

    fn rendered(message: &Message) -> Value {
        let rendered = body(message);
        assert_eq!(rendered.content_type, "application/json");
        serde_json::from_slice(&rendered.bytes).unwrap()
    }

    fn text(message: &Message) -> String {
        rendered(message)["attachments"][0]["blocks"][0]["text"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn a_message_has_the_form_of_the_predecessor() {
        let data = json!({ "gateway": "edge", "sandbox": "a<b", "actor": "ana", "more": 1 });
        let sent = rendered(&message("sandbox.created", &data));
        let expected = json!({ "attachments": [{ "color": "#2196F3", "blocks": [
            { "type": "section", "text": {
                "type": "mrkdwn",
                "text": "*Sandbox Created*\n*Sandbox:* a&lt;b\n*Gateway:* edge\n*Actor:* ana",
                "verbatim": true,
            } },
            { "type": "context", "elements": [{
                "type": "mrkdwn",
                "text": "ShoreGuard | 2023-11-14T22:13:20.000000Z",
                "verbatim": true,
            }] },
        ] }] });
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_section_is_full_at_its_limit_and_cut_one_beyond() {
        let of = |length: usize| {
            let data = json!({ "sandbox": "x".repeat(length), "approval": 7 });
            text(&message("approval.pending", &data))
        };
        let fixed = utf16_length(&of(1)) - 1;
        let full = of(SECTION_MAX - fixed);
        assert_eq!((utf16_length(&full), full.contains('…')), (SECTION_MAX, false));
        let cut = of(SECTION_MAX - fixed + 1);
        assert_eq!((utf16_length(&cut), cut.contains('…')), (SECTION_MAX, true));
        for text in [full, cut] {
            let end = "\n*Approval:* 7\n*Review:* `shoreguard approval review 7`";
            assert!(text.ends_with(end), "the review is never cut: {text}");
        }
    }

    #[test]
    fn the_largest_message_is_within_the_limits_of_slack() {
        let link = format!("https://sg.example/{}", "x".repeat(URL_MAX - 19));
        assert_eq!(link.len(), URL_MAX);
        let largest = Message { link: Some(link.clone()), ..hostile() };
        let sent = rendered(&largest);
        let blocks = sent["attachments"][0]["blocks"].as_array().unwrap();
        assert!(blocks.len() == 3 && blocks.len() <= BLOCKS_MAX);
        assert_eq!(blocks[2]["elements"][0]["url"], link.as_str());
        assert!(utf16_length(&text(&largest)) <= SECTION_MAX);
        let characters = String::from_utf8(body(&largest).bytes).unwrap().chars().count();
        assert!(characters <= ALL_MAX, "{characters}");
        assert!(BUTTON.len() <= 75);
        // One beyond: there is the command instead of the button.
        let longer = Message { link: Some(format!("{link}x")), ..hostile() };
        assert_eq!(rendered(&longer)["attachments"][0]["blocks"].as_array().unwrap().len(), 2);
        assert!(text(&longer).contains("`shoreguard approval review "));
    }

    #[test]
    fn t20_a_gateway_cannot_ping_in_slack_or_end_a_block() {
        let data = json!({ "sandbox": HOSTILE, "reason": HOSTILE });
        for message in [message("sandbox.created", &data), hostile()] {
            let text = text(&message);
            assert!(!text.contains(['<', '>', '\r', '\u{1b}', '\u{202e}']), "{text}");
            for part in text.split('&').skip(1) {
                let known = ["amp;", "lt;", "gt;"].iter().any(|entity| part.starts_with(entity));
                assert!(known, "an entity is cut: {part}");
            }
            // Only ours begin a line, and none is part of a block of code.
            assert!(text.lines().all(|line| line.starts_with('*')), "{text}");
            assert!(!text.contains("```"), "{text}");
            for block in rendered(&message)["attachments"][0]["blocks"].as_array().unwrap() {
                let shown = block["text"].as_object().or_else(|| block["elements"][0].as_object());
                assert_eq!(shown.unwrap()["verbatim"], true);
            }
        }
    }
}
