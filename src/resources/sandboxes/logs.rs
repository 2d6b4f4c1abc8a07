//! What a sandbox has logged, picked before it is counted (WP70).

use super::domain::reach;
use crate::ctx::Ctx;
use crate::db::types::SandboxName;
use crate::error::Error;
use crate::openshell::watch::{Follow, LogLine, LogQuery, Watching};

/// Lines that a caller gets who asks for no number.
pub const LINES_DEFAULT: u32 = 200;
/// Most lines of one answer.
pub const LINES_MAX: u32 = 10_000;
/// Most lines that come first in a watch.
pub const TAIL_MAX: u32 = 1_000;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Something happened.
    Info,
    /// For who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// From a word, in whatever case.
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

/// Which lines are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What the gateway picks. Its own bound of lines counts before ours does, so that it is asked for all it may give.
    pub of: LogQuery,
    /// How many of those that are left, the youngest.
    pub lines: usize,
    /// None that is less grave.
    pub least: Option<Level>,
    /// Only security events.
    pub ocsf_only: bool,
}

impl Query {
    /// Whether a line is asked for. A word that is no level is less grave than all, and a security event is never left out
    /// because of its level.
    fn picks(&self, line: &LogLine) -> bool {
        let ocsf = is_ocsf(line);
        let grave = self.least.is_none_or(|least| {
            ocsf || Level::parse(&line.level).is_some_and(|level| level <= least)
        });
        grave && (ocsf || !self.ocsf_only)
    }
}

fn is_ocsf(line: &LogLine) -> bool {
    line.level.eq_ignore_ascii_case("ocsf") || line.target.eq_ignore_ascii_case("ocsf")
}

/// The youngest lines that are asked for, the oldest of them first.
pub async fn get(ctx: &Ctx, place: &SandboxName, query: &Query) -> Result<Vec<LogLine>, Error> {
    let lines = reach(ctx).await?.sandbox_logs(place, &query.of).await?;
    Ok(pick(lines, query))
}

fn pick(mut lines: Vec<LogLine>, query: &Query) -> Vec<LogLine> {
    lines.retain(|line| query.picks(line));
    let surplus = lines.len().saturating_sub(query.lines);
    lines.split_off(surplus)
}

/// Follows a sandbox.
pub async fn watch(ctx: &Ctx, place: &SandboxName, follow: &Follow) -> Result<Watching, Error> {
    reach(ctx).await?.watch_sandbox(place, follow).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: &str, target: &str) -> LogLine {
        LogLine { level: level.to_owned(), target: target.to_owned(), ..LogLine::default() }
    }

    #[test]
    fn wp70_lines_are_picked_before_they_are_counted() {
        let lines = [
            line("ERROR", "net"),
            line("OCSF", "net"),
            line("info", "ocsf"),
            line("DEBUG", "x"),
            line("odd", "x"),
        ];
        let levels = |lines_max: usize, least: Option<Level>, ocsf_only: bool| {
            let query = Query { of: LogQuery::default(), lines: lines_max, least, ocsf_only };
            let picked = pick(lines.to_vec(), &query);
            picked.into_iter().map(|line| line.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(9, None, false), ["ERROR", "OCSF", "info", "DEBUG", "odd"]);
        assert_eq!(levels(2, None, false), ["DEBUG", "odd"]);
        assert_eq!(levels(9, Some(Level::Error), false), ["ERROR", "OCSF", "info"]);
        assert_eq!(levels(1, Some(Level::Error), false), ["info"]);
        assert_eq!(levels(9, Some(Level::Trace), true), ["OCSF", "info"]);
        assert_eq!(levels(0, None, false), Vec::<String>::new());
    }
}
