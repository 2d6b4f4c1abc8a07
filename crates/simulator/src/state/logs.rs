//! The newest log lines and events of a sandbox.

use std::collections::BTreeMap;

use super::meta::now_ms;
use super::{Notice, ObjectKey, Sandbox, State};

/// Maximum number of log lines per sandbox.
const LOG_LINES_MAX: usize = 2_000;

/// Maximum number of platform events per sandbox.
const EVENTS_MAX: usize = 200;

/// A log line.
#[derive(Debug, Clone)]
pub(crate) struct LogLine {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// `ERROR` to `TRACE`, or `OCSF`.
    pub(crate) level: String,
    /// Component that logged.
    pub(crate) target: String,
    /// Text.
    pub(crate) message: String,
    /// `gateway` or `sandbox`.
    pub(crate) source: String,
    /// Structured fields.
    pub(crate) fields: BTreeMap<String, String>,
}

/// A platform event.
#[derive(Debug, Clone)]
pub(crate) struct PlatformEvent {
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Machine-readable reason.
    pub(crate) reason: String,
    /// Text.
    pub(crate) message: String,
}

/// Selects log lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFilter {
    /// Minimum time, in milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// Accepted sources; empty for all.
    pub(crate) sources: Vec<String>,
    /// Minimum severity; empty for all.
    pub(crate) min_level: String,
}

impl LogFilter {
    /// Whether a line matches the filter.
    pub(crate) fn matches(&self, line: &LogLine) -> bool {
        line.at_ms >= self.since_ms
            && (self.sources.is_empty() || self.sources.contains(&line.source))
            && (self.min_level.is_empty()
                || line.level == "OCSF"
                || severity_rank(&line.level) <= severity_rank(&self.min_level))
    }
}

/// Returns the rank of a severity, the most severe first.
fn severity_rank(level: &str) -> u8 {
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
    /// Returns the matching ones of the last `lines` lines, oldest first; `lines` 0 means all. Gateways cut before they
    /// filter.
    pub(crate) fn tail(&self, filter: &LogFilter, lines: u32) -> Vec<LogLine> {
        let kept = match usize::try_from(lines).unwrap_or(usize::MAX) {
            0 => self.logs.len(),
            lines => lines.min(self.logs.len()),
        };
        let last = self.logs.iter().skip(self.logs.len() - kept);
        last.filter(|line| filter.matches(line)).cloned().collect()
    }
}

impl State {
    /// Adds a line to the log of a sandbox.
    pub(crate) fn log(&mut self, at: &ObjectKey, level: &str, source: &str, message: &str) {
        self.log_with_time(at, now_ms(), level, source, message);
    }

    /// Adds a line with a given time to the log of a sandbox.
    pub(crate) fn log_with_time(
        &mut self,
        at: &ObjectKey,
        at_ms: i64,
        level: &str,
        source: &str,
        message: &str,
    ) {
        let target = if level == "OCSF" { "ocsf" } else { "openshell" };
        let line = LogLine {
            at_ms,
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

    /// Adds a platform event of a sandbox.
    pub(super) fn add_event(&mut self, at: &ObjectKey, reason: &str, message: &str) {
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
