//! Group commit on SQLite: transactions that follow each other share one commit.
//!
//! A commit waits for the disk, often longer than the statements of its transaction took, and there is one writer. A
//! transaction that ends while other callers wait for the writer therefore leaves the commit to the next one.
//!
//! Invariants
//! - a transaction returns after the commit of its changes, or with the error of that commit. If its own work failed,
//!   it waits too, since it may have read changes that were not committed yet;
//! - a transaction that follows others of its group runs in a savepoint, so that it is rolled back without them. The
//!   first one needs none: SQLite would keep a copy of each page that it changes in memory;
//! - a group is committed by the member that ends while no other caller waits for the writer, or later than a delay after
//!   the first one, and by a member that commits at once, such as a batch of the audit log. The delay is
//!   `DbOptions::commit_delay`, or the time of the last commit if that was longer. The first member leaves the commit
//!   to the next one even if no other caller waits, if it commits with the next one. A group is committed before the
//!   writer is used outside of a transaction. If no other member follows within the delay, a task commits it, even if no
//!   member waits for the result any more;
//! - statements that a member adds to the commit are executed right before it, once, in a savepoint of their own: if they
//!   fail, the group is committed without their changes;
//! - only the holder of the writer connection changes the group. A new writer connection has none, since closing the
//!   previous one rolled it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::result::Error as DieselError;
use diesel::{QueryResult, SqliteConnection};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::{Conn, Db, SqliteConn, error};
use crate::error::Error;
use crate::net::spawn_owned;

/// Statements that are executed before a commit.
pub(crate) type BeforeCommit = fn(&mut SqliteConnection) -> QueryResult<()>;

/// When SQLite commits a transaction. PostgreSQL commits each at its end.
#[derive(Debug, Clone, Copy)]
pub(super) enum CommitTime {
    /// With a transaction that waits for the writer at its end, or at its end.
    Shared,
    /// At its end, with those before it.
    AtOnce,
    /// With those before it, otherwise with the next one or after `DbOptions::commit_delay`.
    WithNext,
}

/// Longest time that an ended transaction waits for others, as a multiple of the delay.
const DELAY_FACTOR_MAX: u32 = 4;

/// The transactions that share the next commit. Unused on PostgreSQL, which groups commits itself.
#[derive(Debug)]
pub(super) struct CommitGroup {
    /// Time that an ended transaction waits for others that share its commit, unless the disk is slower.
    delay: Duration,
    /// Time that the last commit took.
    last_commit: Mutex<Duration>,
    open: Mutex<Option<OpenGroup>>,
    /// Number of callers that wait for a writer connection.
    waiting: AtomicUsize,
}

/// A begun transaction of SQLite, with the members of the group that have ended.
#[derive(Debug, Default)]
struct OpenGroup {
    /// When the group is committed even if other callers wait. `None` until a member has ended.
    until: Option<Instant>,
    /// Receive the result of the commit: why it failed, or nothing if the group is rolled back.
    members: Vec<oneshot::Sender<Result<(), String>>>,
    /// Statements that members have added to the commit.
    before_commit: Option<BeforeCommit>,
}

/// Counts a caller that waits for a writer connection, until it is dropped.
pub(super) struct Waiting<'a>(&'a CommitGroup);

/// Event that an ended transaction waits for.
#[derive(Debug)]
pub(super) enum PendingCommit {
    /// Nothing: it is committed or rolled back.
    Done,
    /// The commit of its group.
    Shared {
        /// The result of the commit.
        committed: oneshot::Receiver<Result<(), String>>,
        /// When a task must commit the group if no other transaction has. `None` if there is such a task.
        task_at: Option<Instant>,
    },
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CommitGroup {
    /// Creates a group without members, with the delay of `DbOptions::commit_delay`.
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            last_commit: Mutex::default(),
            open: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Returns the time that an ended transaction waits for others: as long as the disk needs for a commit, since those
    /// that do not share this one wait for it too.
    fn delay(&self) -> Duration {
        let longest = self.delay.saturating_mul(DELAY_FACTOR_MAX);
        (*self.last_commit.lock()).clamp(self.delay, longest)
    }

    /// Counts the caller as waiting for a writer connection.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Begins a transaction. The first of a group takes the write lock, so that a read before a write cannot make the
    /// write fail.
    pub(super) fn join(&self, conn: &mut SqliteConn) -> Result<(), Error> {
        if self.is_open() {
            execute(conn, "SAVEPOINT member")?;
        } else {
            execute(conn, "BEGIN IMMEDIATE")?;
            *self.open.lock() = Some(OpenGroup::default());
        }
        Ok(())
    }

    /// Returns whether a group is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.lock().is_some()
    }

