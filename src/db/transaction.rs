//! Transactions: all or nothing, even if the future is dropped midway.
//!
//! Invariants
//! - on SQLite the write lock is taken at the start, so a read before the write cannot make the write fail;
//! - a connection returns to its pool only when its transaction has ended. On SQLite, that may be before the commit
//!   (`group`). Otherwise it is closed, which makes the engine roll back and release its locks at once;
//! - on SQLite a transaction runs in place, with all its statements (`in_place`);
//! - the first statements of a transaction are in it, although PostgreSQL gets them before its response to BEGIN. If
//!   BEGIN fails, no other statement follows them;
//! - a PostgreSQL connection on which the database failed is closed: it may lead to a server that was the primary;
//! - nothing is retried: the caller of an [`Error::Conflict`] reads again and repeats.

use std::future::ready;
use std::task::Poll;

use diesel::QueryResult;
use diesel::connection::TransactionDepthChange;
use diesel::pg::Pg;
use diesel::query_builder::{QueryFragment, QueryId, SqlQuery};
use diesel_async::{
    AnsiTransactionManager, AsyncConnection, RunQueryDsl, SimpleAsyncConnection, TransactionManager,
};
use futures_util::future::BoxFuture;
use futures_util::{future, poll};

use super::cached::cached;
use super::group::{CommitGroup, CommitTime, PendingCommit};
use super::in_place::InPlace;
use super::{Conn, Db, Engine, OpeningConn, PgConn, SqliteConn, boxed, error};
use crate::error::{Error, Reason};

impl Db {
    /// Runs `work` in a transaction on a writer connection. Commits on `Ok`, rolls back on `Err`.
    ///
    /// `work` must not make network calls or wait for anything else: on SQLite every other writer waits for it, and so
    /// do the transactions that share its commit.
    ///
    /// # Errors
    /// The error of `work`, or of beginning and committing. A connection that is lost during the commit is `Internal`,
    /// since it is unknown whether the commit took effect.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transaction_after(no_statements, async |conn, ()| work(conn).await).await
    }

    /// Does the same as [`Db::transaction`] after the first statements of the transaction, `first`, whose result `work`
    /// gets. PostgreSQL gets them in one round trip with BEGIN: see [`OpeningConn`]. If they fail, `work` does not run.
    ///
    /// # Errors
    /// Those of [`Db::transaction`], and that of `first`.
    pub async fn transaction_after<P, T>(
        &self,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
        work: impl AsyncFnOnce(&mut Conn, P) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let conn = self.writer().await?;
        self.transaction_on(conn, first, async |conn, opened| {
            Ok((work(conn, opened).await?, None::<SqlQuery>))
        })
        .await
    }

    /// Does the same as [`Db::transaction`] for work that writes many rows: on SQLite, the transactions of other
    /// callers that ended before it are committed first, so that they do not wait for it.
    ///
    /// # Errors
    /// Those of [`Db::transaction`].
    pub async fn long_transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let conn = self.write().await?;
        self.transaction_on(conn, no_statements, async |conn, ()| {
            Ok((work(conn).await?, None::<SqlQuery>))
        })
        .await
    }

    /// Does the same as [`Db::transaction_after`] on a connection of [`Db::writer`], or for work as that of
    /// [`Db::long_transaction`] on one of [`Db::write`].
    ///
    /// `work` may return a last statement with its value. PostgreSQL gets that statement and the commit in one round
    /// trip. On SQLite, which has no round trips, `work` executes all statements itself.
    ///
    /// # Errors
    /// Those of [`Db::transaction_after`], and that of the last statement.
    pub(crate) async fn transaction_on<P, T, Q>(
        &self,
        conn: Conn,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
        work: impl AsyncFnOnce(&mut Conn, P) -> Result<(T, Option<Q>), Error>,
    ) -> Result<T, Error>
    where
        Q: QueryFragment<Pg> + QueryId + Send,
    {
        self.run_on(conn, CommitTime::Shared, first, work).await
    }

    /// Does the same as [`Db::transaction`], and commits at its end: on SQLite in one commit with the transactions of
    /// other callers that ended before it, which do not wait for another one.
    ///
    /// # Errors
    /// Those of [`Db::transaction`].
    pub async fn transaction_at_once<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.transaction_at_once_on(self.writer().await?, work).await
    }

    /// Does the same as [`Db::transaction_at_once`] on a connection of [`Db::writer`].
    ///
    /// # Errors
    /// Those of [`Db::transaction`].
    pub(crate) async fn transaction_at_once_on<T>(
        &self,
        conn: Conn,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run_at(conn, CommitTime::AtOnce, work).await
    }

    /// Does the same as [`Db::transaction`] for work that no caller waits for: on SQLite it is committed with those before
    /// it, otherwise with the next one, so that it causes no wait for the disk, or after `DbOptions::commit_delay`.
    ///
    /// # Errors
    /// Those of [`Db::transaction`].
    pub async fn transaction_with_next<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run_at(self.writer().await?, CommitTime::WithNext, work).await
    }

    async fn run_at<T>(
        &self,
        conn: Conn,
        commit_time: CommitTime,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.run_on(conn, commit_time, no_statements, async |conn, ()| {
            Ok((work(conn).await?, None::<SqlQuery>))
        })
        .await
    }

    async fn run_on<P, T, Q>(
        &self,
        conn: Conn,
        commit_time: CommitTime,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
        work: impl AsyncFnOnce(&mut Conn, P) -> Result<(T, Option<Q>), Error>,
    ) -> Result<T, Error>
    where
        Q: QueryFragment<Pg> + QueryId + Send,
    {
        let engine = conn.engine();
        let transaction = run(&self.inner.group, conn, commit_time, first, work);
        let (result, pending) = match engine {
            Engine::Postgres => Box::pin(transaction).await?,
            Engine::Sqlite => InPlace::new(transaction).await?,
        };
        self.wait_for_commit(pending).await?;
        result
    }
}

