//! A SQLite database for each test: a copy of one file that was migrated once.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use shoreguard::db::{Db, DbOptions};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// Name of the database file in its folder.
pub(super) const FILE: &str = "sg.db";

/// Content of the migrated file.
static TEMPLATE: OnceCell<Vec<u8>> = OnceCell::const_new();

/// Returns a folder with a copy of the migrated file, which only its owner can read.
pub(super) async fn copy_template() -> TempDir {
    let template = TEMPLATE.get_or_init(migrate).await;
    let folder = tempfile::tempdir_in(super::database_folder()).unwrap();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(folder.path().join(FILE)).unwrap().write_all(template).unwrap();
    folder
}

async fn migrate() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    drop(Db::open(&DbOptions::new(file.to_str().unwrap())).await.unwrap());
    // Some pages may still be in the write-ahead log. `VACUUM INTO` writes a file with all pages.
    let copy = folder.path().join("copy.db");
    let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    conn.batch_execute(&format!("VACUUM INTO '{}'", copy.display())).unwrap();
    fs::read(copy).unwrap()
}