    /// Keeps the changes of a transaction, and commits its group unless it leaves that to the next one. `before` is added
    /// to the commit.
    ///
    /// # Errors
    /// The error of the commit. The connection must be closed then.
    pub(super) fn leave(
        &self,
        conn: &mut SqliteConn,
        before: Option<BeforeCommit>,
        commit_time: CommitTime,
    ) -> Result<PendingCommit, Error> {
        self.release_member(conn, before)?;
        self.end_member(conn, commit_time)
    }

    fn release_member(
        &self,
        conn: &mut SqliteConn,
        before: Option<BeforeCommit>,
    ) -> Result<(), Error> {
        if self.ended_members()? > 0 {
            execute(conn, "RELEASE member")?;
        }
        if let (Some(group), Some(before)) = (self.open.lock().as_mut(), before) {
            group.before_commit = Some(before);
        }
        Ok(())
    }

    /// Commits the open group unless its last member leaves that to the next one.
    ///
    /// # Errors
    /// As [`CommitGroup::leave`].
    pub(super) fn end_member(
        &self,
        conn: &mut SqliteConn,
        commit_time: CommitTime,
    ) -> Result<PendingCommit, Error> {
        if let Some(pending) = self.leave_commit_to_next(commit_time) {
            return Ok(pending);
        }
        self.commit(conn)?;
        Ok(PendingCommit::Done)
    }

    /// Returns the number of members of the open group that have ended.
    ///
    /// # Errors
    /// `Unavailable` if the group was rolled back.
    pub(super) fn ended_members(&self) -> Result<usize, Error> {
        let ended = self.open.lock().as_ref().map(|group| group.members.len());
        ended.ok_or_else(error::unavailable)
    }

    /// Returns `None` if the group must be committed now.
    fn leave_commit_to_next(&self, commit_time: CommitTime) -> Option<PendingCommit> {
        let mut open = self.open.lock();
        let group = open.as_mut()?;
        let waits = self.waiting.load(Ordering::SeqCst) > 0;
        let leaves = match commit_time {
            CommitTime::Shared => waits,
            CommitTime::AtOnce => false,
            // The callers of members before it do not wait longer because of it.
            CommitTime::WithNext => waits || group.members.is_empty(),
        };
        let now = Instant::now();
        let until = *group.until.get_or_insert(now + self.delay());
        if now >= until || !leaves {
            return None;
        }
        let (member, committed) = oneshot::channel();
        let task_at = group.members.is_empty().then_some(until);
        group.members.push(member);
        Some(PendingCommit::Shared { committed, task_at })
    }

    /// Rolls back one transaction. Returns whether ended members of its group remain.
    ///
    /// # Errors
    /// If the group was already rolled back, or that is not possible. The connection must be closed then.
    pub(super) fn roll_back_member(&self, conn: &mut SqliteConn) -> Result<bool, Error> {
        let remain = self.ended_members()? > 0;
        if remain {
            execute(conn, "ROLLBACK TO member; RELEASE member")?;
        } else {
            execute(conn, "ROLLBACK")?;
            self.reset();
        }
        Ok(remain)
    }

