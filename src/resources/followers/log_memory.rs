//! What a follower remembers of the logs of sandboxes.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::log_ends::Ends;
use super::logs::LINES;
use crate::clock::Timestamp;
use crate::openshell::sandbox::Phase;

/// Lines of one sandbox that are remembered as stored: as many as two reads can return.
const REMEMBERED_MAX: usize = 4_000;

/// State of the log of a sandbox between passes.
#[derive(Debug)]
pub(super) struct LogMemory {
    /// When it was last read.
    pub(super) read_at: Option<Instant>,
    /// Phase of the sandbox then.
    pub(super) read_in: Option<Phase>,
    /// The last lines of the last read.
    pub(super) ends: Ends,
    /// Lines of the next read.
    pub(super) lines: u32,
    /// Lines that the sandbox writes per minute.
    pub(super) lines_per_minute: u64,
    /// Whether the last read has missed lines.
    pub(super) had_gap: bool,
    /// When missed lines were last announced.
    pub(super) gap_announced_at: Option<Instant>,
    /// Bypasses that were counted and may be read again: more than are stored.
    pub(super) bypasses: Remembered,
    /// Refused connections that were stored and may be read again.
    pub(super) refused: Remembered,
}

impl Default for LogMemory {
    fn default() -> Self {
        Self {
            read_at: None,
            read_in: None,
            ends: Ends::default(),
            lines: LINES,
            lines_per_minute: 0,
            had_gap: false,
            gap_announced_at: None,
            bypasses: Remembered::default(),
            refused: Remembered::default(),
        }
    }
}

/// Lines by their times and hashes.
#[derive(Debug, Default)]
pub(super) struct Remembered(BTreeSet<(Timestamp, String)>);

impl Remembered {
    pub(super) fn has(&self, at: Timestamp, line_hash: &str) -> bool {
        self.0.contains(&(at, line_hash.to_owned()))
    }

    /// Adds lines. Removes those before a time, which are not read again, and the oldest if there are too many.
    pub(super) fn add(
        &mut self,
        from: Option<Timestamp>,
        lines: impl Iterator<Item = (Timestamp, String)>,
    ) {
        self.0.extend(lines);
        self.0.retain(|(at, _)| from.is_none_or(|from| *at >= from));
        while self.0.len() > REMEMBERED_MAX {
            self.0.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const SOME_TIME: Duration = Duration::from_secs(30);

    #[test]
    fn t20_what_is_remembered_of_a_log_is_bounded() {
        let mut memory = Remembered::default();
        // Their times are ahead, so that they are never old.
        for from in [0, 3_000, 6_000] {
            memory.add(
                Some(NOW.minus(SOME_TIME)),
                (from..from + 3_000).map(|n| (NOW, n.to_string())),
            );
            assert!(memory.0.len() <= REMEMBERED_MAX && !memory.has(NOW, "none"));
        }
        memory.add(Some(NOW.plus(SOME_TIME)), std::iter::empty());
        assert!(memory.0.is_empty());
    }
}
