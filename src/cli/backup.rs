//! `shoreguard backup`: copies an SQLite database into a new folder, while its server runs or is stopped.
//!
//! Invariants
//! - a folder with a manifest is complete, and its database opens with the configured master key; otherwise it is removed;
//! - the folder contains neither the master key nor a secret in plain text: secrets in the database are sealed, and the
//!   configuration has `***` in their place;
//! - the audit log has an entry before the command reports success.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{CliError, ConfigArgs, output};
use crate::access::action::Action;
use crate::access::policy::AuditSubject;
use crate::app::new_id;
use crate::audit::recorder::Recorder;
use crate::audit::{Ending, Intent, Outcome};
use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::backup::copy_sqlite;
use crate::db::{Db, DbOptions};
use crate::private_files;
use crate::resources::auth;
use crate::role::Role;
use crate::seal::hex;
use crate::telemetry;

/// Format of the folder.
pub(super) const FORMAT: u32 = 2;
/// Name of the copy of the database.
pub(super) const DATABASE: &str = "shoreguard.db";
/// Name of the configuration without its secrets, for the person who restores.
const CONFIGURATION: &str = "configuration.toml";
/// Name of the description. It is written last.
const MANIFEST: &str = "manifest.json";
/// Maximum size of a manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// How long a busy server may hold a lock of the file.
const BUSY_TIME: Duration = Duration::from_mins(1);
/// Size of the parts in which files are read.
const PART_BYTES: usize = 64 * 1024;
const POSTGRES: &str = "the database is PostgreSQL, which has its own tools: run `pg_dump --format=custom \
    --file=FILE service=NAME` with a service of `PGSERVICEFILE`, since other users can see arguments, and store this \
    configuration and the master key separately from FILE";

/// Arguments of `backup`, and the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder to create. Its parent folder must exist.
    folder: PathBuf,
}

/// The description of a backup.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Format of the folder.
    pub(super) format: u32,
    /// Version of Shoreguard that has made it.
    pub(super) version: String,
    /// Time at which the copy began.
    pub(super) time: String,
    /// Ids of all configured master keys, the current one first, which do not reveal the keys. Each may have sealed a
    /// part of the database.
    pub(super) master_key_ids: Vec<String>,
    /// SHA-256 digest of the database, in hexadecimal.
    pub(super) database_sha256: String,
}

impl Manifest {
    /// Reads the manifest of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join(MANIFEST);
        let failed = |why: &dyn std::fmt::Display| {
            CliError::Io(format!("`{}` is not the manifest of a backup: {why}", path.display()))
        };
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(MANIFEST_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| failed(&error))?;
        let manifest: Self = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        if manifest.format != FORMAT {
            let why = format!("its format is {}, this version reads {FORMAT}", manifest.format);
            return Err(failed(&why));
        }
        Ok(manifest)
    }
}

/// Makes a backup and prints what to store besides it.
pub(super) async fn run(args: &BackupArgs) -> Result<(), CliError> {
    let config = args.config.load()?;
    telemetry::init_logging(&config.telemetry)?;
    let Some(database) = config.sqlite_path() else {
        return Err(CliError::Usage(POSTGRES.to_owned()));
    };
    create_folder(&args.folder)?;
    let made = make(&config, &database, &args.folder).await;
    if made.is_err() {
        // It was created above, so it contains only what this command has written.
        let _ = fs::remove_dir_all(&args.folder);
    }
    let key_ids = made?.join("`, `");
    let text = format!(
        "the database is copied to `{}`; store the master key `{key_ids}` separately, it is not in the folder",
        args.folder.display()
    );
    output::print_result(&text)?;
    Ok(())
}

fn create_folder(path: &Path) -> Result<(), CliError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| CliError::Io(format!("`{}` cannot be created: {error}", path.display())))
}

/// Writes the files of a backup and the audit entry. Returns the ids of the master keys.
async fn make(config: &Config, database: &Path, folder: &Path) -> Result<Vec<String>, CliError> {
    let master = boot::existing_master_keys(config)?;
    let clock = Clock::system();
    let busy_timeout = config.database.busy_timeout().max(BUSY_TIME);
    let options = DbOptions { busy_timeout, ..boot::db_options(config) };
    let db = Db::open_beside(&options).await?;
    // Otherwise, a wrong master key would be noticed only when the backup is needed.
    auth::keys::token_keys(&db, &master, &clock, new_id).await?;
    let time = clock.now();
    let copy = folder.join(DATABASE);
    copy_sqlite(database, &copy, busy_timeout).await?;
    write_private(&folder.join(CONFIGURATION), config.redacted().as_bytes())?;
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: time.to_string(),
        master_key_ids: master.ids().map(str::to_owned).collect(),
        database_sha256: copy_and_digest(&mut File::open(&copy)?, &mut io::sink())?,
    };
    record(&db, &clock, config, folder).await?;
    let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from)?;
    let path = folder.join(MANIFEST);
    write_private(&path, text.as_bytes())?;
    private_files::sync_folder_of(&path)?;
    Ok(manifest.master_key_ids)
}

/// Stores the audit entry, as for a read: before its result is returned. The process has no heartbeat, with which it
/// would count as a replica.
async fn record(db: &Db, clock: &Clock, config: &Config, folder: &Path) -> Result<(), CliError> {
    let replica: Arc<str> = new_id().to_string().into();
    let recorder = Recorder::start(db, clock, &replica, &config.audit);
    let about = AuditSubject::new(Action::DATABASE_BACK_UP, folder.display().to_string());
    let now = clock.now();
    let intent = Intent {
        actor: "system:backup".into(),
        role: Role::Admin,
        request_id: new_id(),
        method: "shoreguard backup".into(),
        ..Intent::new(now, about)
    };
    let stored = recorder.record(intent, Outcome::new(now, Ending::Ok, 0)).await;
    recorder.drain().await;
    Ok(stored?)
}

/// Creates a file that only its owner can read, and stores it on the disk.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private_files::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Copies everything, and returns the SHA-256 digest in hexadecimal.
pub(super) fn copy_and_digest(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut part = vec![0; PART_BYTES];
    loop {
        let read = from.read(&mut part)?;
        if read == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&part[..read]);
        to.write_all(&part[..read])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_digest_of_its_original() {
        let mut copy = Vec::new();
        let digest = copy_and_digest(&mut &b"abc"[..], &mut copy).unwrap();
        assert_eq!(copy, b"abc");
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_manifest_of_another_format_or_with_unknown_fields_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = |format: u32, more: &str| {
            format!(
                r#"{{"format":{format},"version":"1","time":"","master_key_ids":[],"database_sha256":""{more}}}"#
            )
        };
        for (content, accepted) in [
            (text(FORMAT, ""), true),
            (text(FORMAT + 1, ""), false),
            (text(FORMAT, r#","more":1"#), false),
            (String::new(), false),
        ] {
            fs::write(folder.path().join(MANIFEST), &content).unwrap();
            assert_eq!(Manifest::read(folder.path()).is_ok(), accepted, "{content}");
        }
    }
}
