//! The database: SQLite or PostgreSQL, with one text for each query.
//!
//! Invariants
//! - a query is written once, in [`on_conn!`], and type-checked against both engines;
//! - a connection of [`Db::read`] cannot write: the engine itself rejects it;
//! - SQLite has one writer connection, which takes the write lock when a transaction begins, so "database is locked"
//!   cannot occur between own transactions. Transactions that follow each other share a commit (`group`);
//! - SQLite runs on the workers of the main runtime, which pass their other tasks on meanwhile (`in_place`);
//! - a transaction that is dropped before its work has ended is rolled back at once. On SQLite, if it is dropped while
//!   it waits for a shared commit, it is still committed;
//! - a caller that waits for the writer of SQLite and is not polled blocks later writers, but never a commit (`queue`);
//! - a PostgreSQL connection that was lost, or whose server is no longer the primary, is replaced (`pg_pool`);
//! - one caller uses at most a part of a pool at a time; the server's own work has no such limit (`turns`);
//! - connections are created on the runtime that requests them, and stay on it: only the multi-thread runtime requests
//!   them;
//! - the futures of the pools and of transactions are in boxes: they are large, and every future that awaits them would
//!   contain them;
//! - nothing here knows a resource.

pub mod backup;
pub mod cached;
mod conn;
pub mod error;
mod group;
pub mod heartbeat;
pub mod idempotency;
mod in_place;
pub mod keyed_leases;
pub mod leases;
mod migrations;
pub mod options;
pub mod page;
mod pg_checks;
mod pg_pool;
mod postgres;
pub mod replicas;
pub mod rows_by_gateway;
pub mod schema;
mod sqlite;
mod transaction;
pub mod turns;
pub mod types;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use deadpool::managed::PoolError;
use diesel::SqliteConnection;
use diesel::sql_types::BigInt;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use self::cached::cached;
use self::group::CommitGroup;
use self::in_place::RunInPlace;
use self::turns::{BUSY_RETRY_IN, CallerKey, CallerTurns, TurnRegistry};
use crate::clock::Timestamp;
use crate::error::{Error, Reason};

pub use crate::on_conn;
pub use conn::{Conn, OpeningConn, PooledSqlite};
pub(crate) use in_place::may_block;
pub use migrations::versions;
pub use options::DbOptions;
pub(crate) use transaction::no_statements;

/// A PostgreSQL connection, as [`on_conn!`] passes it to a query.
pub type PgConn = AsyncPgConnection;
/// An SQLite connection, as [`on_conn!`] passes it to a query.
///
/// Its `spawn_blocking` gives access to the `SqliteConnection`, for batches of many statements.
pub type SqliteConn = SyncConnectionWrapper<SqliteConnection, RunInPlace>;

/// The database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file on this host.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// Runs one query text on the engine of the connection.
///
/// ```text
/// on_conn!(conn, |c| groups::table.find(id).select(Group::as_select()).first(c).await.optional())?
/// ```
#[macro_export]
macro_rules! on_conn {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::db::Conn::Pg(pooled) => {
                let $c: &mut $crate::db::PgConn = pooled;
                $crate::db::boxed(async { $body }).await
            }
            $crate::db::Conn::Sqlite(pooled) => {
                let $c: &mut $crate::db::SqliteConn = pooled;
                $crate::db::boxed(async { $body }).await
            }
        }
    };
}

/// Deletes the first `$limit` rows of a table that match a filter, in the given order. Returns the number of deleted
/// rows. Jobs delete in batches, one per transaction, so that no writer waits long.
#[macro_export]
macro_rules! delete_first {
    ($conn:expr, $table:ident, $filter:expr, $order:expr, $limit:expr) => {{
        let first: diesel::QueryResult<Vec<i64>> = $crate::on_conn!($conn, |c| $table::table
            .filter($filter)
            .select($table::id)
            .order($order)
            .limit($limit)
            .load(c)
            .await);
        match first {
            Err(error) => Err(error),
            Ok(ids) => {
                let rows = $table::table.filter($table::id.eq_any(ids));
                $crate::on_conn!($conn, |c| diesel::delete(rows).execute(c).await)
            }
        }
    }};
}

/// The connection pools of one database. Cloning is cheap; dropping the last clone releases the SQLite file.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    turns: Arc<TurnRegistry>,
    group: Arc<CommitGroup>,
    /// Offset of the clock in tests, in microseconds.
    clock_offset_us: AtomicI64,
}

