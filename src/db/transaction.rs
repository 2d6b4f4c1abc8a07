//! Transactions: all or nothing, even if the future is dropped midway.
//!
//! Invariants
//! - on SQLite the write lock is taken at the start, so a read before the write cannot make the write fail;
//! - a connection returns to its pool only when its transaction has ended. On SQLite, that may be before the commit
//!   (`group`). Otherwise it is closed, which makes the engine roll back and release its locks at once;
//! - on SQLite a transaction runs in place, with all its statements (`in_place`);
//! - a PostgreSQL connection on which the database failed is closed: it may lead to a server that was the primary;
//! - nothing is retried: the caller of an [`Error::Conflict`] reads again and repeats.

use diesel::QueryResult;
use diesel_async::{AsyncConnection, TransactionManager};

use super::group::{CommitGroup, PendingCommit};
use super::in_place::InPlace;
use super::{Conn, Db, Engine, PgConn, error};
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
        let conn = self.writer().await?;
        self.transaction_on(conn, work).await
    }

    /// Does the same as [`Db::transaction`] on a connection of [`Db::writer`] or [`Db::write`]. The latter commits the
    /// transactions of other callers first: for work that writes many rows, so that they do not wait for it.
    ///
    /// # Errors
    /// Those of [`Db::transaction`].
    pub(crate) async fn transaction_on<T>(
        &self,
        conn: Conn,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let engine = conn.engine();
        let transaction = run(&self.inner.group, conn, work);
        let (result, pending) = match engine {
            Engine::Postgres => Box::pin(transaction).await?,
            Engine::Sqlite => InPlace::new(transaction).await?,
        };
        self.wait_for_commit(pending).await?;
        result
    }
}

/// Runs `work` in a transaction. Returns its result, and the commit that the result waits for.
async fn run<T>(
    group: &CommitGroup,
    conn: Conn,
    work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
) -> Result<(Result<T, Error>, PendingCommit), Error> {
    let engine = conn.engine();
    let mut open = OpenTransaction::begin(group, conn).await?;
    let result = work(open.conn()?).await;
    let lost = result.as_ref().is_err_and(|error| is_lost_postgres(error, engine));
    let pending = if result.is_ok() {
        open.commit().await?
    } else if lost {
        // A server that is no longer the primary: the guard closes the connection, which rolls back too.
        drop(open);
        PendingCommit::Done
    } else {
        open.rollback().await
    };
    Ok((result, pending))
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
    async fn begin(group: &'a CommitGroup, conn: Conn) -> Result<Self, Error> {
        // The guard owns the connection before the first await, since the future can be dropped while the transaction
        // begins.
        let mut open = Self { group, conn: Some(conn) };
        match open.conn()? {
            Conn::Pg(c) => begin::<PgConn>(c).await?,
            Conn::Sqlite(c) => group.join(c)?,
        }
        Ok(open)
    }

    fn conn(&mut self) -> Result<&mut Conn, Error> {
        self.conn.as_mut().ok_or_else(|| Error::internal("a transaction was used after its end"))
    }

    async fn commit(mut self) -> Result<PendingCommit, Error> {
        let group = self.group;
        let pending = match self.conn()? {
            Conn::Pg(c) => {
                commit::<PgConn>(c).await.map_err(error::of_commit)?;
                PendingCommit::Done
            }
            Conn::Sqlite(c) => group.leave(c, true)?,
        };
        self.conn = None;
        Ok(pending)
    }

    async fn rollback(mut self) -> PendingCommit {
        let group = self.group;
        let ended = match self.conn() {
            Ok(Conn::Pg(c)) => {
                let ended = rollback::<PgConn>(c).await;
                ended.map(|()| PendingCommit::Done).map_err(Error::from)
            }
            Ok(Conn::Sqlite(c)) => group.leave(c, false),
            Err(error) => Err(error),
        };
        // After a failed rollback the connection stays in the guard, which closes it.
        let Ok(pending) = ended else { return PendingCommit::Done };
        self.conn = None;
        pending
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

async fn begin<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::begin_transaction(conn).await
}

async fn commit<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::commit_transaction(conn).await
}

async fn rollback<C: AsyncConnection>(conn: &mut C) -> QueryResult<()> {
    C::TransactionManager::rollback_transaction(conn).await
}
