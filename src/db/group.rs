//! Group commit on SQLite: transactions that follow each other share one commit.
//!
//! A commit waits for the disk, often longer than the statements of its transaction took, and there is one writer. A
//! transaction that ends while other callers wait for the writer therefore leaves the commit to the next one.
//!
//! Invariants
//! - a transaction returns after the commit of its changes, or with the error of that commit. If its own work failed,
//!   it waits too, since it may have read changes that were not committed yet;
//! - each transaction runs in a savepoint, so that it is rolled back without the others of its group;
//! - a group is committed by the member that ends while no other caller waits for the writer, or later than
//!   [`COMMIT_DELAY_MAX`] after the first one. It is committed before the writer is used outside of a transaction. If
//!   no other member follows in that time, those that have ended commit it;
//! - only the holder of the writer connection changes the group. A new writer connection has none, since closing the
//!   previous one rolled it back.

use futures_util::future::BoxFuture;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::result::Error as DieselError;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Conn, Db, SqliteConn, error};
use crate::error::Error;

/// Time that an ended transaction waits for others that share its commit.
const COMMIT_DELAY_MAX: Duration = Duration::from_millis(5);

/// The transactions that share the next commit. Unused on PostgreSQL, which groups commits itself.
#[derive(Debug, Default)]
pub(super) struct CommitGroup {
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
}

/// Counts a caller that waits for a writer connection, until it is dropped.
pub(super) struct Waiting<'a>(&'a CommitGroup);

/// What an ended transaction waits for.
#[derive(Debug)]
pub(super) enum PendingCommit {
    /// Nothing: it is committed or rolled back.
    Done,
    /// The commit of its group.
    Shared {
        /// The result of the commit.
        committed: oneshot::Receiver<Result<(), String>>,
        /// When a member commits the group if no other transaction does.
        until: Instant,
    },
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CommitGroup {
    /// Counts the caller as waiting for a writer connection.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Begins a transaction. The first of a group takes the write lock, so that a read before a write cannot make the
    /// write fail.
    pub(super) fn join(&self, conn: &mut SqliteConn) -> Result<(), Error> {
        let is_first = self.open.lock().is_none();
        if is_first {
            execute(conn, "BEGIN IMMEDIATE")?;
            *self.open.lock() = Some(OpenGroup::default());
        }
        execute(conn, "SAVEPOINT member")?;
        Ok(())
    }

    /// Ends a transaction, and commits its group unless it leaves that to the next one.
    ///
    /// # Errors
    /// The error of the commit. The connection must be closed then.
    pub(super) fn leave(&self, conn: &mut SqliteConn, keep: bool) -> Result<PendingCommit, Error> {
        if keep {
            execute(conn, "RELEASE member")?;
        } else if !self.roll_back_member(conn)? {
            return Ok(PendingCommit::Done);
        }
        if let Some(pending) = self.leave_commit_to_next() {
            return Ok(pending);
        }
        self.commit(conn)?;
        Ok(PendingCommit::Done)
    }

    /// Returns `None` if the group must be committed now.
    fn leave_commit_to_next(&self) -> Option<PendingCommit> {
        let mut open = self.open.lock();
        let group = open.as_mut()?;
        let now = Instant::now();
        let until = *group.until.get_or_insert(now + COMMIT_DELAY_MAX);
        if now >= until || self.waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let (member, committed) = oneshot::channel();
        group.members.push(member);
        Some(PendingCommit::Shared { committed, until })
    }

    /// Rolls back one transaction. Returns whether ended members of its group remain.
    ///
    /// # Errors
    /// If the group was already rolled back, or that is not possible. The connection must be closed then.
    pub(super) fn roll_back_member(&self, conn: &mut SqliteConn) -> Result<bool, Error> {
        let ended = self.open.lock().as_ref().map(|group| group.members.len());
        let remain = ended.ok_or_else(error::unavailable)? > 0;
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
        let committed = execute(conn, "COMMIT");
        let why = committed.as_ref().err().map(ToString::to_string);
        for member in group.members {
            // Fails if the caller no longer waits.
            let _ = member.send(why.clone().map_or(Ok(()), Err));
        }
        committed.map_err(error::of_commit)
    }

    /// Removes the open group after its connection has rolled it back, or before it is closed.
    pub(super) fn reset(&self) {
        *self.open.lock() = None;
    }
}

impl Db {
    /// Commits the group that is open on a writer connection. Closes the connection if that fails.
    pub(super) fn commit_group(&self, mut conn: Conn) -> Result<Conn, Error> {
        let committed = match &mut conn {
            Conn::Pg(_) => Ok(()),
            Conn::Sqlite(c) => self.inner.group.commit(c),
        };
        match committed {
            Ok(()) => Ok(conn),
            Err(error) => {
                conn.close();
                Err(error)
            }
        }
    }

    /// Waits until an ended transaction is committed.
    pub(super) fn wait_for_commit(
        &self,
        pending: PendingCommit,
    ) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let PendingCommit::Shared { mut committed, until } = pending else { return Ok(()) };
            if let Ok(received) = tokio::time::timeout_at(until, &mut committed).await {
                return commit_result(received);
            }
            // The callers that waited for the writer no longer do, or one of them has it: then it commits.
            loop {
                tokio::select! {
                    biased;
                    received = &mut committed => return commit_result(received),
                    conn = self.writer_conn(None) => {
                        // The result is received above.
                        let _ = conn.and_then(|conn| self.commit_group(conn));
                    }
                }
            }
        })
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
