//! Logs and state changes of a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::gateway::{CALL_TIME, Messages};
use super::sandbox::{Sandbox, map_not_found, unreadable};
use super::{Gateway, Generation, v0_0, v0_1};
use crate::clock::Timestamp;
use crate::db::types::SandboxName;
use crate::error::Error;

const LOGS: &str = "/openshell.v1.OpenShell/GetSandboxLogs";
const WATCH: &str = "/openshell.v1.OpenShell/WatchSandbox";

/// Maximum length of a stored log message, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 16 << 10;

/// How long a watch waits for its first message before it continues without it. A gateway first sends the state of the
/// sandbox, and has started to follow it by then, so that no later event is missed.
const FIRST_TIME: Duration = Duration::from_secs(5);

/// A log line of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLine {
    /// Time of the line.
    pub at: Option<Timestamp>,
    /// Level, as named by the gateway.
    pub level: String,
    /// Component of the sandbox.
    pub target: String,
    /// Text of the line.
    pub message: String,
    /// Source: `gateway` or `sandbox`.
    pub source: String,
    /// Additional fields, by name.
    pub fields: BTreeMap<String, String>,
}

/// An event of the platform below the gateway that concerns a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformEvent {
    /// Time of the event.
    pub at: Option<Timestamp>,
    /// Component that reported it.
    pub source: String,
    /// Type of the event.
    pub kind: String,
    /// Reason, machine-readable.
    pub reason: String,
    /// Reason, human-readable.
    pub message: String,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Current state of the sandbox.
    Sandbox(Box<Sandbox>),
    /// A log line.
    Log(LogLine),
    /// A platform event.
    Event(PlatformEvent),
    /// A warning of the gateway about the watch itself.
    Warning(String),
}

/// Selects log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Maximum number of lines; the newest are returned.
    pub lines: u32,
    /// Earliest time of a line.
    pub since: Option<Timestamp>,
    /// Sources of the lines; empty selects all.
    pub sources: Vec<String>,
}

/// The newest log lines of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTail {
    /// The lines, oldest first.
    Lines(Vec<LogLine>),
    /// They are larger than what is read at once.
    Overflowing,
}

/// Selects what is followed in addition to the sandbox's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Whether to follow its log.
    pub logs: bool,
    /// Whether to follow its platform events.
    pub events: bool,
    /// Number of existing log lines that are sent first.
    pub log_tail: u32,
    /// Earliest time of a line.
    pub since: Option<Timestamp>,
    /// Sources of the lines; empty selects all.
    pub sources: Vec<String>,
}

/// State of the first message.
#[derive(Debug, Default)]
enum FirstEvent {
    /// Not received yet, or already returned.
    #[default]
    Unknown,
    /// A message.
    Message(Box<WatchEvent>),
    /// The end of the stream.
    End,
}

/// A stream of a sandbox's state changes.
#[derive(Debug)]
pub struct WatchStream {
    messages: Messages,
    generation: Generation,
    gateway: String,
    sandbox: SandboxName,
    /// The first message, or the end, if it arrived in time.
    first: FirstEvent,
}

impl WatchStream {
    /// Waits until the gateway follows the sandbox.
    async fn wait_for_first(mut self) -> Result<Self, Error> {
        // A timeout loses nothing: received bytes stay buffered until they form a message.
        if let Ok(first) = timeout(FIRST_TIME, self.next()).await {
            self.first =
                first?.map_or(FirstEvent::End, |event| FirstEvent::Message(Box::new(event)));
        }
        Ok(self)
    }

    /// Returns the next message, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        match std::mem::take(&mut self.first) {
            FirstEvent::Unknown => {}
            FirstEvent::Message(event) => return Ok(Some(*event)),
            FirstEvent::End => return Ok(None),
        }
        loop {
            let Some(message) = self.messages.next().await.map_err(map_not_found(&self.sandbox))?
            else {
                return Ok(None);
            };
            let event = match self.generation {
                Generation::V0_0 => v0_0::decode_watch_event(message),
                Generation::V0_1 => v0_1::decode_watch_event(message),
            };
            let unreadable = |_| unreadable(&self.gateway, WATCH);
            if let Some(event) = event.map_err(unreadable)? {
                return Ok(Some(event));
            }
        }
    }
}

impl Gateway {
    /// Returns log lines of a sandbox, oldest first.
    pub async fn sandbox_logs(
        &self,
        sandbox: &SandboxName,
        query: &LogQuery,
    ) -> Result<Vec<LogLine>, Error> {
        let request = match self.generation() {
            Generation::V0_0 => {
                v0_0::encode_logs(&self.get_sandbox(sandbox).await?.id, sandbox, query)
            }
            Generation::V0_1 => v0_1::encode_logs(sandbox, query),
        };
        let answer = self.unary(LOGS, &request, CALL_TIME).await.map_err(map_not_found(sandbox))?;
        self.decode_log_lines(&answer)
    }

    /// Returns log lines of a sandbox that was listed before, by one call.
    ///
    /// # Errors
    /// `NOT_FOUND` if the sandbox does not exist; those of the call.
    pub async fn log_tail(&self, sandbox: &Sandbox, query: &LogQuery) -> Result<LogTail, Error> {
        let name = &sandbox.full_name;
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_logs(&sandbox.id, name, query),
            Generation::V0_1 => v0_1::encode_logs(name, query),
        };
        let answer = match self.unary(LOGS, &request, CALL_TIME).await {
            Err(_) if self.answer_was_too_large() => return Ok(LogTail::Overflowing),
            answer => answer.map_err(map_not_found(name))?,
        };
        self.decode_log_lines(&answer).map(LogTail::Lines)
    }

    fn decode_log_lines(&self, answer: &[u8]) -> Result<Vec<LogLine>, Error> {
        let lines = match self.generation() {
            Generation::V0_0 => v0_0::decode_logs(answer),
            Generation::V0_1 => v0_1::decode_logs(answer),
        };
        lines.ok_or_else(|| self.unreadable(LOGS))
    }

    /// Follows a sandbox, starting with its state when this returns.
    pub async fn watch_sandbox(
        &self,
        sandbox: &SandboxName,
        options: &WatchOptions,
    ) -> Result<WatchStream, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_watch(&self.get_sandbox(sandbox).await?.id, options),
            Generation::V0_1 => v0_1::encode_watch(sandbox, options),
        };
        let messages = self.stream(WATCH, &request).await.map_err(map_not_found(sandbox))?;
        let (generation, gateway) = (self.generation(), self.name().to_string());
        let watching = WatchStream {
            messages,
            generation,
            gateway,
            sandbox: sandbox.clone(),
            first: FirstEvent::Unknown,
        };
        watching.wait_for_first().await
    }
}

/// Truncates a log message and replaces control characters, except for line breaks and tabs.
pub(super) fn sanitize_message(text: &str) -> String {
    let replace_control = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    text.chars().map(replace_control).take(MESSAGE_CHARACTERS_MAX).collect()
}
