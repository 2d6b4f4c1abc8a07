//! SQLite: one file, one process, one writer.
//!
//! Invariants
//! - a second server on the same file is refused, by a lock on `<file>.lock` that ends with the process. A backup reads
//!   the file beside the server, and writes only its audit entry;
//! - only the owner can read the file; its journal gets the same permissions;
//! - committed data survives a power failure (`synchronous=FULL` on the writer).

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::QueueMode;
use diesel::connection::SimpleConnection;
use diesel::{Connection, ConnectionError, ConnectionResult, SqliteConnection};
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::group::CommitGroup;
use super::{DbOptions, Pools, SqliteConn, migrations};
use crate::error::{Error, Reason};
use crate::private_files;

/// Size to which the journal is truncated after a checkpoint, so that one large transaction does not keep the disk
/// space.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionUse {
    /// Queries.
    Read,
    /// Transactions.
    Write,
    /// Copies of the whole file, which are not made in the mode of the original.
    Copy,
}

pub(super) async fn open(
    path: &Path,
    options: &DbOptions,
    group: &Arc<CommitGroup>,
) -> Result<Pools, Error> {
    let path = path.to_owned();
    let busy = options.busy_timeout;
    let (path, lock) = tokio::task::spawn_blocking(move || prepare(&path, busy))
        .await
        .map_err(Error::internal)??;
    pools(&path, options, group, Some(lock))
}

/// Opens an existing file without its lock.
pub(super) async fn open_beside(
    path: &Path,
    options: &DbOptions,
    group: &Arc<CommitGroup>,
) -> Result<Pools, Error> {
    let path = path.to_owned();
    let busy = options.busy_timeout;
    let path = tokio::task::spawn_blocking(move || find_current(&path, busy))
        .await
        .map_err(Error::internal)??;
    pools(&path, options, group, None)
}

/// Returns the canonical path of an existing file whose schema is that of this binary.
fn find_current(path: &Path, busy: Duration) -> Result<PathBuf, Error> {
    let path = path.canonicalize().map_err(|error| file_error("find", path, &error))?;
    let mut conn = connect(&path, ConnectionUse::Read, busy)
        .map_err(|error| file_error("open", &path, &error))?;
    migrations::check_current(&mut conn, &migrations::SQLITE)?;
    Ok(path)
}

/// Locks the file for this process and migrates its schema.
fn prepare(path: &Path, busy: Duration) -> Result<(PathBuf, File), Error> {
    let path = resolve_path(path).map_err(|error| file_error("find", path, &error))?;
    // Locked before the file is opened: closing any handle of it would release the locks that SQLite holds in this
    // process.
    let lock = lock(&path)?;
    create(&path).map_err(|error| file_error("create", &path, &error))?;
    let mut conn = connect(&path, ConnectionUse::Write, busy)
        .map_err(|error| file_error("open", &path, &error))?;
    migrations::run(&mut conn, migrations::SQLITE)?;
    Ok((path, lock))
}

/// Returns the canonical path, so that a file with two names has one lock.
pub(super) fn resolve_path(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok(folder.unwrap_or(Path::new(".")).canonicalize()?.join(name))
}

pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file =
        private_files::open_or_create(&name).map_err(|error| file_error("lock", path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::unavailable(
            Reason::StorageUnavailable,
            format!(
                "the database file `{}` is in use by another Shoreguard: stop that one, or use \
                 PostgreSQL for more than one process",
                path.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(file_error("lock", path, &error)),
    }
}

/// Creates an empty file, which is a valid empty database. SQLite itself would create a file that all users can read.
fn create(path: &Path) -> io::Result<()> {
    private_files::open_or_create(path).map(drop)
}

/// Creates the pools of a file. They hold its lock if there is one.
fn pools(
    path: &Path,
    options: &DbOptions,
    group: &Arc<CommitGroup>,
    lock: Option<File>,
) -> Result<Pools, Error> {
    Ok(Pools::Sqlite {
        readers: pool(path, options, None)?,
        writer: pool(path, options, Some(group))?,
        queue: Arc::new(Semaphore::new(1)),
        _lock: lock,
    })
}

/// Creates the pool of the reader connections, or of the writer connection with its group of transactions. The reader
/// that was used last is handed out first: it has prepared what callers repeat.
fn pool(
    path: &Path,
    options: &DbOptions,
    group: Option<&Arc<CommitGroup>>,
) -> Result<Pool<SqliteConn>, Error> {
    let busy = options.busy_timeout;
    let group = group.cloned();
    let (purpose, size) = match group {
        None => (ConnectionUse::Read, options.readers),
        Some(_) => (ConnectionUse::Write, 1),
    };
    let mut config = ManagerConfig::default();
    // The default runs a query each time a connection is taken from the pool.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |path| {
        let path = PathBuf::from(path);
        // The previous writer connection was closed, which rolled back the transactions on it.
        if let Some(group) = &group {
            group.reset();
        }
        async move {
            let conn = tokio::task::spawn_blocking(move || connect(&path, purpose, busy))
                .await
                .map_err(|error| ConnectionError::BadConnection(error.to_string()))??;
            Ok(SqliteConn::new(conn))
        }
        .boxed()
    });
    let manager = AsyncDieselConnectionManager::new_with_config(path_text(path)?, config);
    Pool::builder(manager)
        .max_size(size.max(1))
        .queue_mode(QueueMode::Lifo)
        .wait_timeout(Some(options.pool_wait))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(Error::internal)
}

pub(super) fn connect(
    path: &Path,
    purpose: ConnectionUse,
    busy: Duration,
) -> ConnectionResult<SqliteConnection> {
    let text =
        path_text(path).map_err(|error| ConnectionError::BadConnection(error.to_string()))?;
    let mut conn = SqliteConnection::establish(text)?;
    let busy = busy.as_millis();
    // busy_timeout first, since enabling WAL needs a lock.
    let mut pragmas = format!(
        "PRAGMA busy_timeout = {busy}; PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "
    );
    if purpose != ConnectionUse::Copy {
        pragmas.push_str("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; ");
    }
    match purpose {
        ConnectionUse::Copy => {}
        ConnectionUse::Read => pragmas.push_str("PRAGMA query_only = ON;"),
        ConnectionUse::Write => {
            pragmas.push_str("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = ");
            pragmas.push_str(&JOURNAL_BYTES_MAX.to_string());
        }
    }
    conn.batch_execute(&pragmas).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

pub(super) fn path_text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::invalid("database.url", "must be UTF-8"))
}

pub(super) fn file_error(what: &str, path: &Path, error: &dyn std::error::Error) -> Error {
    Error::unavailable(
        Reason::StorageUnavailable,
        format!("cannot {what} the database file `{}`: {error}", path.display()),
    )
}
