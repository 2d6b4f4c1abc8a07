//! The last lines of a log that were read, by which the next read finds out whether lines are missing.
//!
//! Invariants
//! - they are found by their order of arrival: a line with a wrong time hides nothing;
//! - only lines that the next read returns, if the gateway still has them, are remembered.

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::openshell::watch::LogLine;

/// Lines that are remembered of one read. More than one, so that a line that is written again is not taken for the last
/// one of the previous read.
const ENDS_MAX: usize = 4;

/// The last lines of a read, in the order of their arrival.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Ends {
    /// The gateway's id of the sandbox.
    sandbox_id: String,
    /// The stored position after the read.
    log_time: Option<Timestamp>,
    lines: Vec<End>,
}

/// A line, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    at: Option<Timestamp>,
    length: usize,
    hash: [u8; 32],
}

impl End {
    fn of(line: &LogLine) -> Self {
        Self { at: line.at, length: line.message.len(), hash: hash(line) }
    }

    fn is(&self, line: &LogLine) -> bool {
        self.at == line.at && self.length == line.message.len() && self.hash == hash(line)
    }
}

fn hash(line: &LogLine) -> [u8; 32] {
    Sha256::digest(line.message.as_bytes()).into()
}

impl Ends {
    /// Returns the last of these lines, after which the position of the sandbox is `log_time`. `from` is the time since
    /// which lines are read again; `None` reads all.
    pub(super) fn of(
        (sandbox_id, log_time): (&str, Option<Timestamp>),
        lines: &[LogLine],
        from: Option<Timestamp>,
    ) -> Self {
        let is_read_again =
            |line: &&LogLine| from.is_none_or(|from| line.at.is_some_and(|at| at >= from));
        let last = lines.iter().rev().filter(is_read_again).take(ENDS_MAX);
        let mut lines: Vec<End> = last.map(End::of).collect();
        lines.reverse();
        Self { sandbox_id: sandbox_id.to_owned(), log_time, lines }
    }

    /// Returns the lines if they are those of this sandbox, and not of a former one with the same name, and if this
    /// process was the last one to store the position.
    pub(super) fn known(&self, sandbox_id: &str, log_time: Option<Timestamp>) -> Self {
        let is_known = self.sandbox_id == sandbox_id && self.log_time == log_time;
        if is_known { self.clone() } else { Self::default() }
    }

    /// Whether no lines are remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Returns how many lines have arrived after the remembered ones. `None` if these are missing, or none are
    /// remembered.
    pub(super) fn following(&self, lines: &[LogLine]) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let last = (0..lines.len()).rev().find(|last| self.end_at(&lines[..=*last]));
        last.map(|last| lines.len() - 1 - last)
    }

    /// Whether these lines end with the remembered ones. The first of those may have been dropped.
    fn end_at(&self, lines: &[LogLine]) -> bool {
        self.lines.iter().rev().zip(lines.iter().rev()).all(|(end, line)| end.is(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: (&str, Option<Timestamp>) = ("one", Some(Timestamp::EPOCH));

    fn lines(of: &[(i64, &str)]) -> Vec<LogLine> {
        let line = |(second, message): &(i64, &str)| LogLine {
            at: Some(Timestamp::from_unix_seconds(*second)),
            message: (*message).to_owned(),
            ..LogLine::default()
        };
        of.iter().map(line).collect()
    }

    #[test]
    fn the_lines_after_those_of_the_previous_read_are_counted() {
        let read = lines(&[(1, "a"), (2, "b"), (9, "ahead"), (3, "c"), (3, "c"), (4, "d")]);
        let ends = Ends::of(ONE, &read, None);
        assert_eq!(ends.lines.len(), ENDS_MAX);
        assert_eq!(ends.following(&read), Some(0));
        let later = [read.clone(), lines(&[(2, "late"), (5, "e")])].concat();
        assert_eq!(ends.following(&later), Some(2));
        // The gateway has dropped all but the last of them.
        assert_eq!(ends.following(&later[5..]), Some(2));
        assert_eq!(ends.following(&later[6..]), None);
        assert_eq!(ends.following(&[]), None);
        assert_eq!(Ends::default().following(&read), None);
    }

    #[test]
    fn a_line_that_is_written_again_is_not_the_last_of_the_previous_read() {
        let ends = Ends::of(ONE, &lines(&[(1, "a"), (2, "b")]), None);
        assert_eq!(ends.following(&lines(&[(3, "c"), (2, "b"), (4, "d")])), None);
        // Lines differ by their times and texts.
        for other in [(3, "b"), (2, "c")] {
            assert_eq!(ends.following(&lines(&[(1, "a"), other])), None, "{other:?}");
        }
    }

    #[test]
    fn only_lines_that_are_read_again_are_remembered() {
        let untimed = LogLine { message: "x".to_owned(), ..LogLine::default() };
        let read = [lines(&[(1, "a"), (9, "b"), (2, "old")]), vec![untimed.clone()]].concat();
        let ends = Ends::of(ONE, &read, Some(Timestamp::from_unix_seconds(5)));
        assert_eq!(ends, Ends::of(ONE, &lines(&[(9, "b")]), None));
        assert_eq!(Ends::of(ONE, &read, None).lines.len(), 4);
        assert!(Ends::of(ONE, &[untimed], Some(Timestamp::EPOCH)).is_empty());
    }

    #[test]
    fn the_lines_of_another_sandbox_or_position_are_not_known() {
        let ends = Ends::of(ONE, &lines(&[(1, "a")]), None);
        assert_eq!(ends.known("one", ONE.1), ends);
        assert!(ends.known("two", ONE.1).is_empty());
        assert!(ends.known("one", None).is_empty(), "another process has read the log");
    }
}
