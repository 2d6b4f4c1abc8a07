//! Checks files and folders that `serve` uses, before it changes anything. `check-config` runs the same checks.
//!
//! The configuration has already checked the files that its own keys name (`config`). The checks connect to nothing and
//! create nothing, so an address that is in use, or a database that does not respond, is found by `serve` only.

use std::collections::BTreeSet;
use std::path::Path;

use super::{CliError, dev_key};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::oidc::Oidc;
use crate::policy::{InitialPolicy, Presets};
use crate::safe_paths::{check_can_create_files, check_read_write};
use crate::seal::MasterKeys;
use crate::templates;

/// Lists everything that would prevent a start.
///
/// # Errors
/// `Usage` with one line for each fault.
pub(super) fn check(config: &Config) -> Result<(), CliError> {
    let mut faults = Vec::new();
    let data_dir = &config.server.data_dir;
    // With another database, an existing folder need not be writable.
    if matches!(config.database.url, DatabaseUrl::DataDir) || !data_dir.is_dir() {
        let created = check_can_create_files(data_dir);
        faults.extend(created.err().map(|why| format!("`server.data_dir` {why}")));
    }
    check_not_of_dev(config, &mut faults);
    check_sqlite(config, &mut faults);
    let templates = templates::file::load(config.sandboxes.templates_folder.as_deref());
    faults.extend(templates.err().map(|error| error.to_string()));
    let presets = Presets::load(config.policies.presets_dir.as_deref());
    faults.extend(presets.err().map(|error| error.to_string()));
    let initial = InitialPolicy::load(config.policies.initial.as_deref());
    faults.extend(initial.err().map(|error| error.to_string()));
    let issuers = Oidc::new(&config.oidc, &Clock::system());
    faults.extend(issuers.err().map(|error| error.to_string()));
    if faults.is_empty() { Ok(()) } else { Err(CliError::Usage(faults.join("\n"))) }
}

/// Checks that neither the data folder nor that of the database is one of `dev`: with its key files, one person would
/// be an admin and an approver of the server (T12).
fn check_not_of_dev(config: &Config, faults: &mut Vec<String>) {
    let database = config.sqlite_path();
    let mut folders = BTreeSet::from([config.server.data_dir.as_path()]);
    folders.extend(database.as_deref().map(folder_of));
    for folder in folders.into_iter().filter(|folder| dev_key::has_keys(folder)) {
        faults.push(format!(
            "`{}` is a folder of `shoreguard dev`, with keys of an admin and an approver: use another folder",
            folder.display()
        ));
    }
}

/// Checks the database file, its folder, and the key file next to it.
fn check_sqlite(config: &Config, faults: &mut Vec<String>) {
    let Some(path) = config.sqlite_path() else { return };
    if path.exists() {
        faults.extend(check_read_write(&path).err().map(|why| format!("`database.url` {why}")));
    } else if matches!(config.database.url, DatabaseUrl::Sqlite(_)) {
        faults.extend(check_folder_of(&path).err().map(|why| format!("`database.url` {why}")));
    }
    let has_keys = config.keys.master_key.is_some() || config.keys.master_key_path.is_some();
    if !has_keys && let Err(error) = MasterKeys::load(&path.with_extension("key")) {
        faults.push(error.to_string());
    }
}

/// Checks the folder of a configured database file, which the server does not create.
fn check_folder_of(file: &Path) -> Result<(), String> {
    let folder = folder_of(file);
    if !folder.is_dir() {
        return Err(format!("cannot be used: the folder `{}` does not exist", folder.display()));
    }
    check_can_create_files(folder)
}

/// Returns the folder of a file, for a bare name the current one.
fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
