//! Options of the database connection: URL, pool sizes and timeouts.
//!
//! Invariants
//! - the URL may contain a password, so it is a [`Secret`] and no message repeats it;
//! - an invalid URL is an error, never the name of a new file.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::PostgresUrl;
use crate::error::Error;
use crate::secret::Secret;

/// Default number of reader connections. More SQLite readers than cores only wait for each other.
pub const READERS: usize = 8;
/// Default number of writer connections on PostgreSQL; SQLite always has one.
pub const POSTGRES_WRITERS: usize = 16;
/// Default time that a caller waits for its turn and for a connection.
pub const POOL_WAIT: Duration = Duration::from_secs(5);
/// Default timeout of connecting to PostgreSQL.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Default timeout of a statement on PostgreSQL.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Default time after which PostgreSQL ends an idle transaction: a safety net below the guard in `transaction`.
pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Default time that SQLite waits for a lock of another process, such as a backup.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Default time that an ended transaction on SQLite waits for others that share its commit.
pub const COMMIT_DELAY: Duration = Duration::from_millis(5);

/// Options of the database connection.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// `sqlite:///path`, a plain path, or `postgres://user:password@host/name`.
    ///
    /// [`PostgresUrl`] describes the options of a PostgreSQL URL.
    pub url: Secret,
    /// PEM file of CAs for PostgreSQL's certificate; `None` means `sslrootcert` of the URL, or the CAs of the system.
    pub tls_roots: Option<PathBuf>,
    /// Number of reader connections.
    pub readers: usize,
    /// Number of writer connections on PostgreSQL.
    pub writers: usize,
    /// Time that a caller waits for its turn and for a connection.
    pub pool_wait: Duration,
    /// Timeout of connecting to PostgreSQL.
    pub connect_timeout: Duration,
    /// Timeout of a statement on PostgreSQL.
    pub statement_timeout: Duration,
    /// Time after which PostgreSQL ends an idle transaction.
    pub idle_in_transaction_timeout: Duration,
    /// Time that SQLite waits for a lock of another process.
    pub busy_timeout: Duration,
    /// Time that an ended transaction on SQLite waits for others that share its commit, if callers wait for the writer.
    /// If the last commit took longer, it waits for that time, but at most four times as long.
    pub commit_delay: Duration,
}

/// A parsed URL.
pub(super) enum DatabaseAddress {
    Sqlite(PathBuf),
    Postgres(Box<PostgresUrl>),
}

impl DbOptions {
    /// Creates options with the defaults of this module.
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
            commit_delay: COMMIT_DELAY,
        }
    }

    /// Returns the path of the SQLite file, or `None` for PostgreSQL. A generated key file is stored next to it.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<PathBuf> {
        match self.address() {
            Ok(DatabaseAddress::Sqlite(path)) => Some(path),
            Ok(DatabaseAddress::Postgres(_)) | Err(_) => None,
        }
    }

    pub(super) fn address(&self) -> Result<DatabaseAddress, Error> {
        let url = self.url.expose();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return PostgresUrl::parse(url, self.tls_roots.as_deref())
                .map(|url| DatabaseAddress::Postgres(Box::new(url)))
                .map_err(|why| invalid_address(&why));
        }
        sqlite(url).map(DatabaseAddress::Sqlite)
    }
}

fn sqlite(url: &str) -> Result<PathBuf, Error> {
    let path = url.strip_prefix("sqlite://").unwrap_or(url);
    // Each pooled connection would get its own in-memory database; SQLite itself would parse `file:` and a query.
    if path.is_empty() || path.contains(":memory:") || path.contains('?') {
        return Err(invalid_address("must name a file"));
    }
    if path.contains("://") || path.starts_with("file:") || path.starts_with("sqlite:") {
        return Err(invalid_address("must be `sqlite:///path`, a path, or `postgres://...`"));
    }
    Ok(PathBuf::from(path))
}

fn invalid_address(why: &str) -> Error {
    Error::invalid("database.url", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_urls_and_paths_are_parsed() {
        for (url, path) in [
            ("sqlite:///var/sg.db", "/var/sg.db"),
            ("sqlite://sg.db", "sg.db"),
            ("a/b.db", "a/b.db"),
        ] {
            assert_eq!(DbOptions::new(url).sqlite_path(), Some(PathBuf::from(path)), "{url}");
        }
    }

    #[test]
    fn an_invalid_database_address_is_refused() {
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
}