enum Pools {
    Pg {
        readers: pg_pool::PgPool,
        writers: pg_pool::PgPool,
    },
    Sqlite {
        readers: Pool<SqliteConn>,
        writer: Pool<SqliteConn>,
        /// Callers wait here for the writer, and never at its pool: a commit of ended transactions does not wait behind
        /// them.
        queue: Arc<Semaphore>,
        /// Locks the file against other processes while it is open. `None` beside a server that may hold the lock.
        _lock: Option<std::fs::File>,
    },
}

impl Db {
    /// Connects, migrates the schema under a lock, and checks that the database responds.
    ///
    /// # Errors
    /// `Invalid` for an invalid URL, `Unavailable` if the database does not respond, is in use by another process
    /// (SQLite), is behind an unsuitable connection pooler or has an unsuitable encoding (PostgreSQL), or has a schema
    /// that is newer than this binary.
    pub async fn open(options: &DbOptions) -> Result<Self, Error> {
        let group = Arc::new(CommitGroup::new(options.commit_delay));
        let pools = match options.address()? {
            options::DatabaseAddress::Sqlite(path) => sqlite::open(&path, options, &group).await?,
            options::DatabaseAddress::Postgres(url) => {
                Box::pin(postgres::open(*url, options)).await?
            }
        };
        Self::on_pools(pools, group, options).await
    }

    /// Opens an SQLite file that a server may be using, for a command that reads it and writes an audit entry. It neither
    /// creates nor migrates the file, and does not lock it against a server.
    ///
    /// # Errors
    /// `Invalid` for another engine, `Unavailable` if the file does not exist or its schema is not that of this binary.
    pub async fn open_beside(options: &DbOptions) -> Result<Self, Error> {
        let group = Arc::new(CommitGroup::new(options.commit_delay));
        let options::DatabaseAddress::Sqlite(path) = options.address()? else {
            return Err(Error::invalid("database.url", "must name a file"));
        };
        let pools = sqlite::open_beside(&path, options, &group).await?;
        Self::on_pools(pools, group, options).await
    }

    async fn on_pools(
        pools: Pools,
        group: Arc<CommitGroup>,
        options: &DbOptions,
    ) -> Result<Self, Error> {
        let writers = match pools {
            Pools::Pg { .. } => options.writers,
            Pools::Sqlite { .. } => 1,
        };
        let turns = TurnRegistry::new(options.readers, writers, options.pool_wait);
        let clock_offset_us = AtomicI64::new(0);
        let db = Self { inner: Arc::new(Inner { pools, turns, group, clock_offset_us }) };
        db.ping().await?;
        Ok(db)
    }

    /// Returns the engine.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.inner.pools {
            Pools::Pg { .. } => Engine::Postgres,
            Pools::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// Runs `work` with its connections counted as those of one caller: it uses only the turns of the caller, which it
    /// shares with the caller's other work. A task that `work` spawns counts only if it is wrapped in
    /// [`turns::inherit_caller`].
    pub fn run_as<F: Future>(
        &self,
        caller: CallerKey,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.inner.turns.run_as(caller, work)
    }

    /// Takes one writer turn of the current caller, without a connection. For tests of waiting callers.
    ///
    /// # Errors
    /// `BUSY` if no turn is free in time.
    pub async fn writer_turn(&self) -> Result<impl Sized, Error> {
        self.inner.turns.acquire(CallerTurns::writers).await
    }

