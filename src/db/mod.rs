//! The database: SQLite or PostgreSQL behind one text of each query.
//!
//! Invariants
//! - a query is written once, in [`on_conn!`], and type-checked against both engines;
//! - a connection of [`Db::read`] cannot write: the engine itself refuses;
//! - SQLite has one writer connection, which takes the write lock at the start, so there is no "database is locked";
//! - what a dropped transaction had begun is gone with its connection, at once;
//! - connections are made on the runtime that asks for them, and live there: only the multi-thread runtime asks;
//! - nothing here knows a resource.

pub mod error;
pub mod heartbeat;
pub mod idempotency;
pub mod leases;
mod migrations;
pub mod options;
pub mod page;
mod postgres;
pub mod replicas;
pub mod schema;
mod sqlite;
mod transaction;
pub mod types;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use diesel::SqliteConnection;
use diesel::sql_types::BigInt;
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use tracing::warn;

use crate::error::{Error, Reason};

use crate::clock::Timestamp;
pub use crate::on_conn;
pub use migrations::versions;
pub use options::DbOptions;

/// A connection to PostgreSQL, as [`on_conn!`] hands it to a query.
pub type PgConn = AsyncPgConnection;
/// A connection to SQLite, as [`on_conn!`] hands it to a query.
///
/// Its `spawn_blocking` reaches the `SqliteConnection` itself, for batches that are too many for one await each.
pub type SqliteConn = SyncConnectionWrapper<SqliteConnection>;

/// Which of the two databases it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file on this host.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
}

/// A connection taken from a pool; it goes back when it is dropped.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time in a call; a box would be an allocation each"
)]
pub enum Conn {
    /// To PostgreSQL.
    Pg(Object<PgConn>),
    /// To SQLite.
    Sqlite(Object<SqliteConn>),
}

/// Runs one query text on whichever engine the connection is of.
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
                $body
            }
            $crate::db::Conn::Sqlite(pooled) => {
                let $c: &mut $crate::db::SqliteConn = pooled;
                $body
            }
        }
    };
}

/// The pools of one database. Cloning it is cheap; the last clone gives the SQLite file free.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    /// How far tests have moved the clock, in microseconds.
    clock_offset_us: AtomicI64,
}

enum Pools {
    Pg {
        readers: Pool<PgConn>,
        writers: Pool<PgConn>,
    },
    Sqlite {
        readers: Pool<SqliteConn>,
        writer: Pool<SqliteConn>,
        /// Keeps other processes away from the file for as long as it is open.
        _lock: std::fs::File,
    },
}

impl Db {
    /// Connects, brings the schema up to date under a lock, and checks that a query is answered.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, `Unavailable` when the database does not answer, is in use by another
    /// process (SQLite), or has a schema newer than this binary.
    pub async fn open(options: &DbOptions) -> Result<Self, Error> {
        let pools = match options.address()? {
            options::Address::Sqlite(path) => sqlite::open(&path, options).await?,
            options::Address::Postgres(config) => postgres::open(*config, options).await?,
        };
        let db = Self { inner: Arc::new(Inner { pools, clock_offset_us: AtomicI64::new(0) }) };
        db.ping().await?;
        Ok(db)
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self.inner.pools {
            Pools::Pg { .. } => Engine::Postgres,
            Pools::Sqlite { .. } => Engine::Sqlite,
        }
    }

    /// A connection for reading only.
    pub async fn read(&self) -> Result<Conn, Error> {
        Ok(match &self.inner.pools {
            Pools::Pg { readers, .. } => Conn::Pg(readers.get().await.map_err(no_connection)?),
            Pools::Sqlite { readers, .. } => {
                Conn::Sqlite(readers.get().await.map_err(no_connection)?)
            }
        })
    }

    /// A connection for one statement that writes; several belong into [`Db::transaction`].
    ///
    /// When the connection is lost during the statement, nobody knows whether it took effect, though the error says
    /// `Unavailable`: for statements that may be repeated only.
    pub async fn write(&self) -> Result<Conn, Error> {
        Ok(match &self.inner.pools {
            Pools::Pg { writers, .. } => Conn::Pg(writers.get().await.map_err(no_connection)?),
            Pools::Sqlite { writer, .. } => {
                Conn::Sqlite(writer.get().await.map_err(no_connection)?)
            }
        })
    }

    /// The database's own time, the one that all replicas share.
    pub async fn now(&self, conn: &mut Conn) -> Result<Timestamp, Error> {
        let micros: i64 = match conn {
            // clock_timestamp, not now: the latter is when the transaction began, before it waited for a lock.
            Conn::Pg(c) => {
                diesel::select(diesel::dsl::sql::<BigInt>(
                    "(extract(epoch from clock_timestamp()) * 1000000)::bigint",
                ))
                .get_result(c)
                .await?
            }
            // SQLite's clock has milliseconds.
            Conn::Sqlite(c) => {
                diesel::select(diesel::dsl::sql::<BigInt>(
                    "CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000",
                ))
                .get_result(c)
                .await?
            }
        };
        let offset = AtomicI64::load(&self.inner.clock_offset_us, Ordering::Relaxed);
        Ok(Timestamp::from_unix_micros(micros.saturating_add(offset)))
    }

    /// Moves [`Db::now`] forward, for this `Db` and its clones: tests do not wait.
    pub fn move_clock(&self, by: Duration) {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.inner.clock_offset_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Whether a query is answered now.
    pub async fn ping(&self) -> Result<(), Error> {
        let mut conn = self.read().await?;
        on_conn!(&mut conn, |c| diesel::sql_query("SELECT 1").execute(c).await)?;
        Ok(())
    }
}

impl Conn {
    /// Which engine it is a connection to.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Pg(_) => Engine::Postgres,
            Self::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Waits until no other transaction holds this lock, and holds it until the end of this one. On SQLite there is one
    /// writer, which is lock enough.
    pub async fn serialise(&mut self, lock: i64) -> Result<(), Error> {
        if let Self::Pg(pooled) = self {
            let c: &mut PgConn = pooled;
            diesel::sql_query(format!("SELECT pg_advisory_xact_lock({lock})")).execute(c).await?;
        }
        Ok(())
    }

    /// Closes the connection instead of giving it back: whatever it had begun is rolled back.
    fn close(self) {
        match self {
            Self::Pg(pooled) => drop(Object::take(pooled)),
            Self::Sqlite(pooled) => drop(Object::take(pooled)),
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({:?})", self.engine())
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({:?})", self.engine())
    }
}

/// The wait of a caller whose turn did not come.
const BUSY_RETRY_IN: Duration = Duration::from_secs(1);

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn no_connection(error: PoolError) -> Error {
    match &error {
        PoolError::Timeout(_) => Error::Exhausted { reason: Reason::Busy, retry_in: BUSY_RETRY_IN },
        PoolError::Backend(_)
        | PoolError::Closed
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_) => {
            // The text names hosts and users: it is for the log, not for the caller.
            warn!(error = %error, "no connection to the database");
            error::unavailable()
        }
    }
}
