//! Pools of PostgreSQL connections. A connection that cannot do its work is closed and replaced, not handed out.
//!
//! Invariants
//! - a connection that was closed, or that has an open transaction, is not handed out;
//! - a connection whose last check is older than [`CHECK_AFTER`] is checked before it is handed out: its server
//!   responds, is the primary, and accepts writes. A failover that leaves connections open is noticed this way;
//! - a pool can begin with a connection that was opened before it, for its first caller;
//! - if one check fails, all older connections of both pools are replaced, so that the pools recover within seconds and
//!   not after one timeout for each connection.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, QueueMode, RecycleError, RecycleResult};
use diesel::sql_types::Bool;
use diesel::{ConnectionError, QueryResult};
use diesel_async::RunQueryDsl;
use diesel_async::pooled_connection::PoolableConnection;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::postgres::{ConnectionUse, Connector};
use super::{DbOptions, PgConn};
use crate::error::Error;

/// Age of a check after which it is repeated before a connection is handed out: one short query per connection and
/// interval at most.
const CHECK_AFTER: Duration = Duration::from_secs(2);
/// Timeout of a check. A server that is this slow cannot serve.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool of connections for one use.
pub(super) type PgPool = Pool<PgManager>;

/// Time up to which opened connections are no longer trusted; shared by both pools.
#[derive(Debug, Default)]
pub(super) struct DistrustedUntil(Mutex<Option<Instant>>);

impl DistrustedUntil {
    fn covers(&self, opened_at: Instant) -> bool {
        self.0.lock().is_some_and(|until| opened_at <= until)
    }

    fn set(&self, now: Instant) {
        *self.0.lock() = Some(now);
    }
}

/// Opens and checks the connections of one pool.
pub(super) struct PgManager {
    connector: Connector,
    purpose: ConnectionUse,
    distrusted: Arc<DistrustedUntil>,
    /// A connection that was opened before the pool and is not used yet.
    first: Mutex<Option<PgSession>>,
}

/// A connection in a pool.
pub(super) struct PgSession {
    conn: PgConn,
    /// A time before it was opened.
    opened_at: Instant,
    /// A time after it was opened.
    connected_at: Instant,
    checked_at: Instant,
}

impl PgSession {
    /// A connection that was checked now, and was opened after `opened_at`.
    pub(super) fn new(conn: PgConn, opened_at: Instant) -> Self {
        let now = Instant::now();
        Self { conn, opened_at, connected_at: now, checked_at: now }
    }
}

impl Manager for PgManager {
    type Type = PgSession;
    type Error = ConnectionError;

    async fn create(&self) -> Result<PgSession, ConnectionError> {
        if let Some(first) = self.take_first() {
            return Ok(first);
        }
        let opened_at = Instant::now();
        let conn = Box::pin(self.connector.connect(self.purpose)).await?;
        Ok(PgSession::new(conn, opened_at))
    }

    async fn recycle(
        &self,
        session: &mut PgSession,
        _metrics: &Metrics,
    ) -> RecycleResult<ConnectionError> {
        if self.is_unusable(session) {
            return Err(RecycleError::message("closed, or older than a failure"));
        }
        if session.checked_at.elapsed() < CHECK_AFTER {
            return Ok(());
        }
        let checking = is_usable(&mut session.conn, self.purpose);
        let why = match tokio::time::timeout(CHECK_TIMEOUT, checking).await {
            Ok(Ok(true)) => {
                session.checked_at = Instant::now();
                return Ok(());
            }
            Ok(Ok(false)) => "its server is not the primary, or accepts no writes",
            Ok(Err(_)) => "the connection was lost",
            Err(_) => "its server does not respond",
        };
        warn!(why, "the connections to the database are replaced");
        self.distrusted.set(Instant::now());
        Err(RecycleError::message(why))
    }
}

impl PgManager {
    /// Returns the connection that was opened before the pool. Returns `None` if it was already taken, or if it would
    /// have to be checked.
    fn take_first(&self) -> Option<PgSession> {
        let mut first = self.first.lock().take()?;
        let is_checked = first.checked_at.elapsed() < CHECK_AFTER;
        (is_checked && !self.is_unusable(&mut first)).then_some(first)
    }

    /// Returns whether a connection is known to be unusable.
    fn is_unusable(&self, session: &mut PgSession) -> bool {
        session.conn.is_broken() || self.distrusted.covers(session.opened_at)
    }
}

/// Asks the server whether the connection can still be used. A reader is read-only by its own setting, so only its
/// server is checked.
async fn is_usable(conn: &mut PgConn, purpose: ConnectionUse) -> QueryResult<bool> {
    let condition = match purpose {
        ConnectionUse::Read => "NOT pg_is_in_recovery()",
        ConnectionUse::Write | ConnectionUse::Migrate => {
            "NOT current_setting('transaction_read_only')::boolean"
        }
    };
    diesel::select(diesel::dsl::sql::<Bool>(condition)).get_result(conn).await
}

/// Creates a pool of connections for a use, of which there are at most `size`. They are opened when they are needed,
/// except for `first`. The connection used last is handed out first: it
/// has prepared what callers repeat, and the caches of its process are warm.
pub(super) fn create(
    connector: &Connector,
    distrusted: &Arc<DistrustedUntil>,
    options: &DbOptions,
    (purpose, size): (ConnectionUse, usize),
    first: Option<PgSession>,
) -> Result<PgPool, Error> {
    let (connector, distrusted) = (connector.clone(), Arc::clone(distrusted));
    let first = Mutex::new(first);
    Pool::builder(PgManager { connector, purpose, distrusted, first })
        .max_size(size.max(1))
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(options.pool_wait))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(Error::internal)
}

/// A pooled connection with the turn of the caller that uses it.
pub struct PooledPg {
    session: Object<PgManager>,
    /// `None` for the server's own work.
    _turn: Option<OwnedSemaphorePermit>,
}

impl PooledPg {
    pub(super) fn new(session: Object<PgManager>, turn: Option<OwnedSemaphorePermit>) -> Self {
        Self { session, _turn: turn }
    }

    /// Returns a time after it was opened.
    pub(super) fn connected_at(&self) -> Instant {
        self.session.connected_at
    }

    /// Closes the connection instead of returning it to the pool.
    pub(super) fn close(self) {
        drop(Object::take(self.session));
    }
}

impl Deref for PooledPg {
    type Target = PgConn;

    fn deref(&self) -> &PgConn {
        &self.session.conn
    }
}

impl DerefMut for PooledPg {
    fn deref_mut(&mut self) -> &mut PgConn {
        &mut self.session.conn
    }
}
