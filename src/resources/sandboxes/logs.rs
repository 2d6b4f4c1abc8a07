//! Log lines of a sandbox. Filters are applied before the line limit.

use super::domain::connect;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::watch::{LogLine, LogQuery, WatchOptions, WatchStream};

/// Lines in a response if the request does not set a number.
pub const LINES_DEFAULT: u32 = 200;
/// Most lines in a response.
pub const LINES_MAX: u32 = 10_000;
/// Most log lines at the start of a watch.
pub const TAIL_MAX: u32 = 1_000;

/// Level of a log line, the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// An error.
    Error,
    /// A warning.
    Warn,
    /// Information about normal operation.
    Info,
    /// Details for debugging.
    Debug,
    /// The most detailed level.
    Trace,
}

impl LogLevel {
    /// Parses a level, ignoring case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "error" => Some(Self::Error),
            "warn" | "warning" => Some(Self::Warn),
            "info" => Some(Self::Info),
            "debug" => Some(Self::Debug),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

/// Filter of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Query for the gateway. The gateway applies its line limit before Shoreguard filters, so the request has the
    /// largest limit.
    pub log_query: LogQuery,
    /// Number of matching lines to return: the newest ones.
    pub lines: usize,
    /// Least severe level to return.
    pub least: Option<LogLevel>,
    /// Only security events.
    pub ocsf_only: bool,
}

impl LogRequest {
    /// Returns whether a line matches. An unknown level is less severe than all others. A security event is never
    /// excluded by its level.
    fn matches(&self, line: &LogLine) -> bool {
        let ocsf = is_ocsf(line);
        let grave = self.least.is_none_or(|least| {
            ocsf || LogLevel::parse(&line.level).is_some_and(|level| level <= least)
        });
        grave && (ocsf || !self.ocsf_only)
    }
}

fn is_ocsf(line: &LogLine) -> bool {
    line.level.eq_ignore_ascii_case("ocsf") || line.target.eq_ignore_ascii_case("ocsf")
}

/// Returns the newest matching lines, the oldest of them first.
pub async fn get(
    ctx: &Ctx,
    place: &SandboxName,
    query: &LogRequest,
) -> Result<Vec<LogLine>, Error> {
    let lines = connect(ctx).await?.sandbox_logs(place, &query.log_query).await?;
    Ok(newest_matching(lines, query))
}

fn newest_matching(mut lines: Vec<LogLine>, query: &LogRequest) -> Vec<LogLine> {
    lines.retain(|line| query.matches(line));
    let surplus = lines.len().saturating_sub(query.lines);
    lines.split_off(surplus)
}

/// Watches a sandbox.
pub async fn watch(
    ctx: &Ctx,
    place: &SandboxName,
    follow: &WatchOptions,
) -> Result<WatchStream, Error> {
    connect(ctx).await?.watch_sandbox(place, follow).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: &str, target: &str) -> LogLine {
        LogLine { level: level.to_owned(), target: target.to_owned(), ..LogLine::default() }
    }

    #[test]
    fn log_lines_are_filtered_before_the_line_limit_applies() {
        let lines = [
            line("ERROR", "net"),
            line("OCSF", "net"),
            line("info", "ocsf"),
            line("DEBUG", "x"),
            line("odd", "x"),
        ];
        let levels = |lines_max: usize, least: Option<LogLevel>, ocsf_only: bool| {
            let query =
                LogRequest { log_query: LogQuery::default(), lines: lines_max, least, ocsf_only };
            let picked = newest_matching(lines.to_vec(), &query);
            picked.into_iter().map(|line| line.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(9, None, false), ["ERROR", "OCSF", "info", "DEBUG", "odd"]);
        assert_eq!(levels(2, None, false), ["DEBUG", "odd"]);
        assert_eq!(levels(9, Some(LogLevel::Error), false), ["ERROR", "OCSF", "info"]);
        assert_eq!(levels(1, Some(LogLevel::Error), false), ["info"]);
        assert_eq!(levels(9, Some(LogLevel::Trace), true), ["OCSF", "info"]);
        assert_eq!(levels(0, None, false), Vec::<String>::new());
    }
}
