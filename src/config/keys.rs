//! `[keys]`: the master keys that secrets at rest are sealed under.
//!
//! Invariant: sealing takes the current key, opening tries it and the older ones; so a key is rotated by making the
//! current one an older one and naming a new one.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::database::DatabaseUrl;
use super::fault::Faults;
use super::read::{Key, Kind, Section};

/// The length of a master key.
pub const MASTER_KEY_BYTES: usize = 32;

/// The master keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The current key: 32 bytes as hex or base64. Default: none; beside an SQLite file one is then made, PostgreSQL
    /// needs one here, since its replicas must agree.
    #[serde(default)]
    pub master_key: Option<MasterKey>,
    /// A file that holds the current key in the same form, in place of `master_key`. Default: none.
    #[serde(default)]
    pub master_key_path: Option<PathBuf>,
    /// Keys that only open what was sealed earlier. Default: none.
    #[serde(default = "older")]
    pub older_master_keys: Vec<MasterKey>,
    /// Files of such keys. Default: none.
    #[serde(default = "older_paths")]
    pub older_master_key_paths: Vec<PathBuf>,
}

fn older() -> Vec<MasterKey> {
    Vec::new()
}

fn older_paths() -> Vec<PathBuf> {
    Vec::new()
}

/// A master key; shown as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(Zeroizing<[u8; MASTER_KEY_BYTES]>);

impl MasterKey {
    /// Reads 32 bytes from hex or from base64 of either alphabet, padded or not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let bytes = Zeroizing::new(from_hex(text).or_else(|| from_base64(text))?);
        let mut key = Zeroizing::new([0; MASTER_KEY_BYTES]);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&bytes);
        Some(Self(key))
    }

    /// The key itself, for the one place that seals and opens.
    #[must_use]
    pub fn expose(&self) -> &[u8; MASTER_KEY_BYTES] {
        &self.0
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 2 * MASTER_KEY_BYTES || !text.is_ascii() {
        return None;
    }
    (0..MASTER_KEY_BYTES).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(text).ok())
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

impl Serialize for MasterKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for MasterKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no master key"))
    }
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
        if let Some(Err(why)) = self.master_key_path.as_ref().map(|path| read(path)) {
            faults.add("keys.master_key_path", why);
        }
        for (i, path) in self.older_master_key_paths.iter().enumerate() {
            if let Err(why) = read(path) {
                faults.add(format!("keys.older_master_key_paths[{i}]"), why);
            }
        }
    }
}

impl Keys {
    /// What only the choice of the database tells.
    pub(super) fn check_for(&self, url: &DatabaseUrl, faults: &mut Faults) {
        let is_set = self.master_key.is_some() || self.master_key_path.is_some();
        if matches!(url, DatabaseUrl::Postgres(_)) && !is_set {
            let why =
                "or `keys.master_key_path` is needed with PostgreSQL: its replicas must agree";
            faults.add("keys.master_key", why);
        }
    }

    /// The current key; `None` where none is configured.
    pub fn current(&self) -> Result<Option<MasterKey>, Faults> {
        if let Some(key) = &self.master_key {
            return Ok(Some(key.clone()));
        }
        let Some(path) = &self.master_key_path else { return Ok(None) };
        read(path).map(Some).map_err(|why| Faults::one("keys.master_key_path", why))
    }

    /// The keys that only open.
    pub fn older(&self) -> Result<Vec<MasterKey>, Faults> {
        let mut keys = self.older_master_keys.clone();
        for (i, path) in self.older_master_key_paths.iter().enumerate() {
            let key = read(path)
                .map_err(|why| Faults::one(format!("keys.older_master_key_paths[{i}]"), why))?;
            keys.push(key);
        }
        Ok(keys)
    }
}

fn read(path: &std::path::Path) -> Result<MasterKey, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = Zeroizing::new(text);
    MasterKey::parse(&text).ok_or_else(|| "must hold 32 bytes as hex or base64".to_owned())
}
