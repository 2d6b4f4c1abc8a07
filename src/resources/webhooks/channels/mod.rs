//! A message in the form of each channel.
//!
//! Invariants
//! - e12: the body of channel generic depends only on the event, so that repeated deliveries have the same bytes;
//! - T20: the texts of a message contain no control characters; each channel escapes them for itself;
//! - each body has a limit.

pub mod discord;
pub mod email;
mod fields;
pub mod generic;
mod mail_server;
pub mod slack;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::words;

words! {
    /// The form in which a receiver expects messages.
    pub enum Channel {
        /// JSON, signed.
        Generic = "generic",
        /// An incoming webhook of Slack.
        Slack = "slack",
        /// A webhook of Discord.
        Discord = "discord",
        /// An e-mail.
        Email = "email",
    }
}

/// Message about one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Id of the message: the same for each attempt. `msg_`, without a dot.
    pub id: String,
    /// Name of the type of the event.
    pub event: String,
    /// Time of the event.
    pub time: Timestamp,
    /// Sequence of the event; 0 for a test.
    pub sequence: i64,
    /// Payload of the event, without control characters, limited to [`generic::DATA_BYTES_MAX`].
    pub data: Map<String, Value>,
    /// Address under which a person can act on the event.
    pub link: Option<String>,
}

/// A message in the form of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Content type of the bytes.
    pub content_type: &'static str,
    /// The body.
    pub bytes: Vec<u8>,
}

impl Rendered {
    /// A body of JSON.
    #[must_use]
    pub fn json(value: &Value) -> Self {
        Self { content_type: "application/json", bytes: value.to_string().into_bytes() }
    }
}

/// Renders a message for a channel. For e-mail, this is the text of the body.
#[must_use]
pub fn body(channel: Channel, message: &Message) -> Rendered {
    match channel {
        Channel::Generic => generic::body(message),
        Channel::Slack => slack::body(message),
        Channel::Discord => discord::body(message),
        Channel::Email => email::body(message),
    }
}

words! {
    /// When an SMTP connection switches to TLS. It always does.
    pub enum SmtpTls {
        /// After `STARTTLS`, usually on port 587.
        Starttls = "starttls",
        /// At once, usually on port 465.
        Implicit = "implicit",
    }
}

/// The mail server of a webhook, and its mails' addresses. All fields are valid: the host and the addresses contain no
/// control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// Host name or address of the server, without brackets.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// When the connection switches to TLS.
    pub tls: SmtpTls,
    /// User and password; `None` sends without authentication.
    pub login: Option<(String, Secret)>,
    /// Sender.
    pub from: String,
    /// Recipients, 1 to 50.
    pub to: Vec<String>,
}

/// Next step of a message after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has accepted it: no further step.
    Delivered,
    /// It is sent again later.
    Retry,
    /// The receiver refuses this message: it is not sent again.
    Failed,
    /// The receiver wants no messages at all: the webhook is disabled.
    Unwanted,
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Next step of the message.
    pub verdict: Verdict,
    /// Code of the response: of HTTP or of SMTP. `None` if there was no response.
    pub code: Option<u16>,
    /// Why it was not delivered, for the admin who reads deliveries: without addresses, secrets and control characters,
    /// at most 500 characters.
    pub error: Option<String>,
    /// Beginning of the response, without control characters, at most 1 KiB. `None` if there was no response or it
    /// could contain what was sent.
    pub snippet: Option<String>,
    /// Earliest time of the next attempt, from now, if the receiver named one.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// The message has arrived.
    #[must_use]
    pub fn delivered(code: u16) -> Self {
        Self {
            verdict: Verdict::Delivered,
            code: Some(code),
            error: None,
            snippet: None,
            retry_after: None,
        }
    }

    /// The message has not arrived.
    #[must_use]
    pub fn not_delivered(verdict: Verdict, code: Option<u16>, error: impl Into<String>) -> Self {
        Self { verdict, code, error: Some(error.into()), snippet: None, retry_after: None }
    }

    /// Adds the beginning of the response.
    #[must_use]
    pub fn with_snippet(self, snippet: String) -> Self {
        Self { snippet: Some(snippet), ..self }
    }

    /// Adds the time that the receiver wants to wait.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

/// Replaces a character that a terminal, a log or a chat could interpret. Others that are not visible are kept:
/// programs read the payload, and emoji consist of such characters.
fn visible(c: char) -> char {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    if c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') {
        ' '
    } else {
        c
    }
}
