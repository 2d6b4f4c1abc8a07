//! `[keys]`: the master keys that seal stored secrets.
//!
//! Invariant: sealing uses the current key; opening tries the current and the older keys. To rotate a key, make the
//! current key an older one and set a new one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::database::DatabaseUrl;
use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use super::shown::{secret, secrets};
use crate::seal::MasterKeys;
use crate::secret::Secret;

/// Maximum size of a key file.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;

/// The master keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Current master key: 32 bytes as hex or base64. With SQLite, default none: a key file is then created next to the
    /// database file. With PostgreSQL, this key or `master_key_path` is required, since all replicas must use the same
    /// key.
    #[serde(default, with = "secret")]
    pub master_key: Option<Secret>,
    /// Path of a file that contains the current key in the same form, instead of `master_key`. Only its owner and group
    /// may have access to it. Default: none.
    #[serde(default)]
    pub master_key_path: Option<PathBuf>,
    /// Older keys, which only open secrets that were sealed earlier. They require a current key. Default: none.
    #[serde(default = "older", with = "secrets")]
    pub older_master_keys: Vec<Secret>,
    /// Paths of files with older keys, with the same permissions as `master_key_path`. Default: none.
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
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("master_key", ValueKind::Secret),
        ConfigKey::new("master_key_path", ValueKind::Text),
        ConfigKey::new("older_master_keys", ValueKind::Secrets),
        ConfigKey::new("older_master_key_paths", ValueKind::List),
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
        self.read_keys(faults);
    }
}

impl Keys {
    fn has_current(&self) -> bool {
        self.master_key.is_some() || self.master_key_path.is_some()
    }

    /// Checks the keys against the choice of the database.
    pub(super) fn check_for(&self, url: &DatabaseUrl, faults: &mut Faults) {
        if matches!(url, DatabaseUrl::Postgres(_)) && !self.has_current() {
            let why =
                "or `keys.master_key_path` is needed with PostgreSQL: its replicas must agree";
            faults.add("keys.master_key", why);
        }
    }

    /// Returns the configured keys after reading their files, or `None` if there is no current key.
    pub fn load(&self) -> Result<Option<MasterKeys>, Faults> {
        let mut faults = Faults::new();
        let texts = self.read_keys(&mut faults);
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

    /// Returns the text of every valid key, the current one first, and adds a fault for each invalid one.
    fn read_keys(&self, faults: &mut Faults) -> Vec<Secret> {
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
            take("keys.master_key_path".to_owned(), read_secret_file(path));
        }
        for (i, key) in self.older_master_keys.iter().enumerate() {
            take(format!("keys.older_master_keys[{i}]"), Ok(key.clone()));
        }
        for (i, path) in self.older_master_key_paths.iter().enumerate() {
            take(format!("keys.older_master_key_paths[{i}]"), read_secret_file(path));
        }
        texts
    }
}

/// Reads a secret from its own file. Fails if users other than its owner and group have access to the file.
pub(super) fn read_secret_file(path: &Path) -> io::Result<Secret> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o007 != 0 {
        return Err(io::Error::other("other users have access: chmod 640"));
    }
    let mut text = String::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Secret::new(text))
}
