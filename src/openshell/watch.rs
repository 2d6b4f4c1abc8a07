//! Logs and state changes of a sandbox.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::gateway::{CALL_TIME, Messages};
use super::sandbox::{Sandbox, about, unreadable};
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
pub enum Seen {
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

/// Selects what is followed in addition to the sandbox's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follow {
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
enum First {
    /// Not received yet, or already returned.
    #[default]
    Unknown,
    /// A message.
    Message(Box<Seen>),
    /// The end of the stream.
    End,
}

/// A stream of a sandbox's state changes.
#[derive(Debug)]
pub struct Watching {
    messages: Messages,
    generation: Generation,
    gateway: String,
    place: SandboxName,
    /// The first message, or the end, if it arrived in time.
    first: First,
}

impl Watching {
    /// Waits until the gateway follows the sandbox.
    async fn begin(mut self) -> Result<Self, Error> {
        // A timeout loses nothing: received bytes stay buffered until they form a message.
        if let Ok(first) = timeout(FIRST_TIME, self.next()).await {
            self.first = first?.map_or(First::End, |seen| First::Message(Box::new(seen)));
        }
        Ok(self)
    }

    /// Returns the next message, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Seen>, Error> {
        match std::mem::take(&mut self.first) {
            First::Unknown => {}
            First::Message(seen) => return Ok(Some(*seen)),
            First::End => return Ok(None),
        }
        loop {
            let Some(message) = self.messages.next().await.map_err(about(&self.place))? else {
                return Ok(None);
            };
            let seen = match self.generation {
                Generation::V0_0 => v0_0::seen(message),
                Generation::V0_1 => v0_1::seen(message),
            };
            let unreadable = |_| unreadable(&self.gateway, WATCH);
            if let Some(seen) = seen.map_err(unreadable)? {
                return Ok(Some(seen));
            }
        }
    }
}

impl Gateway {
    /// Returns log lines of a sandbox, oldest first.
    pub async fn sandbox_logs(
        &self,
        place: &SandboxName,
        query: &LogQuery,
    ) -> Result<Vec<LogLine>, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::logs(&self.get_sandbox(place).await?.id, place, query),
            Generation::V0_1 => v0_1::logs(place, query),
        };
        let answer = self.unary(LOGS, &request, CALL_TIME).await.map_err(about(place))?;
        let lines = match self.generation() {
            Generation::V0_0 => v0_0::log_lines(&answer),
            Generation::V0_1 => v0_1::log_lines(&answer),
        };
        lines.ok_or_else(|| self.unreadable(LOGS))
    }

    /// Follows a sandbox, starting with its state when this returns.
    pub async fn watch_sandbox(
        &self,
        place: &SandboxName,
        follow: &Follow,
    ) -> Result<Watching, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::watch(&self.get_sandbox(place).await?.id, follow),
            Generation::V0_1 => v0_1::watch(place, follow),
        };
        let messages = self.stream(WATCH, &request).await.map_err(about(place))?;
        let (generation, gateway) = (self.generation(), self.name().to_string());
        let watching =
            Watching { messages, generation, gateway, place: place.clone(), first: First::Unknown };
        watching.begin().await
    }
}

/// Truncates a log message and replaces control characters, except for line breaks and tabs.
pub(super) fn message(said: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    said.chars().map(harmless).take(MESSAGE_CHARACTERS_MAX).collect()
}
