//! `shoreguard restore`: puts the database of a backup into an empty place.
//!
//! Invariants
//! - an existing database is never replaced;
//! - the database appears under its name only when it is complete and has the digest of its manifest;
//! - it is removed again if it does not open with the configured master key, or if the audit entry cannot be stored.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::backup::{DATABASE, Manifest, copy_and_digest, create_private};
use super::{CliError, ConfigArgs, data_dir, output};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::audit::{Ending, Intent, Outcome};
use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::ctx::Ctx;
use crate::telemetry;

const JOB: &str = "restore";
/// Endings of the files of one database: the database, and the files that SQLite creates beside it.
const ENDINGS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Ending of a file that is being copied.
const DRAFT: &str = ".restoring";
const POSTGRES: &str = "the database is PostgreSQL, which has its own tools: run `pg_restore --no-owner \
    --exit-on-error --dbname=URL FILE` on an empty database, and set the same master key";

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
    if master.digest_key_by_id(&manifest.master_key_id).is_none() {
        return Err(CliError::Io(format!(
            "the backup was made with the master key `{}`, which is not configured",
            manifest.master_key_id
        )));
    }
    data_dir::create(&config.server.data_dir)?;
    place(&args.folder.join(DATABASE), &database, &manifest)?;
    let opened = open_and_record(config, &args.folder).await;
    if opened.is_err() {
        remove(&database);
    }
    opened?;
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
    let draft = with_ending(database, DRAFT);
    let mut to = create_private(&draft).map_err(|error| {
        CliError::Io(format!("`{}` cannot be created: {error}", draft.display()))
    })?;
    let placed = fill_and_link(from, &mut to, &draft, database, manifest);
    // If the link was made, the file has its final name; the draft is not needed in either case.
    let _ = fs::remove_file(&draft);
    placed
}

fn fill_and_link(
    from: &Path,
    to: &mut File,
    draft: &Path,
    database: &Path,
    manifest: &Manifest,
) -> Result<(), CliError> {
    let failed =
        |error: io::Error| CliError::Io(format!("`{}` cannot be read: {error}", from.display()));
    let digest = copy_and_digest(&mut File::open(from).map_err(failed)?, to)?;
    if digest != manifest.database_sha256 {
        let text =
            format!("`{}` is damaged: its digest is not that of the manifest", from.display());
        return Err(CliError::Io(text));
    }
    to.sync_all()?;
    // Fails if another process has created the database meanwhile.
    fs::hard_link(draft, database)?;
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
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

/// Removes the files of a database that this command has placed.
fn remove(database: &Path) {
    for path in ENDINGS.map(|ending| with_ending(database, ending)) {
        let _ = fs::remove_file(path);
    }
}
