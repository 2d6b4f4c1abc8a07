//! PostgreSQL: connections that Shoreguard creates itself, because diesel-async does not support TLS.
//!
//! Invariants
//! - whenever TLS is used, the certificate of the server is verified;
//! - every connection leads to a server that accepts writes, and has a statement timeout, a timeout for idle
//!   transactions, and the isolation level and time zone that the queries expect;
//! - a server that vanishes without closing its connections is noticed within [`TCP_USER_TIMEOUT`] and a keepalive;
//! - reader connections cannot write;
//! - a server or pooler that is unsuitable is refused before anything is changed (`pg_checks`);
//! - migrations run under an advisory lock, so that replicas can start together;
//! - a start opens no connection that it closes again: those of the checks are the first of the pools. A connection is
//!   closed only if it has changed the schema.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use rustls::RootCertStore;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pg_pool::{self, DistrustedUntil, PgSession};
use super::{DbOptions, PgConn, Pools, migrations, pg_checks};
use crate::config::PostgresUrl;
use crate::error::{Error, Reason, error_chain};
use crate::net::pem_files;
use crate::net::roots::{client_tls, system_roots};

/// Key of the advisory lock, which no other program may use on the same database: the bytes of `shoregrd`.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"shoregrd");
/// Idle time before a TCP keepalive: the server may have vanished, or a firewall may have dropped the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Interval of keepalives that get no reply.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Time that sent data or keepalives can stay unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of every connection, since a role or database can have other defaults. Queries expect to see what was
/// committed before each statement.
pub(super) const COMMON_SETTINGS: &str =
    "SET default_transaction_isolation = 'read committed'; SET TimeZone = 'UTC';";

/// Purpose of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum ConnectionUse {
    /// Queries only.
    Read,
    /// Queries and changes.
    Write,
    /// Changes of the schema.
    Migrate,
}

/// A connection of tokio-postgres, which works only while its second part is polled.
pub(super) type RawConnection =
    (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// Parameters of a new connection.
#[derive(Clone)]
pub(super) struct Connector {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    statement_timeout_ms: u128,
    idle_in_transaction_timeout_ms: u128,
    connect_timeout: Duration,
}

pub(super) async fn open(url: PostgresUrl, options: &DbOptions) -> Result<Pools, Error> {
    let PostgresUrl { mut config, ca_path } = url;
    config
        .connect_timeout(attempt_timeout(&config, options.connect_timeout))
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name("shoreguard");
    }
    let connector = Connector {
        tls: tls(config.get_ssl_mode(), ca_path.as_deref())?,
        config,
        statement_timeout_ms: options.statement_timeout.as_millis(),
        idle_in_transaction_timeout_ms: options.idle_in_transaction_timeout.as_millis(),
        connect_timeout: options.connect_timeout,
    };
    let opened_at = Instant::now();
    let [one, two] = Box::pin(pg_checks::check_server(&connector)).await?;
    let preparing = connector.within_time(connector.prepare(two, ConnectionUse::Read));
    let reader = preparing.await.map_err(|error| cannot_connect(&error))?;
    let reader = Some(PgSession::new(reader, opened_at));
    let writer = migrate(&connector, one).await?.map(|conn| PgSession::new(conn, opened_at));
    let distrusted = Arc::new(DistrustedUntil::default());
    let pool = |purpose, size, first| {
        pg_pool::create(&connector, &distrusted, options, (purpose, size), first)
    };
    Ok(Pools::Pg {
        readers: pool(ConnectionUse::Read, options.readers, reader)?,
        writers: pool(ConnectionUse::Write, options.writers, writer)?,
    })
}

/// Returns the timeout of one address: an address that does not respond leaves time for the next.
fn attempt_timeout(config: &tokio_postgres::Config, total: Duration) -> Duration {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    total / u32::try_from(hosts).unwrap_or(u32::MAX).saturating_add(1)
}

/// Runs the migrations on a connection. Returns it with the settings of a writer. Returns `None` if it has changed the
/// schema, since a migration could have left settings of its session.
async fn migrate(connector: &Connector, checked: RawConnection) -> Result<Option<PgConn>, Error> {
    let preparing = connector.within_time(connector.prepare(checked, ConnectionUse::Migrate));
    let mut conn = preparing.await.map_err(|error| cannot_connect(&error))?;
    // Held until it is released below, or this connection closes.
    conn.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    if migrations::run(&mut harness, migrations::POSTGRES)? > 0 {
        return Ok(None);
    }
    let mut conn = harness.into_inner();
    let settings = connector.settings(ConnectionUse::Write);
    conn.batch_execute(&format!("SELECT pg_advisory_unlock({MIGRATION_LOCK}); {settings}")).await?;
    Ok(Some(conn))
}

/// Returns the error of a start without a connection.
pub(super) fn cannot_connect(error: &ConnectionError) -> Error {
    let why = format!("cannot connect to the database: {}", error_chain(error));
    Error::unavailable(Reason::StorageUnavailable, why)
}

fn tls(mode: SslMode, file: Option<&Path>) -> Result<MakeRustlsConnect, Error> {
    let roots = match file {
        _ if mode == SslMode::Disable => Arc::new(RootCertStore::empty()),
        Some(file) => pem_files::read_roots(file)
            .map(Arc::new)
            .map_err(|why| Error::invalid("database.tls_ca_path", why))?,
        None => system_roots(),
    };
    Ok(MakeRustlsConnect::new(client_tls(roots)?.with_no_client_auth()))
}

impl Connector {
    /// Opens a connection with the settings of its use.
    pub(super) async fn connect(&self, purpose: ConnectionUse) -> ConnectionResult<PgConn> {
        self.within_time(async {
            let opened = self.open_raw().await?;
            self.prepare(opened, purpose).await
        })
        .await
    }

    /// Applies the settings of its use to a connection.
    async fn prepare(
        &self,
        (client, connection): RawConnection,
        purpose: ConnectionUse,
    ) -> ConnectionResult<PgConn> {
        let mut conn =
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        conn.batch_execute(&self.settings(purpose))
            .await
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }

    /// Opens a connection without settings, to a server that accepts writes.
    pub(super) async fn open_raw(&self) -> ConnectionResult<RawConnection> {
        self.config
            .connect(self.tls.clone())
            .await
            .map_err(|error| ConnectionError::BadConnection(error_chain(&error)))
    }

    /// Bounds the whole setup: a server that accepts and then sends nothing must not block the caller.
    pub(super) async fn within_time<T>(
        &self,
        work: impl Future<Output = ConnectionResult<T>>,
    ) -> ConnectionResult<T> {
        tokio::time::timeout(self.connect_timeout, work)
            .await
            .unwrap_or_else(|_| Err(ConnectionError::BadConnection("timed out".to_owned())))
    }

    /// Returns the session settings. They are set after connecting and not as startup options, which connection poolers
    /// reject.
    fn settings(&self, purpose: ConnectionUse) -> String {
        let bounded = format!(
            "{COMMON_SETTINGS} SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {};",
            self.statement_timeout_ms, self.idle_in_transaction_timeout_ms
        );
        match purpose {
            ConnectionUse::Read => bounded + " SET default_transaction_read_only = on;",
            ConnectionUse::Write => bounded,
            // A migration has no time limit, and neither has the wait for another replica's migration.
            ConnectionUse::Migrate => format!("{COMMON_SETTINGS} SET statement_timeout = 0;"),
        }
    }
}