/// The first statements of a transaction without any.
pub(crate) fn no_statements(_: OpeningConn<'_>) -> BoxFuture<'_, Result<(), Error>> {
    Box::pin(ready(Ok(())))
}

/// Runs `first` and `work` in a transaction. Returns the result, and the commit that the result waits for.
async fn run<P, T, Q>(
    group: &CommitGroup,
    conn: Conn,
    commit_time: CommitTime,
    first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
    work: impl AsyncFnOnce(&mut Conn, P) -> Result<(T, Option<Q>), Error>,
) -> Result<(Result<T, Error>, PendingCommit), Error>
where
    Q: QueryFragment<Pg> + QueryId + Send,
{
    let engine = conn.engine();
    let (mut open, opened) = OpenTransaction::begin(group, conn, first).await?;
    let worked = match opened {
        Ok(opened) => work(open.conn()?, opened).await,
        Err(error) => Err(error),
    };
    match worked {
        Ok((value, last)) => Ok((Ok(value), open.commit(last, commit_time).await?)),
        Err(error) if is_lost_postgres(&error, engine) => {
            // A server that is no longer the primary: the guard closes the connection, which rolls back too.
            drop(open);
            Ok((Err(error), PendingCommit::Done))
        }
        Err(error) => {
            let pending = open.rollback().await?;
            Ok((Err(error), pending))
        }
    }
}

/// Returns whether PostgreSQL failed, not the statement.
fn is_lost_postgres(error: &Error, engine: Engine) -> bool {
    let failed = matches!(error, Error::Unavailable { reason: Reason::StorageUnavailable, .. });
    failed && engine == Engine::Postgres
}

/// A connection inside a transaction. Dropping it before the transaction has ended rolls it back.
struct OpenTransaction<'a> {
    group: &'a CommitGroup,
    conn: Option<Conn>,
}

impl<'a> OpenTransaction<'a> {
    /// Begins a transaction and executes its first statements. Returns it with their result.
    async fn begin<P>(
        group: &'a CommitGroup,
        conn: Conn,
        first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
    ) -> Result<(Self, Result<P, Error>), Error> {
        // The guard owns the connection before the first await, since the future can be dropped while the transaction
        // begins.
        let mut open = Self { group, conn: Some(conn) };
        if let Conn::Sqlite(c) = open.conn()? {
            let joined = group.join(c);
            if joined.is_err() && !group.is_open() {
                // Nothing was begun: the connection returns to its pool.
                open.conn = None;
            }
            joined?;
        }
        let opened = match open.conn()? {
            Conn::Pg(c) => begin_with(c, first).await?,
            Conn::Sqlite(pooled) => {
                let c: &mut SqliteConn = pooled;
                first(OpeningConn::Sqlite(c)).await
            }
        };
        Ok((open, opened))
    }

    fn conn(&mut self) -> Result<&mut Conn, Error> {
        self.conn.as_mut().ok_or_else(|| Error::internal("a transaction was used after its end"))
    }

    /// Executes the last statement, if there is one, and commits.
    async fn commit<Q>(
        mut self,
        last: Option<Q>,
        commit_time: CommitTime,
    ) -> Result<PendingCommit, Error>
    where
        Q: QueryFragment<Pg> + QueryId + Send,
    {
        let group = self.group;
        let pending = match (self.conn()?, last) {
            (Conn::Pg(_), Some(last)) => return self.commit_with(last).await,
            (Conn::Pg(c), None) => {
                boxed(commit::<PgConn>(c)).await.map_err(error::of_commit)?;
                PendingCommit::Done
            }
            (Conn::Sqlite(_), Some(_)) => {
                return Err(Error::internal("a statement of PostgreSQL for another engine"));
            }
            (Conn::Sqlite(c), None) => {
                let before = c.take_before_commit();
                group.leave(c, before, commit_time)?
            }
        };
        self.conn = None;
        Ok(pending)
    }

