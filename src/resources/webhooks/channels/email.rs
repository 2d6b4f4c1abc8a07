//! Channel email: a message as plain text, and how it is sent.
//!
//! Invariants
//! - T20: no text of an event is in a header besides the subject, which has no control characters;
//! - e12: each attempt has the same Message-ID, from the id of the message, and the same bytes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use lettre::Address;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, SinglePart};

use super::fields::{self, SENDER};
use super::mail_server::{self, Mail};
use super::{Message, Outcome, Rendered, Smtp, Verdict};
use crate::characters::{CUT, excerpt};
use crate::resources::webhooks::connections::Slot;
use crate::resources::webhooks::outbound::Outbound;

/// Maximum length of a subject, in characters.
const SUBJECT_CHARS_MAX: usize = 200;
/// Maximum length of a body, in bytes.
const BODY_BYTES_MAX: usize = 20 * 1024;
/// Maximum length of the address of a review, in bytes.
const LINK_BYTES_MAX: usize = 2_048;
/// Latest date of a mail, in seconds since 1970: the end of the year 9999.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// Renders the text of a mail.
#[must_use]
pub fn body(message: &Message) -> Rendered {
    Rendered { content_type: "text/plain; charset=utf-8", bytes: text(message).into_bytes() }
}

/// Sends a message to all recipients through a mail server, on a connection with this slot, within the caller's time
/// limit. If the server refuses some of the recipients permanently, the others get the mail, and the outcome says how
/// many do not.
#[must_use]
pub fn send<'a>(
    outbound: &'a Outbound,
    slot: &'a Arc<Slot>,
    smtp: &'a Smtp,
    message: &'a Message,
) -> BoxFuture<'a, Outcome> {
    Box::pin(async move {
        let Some(mail) = compose(smtp, message) else {
            let why = "an address of the webhook is malformed, or not ASCII";
            return Outcome::not_delivered(Verdict::Failed, None, why);
        };
        match mail_server::deliver(outbound, slot, smtp, &mail).await {
            Ok(outcome) | Err(outcome) => outcome,
        }
    })
}

/// Returns whether mails can be sent to or from an address.
#[must_use]
pub fn is_address(text: &str) -> bool {
    mailbox(text).is_some()
}

/// Returns the first line of a mail, which is also its subject.
fn heading(message: &Message) -> String {
    excerpt(&format!("{SENDER} — {}", fields::title(&message.event)), SUBJECT_CHARS_MAX)
}

/// Returns heading, time and fields, each on a line, and the review, which is never cut.
fn text(message: &Message) -> String {
    let review = fields::review(message).map_or_else(String::new, |review| {
        let link = review.link.filter(|link| link.len() <= LINK_BYTES_MAX);
        let how = link.unwrap_or(review.command);
        format!("\nApproval: {}\nReview: {how}\n", review.approval)
    });
    let mut text = format!("{}\nTime: {}\n\n", heading(message), message.time);
    for (name, value) in fields::fields(message) {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{name}: {value}");
    }
    cut(text, BODY_BYTES_MAX - review.len()) + &review
}

/// Cuts a text to this number of bytes. A text that is cut ends with [`CUT`].
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max.saturating_sub(CUT.len_utf8())));
        text.push(CUT);
    }
    text
}

/// Returns the mail of a message. `None` if an address is malformed or not ASCII, which few servers accept.
fn compose(smtp: &Smtp, message: &Message) -> Option<Mail> {
    let from = mailbox(&smtp.from)?;
    let to: Vec<Mailbox> = smtp.to.iter().map(|to| mailbox(to)).collect::<Option<_>>()?;
    let id: String = message
        .id
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        .collect();
    let auto_submitted = HeaderName::new_from_ascii_str("Auto-Submitted");
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .subject(heading(message))
        .date(date(message))
        .message_id(Some(format!("<{id}@{}>", from.email.domain())))
        // No absence note answers it (RFC 3834).
        .raw_header(HeaderValue::new(auto_submitted, "auto-generated".to_owned()));
    for to in &to {
        builder = builder.to(to.clone());
    }
    let built = builder.singlepart(SinglePart::plain(text(message))).ok()?;
    let to: Vec<Address> = to.into_iter().map(|to| to.email).collect();
    Some(Mail { from: from.email, to, bytes: built.formatted() })
}

/// Parses an address. lettre's own parser of mailboxes accepts further text behind it.
fn mailbox(text: &str) -> Option<Mailbox> {
    let address: Address = text.parse().ok()?;
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic());
    is_plain.then(|| Mailbox::new(None, address))
}

