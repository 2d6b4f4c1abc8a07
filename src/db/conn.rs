//! Connections, as queries and their callers see them.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use diesel_async::pooled_connection::deadpool::Object;
use tokio::sync::OwnedSemaphorePermit;

use super::cached::cached;
use super::group::BeforeCommit;
use super::{Engine, PgConn, SqliteConn, pg_pool};
use crate::error::Error;

/// A pooled SQLite connection with the turn of the caller that uses it.
pub struct PooledSqlite {
    pooled: Object<SqliteConn>,
    /// `None` for the server's own work.
    _turn: Option<OwnedSemaphorePermit>,
    /// The place in the queue for the writer. It is released after the connection was returned to its pool.
    _place: Option<OwnedSemaphorePermit>,
    /// Statement that the open transaction adds to its commit.
    before_commit: Option<BeforeCommit>,
}

impl PooledSqlite {
    /// Returns a connection that was not queued for.
    pub(super) fn unqueued(pooled: Object<SqliteConn>, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self { pooled, _turn: turn, _place: None, before_commit: None }
    }

    /// Returns the writer with its place in the queue.
    pub(super) fn queued(
        pooled: Object<SqliteConn>,
        turn: Option<OwnedSemaphorePermit>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { pooled, _turn: turn, _place: Some(place), before_commit: None }
    }

    /// Returns and removes what the open transaction adds to its commit.
    pub(super) fn take_before_commit(&mut self) -> Option<BeforeCommit> {
        self.before_commit.take()
    }
}

impl Deref for PooledSqlite {
    type Target = SqliteConn;

    fn deref(&self) -> &SqliteConn {
        &self.pooled
    }
}

impl DerefMut for PooledSqlite {
    fn deref_mut(&mut self) -> &mut SqliteConn {
        &mut self.pooled
    }
}

/// A pooled connection; dropping it returns it to the pool.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time in a call; a box would be an allocation each"
)]
pub enum Conn {
    /// To PostgreSQL.
    Pg(pg_pool::PooledPg),
    /// To SQLite.
    Sqlite(PooledSqlite),
}

/// A connection on which a transaction begins, for the first statements of the transaction.
///
/// PostgreSQL gets them in one round trip with BEGIN, before its response. If BEGIN fails, it may have executed them
/// outside of a transaction: they lock and read, but change nothing.
pub enum OpeningConn<'c> {
    /// To PostgreSQL. It is shared, so that each statement is sent without a wait for the previous response.
    Pg(&'c PgConn),
    /// To SQLite, in the transaction.
    Sqlite(&'c mut SqliteConn),
}

impl Conn {
    /// Returns the engine of the connection.
    #[must_use]
    pub fn engine(&self) -> Engine {
        match self {
            Self::Pg(_) => Engine::Postgres,
            Self::Sqlite(_) => Engine::Sqlite,
        }
    }

    /// Returns whether the server may have crashed, or another may have replaced it, since `time`: both end every
    /// connection. `false` proves that the server did not, if a later query on the connection succeeds. SQLite runs in
    /// this process.
    #[must_use]
    pub(crate) fn is_newer_than(&self, time: Instant) -> bool {
        match self {
            Self::Pg(pooled) => pooled.connected_at() > time,
            Self::Sqlite(_) => false,
        }
    }

    /// Adds statements to the commit of the open transaction on SQLite: they are executed right before it. If they fail,
    /// the transaction is committed without their changes. PostgreSQL has no such statements.
    pub(crate) fn add_before_commit(&mut self, statements: BeforeCommit) {
        if let Self::Sqlite(pooled) = self {
            pooled.before_commit = Some(statements);
        }
    }

    /// Waits for this lock, and holds it until the end of the transaction. On SQLite there is only one writer, so no
    /// lock is needed.
    pub async fn advisory_lock(&mut self, lock: i64) -> Result<(), Error> {
        self.run_lock("SELECT pg_advisory_xact_lock($1)", lock).await
    }

    /// Waits for this lock as [`Self::advisory_lock`], but excludes only its exclusive holders.
    pub async fn shared_advisory_lock(&mut self, lock: i64) -> Result<(), Error> {
        self.run_lock("SELECT pg_advisory_xact_lock_shared($1)", lock).await
    }

    async fn run_lock(&mut self, statement: &'static str, lock: i64) -> Result<(), Error> {
        if let Self::Pg(pooled) = self {
            let c: &mut PgConn = pooled;
            let query = diesel::sql_query(statement);
            cached(query.bind::<BigInt, _>(lock)).execute(c).await?;
        }
        Ok(())
    }

    /// Closes the connection instead of returning it to the pool: its open transaction is rolled back.
    pub(super) fn close(self) {
        match self {
            Self::Pg(pooled) => pooled.close(),
            Self::Sqlite(pooled) => drop(Object::take(pooled.pooled)),
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({:?})", self.engine())
    }
}
