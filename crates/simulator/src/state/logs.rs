//! What a sandbox logs and what happens to it, the newest of it only.

use std::collections::BTreeMap;

use super::meta::now_ms;
use super::{Key, Notice, Sandbox, State};

/// Log lines of one sandbox.
const LOG_LINES_MAX: usize = 2_000;

/// Platform events of one sandbox.
const EVENTS_MAX: usize = 200;

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// `ERROR` to `TRACE`, or `OCSF`.
    pub(crate) level: String,
    /// The part of the program that logged.
    pub(crate) target: String,
    /// What it says.
    pub(crate) message: String,
    /// `gateway` or `sandbox`.
    pub(crate) source: String,
    /// What it says for programs.
    pub(crate) fields: BTreeMap<String, String>,
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct PlatformEvent {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Why, for programs.
    pub(crate) reason: String,
    /// Why, for people.
    pub(crate) message: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFilter {
    /// Not older, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// From one of these; empty for all.
    pub(crate) sources: Vec<String>,
    /// At least as grave; empty for all.
    pub(crate) min_level: String,
}

impl LogFilter {
    /// Whether a line is wanted.
    pub(crate) fn takes(&self, line: &LogLine) -> bool {
        line.at_ms >= self.since_ms
            && (self.sources.is_empty() || self.sources.contains(&line.source))
            && (self.min_level.is_empty()
                || line.level == "OCSF"
                || rank(&line.level) <= rank(&self.min_level))
    }
}

/// How grave a level is, the gravest first.
fn rank(level: &str) -> u8 {
    match level.to_ascii_uppercase().as_str() {
        "ERROR" => 0,
        "WARN" => 1,
        "INFO" => 2,
        "DEBUG" => 3,
        "TRACE" => 4,
        _ => 5,
    }
}

impl Sandbox {
    /// The last wanted lines, oldest first; 0 for all that are kept.
    pub(crate) fn tail(&self, filter: &LogFilter, lines: u32) -> Vec<LogLine> {
        let wanted: Vec<_> = self.logs.iter().filter(|line| filter.takes(line)).collect();
        let keep = match usize::try_from(lines).unwrap_or(usize::MAX) {
            0 => wanted.len(),
            lines => lines.min(wanted.len()),
        };
        wanted[wanted.len() - keep..].iter().map(|line| (*line).clone()).collect()
    }
}

impl State {
    /// Adds a line to a sandbox's log.
    pub(crate) fn log(&mut self, at: &Key, level: &str, source: &str, message: &str) {
        let target = if level == "OCSF" { "ocsf" } else { "openshell" };
        let line = LogLine {
            at_ms: now_ms(),
            level: level.to_owned(),
            target: target.to_owned(),
            message: message.to_owned(),
            source: source.to_owned(),
            fields: BTreeMap::new(),
        };
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        if sandbox.logs.len() == LOG_LINES_MAX {
            sandbox.logs.pop_front();
        }
        sandbox.logs.push_back(line.clone());
        self.notices.push(Notice::Log(sandbox.meta.id.clone(), line));
    }

    /// Adds an event of a sandbox.
    pub(super) fn event(&mut self, at: &Key, reason: &str, message: &str) {
        let event = PlatformEvent {
            at_ms: now_ms(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let Some(sandbox) = self.sandboxes.get_mut(at) else { return };
        if sandbox.events.len() == EVENTS_MAX {
            sandbox.events.pop_front();
        }
        sandbox.events.push_back(event.clone());
        self.notices.push(Notice::Event(sandbox.meta.id.clone(), event));
    }
}
