//! Copies of an SQLite database, even while a server uses it.
//!
//! Invariants
//! - a copy is the state of one moment: it contains every transaction that was committed before it, and no part of a
//!   later one. Writers do not wait for it;
//! - only the owner can read a copy, and it is on the disk when the function returns;
//! - an existing file is never replaced.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl};

use super::sqlite::{ConnectionUse, connect, file_error, lock, path_text, resolve_path};
use crate::error::{Error, Reason};
use crate::private_files;

/// What SQLite reports for a valid file.
const VALID: &str = "ok";

/// One line of the report of SQLite's check.
#[derive(QueryableByName)]
struct CheckLine {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

/// Copies a database file to a new file, and checks the copy. Waits up to `busy` for a lock.
///
/// # Errors
/// `Unavailable` if the file cannot be copied, the other file exists, or the copy is damaged.
pub async fn copy_sqlite(from: &Path, to: &Path, busy: Duration) -> Result<(), Error> {
    let (from, to): (PathBuf, PathBuf) = (from.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || copy(&from, &to, busy)).await.map_err(Error::internal)?
}

/// Locks a database file, as a server does, until the result is dropped.
///
/// # Errors
/// `Unavailable` if a server or this process uses the file.
pub fn lock_sqlite(path: &Path) -> Result<File, Error> {
    lock(&resolve_path(path).map_err(|error| file_error("find", path, &error))?)
}

fn copy(from: &Path, to: &Path, busy: Duration) -> Result<(), Error> {
    // SQLite itself would create a file that all users can read. It writes into an existing file only if that is empty.
    private_files::create(to).map_err(|error| file_error("create", to, &error))?;
    let mut source = connect(from, ConnectionUse::Copy, busy)
        .map_err(|error| file_error("open", from, &error))?;
    diesel::sql_query("VACUUM INTO ?")
        .bind::<Text, _>(path_text(to)?)
        .execute(&mut source)
        .map_err(|error| file_error("copy", from, &error))?;
    check(to, busy)?;
    // SQLite does not wait for the disk when it writes a copy.
    File::open(to).and_then(|file| file.sync_all()).map_err(|error| file_error("store", to, &error))
}

/// Checks that a file is a valid database.
fn check(path: &Path, busy: Duration) -> Result<(), Error> {
    let mut conn = connect(path, ConnectionUse::Copy, busy)
        .map_err(|error| file_error("open", path, &error))?;
    let lines: Vec<CheckLine> = diesel::sql_query("PRAGMA quick_check")
        .load(&mut conn)
        .map_err(|error| file_error("check", path, &error))?;
    match lines.first() {
        Some(line) if line.quick_check == VALID => Ok(()),
        Some(line) => Err(damaged(path, &line.quick_check)),
        None => Err(damaged(path, "SQLite has not checked it")),
    }
}

fn damaged(path: &Path, why: &str) -> Error {
    let path = path.display();
    let why = format!("the database file `{path}` is damaged: {why}");
    Error::unavailable(Reason::StorageUnavailable, why)
}
