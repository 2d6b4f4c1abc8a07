//! How to reach the database and how long to wait for it.
//!
//! Invariants
//! - the address may hold a password, so it is a [`Secret`] and no message repeats it;
//! - an address that is not understood is an error, never a new file of that name.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

use crate::error::Error;
use crate::secret::Secret;

/// Connections that read. SQLite readers beyond the cores only wait for each other.
pub const READERS: usize = 8;
/// Connections that write on PostgreSQL; SQLite has one, whatever is asked for.
pub const POSTGRES_WRITERS: usize = 8;
/// How long a caller waits for its turn at a pool.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// How long a connection to PostgreSQL may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a statement may take on PostgreSQL.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long PostgreSQL keeps a transaction that nobody goes on with: the net below the guard in `transaction`.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long SQLite waits for a lock of another process, such as a backup.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// `sqlite:///path`, a plain path, or `postgres://user:password@host/name`.
    ///
    /// For PostgreSQL, `sslmode` may be `disable`, `prefer`, `require` or `verify-full`; whenever TLS is spoken, the
    /// certificate is checked. Without `sslmode` a loopback address or a socket is spoken to in plain, anything else by
    /// TLS.
    pub url: Secret,
    /// The authorities that PostgreSQL's certificate may come from, in PEM; none means those that this host trusts.
    pub tls_roots: Option<PathBuf>,
    /// Connections that read.
    pub readers: usize,
    /// Connections that write, on PostgreSQL.
    pub writers: usize,
    /// How long a caller waits for its turn at a pool.
    pub pool_wait: Duration,
    /// How long a connection to PostgreSQL may take.
    pub connect_timeout: Duration,
    /// How long a statement may take on PostgreSQL.
    pub statement_timeout: Duration,
    /// How long PostgreSQL keeps a transaction that nobody goes on with.
    pub idle_in_transaction_timeout: Duration,
    /// How long SQLite waits for a lock of another process.
    pub busy_timeout: Duration,
}

/// An address that has been understood.
pub(super) enum Address {
    Sqlite(PathBuf),
    Postgres(Box<tokio_postgres::Config>),
}

impl DbOptions {
    /// The address with the limits of this module.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self {
            url: url.into(),
            tls_roots: None,
            readers: READERS,
            writers: POSTGRES_WRITERS,
            pool_wait: POOL_WAIT,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: STATEMENT_TIMEOUT,
            idle_in_transaction_timeout: IDLE_IN_TRANSACTION_TIMEOUT,
            busy_timeout: BUSY_TIMEOUT,
        }
    }

    /// The file, when it is SQLite: keys that are made on first start go beside it.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        match self.address() {
            Ok(Address::Sqlite(path)) => Some(path),
            Ok(Address::Postgres(_)) | Err(_) => None,
        }
    }

    pub(super) fn address(&self) -> Result<Address, Error> {
        let url = self.url.expose();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return postgres(url).map(|config| Address::Postgres(Box::new(config)));
        }
        sqlite(url).map(Address::Sqlite)
    }
}

fn sqlite(url: &str) -> Result<PathBuf, Error> {
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    // Each pooled connection would get a memory of its own; `file:` and a query would be read by SQLite itself.
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(not_an_address("must name a file"));
    }
    if path.contains("://") || path.starts_with("file:") || path.starts_with("sqlite:") {
        return Err(not_an_address("must be `sqlite:///path`, a path, or `postgres://...`"));
    }
    Ok(PathBuf::from(path))
}

fn postgres(url: &str) -> Result<tokio_postgres::Config, Error> {
    // tokio-postgres knows no verify-full. We always verify, so that `require` is the same.
    let url = url.replace("sslmode=verify-full", "sslmode=require");
    let mut config: tokio_postgres::Config = url
        .parse()
        .map_err(|error| not_an_address(&format!("is not an address of PostgreSQL: {error}")))?;
    if !url.contains("sslmode=") {
        let local = config.get_hosts().iter().all(is_local);
        config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
    }
    Ok(config)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn not_an_address(why: &str) -> Error {
    Error::invalid("database.url", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_sqlite() {
        for (url, path) in [
            ("sqlite:///var/sg.db", "/var/sg.db"),
            ("sqlite://sg.db", "sg.db"),
            ("a/b.db", "a/b.db"),
        ] {
            assert_eq!(DbOptions::new(url).sqlite_path(), Some(PathBuf::from(path)), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "sqlite://",
            ":memory:",
            "mysql://x/y",
            "file:x",
            "a.db?mode=ro",
            "postgres://a:b:c:d",
        ] {
            assert!(DbOptions::new(url).address().is_err(), "{url}");
        }
    }

    #[test]
    fn tls_is_the_rule_beyond_this_host() {
        for (url, mode) in [
            ("postgres://localhost/sg", SslMode::Disable),
            ("postgres://127.0.0.1/sg", SslMode::Disable),
            ("postgres://%2Frun%2Fpostgresql/sg", SslMode::Disable),
            ("postgres://db.example/sg", SslMode::Require),
            ("postgres://db.example/sg?sslmode=disable", SslMode::Disable),
            ("postgres://db.example/sg?sslmode=prefer", SslMode::Prefer),
            ("postgres://db.example/sg?sslmode=verify-full", SslMode::Require),
        ] {
            assert_eq!(postgres(url).unwrap().get_ssl_mode(), mode, "{url}");
        }
    }
}