    /// Executes a statement and commits. Both are sent before the response to the first one. The server commits only
    /// if the statement succeeded: otherwise, COMMIT rolls back. COMMIT is not sent if the statement cannot be built.
    async fn commit_with<Q>(mut self, last: Q) -> Result<PendingCommit, Error>
    where
        Q: QueryFragment<Pg> + QueryId + Send,
    {
        let Conn::Pg(pooled) = self.conn()? else {
            return Err(Error::internal("a statement of PostgreSQL for another engine"));
        };
        let c: &mut PgConn = pooled;
        let (executed, committed) = {
            let shared: &PgConn = c;
            let (mut first, mut second) = (shared, shared);
            // Both wait for the lock of the cache of statements, in this order. So the commit is sent after the
            // statement even if the statement has to be prepared first. A simple query would not wait for the lock.
            let commit = cached(diesel::sql_query("COMMIT"));
            let mut executing = last.execute(&mut first);
            match poll!(&mut executing) {
                // A value that cannot be encoded: without the commit, the guard rolls back.
                Poll::Ready(executed) => (Ok(executed?), commit.execute(&mut second).await),
                Poll::Pending => future::join(executing, commit.execute(&mut second)).await,
            }
        };
        if committed.is_ok() && executed.as_ref().is_err_and(|error| !error::is_of_server(error)) {
            // The statement was not executed, but those before it may have been committed.
            return Err(Error::in_doubt(
                "a transaction ended without its last statement".to_owned(),
            ));
        }
        match (executed.map_err(Error::from), committed) {
            (executed, Ok(_)) => {
                // The transaction has ended, which the connection does not know.
                *c.transaction_state() = AnsiTransactionManager::default();
                if !matches!(executed, Err(Error::Unavailable { .. })) {
                    self.conn = None;
                }
                executed.map(|_| PendingCommit::Done)
            }
            // Without any response, both may have been executed.
            (Ok(_) | Err(Error::Unavailable { .. }), Err(failed)) => Err(error::of_commit(failed)),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Rolls back. Returns the commit that the caller waits for before it returns the error of its work.
    ///
    /// # Errors
    /// The error that replaces that of the work, which may depend on changes that were not committed.
    async fn rollback(mut self) -> Result<PendingCommit, Error> {
        let group = self.group;
        let pending = match self.conn()? {
            Conn::Pg(c) => {
                if boxed(rollback::<PgConn>(c)).await.is_err() {
                    // The connection stays in the guard, which closes it.
                    return Ok(PendingCommit::Done);
                }
                PendingCommit::Done
            }
            Conn::Sqlite(c) => {
                let is_first = group.ended_members()? == 0;
                match group.roll_back_member(c) {
                    Ok(true) => group.end_member(c, CommitTime::Shared)?,
                    Ok(false) => PendingCommit::Done,
                    // SQLite has rolled back already, and the guard closes the connection.
                    Err(_) if is_first => return Ok(PendingCommit::Done),
                    // So it has for the members before.
                    Err(_) => return Err(error::unavailable()),
                }
            }
        };
        self.conn = None;
        Ok(pending)
    }
}

impl Drop for OpenTransaction<'_> {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        if let Conn::Sqlite(c) = &mut conn {
            if self.group.roll_back_member(c).is_ok() {
                return;
            }
            self.group.reset();
        }
        conn.close();
    }
}

/// Begins a transaction and executes its first statements, which are sent before the response to BEGIN.
async fn begin_with<P>(
    c: &mut PgConn,
    first: impl for<'c> FnOnce(OpeningConn<'c>) -> BoxFuture<'c, Result<P, Error>>,
) -> Result<Result<P, Error>, Error> {
    let (begun, opened) = {
        let shared: &PgConn = c;
        let mut beginning = shared;
        // A simple query is sent when it is first polled, which is before the statements of `first`.
        let begin = beginning.batch_execute("BEGIN");
        future::join(begin, first(OpeningConn::Pg(shared))).await
    };
    begun?;
    // The connection is in a transaction, which it does not know.
    let status = AnsiTransactionManager::transaction_manager_status_mut(c);
    status.transaction_state()?.change_transaction_depth(TransactionDepthChange::IncreaseDepth)?;
    Ok(opened)
}

async fn commit<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::commit_transaction(conn).await
}

async fn rollback<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::rollback_transaction(conn).await
}
