//! Transactions: all or nothing, even if the future is dropped midway.
//!
//! Invariants
//! - on SQLite the write lock is taken at the start, so a read before the write cannot make the write fail;
//! - a connection returns to its pool only when its transaction has ended; otherwise it is closed, which makes the
//!   engine roll back and release its locks at once;
//! - a PostgreSQL connection on which the database failed is closed: it may lead to a server that was the primary;
//! - nothing is retried: the caller of an [`Error::Conflict`] reads again and repeats.

use diesel::QueryResult;
use diesel::connection::AnsiTransactionManager;
use diesel_async::{AsyncConnection, TransactionManager};

use super::{Conn, Db, Engine, PgConn, on_conn};
use crate::error::{Error, Reason};

impl Db {
    /// Runs `work` in a transaction on a writer connection. Commits on `Ok`, rolls back on `Err`.
    ///
    /// `work` must not make network calls or wait for anything else: on SQLite every other writer waits for it.
    ///
    /// # Errors
    /// The error of `work`, or of beginning and committing. A connection that is lost during the commit is `Internal`,
    /// since it is unknown whether the commit took effect.
    pub async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut Conn) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut open = OpenTransaction::begin(self.write().await?).await?;
        let error = match Box::pin(work(open.conn()?)).await {
            Ok(value) => {
                open.commit().await?;
                return Ok(value);
            }
            Err(error) => error,
        };
        // A server that is no longer the primary: the guard closes the connection, which rolls back too.
        if !is_lost_postgres(&error, open.conn()?) {
            open.rollback().await;
        }
        Err(error)
    }
}

/// Returns whether PostgreSQL failed, not the statement.
fn is_lost_postgres(error: &Error, conn: &Conn) -> bool {
    let failed = matches!(error, Error::Unavailable { reason: Reason::StorageUnavailable, .. });
    failed && conn.engine() == Engine::Postgres
}

/// A connection inside a transaction. Dropping it before the transaction has ended closes the connection.
struct OpenTransaction {
    conn: Option<Conn>,
}

impl OpenTransaction {
    async fn begin(conn: Conn) -> Result<Self, Error> {
        // The guard owns the connection before the first await, since the future can be dropped while the transaction
        // begins.
        let mut open = Self { conn: Some(conn) };
        match open.conn()? {
            Conn::Pg(c) => begin::<PgConn>(c).await?,
            Conn::Sqlite(c) => {
                c.spawn_blocking(|c| {
                    AnsiTransactionManager::begin_transaction_sql(c, "BEGIN IMMEDIATE")
                })
                .await?;
            }
        }
        Ok(open)
    }

    fn conn(&mut self) -> Result<&mut Conn, Error> {
        self.conn.as_mut().ok_or_else(|| Error::internal("a transaction was used after its end"))
    }

    async fn commit(mut self) -> Result<(), Error> {
        let committed = on_conn!(self.conn()?, |c| commit(c).await);
        if let Err(error) = committed {
            let error = Error::from(error);
            // `Unavailable` guarantees that nothing took effect, which is unknown here.
            if let Error::Unavailable { why, .. } = error {
                return Err(Error::in_doubt(why));
            }
            return Err(error);
        }
        self.conn = None;
        Ok(())
    }

    async fn rollback(mut self) {
        // After a failed rollback the connection stays in the guard, which closes it.
        if let Ok(conn) = self.conn()
            && on_conn!(conn, |c| rollback(c).await).is_ok()
        {
            self.conn = None;
        }
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            conn.close();
        }
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
