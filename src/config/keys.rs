//! `[keys]`: the master keys that secrets at rest are sealed under.
//!
//! Invariant: sealing takes the current key, opening tries it and the older ones; so a key is rotated by making the
//! current one an older one and naming a new one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::database::DatabaseUrl;
use super::fault::Faults;
use super::read::{Key, Kind, Section};
use super::shown::{secret, secrets};
use crate::seal::MasterKeys;
use crate::secret::Secret;

/// More than a key with its older ones takes.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;

/// The master keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The current key: 32 bytes as hex or base64. Default: none; beside an SQLite file one is then made, PostgreSQL
    /// needs one here, since its replicas must agree.
    #[serde(default, with = "secret")]
    pub master_key: Option<Secret>,
    /// A file that holds the current key in the same form, in place of `master_key`, and that others than its owner and
    /// group cannot read. Default: none.
    #[serde(default)]
    pub master_key_path: Option<PathBuf>,
    /// Keys that only open what was sealed earlier. Default: none.
    #[serde(default = "older", with = "secrets")]
    pub older_master_keys: Vec<Secret>,
    /// Files of such keys. Default: none.
    #[serde(default = "older_paths")]
    pub older_master_key_paths: Vec<PathBuf>,
}

fn older() -> Vec<Secret> {
    Vec::new()
}

fn older_paths() -> Vec<PathBuf> {
    Vec::new()
}

impl Section for Keys {
    const KEYS: &'static [Key] = &[
        Key::new("master_key", Kind::Secret),
        Key::new("master_key_path", Kind::Text),
        Key::new("older_master_keys", Kind::Secrets),
        Key::new("older_master_key_paths", Kind::List),
    ];

    fn check(&self, faults: &mut Faults) {
        if self.master_key.is_some() && self.master_key_path.is_some() {
            faults.add("keys.master_key_path", "must not be set beside `keys.master_key`");
        }
        let has_older =
            !self.older_master_keys.is_empty() || !self.older_master_key_paths.is_empty();
        if has_older && !self.has_current() {
            faults.add("keys.master_key", "or `keys.master_key_path` is needed beside older keys");
        }
        self.texts(faults);
    }
}

impl Keys {
    fn has_current(&self) -> bool {
        self.master_key.is_some() || self.master_key_path.is_some()
    }

    /// What only the choice of the database tells.
    pub(super) fn check_for(&self, url: &DatabaseUrl, faults: &mut Faults) {
        if matches!(url, DatabaseUrl::Postgres(_)) && !self.has_current() {
            let why =
                "or `keys.master_key_path` is needed with PostgreSQL: its replicas must agree";
            faults.add("keys.master_key", why);
        }
    }

    /// The keys that are configured, the files read; `None` where there is no current one.
    pub fn open(&self) -> Result<Option<MasterKeys>, Faults> {
        let mut faults = Faults::none();
        let texts = self.texts(&mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        if !self.has_current() {
            return Ok(None);
        }
        let texts: Vec<&str> = texts.iter().map(Secret::expose).collect();
        MasterKeys::parse(&Secret::new(texts.join(",")))
            .map(Some)
            .map_err(|error| Faults::one("keys", format!("cannot be used: {error}")))
    }

    /// Every key, the current one first, each of them sound.
    fn texts(&self, faults: &mut Faults) -> Vec<Secret> {
        let mut texts = Vec::new();
        let mut take = |key: String, text: io::Result<Secret>| match text {
            Err(error) => faults.add(key, format!("cannot be read: {error}")),
            Ok(text) if text.expose().contains(',') || MasterKeys::parse(&text).is_err() => {
                faults.add(key, "must be 32 bytes in hexadecimal or base64");
            }
            Ok(text) => texts.push(text),
        };
        if let Some(key) = &self.master_key {
            take("keys.master_key".to_owned(), Ok(key.clone()));
        }
        if let Some(path) = &self.master_key_path {
            take("keys.master_key_path".to_owned(), read(path));
        }
        for (i, key) in self.older_master_keys.iter().enumerate() {
            take(format!("keys.older_master_keys[{i}]"), Ok(key.clone()));
        }
        for (i, path) in self.older_master_key_paths.iter().enumerate() {
            take(format!("keys.older_master_key_paths[{i}]"), read(path));
        }
        texts
    }
}

/// A secret that stands in a file of its own, which others than its owner and group cannot read.
pub(super) fn read(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o007 != 0 {
        return Err(io::Error::other("others than its owner and group may read or write it"));
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}
