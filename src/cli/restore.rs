//! `shoreguard restore`: puts the database of a backup into an empty place.
//!
//! Invariants
//! - an existing database is never replaced;
//! - the database appears under its name only when it is complete and has the digest of its manifest;
//! - it is removed again if it does not open with the configured master key, or if the audit entry cannot be stored,
//!   unless a server has opened it meanwhile.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::backup::{DATABASE, Manifest, copy_and_digest};
use super::{CliError, ConfigArgs, data_dir, output};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::db::backup::lock_sqlite;
use crate::private_files::{Draft, sync_folder_of};
use crate::telemetry;

const JOB: &str = "restore";
/// Endings of the files of one database: the database, and the files that SQLite creates beside it.
const ENDINGS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Ending of a file that is being copied.
const DRAFT: &str = ".restoring";
/// How long this process itself may hold a database that could not be opened, and how often that is checked.
const OWN_LOCK_TIME_MAX: Duration = Duration::from_secs(10);
const OWN_LOCK_CHECK_EVERY: Duration = Duration::from_millis(50);
const POSTGRES: &str = "the database is PostgreSQL, which has its own tools: run `pg_restore --no-owner \
    --exit-on-error --dbname=service=NAME FILE` on an empty database, with a service of `PGSERVICEFILE`, since other \
    users can see arguments, and set the same master key";

/// Arguments of `restore`, and the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder that `shoreguard backup` has made.
    folder: PathBuf,
}

/// Restores a backup.
pub(super) async fn run(args: &RestoreArgs) -> Result<(), CliError> {
    let config = args.config.load()?;
    telemetry::init_logging(&config.telemetry)?;
    let Some(database) = config.sqlite_path() else {
        return Err(CliError::Usage(POSTGRES.to_owned()));
    };
    let manifest = Manifest::read(&args.folder)?;
    check_empty(&database)?;
    let master = boot::existing_master_keys(&config)?;
    let mut key_ids = manifest.master_key_ids.iter();
    if let Some(missing) = key_ids.find(|id| master.digest_key_by_id(id).is_none()) {
        return Err(CliError::Io(format!(
            "the backup was made with the master key `{missing}`, which is not configured"
        )));
    }
    data_dir::create(&config.server.data_dir)?;
    place(&args.folder.join(DATABASE), &database, &manifest)?;
    if let Err(why) = open_and_record(config, &args.folder).await {
        return Err(match remove(&database, OWN_LOCK_TIME_MAX).await {
            Ok(()) => why,
            Err(left) => CliError::Io(format!("{why}\n{left}")),
        });
    }
    let text =
        format!("`{}` has the state of {}; start the server", database.display(), manifest.time);
    output::print_result(&text)?;
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Checks that no file of a database is at this place.
fn check_empty(database: &Path) -> Result<(), CliError> {
    let existing = ENDINGS.map(|ending| with_ending(database, ending));
    match existing.iter().find(|path| path.symlink_metadata().is_ok()) {
        None => Ok(()),
        Some(path) => Err(CliError::Io(format!(
            "`{}` exists: a backup is restored into an empty place only, so move the existing database away",
            path.display()
        ))),
    }
}

/// Copies the database to its place. The draft is removed in any case.
fn place(from: &Path, database: &Path, manifest: &Manifest) -> Result<(), CliError> {
    let path = with_ending(database, DRAFT);
    let mut draft = Draft::create(&path, database).map_err(|error| {
        CliError::Io(format!("`{}` cannot be created: {error}", path.display()))
    })?;
    let failed =
        |error: io::Error| CliError::Io(format!("`{}` cannot be read: {error}", from.display()));
    let digest = copy_and_digest(&mut File::open(from).map_err(failed)?, &mut draft)?;
    if digest != manifest.database_sha256 {
        let text =
            format!("`{}` is damaged: its digest is not that of the manifest", from.display());
        return Err(CliError::Io(text));
    }
    // Fails if another process has created the database meanwhile.
    draft.publish()?;
    sync_folder_of(database)?;
    Ok(())
}

/// Opens the database, which updates its schema and needs the master key, and stores the audit entry.
async fn open_and_record(config: Config, folder: &Path) -> Result<(), CliError> {
    let app = boot::build(config, Clock::system()).await?;
    let ctx = Ctx::system(&app, JOB);
    let about = AuditSubject::new(Action::DATABASE_RESTORE, folder.display().to_string());
    let intent = Intent { method: "shoreguard restore".into(), ..ctx.new_intent(about) };
    let recorded = app.audit.record(intent, Outcome::new(ctx.now(), Ending::Ok, 0)).await;
    app.stop.cancel();
    app.drain().await;
    Ok(recorded?)
}

/// Removes the files of a database that this command has placed, unless a server has opened it meanwhile: it would use
/// files that nothing else can find. Waits up to `wait` for what this process itself has opened.
async fn remove(database: &Path, wait: Duration) -> Result<(), CliError> {
    let until = Instant::now() + wait;
    let _lock = loop {
        match lock_sqlite(database) {
            Ok(lock) => break lock,
            Err(why) if Instant::now() >= until => {
                let path = database.display();
                return Err(CliError::Io(format!("`{path}` was not removed: {why}")));
            }
            Err(_) => tokio::time::sleep(OWN_LOCK_CHECK_EVERY).await,
        }
    };
    for path in ENDINGS.map(|ending| with_ending(database, ending)) {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_a_server_has_opened_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join(DATABASE);
        fs::write(&database, "x").unwrap();
        let lock_of_server = lock_sqlite(&database).unwrap();
        let why = remove(&database, Duration::ZERO).await.unwrap_err().to_string();
        assert!(why.contains("in use by another Shoreguard"), "{why}");
        assert!(database.exists());
        drop(lock_of_server);
        remove(&database, Duration::ZERO).await.unwrap();
        assert!(!database.exists());
    }
}
