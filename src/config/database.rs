//! `[database]`: where the state is stored.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::Faults;
use super::postgres_url::PostgresUrl;
use super::read::{ConfigKey, Section, ValueKind};
use crate::net::pem_files;
use crate::secret::Secret;

/// Name of the SQLite file in the data directory.
pub(super) const FILE_NAME: &str = "shoreguard.db";

/// Where the state is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Database URL: `sqlite:<path>` or `postgres://user:password@host:port/name`, whose options are those of libpq:
    /// `sslmode` (`disable`, `prefer`, `require` or `verify-full`; the certificate and the host name are verified
    /// whenever TLS is used), `sslrootcert`, `application_name`, `options`, `hostaddr`, `channel_binding` and
    /// `load_balance_hosts`. An unknown option is refused. With several hosts, separated by commas, the primary is
    /// used. A connection pooler must keep one server connection for each client connection, such as `pgbouncer` with
    /// `pool_mode = session`; a pooler that changes it between transactions or statements is refused at the start,
    /// since prepared statements and session settings are lost then. Empty means the default: `shoreguard.db` in
    /// `server.data_dir`, so that a single server needs no other database.
    #[serde(default = "url")]
    pub url: DatabaseUrl,
    /// Path of the CAs that sign the certificate of the PostgreSQL server, PEM; `sslrootcert` of the URL is the same.
    /// TLS is then used for loopback too, unless it is a socket. Default: none, the CAs of the system.
    #[serde(default)]
    pub tls_ca_path: Option<PathBuf>,
    /// Number of connections that only read, on SQLite and on PostgreSQL; they are in addition to the writing ones.
    /// Range 1 to 64. Default 4: reads are short, and more connections than cores only wait for each other.
    #[serde(default = "readers")]
    pub readers: u32,
    /// Number of connections to PostgreSQL that can write, in addition to `readers`. Range 2 to 1000. It has no effect
    /// on SQLite, which has a single writer. One caller uses at most three quarters of them. Default 16: more gave no
    /// more throughput when measured, and each uses resources of the database server.
    #[serde(default = "pool_size")]
    pub pool_size: u32,
    /// Time that a call waits for a database connection, in seconds. Range 1 to 300. Default 5: after that, an error
    /// helps a caller more than waiting longer.
    #[serde(default = "acquire_timeout_seconds")]
    pub acquire_timeout_seconds: u64,
    /// Timeout of one statement on PostgreSQL, in seconds. Range 1 to 300. Default 30: the longest work, deletion by
    /// retention, runs in batches.
    #[serde(default = "statement_timeout_seconds")]
    pub statement_timeout_seconds: u64,
    /// Time after which PostgreSQL ends an idle open transaction, in seconds. Range 1 to 300. Default 10: no
    /// transaction of Shoreguard waits for anything outside the database.
    #[serde(default = "idle_in_transaction_timeout_seconds")]
    pub idle_in_transaction_timeout_seconds: u64,
    /// Time that SQLite waits for a lock, in milliseconds. Range 100 to 60,000. Default 5000: only a backup or a shell
    /// can hold a lock that long.
    #[serde(default = "busy_timeout_milliseconds")]
    pub busy_timeout_milliseconds: u64,
}

/// The configured database.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// The SQLite file in the data directory.
    DataDir,
    /// An SQLite file at this path.
    Sqlite(PathBuf),
    /// A PostgreSQL server; the URL usually contains a password.
    Postgres(Secret),
}

fn url() -> DatabaseUrl {
    DatabaseUrl::DataDir
}

fn readers() -> u32 {
    4
}

fn pool_size() -> u32 {
    16
}

fn acquire_timeout_seconds() -> u64 {
    5
}

fn statement_timeout_seconds() -> u64 {
    30
}

fn idle_in_transaction_timeout_seconds() -> u64 {
    10
}

fn busy_timeout_milliseconds() -> u64 {
    5000
}

impl DatabaseUrl {
    fn parse(text: String) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::DataDir);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (!path.is_empty() && path != ":memory:").then(|| Self::Sqlite(path.into()));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        rest.is_some_and(|rest| !rest.is_empty()).then(|| Self::Postgres(Secret::new(text)))
    }

    /// Returns the URL without secrets.
    fn redacted(&self) -> String {
        match self {
            Self::DataDir => String::new(),
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => redact_postgres(url.expose()),
        }
    }
}

