//! How far a reader has read the change log.
//!
//! Every change has a place in the log. On SQLite it is its revision: there is one writer, so revisions are committed
//! in their order. On PostgreSQL transactions are committed in any order, and a revision can be committed after a
//! higher one. There the place is the id of the transaction, and the position of a reader is a snapshot of the
//! database: it separates the transactions that had ended from those that were still open. A change is unread if its
//! transaction had not ended. So writers do not wait for each other, and a transaction that is open for long delays
//! only its own changes.
//!
//! Invariants
//! - a change that has been committed is read by every reader once its position is taken after the commit;
//! - a reader whose unread changes were deleted detects it, in every order of commits;
//! - a position is compared only with places of the same run of the database: after a crash, ids are assigned again;
//! - places of another database cluster, from which the log was restored, are never compared with those of this one.

use crate::error::Error;

/// The places that a reader has read: all below `next`, except for those of `open`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPosition {
    next: i64,
    /// Transactions below `next` that had not ended, in ascending order.
    open: Vec<i64>,
}

impl LogPosition {
    /// Parses a snapshot of PostgreSQL: `xmin:xmax:` and the open transactions from `xmin` up to `xmax`, separated by
    /// commas.
    ///
    /// # Errors
    /// `Internal` if the text has another form.
    pub fn from_snapshot(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(':').skip(1);
        let (Some(next), Some(open), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Error::internal("a snapshot that does not have three parts"));
        };
        let open = open.split(',').filter(|id| !id.is_empty()).map(str::parse::<i64>);
        Ok(Self {
            next: next.parse().map_err(Error::internal)?,
            open: open.collect::<Result<_, _>>().map_err(Error::internal)?,
        })
    }

    /// Returns the position after a revision, and after all lower ones.
    #[must_use]
    pub fn after_revision(revision: i64) -> Self {
        Self { next: revision.saturating_add(1), open: Vec::new() }
    }

    /// The first place that is unread with all higher ones.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The lower places that are unread.
    #[must_use]
    pub fn open(&self) -> &[i64] {
        &self.open
    }

    /// Returns whether the transaction at this place had ended.
    fn has_ended(&self, place: i64) -> bool {
        place < self.next && !self.open.contains(&place)
    }

    /// Returns whether a reader at this position may have missed changes. `deleted` is the highest place of a deleted
    /// change, and `now` the current position of a reader that has read everything.
    #[must_use]
    pub fn has_missed(&self, deleted: i64, now: &Self) -> bool {
        // The database was restored, or a standby without the last transactions became the primary. After a crash, too,
        // PostgreSQL assigns ids again that were not flushed. This check detects that only until the ids are used up:
        // the reader must also check its connection, since a crash and a failover end every connection.
        if now.next < self.next {
            return true;
        }
        // A higher place is one of another cluster.
        let here = deleted < now.next;
        let unread = |place: &i64| *place <= deleted && now.has_ended(*place);
        here && (self.next <= deleted || self.open.iter().any(unread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> LogPosition {
        LogPosition::from_snapshot(text).unwrap()
    }

    #[test]
    fn a_snapshot_of_postgresql_is_parsed() {
        for (text, next, open) in [
            ("700:700:", 700, vec![]),
            ("700:705:700", 705, vec![700]),
            ("700:710:700,703,709", 710, vec![700, 703, 709]),
        ] {
            assert_eq!(at(text), LogPosition { next, open }, "{text}");
        }
        for text in ["", "1", "1:2", "1:2:3:4", "1:x:", "1:5:2,x"] {
            assert!(LogPosition::from_snapshot(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reader_misses_only_deleted_changes_that_it_has_not_read() {
        // position, highest deleted place, current position -> missed
        for (position, deleted, now, missed) in [
            ("10:10:", 0, "20:20:", false),
            ("10:10:", 9, "20:20:", false),
            ("10:10:", 10, "20:20:", true),
            ("10:10:", 15, "20:20:", true),
            // The open transaction 7 has ended, and its change may have been deleted.
            ("7:10:7", 9, "20:20:", true),
            ("7:10:7", 6, "20:20:", false),
            // It is still open, so its change cannot have been deleted.
            ("7:10:7", 9, "7:20:7", false),
            ("5:10:5,7", 9, "5:20:5", true),
            // The deleted place is one of another cluster.
            ("10:10:", 900, "20:20:", false),
            // The database was restored to an earlier state.
            ("10:10:", 0, "8:8:", true),
        ] {
            let found = at(position).has_missed(deleted, &at(now));
            assert_eq!(found, missed, "{position} {deleted} {now}");
        }
    }

    #[test]
    fn a_reader_of_revisions_misses_those_after_its_own() {
        let position = LogPosition::after_revision(5);
        for (deleted, missed) in [(0, false), (5, false), (6, true), (8, true)] {
            assert_eq!(position.has_missed(deleted, &LogPosition::after_revision(9)), missed);
        }
    }
}
