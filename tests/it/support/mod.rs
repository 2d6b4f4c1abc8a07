//! Support for tests, such as a fresh database of each engine.

pub(crate) mod child;
mod cleanup;
pub(crate) mod dns;
pub(crate) mod dump;
pub(crate) mod gateways;
pub(crate) mod http;
mod jobs;
pub(crate) mod limit;
pub(crate) mod mail;
pub(crate) mod people;
pub(crate) mod policies;
pub(crate) mod postgres;
pub(crate) mod raw;
mod sqlite;
pub(crate) mod work;
#[macro_use]
pub(crate) mod server;
#[macro_use]
mod generations;

use std::future::Future;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use shoreguard::db::{Db, DbOptions, Engine};
use tempfile::TempDir;

/// The data does not outlive the tests, so no write waits for the disk. The tables are small, so no query gains by
/// compilation or by parallel workers.
const POSTGRES_SETTINGS: &str = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off \
     -c wal_level=minimal -c max_wal_senders=0 -c jit=off -c max_parallel_workers_per_gather=0";

/// Free space that the databases of the tests need at most.
const DATABASE_BYTES_MAX: u64 = 4 << 30;

/// Timeout of a condition: far more than it needs on a busy machine.
pub(crate) const CONDITION_TIME_MAX: Duration = Duration::from_mins(1);

/// Returns the folder of databases: in memory if that folder of this host is large enough, otherwise on disk. Most of the
/// time of creating a database is spent in the file system.
fn database_folder() -> &'static Path {
    static FOLDER: LazyLock<&Path> = LazyLock::new(|| {
        let memory = Path::new("/dev/shm");
        let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
        if free >= DATABASE_BYTES_MAX { memory } else { Path::new("/tmp") }
    });
    *FOLDER
}

/// Shortest and longest time between two polls of a condition.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// Waits before a condition is polled again. Without it, a polling loop would use a whole core.
pub(crate) async fn pause() {
    tokio::time::sleep(PAUSE[0]).await;
}

/// Waits until a condition is true. The longer it is not, the less often it is polled: most polls are calls, which need
/// the processor that the condition needs, too.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let begun = Instant::now();
    while !so().await {
        let waited = begun.elapsed();
        assert!(waited < CONDITION_TIME_MAX, "never so: {what}");
        tokio::time::sleep((waited / 10).clamp(PAUSE[0], PAUSE[1])).await;
    }
}

/// Waits for an end or a response that a busy machine delays.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(CONDITION_TIME_MAX, future).await;
    done.unwrap_or_else(|_| panic!("never so: {what}"))
}

/// A fresh, migrated database.
pub(crate) struct TestDb {
    db: Db,
    place: DbLocation,
}

/// Location of a test's database. It is removed when this is dropped (SQLite) or by [`DbLocation::remove`].
pub(crate) enum DbLocation {
    Sqlite(TempDir),
    Postgres(postgres::Database),
}

impl TestDb {
    /// Closes the database and returns its location.
    pub(crate) fn close(self) -> DbLocation {
        self.place
    }
}

impl Deref for TestDb {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

impl DbLocation {
    /// Creates a copy of the migrated template. Returns `None` if this host has no PostgreSQL server programs.
    pub(crate) async fn new(engine: Engine) -> Option<Self> {
        match engine {
            Engine::Sqlite => Some(Self::Sqlite(sqlite::copy_migrated().await)),
            Engine::Postgres => postgres::Database::create_migrated().await.map(Self::Postgres),
        }
    }

    /// Creates a copy of the template with the first admin, and returns the admin's key. Returns `None` if this host
    /// has no PostgreSQL server programs.
    pub(crate) async fn with_admin(engine: Engine) -> Option<(Self, String)> {
        match engine {
            Engine::Sqlite => {
                let (folder, key) = sqlite::copy_with_admin().await;
                Some((Self::Sqlite(folder), key))
            }
            Engine::Postgres => {
                let add_admin = async |database| {
                    Box::pin(server::add_first_admin(&Self::Postgres(database))).await
                };
                let (database, key) = postgres::Database::create_with_admin(add_admin).await?;
                Some((Self::Postgres(database), key))
            }
        }
    }

    /// Returns the options to open the database.
    pub(crate) fn options(&self) -> DbOptions {
        let url = match self {
            Self::Sqlite(folder) => folder.path().join(sqlite::FILE).to_str().unwrap().to_owned(),
            Self::Postgres(database) => database.url(),
        };
        // On a busy machine, the defaults may pass while nothing is wrong.
        DbOptions {
            pool_wait: CONDITION_TIME_MAX,
            connect_timeout: CONDITION_TIME_MAX,
            statement_timeout: 2 * CONDITION_TIME_MAX,
            idle_in_transaction_timeout: 2 * CONDITION_TIME_MAX,
            busy_timeout: CONDITION_TIME_MAX,
            ..DbOptions::new(url)
        }
    }

    /// Waits until no process has the SQLite file open. A child process that another test is starting keeps open what
    /// this process has open, until its exec.
    pub(crate) async fn wait_closed(&self) {
        let Self::Sqlite(folder) = self else { return };
        let lock = folder.path().join(format!("{}.lock", sqlite::FILE));
        let Ok(found) = std::fs::metadata(lock) else { return };
        let device = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
        let held = format!(" {:02x}:{:02x}:{} ", device.0, device.1, found.ino());
        eventually("the database is closed", || async {
            !std::fs::read_to_string("/proc/locks").unwrap_or_default().contains(&held)
        })
        .await;
    }

    /// Returns the URL of the database for a configuration.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => {
                format!("sqlite://{}", folder.path().join(sqlite::FILE).display())
            }
            Self::Postgres(database) => database.url(),
        }
    }

    /// Removes what would otherwise outlive the test.
    pub(crate) fn remove(self) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(database) => database.drop_database(),
        }
    }
}

/// Returns the items of all pages of a list. `page` gets the token of a page, and returns its items and the next token.
pub(crate) async fn all_pages<T>(mut page: impl AsyncFnMut(String) -> (Vec<T>, String)) -> Vec<T> {
    let (mut items, mut token) = (Vec::new(), String::new());
    loop {
        let (found, next) = page(token).await;
        items.extend(found);
        if next.is_empty() {
            return items;
        }
        token = next;
    }
}

/// Runs one test on a database of its own.
pub(crate) fn run<F: Future<Output = ()>>(engine: Engine, test: impl FnOnce(TestDb) -> F) {
    limit::block_on(async {
        let Some(place) = DbLocation::new(engine).await else { return };
        let db = Db::open(&place.options()).await.unwrap();
        let cleanup = match &place {
            DbLocation::Sqlite(_) => None,
            DbLocation::Postgres(database) => Some(DbLocation::Postgres(database.clone())),
        };
        test(TestDb { db, place }).await;
        if let Some(place) = cleanup {
            place.remove();
        }
    });
}

/// Lists tests that take a fresh database. Each becomes two tests, `name::sqlite` and `name::postgres`.
macro_rules! both_engines {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                $crate::support::run(shoreguard::db::Engine::Sqlite, super::$name);
            }

            #[test]
            fn postgres() {
                $crate::support::run(shoreguard::db::Engine::Postgres, super::$name);
            }
        }
    )+};
}
