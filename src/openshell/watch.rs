//! What a sandbox logs, and what becomes of it.

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

/// Longest log message that is kept, in characters.
const MESSAGE_CHARACTERS_MAX: usize = 16 << 10;

/// How long a watch waits for its first message before it goes on without. A gateway says first how the sandbox is, and
/// has by then begun to follow it; what happens after that is not missed.
const FIRST_TIME: Duration = Duration::from_secs(5);

/// A line that a sandbox has logged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLine {
    /// When.
    pub at: Option<Timestamp>,
    /// How grave it is, in the gateway's word.
    pub level: String,
    /// What part of the sandbox it is about.
    pub target: String,
    /// What it says.
    pub message: String,
    /// Where it comes from: `gateway` or `sandbox`.
    pub source: String,
    /// What else it says, by name.
    pub fields: BTreeMap<String, String>,
}

/// Something that has happened to a sandbox below the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformEvent {
    /// When.
    pub at: Option<Timestamp>,
    /// What tells it.
    pub source: String,
    /// What kind of thing.
    pub kind: String,
    /// Why, for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// One message of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The sandbox, as it is now.
    Sandbox(Box<Sandbox>),
    /// A line that it has logged.
    Log(LogLine),
    /// Something that has happened to it.
    Event(PlatformEvent),
    /// Something that the gateway wants to be known of the watch itself.
    Warning(String),
}

/// Which lines are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// How many at most, the youngest.
    pub lines: u32,
    /// None that is older.
    pub since: Option<Timestamp>,
    /// Only from these; empty is from all.
    pub sources: Vec<String>,
}

/// What is followed beside the sandbox's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Follow {
    /// Whether its log is.
    pub logs: bool,
    /// Whether what happens to it is.
    pub events: bool,
    /// How many lines of the log that is there already come first.
    pub log_tail: u32,
    /// No line that is older.
    pub since: Option<Timestamp>,
    /// Only lines from these; empty is from all.
    pub sources: Vec<String>,
}

/// What came before the first message was asked for.
#[derive(Debug, Default)]
enum First {
    /// Nothing yet, or it was returned already.
    #[default]
    Unknown,
    /// A message.
    Message(Box<Seen>),
    /// The end of the stream.
    End,
}

/// What becomes of a sandbox, as it comes.
#[derive(Debug)]
pub struct Watching {
    messages: Messages,
    generation: Generation,
    gateway: String,
    place: SandboxName,
    /// The first message, or the end, where it came in time.
    first: First,
}

impl Watching {
    /// Waits until the gateway follows the sandbox.
    async fn begin(mut self) -> Result<Self, Error> {
        // Nothing is lost where it is not waited for any longer: what has come is kept until it is a message.
        if let Ok(first) = timeout(FIRST_TIME, self.next()).await {
            self.first = first?.map_or(First::End, |seen| First::Message(Box::new(seen)));
        }
        Ok(self)
    }

    /// The next message; none at the end.
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
    /// Lines that a sandbox has logged, the oldest first.
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

    /// Follows a sandbox, from how it is when this answers.
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

/// A log message, cut; line breaks and tabs stay.
pub(super) fn message(said: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    said.chars().map(harmless).take(MESSAGE_CHARACTERS_MAX).collect()
}
