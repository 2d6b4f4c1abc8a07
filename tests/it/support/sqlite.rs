//! A SQLite database for each test: a copy of a file that was made once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use shoreguard::db::{Db, DbOptions};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{DbLocation, server};

/// Name of the database file in its folder.
pub(super) const FILE: &str = "sg.db";

/// Content of the migrated file.
static MIGRATED: OnceCell<Vec<u8>> = OnceCell::const_new();
/// Content of a file with the first admin, and the admin's key.
static WITH_ADMIN: OnceCell<(Vec<u8>, String)> = OnceCell::const_new();

/// Returns a folder with a copy of the migrated file.
pub(super) async fn copy_migrated() -> TempDir {
    write_file(MIGRATED.get_or_init(migrate).await)
}

/// Returns a folder with a copy of the file with the first admin, and the admin's key.
pub(super) async fn copy_with_admin() -> (TempDir, String) {
    let (content, key) = WITH_ADMIN.get_or_init(add_admin).await;
    (write_file(content), key.clone())
}

/// Writes a file that only its owner can read, into a folder of its own.
fn write_file(content: &[u8]) -> TempDir {
    let folder = tempfile::tempdir_in(super::database_folder()).unwrap();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(folder.path().join(FILE)).unwrap().write_all(content).unwrap();
    folder
}

async fn migrate() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    drop(Db::open(&DbOptions::new(file.to_str().unwrap())).await.unwrap());
    read_pages(&file)
}

async fn add_admin() -> (Vec<u8>, String) {
    let folder = copy_migrated().await;
    let file = folder.path().join(FILE);
    let place = DbLocation::Sqlite(folder);
    let key = Box::pin(server::add_first_admin(&place)).await;
    (read_pages(&file), key)
}

/// Returns all pages of a database. Some of them may still be in its write-ahead log; `VACUUM INTO` writes them all.
fn read_pages(file: &Path) -> Vec<u8> {
    let copy = file.with_file_name("copy.db");
    let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
    fs::read(copy).unwrap()
}