/// Returns the time of the event, within the years that a mail can have.
fn date(message: &Message) -> SystemTime {
    let seconds = u64::try_from(message.time.unix_seconds()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(DATE_SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::SmtpTls;
    use super::super::fields::tests::{hostile, message};
    use super::*;
    use crate::clock::Timestamp;

    fn smtp() -> Smtp {
        Smtp {
            host: "mail.example".to_owned(),
            port: 587,
            tls: SmtpTls::Starttls,
            login: None,
            from: "shoreguard@sg.example".to_owned(),
            to: vec!["ana@example.com".to_owned(), "ben@example.com".to_owned()],
        }
    }

    /// Returns the unfolded headers of a mail.
    fn headers(mail: &Mail) -> Vec<(String, String)> {
        let text = String::from_utf8(mail.bytes.clone()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ");
        let lines = head.split("\r\n").map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        lines.collect()
    }

    #[test]
    fn a_mail_has_the_form_of_the_predecessor() {
        let data = json!({ "gateway": "edge", "sandbox": "a<b", "more": 1, "approval": 7 });
        let about = message("approval.pending", &data);
        let expected = "ShoreGuard — Approval Pending\nTime: 2023-11-14T22:13:20.000000Z\n\nSandbox: a<b\nGateway: \
                        edge\n\nApproval: 7\nReview: shoreguard approval review 7\n";
        assert_eq!(String::from_utf8(body(&about).bytes).unwrap(), expected);
        let link = "https://sg.example/console#approvals/7";
        let linked = text(&Message { link: Some(link.to_owned()), ..about });
        assert!(linked.ends_with(&format!("\nApproval: 7\nReview: {link}\n")), "{linked}");
    }

    #[test]
    fn a_subject_is_full_at_its_limit_and_cut_one_beyond() {
        let of = |length: usize| heading(&message(&"x".repeat(length), &json!({})));
        let fixed = of(1).chars().count() - 1;
        let full = of(SUBJECT_CHARS_MAX - fixed);
        assert_eq!((full.chars().count(), full.ends_with('x')), (SUBJECT_CHARS_MAX, true));
        let cut = of(SUBJECT_CHARS_MAX - fixed + 1);
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (SUBJECT_CHARS_MAX, true));
    }

    #[test]
    fn a_body_is_full_at_its_limit_and_cut_one_beyond() {
        let keys = ["sandbox", "gateway", "actor", "reason"];
        let of = |last: usize| {
            let mut data: serde_json::Map<String, serde_json::Value> =
                keys.iter().map(|key| ((*key).to_owned(), json!("x".repeat(4_096)))).collect();
            data.insert("message".to_owned(), json!("y".repeat(last)));
            data.insert("approval".to_owned(), json!(7));
            text(&message("approval.pending", &serde_json::Value::Object(data)))
        };
        let fixed = of(1).len() - 1;
        let full = of(BODY_BYTES_MAX - fixed);
        assert_eq!((full.len(), full.contains('…')), (BODY_BYTES_MAX, false));
        let cut = of(BODY_BYTES_MAX - fixed + 1);
        assert!(cut.len() <= BODY_BYTES_MAX && cut.contains('…'));
        for text in [full, cut, text(&hostile())] {
            assert!(text.len() <= BODY_BYTES_MAX);
            assert!(text.contains("\nReview: shoreguard approval review "), "it is never cut");
        }
    }

    #[test]
    fn e12_each_attempt_has_the_same_message_id_and_the_same_bytes() {
        let about = message("approval.pending", &json!({ "approval": 7 }));
        let (first, second) =
            (compose(&smtp(), &about).unwrap(), compose(&smtp(), &about).unwrap());
        assert_eq!(first.bytes, second.bytes);
        let id = ("Message-ID".to_owned(), "<msg_0123@sg.example>".to_owned());
        assert!(headers(&first).contains(&id), "{:?}", headers(&first));
        assert_eq!(first.to.len(), 2);
        // A time that a mail cannot have.
        for micros in [i64::MIN, -1, i64::MAX] {
            let time = Timestamp::from_unix_micros(micros);
            assert!(compose(&smtp(), &Message { time, ..about.clone() }).is_some());
        }
    }

    #[test]
    fn t20_a_gateway_cannot_add_a_header_to_a_mail() {
        let id = "msg_1>\r\nBcc: a@evil.example\r\n".to_owned();
        let mail = compose(&smtp(), &Message { id, ..hostile() }).unwrap();
        let mut names: Vec<String> = headers(&mail).into_iter().map(|(name, _)| name).collect();
        names.sort();
        let expected = [
            "Auto-Submitted",
            "Content-Transfer-Encoding",
            "Content-Type",
            "Date",
            "From",
            "MIME-Version",
            "Message-ID",
            "Subject",
            "To",
        ];
        assert_eq!(names, expected);
        assert!(mail.bytes.is_ascii());
        for (name, value) in headers(&mail) {
            assert!(!value.chars().any(char::is_control), "{name}: {value}");
        }
        let hostile = text(&hostile());
        assert!(!hostile.chars().any(|c| c.is_control() && c != '\n'), "{hostile}");
        // Only ours begin a line.
        assert!(!hostile.lines().any(|line| line.starts_with("Bcc") || line == "."), "{hostile}");
    }

    #[test]
    fn a_malformed_address_is_refused() {
        for bad in ["", "a", "a@b\r\nBcc: c@d", "ä@example.com", "a@b, c@d"] {
            assert!(compose(&Smtp { from: bad.to_owned(), ..smtp() }, &hostile()).is_none());
            assert!(compose(&Smtp { to: vec![bad.to_owned()], ..smtp() }, &hostile()).is_none());
        }
        let local = Smtp { from: "shoreguard@localhost".to_owned(), ..smtp() };
        assert!(compose(&local, &hostile()).is_some());
    }
}