/// Returns the URL with `***` for the password and for the parameters, which can contain a password too. If it is
/// ambiguous which part is the password, everything after the scheme is replaced.
fn redact_postgres(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", ""));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    if after.contains('@') {
        return format!("{scheme}://***");
    }
    let (path, parameters) = after.split_at(after.find(['?', '#']).unwrap_or(after.len()));
    let parameters = if parameters.is_empty() { "" } else { "?***" };
    let authority = match authority.rsplit_once('@') {
        None => authority.to_owned(),
        Some((credentials, host)) => match credentials.split_once(':') {
            None => format!("{credentials}@{host}"),
            Some((user, _)) => format!("{user}:***@{host}"),
        },
    };
    format!("{scheme}://{authority}{path}{parameters}")
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text).ok_or_else(|| serde::de::Error::custom("no such database"))
    }
}

impl Section for Database {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("url", ValueKind::Secret),
        ConfigKey::new("tls_ca_path", ValueKind::Text),
        ConfigKey::new("readers", ValueKind::Number),
        ConfigKey::new("pool_size", ValueKind::Number),
        ConfigKey::new("acquire_timeout_seconds", ValueKind::Number),
        ConfigKey::new("statement_timeout_seconds", ValueKind::Number),
        ConfigKey::new("idle_in_transaction_timeout_seconds", ValueKind::Number),
        ConfigKey::new("busy_timeout_milliseconds", ValueKind::Number),
    ];

    fn check(&self, faults: &mut Faults) {
        self.check_postgres(faults);
        faults.check_range("database.readers", self.readers, &(1..=64));
        faults.check_range("database.pool_size", self.pool_size, &(2..=1000));
        let seconds = 1..=300;
        faults.check_range(
            "database.acquire_timeout_seconds",
            self.acquire_timeout_seconds,
            &seconds,
        );
        faults.check_range(
            "database.statement_timeout_seconds",
            self.statement_timeout_seconds,
            &seconds,
        );
        let idle = self.idle_in_transaction_timeout_seconds;
        faults.check_range("database.idle_in_transaction_timeout_seconds", idle, &seconds);
        let busy = self.busy_timeout_milliseconds;
        faults.check_range("database.busy_timeout_milliseconds", busy, &(100..=60_000));
    }
}

impl Database {
    /// Parses the URL and reads the CAs, as the connections do.
    fn check_postgres(&self, faults: &mut Faults) {
        let DatabaseUrl::Postgres(url) = &self.url else { return };
        let ca_path = match PostgresUrl::parse(url.expose(), self.tls_ca_path.as_deref()) {
            Ok(parsed) => parsed.ca_path,
            Err(why) => return faults.add("database.url", why),
        };
        let Some(Err(why)) = ca_path.as_deref().map(pem_files::read_roots) else { return };
        if self.tls_ca_path.is_some() {
            faults.add("database.tls_ca_path", why);
        } else {
            faults.add("database.url", format!("has a file in `sslrootcert` that {why}"));
        }
    }

    /// Returns the time that a call waits for a connection.
    #[must_use]
    pub fn acquire_timeout(&self) -> Duration {
        Duration::from_secs(self.acquire_timeout_seconds)
    }

    /// Returns the timeout of one statement on PostgreSQL.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        Duration::from_secs(self.statement_timeout_seconds)
    }

    /// Returns the time after which PostgreSQL ends an idle open transaction.
    #[must_use]
    pub fn idle_in_transaction_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_in_transaction_timeout_seconds)
    }

    /// Returns the time that SQLite waits for a lock.
    #[must_use]
    pub fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn faults(section: &str) -> Vec<String> {
        let key = "00".repeat(32);
        let text = format!("[keys]\nmaster_key = '{key}'\n[database]\n{section}");
        let Err(faults) = Config::from_toml(&text) else { return Vec::new() };
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_postgres_url_that_the_server_would_refuse_is_a_fault() {
        for (section, expected) in [
            (
                "url = 'postgres://u:p@h/d?sslmode=verify-ca'",
                "`database.url` has `sslmode=verify-ca`",
            ),
            (
                "url = 'postgres://u:p@h/d?pgbouncer=true'",
                "`database.url` has the option `pgbouncer`",
            ),
            ("url = 'postgres:///d'", "`database.url` must name a host"),
            (
                "url = 'postgres://u:p@h/d?sslrootcert=/no/such/file'",
                "`database.url` has a file in `sslrootcert` that cannot be read",
            ),
            (
                "url = 'postgres://u:p@h/d'\ntls_ca_path = '/no/such/file'",
                "`database.tls_ca_path` cannot be read",
            ),
            (
                "url = 'postgres://u:p@h/d'\ntls_ca_path = '/dev/null'",
                "`database.tls_ca_path` is empty",
            ),
        ] {
            let found = faults(section);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{section}: {found:?}");
        }
        assert!(faults("url = 'postgres://u:p@h/d?sslmode=verify-full'").is_empty());
    }
}
