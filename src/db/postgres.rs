//! PostgreSQL: pools of connections that Shoreguard creates itself, because diesel-async does not support TLS.
//!
//! Invariants
//! - whenever TLS is used, the certificate of the server is verified;
//! - every connection has a statement timeout and a timeout for idle transactions;
//! - reader connections cannot write;
//! - migrations run on their own connection, under an advisory lock, so that replicas can start together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DbOptions, PgConn, Pools, migrations};
use crate::error::{Error, Reason};

/// Key of the advisory lock, which no other program may use on the same database: the bytes of `shoregrd`.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"shoregrd");
/// Idle time before a TCP keepalive: a firewall may have dropped the connection.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// Time that sent data can stay unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum ConnectionUse {
    Read,
    Write,
    Migrate,
}

/// Parameters of a new connection.
#[derive(Clone)]
struct Connector {
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    statement_timeout_ms: u128,
    idle_in_transaction_timeout_ms: u128,
    connect_timeout: Duration,
}

pub(super) async fn open(
    mut config: tokio_postgres::Config,
    options: &DbOptions,
) -> Result<Pools, Error> {
    config
        .connect_timeout(options.connect_timeout)
        .keepalives_idle(KEEPALIVE_IDLE)
        .tcp_user_timeout(TCP_USER_TIMEOUT);
    if config.get_application_name().is_none() {
        config.application_name("shoreguard");
    }
    let connector = Connector {
        tls: tls(config.get_ssl_mode(), options.tls_roots.as_deref())?,
        config,
        statement_timeout_ms: options.statement_timeout.as_millis(),
        idle_in_transaction_timeout_ms: options.idle_in_transaction_timeout.as_millis(),
        connect_timeout: options.connect_timeout,
    };
    migrate(&connector).await?;
    Ok(Pools::Pg {
        readers: pool(&connector, options, ConnectionUse::Read, options.readers)?,
        writers: pool(&connector, options, ConnectionUse::Write, options.writers)?,
    })
}

async fn migrate(connector: &Connector) -> Result<(), Error> {
    let mut conn = connector.connect(ConnectionUse::Migrate).await.map_err(|error| {
        Error::unavailable(
            Reason::StorageUnavailable,
            format!("cannot connect to the database: {}", error_chain(&error)),
        )
    })?;
    // Held until this connection closes.
    conn.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).await?;
    migrations::run(&mut AsyncMigrationHarness::new(conn), migrations::POSTGRES)
}

/// Joins the messages of an error and its sources: an error of tokio-postgres alone says little.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn tls(mode: SslMode, file: Option<&Path>) -> Result<MakeRustlsConnect, Error> {
    let roots = match file {
        _ if mode == SslMode::Disable => RootCertStore::empty(),
        Some(file) => load_roots(file)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn load_roots(file: &Path) -> Result<RootCertStore, Error> {
    let bad = |why: String| Error::invalid("database.tls_roots", format!("cannot be used: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| bad(e.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    Ok(roots)
}

impl Connector {
    async fn connect(&self, purpose: ConnectionUse) -> ConnectionResult<PgConn> {
        let connecting = async {
            let (client, connection) = self
                .config
                .connect(self.tls.clone())
                .await
                .map_err(|error| ConnectionError::BadConnection(error_chain(&error)))?;
            let mut conn =
                AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
            conn.batch_execute(&self.settings(purpose))
                .await
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(conn)
        };
        // Covers the whole setup: a server that accepts and then sends nothing must not block the caller.
        tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(ConnectionError::BadConnection("timed out".to_owned())))
    }

    /// Returns the session settings. They are set after connecting and not as startup options, which connection poolers
    /// reject.
    fn settings(&self, purpose: ConnectionUse) -> String {
        let bounded = format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {};",
            self.statement_timeout_ms, self.idle_in_transaction_timeout_ms
        );
        match purpose {
            ConnectionUse::Read => bounded + " SET default_transaction_read_only = on;",
            ConnectionUse::Write => bounded,
            // A migration has no time limit, and neither has the wait for another replica's migration.
            ConnectionUse::Migrate => "SET statement_timeout = 0;".to_owned(),
        }
    }
}

fn pool(
    connector: &Connector,
    options: &DbOptions,
    purpose: ConnectionUse,
    size: usize,
) -> Result<Pool<PgConn>, Error> {
    let connector = connector.clone();
    let mut config = ManagerConfig::default();
    // The default runs a query each time a connection is taken from the pool.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |_url| {
        let connector = connector.clone();
        async move { connector.connect(purpose).await }.boxed()
    });
    // The URL stays in the connector, since it may contain a password.
    let manager = AsyncDieselConnectionManager::new_with_config("", config);
    Pool::builder(manager)
        .max_size(size.max(1))
        .wait_timeout(Some(options.pool_wait))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(Error::internal)
}