    /// Returns a read-only connection.
    ///
    /// # Errors
    /// `BUSY` if none is free in time, `STORAGE_UNAVAILABLE`.
    #[must_use]
    pub fn read(&self) -> BoxFuture<'_, Result<Conn, Error>> {
        Box::pin(async move {
            let turn = self.inner.turns.acquire(CallerTurns::readers).await?;
            self.reader_conn(turn).await
        })
    }

    /// Returns a read-only connection for the server's own work in the task of a caller. It needs no turn, so that it
    /// does not wait for the caller's other calls.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub(crate) fn read_as_server(&self) -> BoxFuture<'_, Result<Conn, Error>> {
        Box::pin(self.reader_conn(None))
    }

    async fn reader_conn(&self, turn: Option<OwnedSemaphorePermit>) -> Result<Conn, Error> {
        Ok(match &self.inner.pools {
            Pools::Pg { readers, .. } => {
                let session = boxed(readers.get()).await.map_err(|error| no_connection(&error))?;
                Conn::Pg(pg_pool::PooledPg::new(session, turn))
            }
            Pools::Sqlite { readers, .. } => {
                let pooled = boxed(readers.get()).await.map_err(|error| no_connection(&error))?;
                Conn::Sqlite(PooledSqlite::unqueued(pooled, turn))
            }
        })
    }

    /// Returns a connection for one writing statement; use [`Db::transaction`] for several.
    ///
    /// If the connection is lost during the statement, it is unknown whether the statement took effect, although the
    /// error is `Unavailable`: use it only for statements that can be repeated.
    ///
    /// # Errors
    /// As [`Db::read`].
    #[must_use]
    pub fn write(&self) -> BoxFuture<'_, Result<Conn, Error>> {
        Box::pin(async move {
            let conn = self.writer().await?;
            self.commit_group(conn)
        })
    }

    /// Returns a connection for [`Db::transaction_on`]. On SQLite, transactions of other callers may wait for the next
    /// commit on it.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub(crate) fn writer(&self) -> BoxFuture<'_, Result<Conn, Error>> {
        Box::pin(async move {
            let _waiting = self.inner.group.wait();
            let turn = self.inner.turns.acquire(CallerTurns::writers).await?;
            self.writer_conn(turn).await
        })
    }

    async fn writer_conn(&self, turn: Option<OwnedSemaphorePermit>) -> Result<Conn, Error> {
        Ok(match &self.inner.pools {
            Pools::Pg { writers, .. } => {
                let session = boxed(writers.get()).await.map_err(|error| no_connection(&error))?;
                Conn::Pg(pg_pool::PooledPg::new(session, turn))
            }
            Pools::Sqlite { writer, queue, .. } => {
                let place = self.inner.turns.wait_for(Arc::clone(queue)).await?;
                let pooled = boxed(writer.get()).await.map_err(|error| no_connection(&error))?;
                Conn::Sqlite(PooledSqlite::queued(pooled, turn, place))
            }
        })
    }

    /// Returns the writer connection of SQLite before the callers in its queue, to commit ended transactions.
    async fn committer_conn(&self) -> Result<Conn, Error> {
        let Pools::Sqlite { writer, .. } = &self.inner.pools else {
            return Err(Error::internal("a shared commit on another engine"));
        };
        let pooled = boxed(writer.get()).await.map_err(|error| no_connection(&error))?;
        Ok(Conn::Sqlite(PooledSqlite::unqueued(pooled, None)))
    }

    /// Returns the time of the database, which all replicas share.
    pub async fn now(&self, conn: &mut Conn) -> Result<Timestamp, Error> {
        let micros: i64 = match conn {
            // clock_timestamp, since now() is the start of the transaction, before it waited for a lock.
            Conn::Pg(c) => {
                cached(diesel::select(diesel::dsl::sql::<BigInt>(
                    "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
                )))
                .get_result(c)
                .await?
            }
            // SQLite's clock has a resolution of milliseconds.
            Conn::Sqlite(c) => {
                cached(diesel::select(diesel::dsl::sql::<BigInt>(
                    "CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000",
                )))
                .get_result(c)
                .await?
            }
        };
        let offset = AtomicI64::load(&self.inner.clock_offset_us, Ordering::Relaxed);
        Ok(Timestamp::from_unix_micros(micros.saturating_add(offset)))
    }

    /// Moves [`Db::now`] forward for this `Db` and its clones, so that tests do not wait.
    pub fn advance_clock(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.inner.clock_offset_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Checks that the database responds.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut conn = self.read().await?;
        on_conn!(&mut conn, |c| diesel::sql_query("SELECT 1").execute(c).await)?;
        Ok(())
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({:?})", self.engine())
    }
}

/// Hides the type of a future in a box: the compiler proves that it is `Send` here, and not again in every function
/// that awaits it.
pub fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

fn no_connection<E: fmt::Display>(error: &PoolError<E>) -> Error {
    match error {
        PoolError::Timeout(_) => Error::Exhausted { reason: Reason::Busy, retry_in: BUSY_RETRY_IN },
        PoolError::Backend(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => {
            // The text contains hosts and users: log it, but do not return it to the caller.
            warn!(error = %error, "no connection to the database");
            error::unavailable()
        }
    }
}