    /// Commits the open group, if there is one.
    fn commit(&self, conn: &mut SqliteConn) -> Result<(), Error> {
        let Some(group) = self.open.lock().take() else { return Ok(()) };
        let added = group.before_commit.map_or(Ok(()), |before| execute_before(conn, before));
        let begun = Instant::now();
        let committed = added.and_then(|()| execute(conn, "COMMIT"));
        *self.last_commit.lock() = begun.elapsed();
        let why = committed.as_ref().err().map(ToString::to_string);
        for member in group.members {
            // Fails if the caller no longer waits.
            let _ = member.send(why.clone().map_or(Ok(()), Err));
        }
        committed.map_err(error::of_commit)
    }

    /// Returns whether the group that must be committed at `until` is still open.
    fn is_due(&self, until: Instant) -> bool {
        self.open.lock().as_ref().is_some_and(|group| group.until == Some(until))
    }

    /// Removes the open group after its connection has rolled it back, or before it is closed.
    pub(super) fn reset(&self) {
        *self.open.lock() = None;
    }
}

impl Db {
    /// Commits the group that is open on a writer connection, whose new user is not part of it.
    ///
    /// # Errors
    /// `Unavailable` if that fails: the connection is closed, and nothing of its new user has happened.
    pub(super) fn commit_group(&self, mut conn: Conn) -> Result<Conn, Error> {
        let committed = match &mut conn {
            Conn::Pg(_) => Ok(()),
            Conn::Sqlite(c) => self.inner.group.commit(c),
        };
        if committed.is_ok() {
            return Ok(conn);
        }
        conn.close();
        // The members have the error of their commit.
        Err(error::unavailable())
    }

    /// Waits until an ended transaction is committed.
    pub(super) async fn wait_for_commit(&self, pending: PendingCommit) -> Result<(), Error> {
        let PendingCommit::Shared { committed, task_at } = pending else { return Ok(()) };
        if let Some(until) = task_at {
            self.commit_at(until);
        }
        commit_result(committed.await)
    }

    /// Commits the open group at `until`, unless a transaction has done so. This is a task of its own: the members may
    /// hang up, or not be polled.
    fn commit_at(&self, until: Instant) {
        let inner = Arc::downgrade(&self.inner);
        spawn_owned(async move {
            tokio::time::sleep_until(until).await;
            let Some(inner) = inner.upgrade() else { return };
            let db = Self { inner };
            while db.inner.group.is_due(until) {
                // An error of the commit is sent to the members. If there is no connection, a transaction has it.
                let _ = db.committer_conn().await.and_then(|conn| db.commit_group(conn));
            }
        });
    }
}

fn commit_result(
    received: Result<Result<(), String>, oneshot::error::RecvError>,
) -> Result<(), Error> {
    match received {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Error::in_doubt(why)),
        // The group was rolled back.
        Err(_) => Err(error::unavailable()),
    }
}

fn execute(conn: &mut SqliteConn, sql: &'static str) -> QueryResult<()> {
    let ended = conn.spawn_blocking(move |c| c.batch_execute(sql)).now_or_never();
    // A statement of SQLite ends before its future is returned.
    ended.unwrap_or(Err(DieselError::BrokenTransactionManager))
}

/// Executes the statements before a commit, and keeps all of their changes or none.
///
/// # Errors
/// If neither is possible, such as after SQLite has rolled back the group. The group cannot be committed then.
fn execute_before(conn: &mut SqliteConn, before: BeforeCommit) -> QueryResult<()> {
    let ended = conn.spawn_blocking(move |c| {
        c.batch_execute("SAVEPOINT addition")?;
        let Err(error) = before(c) else { return c.batch_execute("RELEASE addition") };
        let error = &error as &dyn std::error::Error;
        warn!(error, "statements before a commit have failed");
        c.batch_execute("ROLLBACK TO addition; RELEASE addition")
    });
    ended.now_or_never().unwrap_or(Err(DieselError::BrokenTransactionManager))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_transaction_waits_as_long_as_a_commit_takes_within_limits() {
        let group = CommitGroup::new(Duration::from_millis(5));
        for (last, expected) in [(0, 5), (5, 5), (8, 8), (20, 20), (21, 20), (1_000, 20)] {
            *group.last_commit.lock() = Duration::from_millis(last);
            assert_eq!(group.delay(), Duration::from_millis(expected), "{last}");
        }
    }
}
